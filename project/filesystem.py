"""kombu's filesystem transport without its two race conditions.

kombu creates the file of a message before it writes it. A worker that lists the folder in between
reads an empty message and crashes (celery/kombu#1551). The file with the queues of an exchange has
the same flaw when two processes are the first to use a folder.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """A channel that publishes complete files and locks the table of queues."""

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:  # type: ignore[override]
        # (the stubs of kombu's two base classes disagree on parameter names)
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        folder = Path(self.data_folder_out)
        unfinished = folder / f".{name}"
        try:
            unfinished.write_text(dumps(message), "utf-8")
            unfinished.rename(folder / name)
        except OSError as error:
            raise ChannelError(f"Cannot add a message to {folder}") from error

    def _queue_bind(self, *args: Any) -> None:
        with self._queues_locked():
            super()._queue_bind(*args)

    def get_table(self, exchange: str) -> Any:
        with self._queues_locked():
            return super().get_table(exchange)

    @contextmanager
    def _queues_locked(self) -> Iterator[None]:
        self.control_folder.mkdir(parents=True, exist_ok=True)
        with (self.control_folder / ".lock").open("w") as file:
            filesystem.lock(file, filesystem.LOCK_EX)  # type: ignore[attr-defined]  # by platform
            try:
                yield
            finally:
                # Closing the file is not enough: a child forked meanwhile has it open as well.
                filesystem.unlock(file)


class Transport(filesystem.Transport):
    """Value of ``CELERY_BROKER_TRANSPORT`` for a broker URL of ``filesystem://``."""

    Channel = Channel

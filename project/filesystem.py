"""Celery's broker in a folder, mended: a file is read as a whole or not at all.

kombu's own creates a message's file and then writes it. A worker that looks in between takes a
message that is empty, cannot read it, and ends (kombu's issue 1551). The same with the files that
say which queues there are, when two processes are the first to use a folder.
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
    """Gives a message its name once it is written, and has the queues looked up one at a time."""

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:  # type: ignore[override]
        # (the stubs of kombu's own two classes do not agree on the names)
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        folder = Path(self.data_folder_out)
        unfinished = folder / f".{name}"
        try:
            unfinished.write_text(dumps(message), "utf-8")
            unfinished.rename(folder / name)
        except OSError as error:
            raise ChannelError(f"Cannot add a message to {folder}") from error

    def _queue_bind(self, *args: Any) -> None:
        with self._alone():
            super()._queue_bind(*args)

    def get_table(self, record: str) -> Any:
        with self._alone():
            return super().get_table(record)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else reads or writes which queues there are."""
        self.control_folder.mkdir(parents=True, exist_ok=True)
        with (self.control_folder / ".lock").open("w") as file:
            filesystem.lock(file, filesystem.LOCK_EX)  # type: ignore[attr-defined]  # by platform
            try:
                yield
            finally:
                # Closing the file is not enough: a child forked meanwhile has it open as well.
                filesystem.unlock(file)


class Transport(filesystem.Transport):
    """To be named as ``CELERY_BROKER_TRANSPORT`` beside a URL of ``filesystem://``."""

    Channel = Channel

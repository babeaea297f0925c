"""Celery's broker in a folder, mended: a message is there as a whole or not at all.

kombu's own creates the file and then writes it. A worker that looks in between takes a message that
is empty, cannot read it, and ends (kombu's issue 1551).
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Writes a message under a name that nobody looks for, and then gives it its own."""

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


class Transport(filesystem.Transport):
    """To be named as ``CELERY_BROKER_TRANSPORT`` beside a URL of ``filesystem://``."""

    Channel = Channel

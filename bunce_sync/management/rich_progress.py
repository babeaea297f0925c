"""The progress bar on a terminal, by rich (extra ``[cli]``)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text


class RichProgress:
    """A bar with a text, and below it why the work waits. It disappears at the end."""

    def __init__(self, title: str, console: Console) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self._task = self._bar.add_task(title, total=None, text="")
        self._note = Text("", style="dim")
        self._stack = ExitStack()
        self._live = Live(
            Group(self._bar, self._note),
            console=console,
            transient=True,
            # Only what would appear on this terminal anyway.
            redirect_stderr=sys.stderr.isatty(),
        )

    def update(self, text: str, *, done: int = 0, total: int | None = None, note: str = "") -> None:
        self._bar.update(self._task, completed=done, total=total, text=text)
        self._note.plain = f"  {note}" if note else ""

    def __enter__(self) -> Self:
        self._stack.enter_context(self._live)
        self._stack.enter_context(logs_follow_stderr())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


@contextmanager
def logs_follow_stderr() -> Iterator[None]:
    """Let log lines go where ``sys.stderr`` goes now: above the bar, instead of through it.

    A handler keeps the stream it began with, which rich cannot replace.
    """
    moved: list[tuple[logging.StreamHandler[Any], Any]] = []
    logger: logging.Logger | None = logging.getLogger("bunce_sync")
    while logger is not None:
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.__stderr__:
                moved.append((handler, handler.setStream(sys.stderr)))
        logger = logger.parent if logger.propagate else None
    try:
        yield
    finally:
        for handler, stream in moved:
            if stream is not None:
                handler.setStream(stream)

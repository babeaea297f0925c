"""Reading Bunce's whole list in the foreground of a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bunce_sync import clocks
from bunce_sync.choices import Operation
from bunce_sync.management.console import SyncCommand, counted, number
from bunce_sync.management.foreground import Turn, work
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.import_preview import ImportPreview

LISTS: Final = (Operation.LIST,)
#: Seconds after which a pace can be told.
FIRST_PACE: Final = 3.0


class Pace:
    """How many pages a minute are read."""

    def __init__(self) -> None:
        self._began = clocks.monotonic()
        self._first: int | None = None

    def text(self, pages: int) -> str:
        """Return the pace so far; empty in the first seconds."""
        if self._first is None:
            self._first = pages
        seconds = clocks.monotonic() - self._began
        if seconds < FIRST_PACE:
            return ""
        return f", {number(round((pages - self._first) / seconds * 60))} pages a minute"


def read_preview(command: SyncCommand, preview: ImportPreview, title: str) -> None:
    """Read Bunce's whole list for a preview, unless a signal comes.

    Raises:
        Blocked: it cannot be read now.
    """

    def turn(budget: Budget) -> Turn:
        while not (preview.ended or budget.out_of_time or command.stop.is_set()):
            if not preview.read_page(budget):
                return Turn.WAIT
        return Turn.DONE if preview.ended else Turn.MORE

    with command.progress(title) as progress:
        pace = Pace()

        def show(note: str) -> None:
            text = list_size(preview.counts, preview.pages) + pace.text(preview.pages)
            progress.update(text, note=note)

        work(turn, show, stop=command.stop, operations=lambda: LISTS)


def list_size(counts: Mapping[str, int], pages: int) -> str:
    return f"{counted(sum(counts.values()), 'segment')}, {counted(pages, 'page')}"

"""``manage.py bunce_status``: the admin's panel in text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from django.core.management.base import CommandParser
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from bunce_sync import database
from bunce_sync.choices import Status, Sweeper
from bunce_sync.management.console import (
    DONE,
    FAILED,
    SyncCommand,
    counted,
    describe_database_error,
    number,
    printable,
)
from bunce_sync.management.texts import message_lines
from bunce_sync.status import messages
from bunce_sync.status.presenters import (
    describe_clocks,
    describe_environment,
    format_time,
    reasons_to_wait,
)
from bunce_sync.status.status import ImportStatus, SyncStatus, get_status
from bunce_sync.sync.work import KINDS

if TYPE_CHECKING:
    from rich.live import Live

#: Seconds between two refreshes.
INTERVAL: Final = 2.0
#: What is said of a number of segments, in the order of the panel.
WORDS: Final = {
    Status.PENDING: "waiting",
    Status.SENDING: "being sent",
    Status.IN_DOUBT: "being checked with Bunce",
    Status.REJECTED: "in need of attention",
    Status.SYNCED: "synced",
}
SWEEPERS: Final = {
    Sweeper.WORKER: "by a worker",
    Sweeper.LOOP: "by bunce_sweep --loop",
    Sweeper.CRON: "by bunce_sweep",
}


class Command(SyncCommand):
    """Print the status, once or whenever it changes."""

    help = (
        "Show how the sync stands: segments by status, why any wait, the limit of requests, the"
        " last sweep and import. Makes no request. Exit code 0: all is well, or it resumes"
        " automatically. 1: nothing is sent before a person acts."
    )
    #: The status must be available when something is wrong with the settings.
    requires_system_checks: list[str] = []

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--watch",
            action="store_true",
            help=f"refresh every {INTERVAL:g} s until Ctrl-C; with --json one object a line",
        )

    def work(self, options: dict[str, Any]) -> int:
        """Print the status."""
        if not options["watch"]:
            status = get_status()
            if self.json:
                self.print_json(asdict(status))
            else:
                for line in self._lines(status):
                    self.say(line)
            return _code(status)
        if self.json or self.quiet:
            return self._watch_for_machines()
        return self._watch()

    def _watch(self) -> int:
        """Show the status until a signal: in place on a terminal, else a line for each change."""
        code, last = DONE, ""
        with self._live() as live:
            while not self.stop.is_set():
                try:
                    status = get_status()
                    code = _code(status)
                    lines, line = [*self._lines(status)], _line(status)
                    moment = format_time(status.now, status.now)
                except (DatabaseError, InterfaceError) as error:
                    database.connection().close()
                    line = describe_database_error(error)
                    lines, moment, code = [line], "", FAILED
                if live is not None:
                    from rich.text import Text

                    live.update(Text.from_ansi("\n".join(lines)), refresh=True)
                elif line != last:
                    self.say(f"{moment}  {line}".strip())
                    self.stdout.flush()
                last = line
                self.stop.wait(INTERVAL)
        return code

    @contextmanager
    def _live(self) -> Iterator[Live | None]:
        """Yield what shows text in place; None where that is not possible."""
        console = self.console()
        if console is None:
            yield None
            return
        from rich.live import Live

        with Live(console=console, auto_refresh=False) as live:
            yield live

    def _watch_for_machines(self) -> int:
        """Print one object at each refresh."""
        code = DONE
        while not self.stop.is_set():
            status = get_status()
            code = _code(status)
            self.print_json(asdict(status))
            self.stop.wait(INTERVAL)
        return code

    def _lines(self, status: SyncStatus) -> Iterator[str]:
        """Yield the lines of the status."""
        where = describe_environment(status.environment)
        at = format_time(status.now, status.now)
        zone = timezone.get_current_timezone_name()
        yield self.style.MIGRATE_HEADING(f"Sync with Bunce, {where}, at {at} ({zone})")
        for reason in [*reasons_to_wait(status), *describe_clocks(status)]:
            first, *others = message_lines(reason)
            style = self.style.ERROR if reason.urgent else self.style.WARNING
            yield style(first)
            yield from others
        for label, text in _figures(status):
            yield f"{label:<10} {text}"


def _code(status: SyncStatus) -> int:
    return FAILED if any(reason.urgent for reason in reasons_to_wait(status)) else DONE


def _figures(status: SyncStatus) -> Iterator[tuple[str, str]]:
    """Yield the figures with their labels."""
    yield "Segments", _counts(status)
    due = [
        f"{number(status.due[kind.name])}{kind.plus(status.due[kind.name])} {kind.label}"
        for kind in reversed(KINDS)
        if status.due[kind.name]
    ]
    if due:
        yield "Due now", ", ".join(due)
    usage = status.usage
    limit = "no limit" if usage.limit is None else f"limit {usage.limit}"
    yield "Requests", f"{usage.used} in the last {usage.seconds:g} s, {limit}"
    hour = {
        kind: sum(getattr(bucket, kind) for bucket in status.hour)
        for kind in ("accepted", "rejected", "failed")
    }
    yield "", f"last hour: {', '.join(f'{number(count)} {kind}' for kind, count in hour.items())}"
    yield "Sweep", _sweep(status)
    if status.scan is not None:
        yield "Search", f"{counted(status.scan.pages, 'page')} of Bunce's list read"
    if status.imported is not None:
        yield "Import", _import(status.imported, status)


def _counts(status: SyncStatus) -> str:
    return ", ".join(
        f"{number(status.counts[one])} {words}"
        for one, words in WORDS.items()
        if status.counts[one] or one == Status.SYNCED
    )


def _sweep(status: SyncStatus) -> str:
    sweep = status.sweep
    if sweep.age is None:
        return "none yet"
    by = SWEEPERS.get(Sweeper(sweep.by)) if sweep.by in Sweeper.values else ""
    return f"{_age(sweep.age)} ago {by}".strip()


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{number(int(seconds // 60))} min"


def _import(run: ImportStatus, status: SyncStatus) -> str:
    counts = [
        str(messages.IMPORT_COUNTS.get(name, f"%(n)s {name}")) % {"n": number(count)}
        for name, count in run.counts.items()
        if count
    ]
    done = f"{counted(run.pages, 'page')}: {', '.join(counts) or 'no segment yet'}"
    if run.finished_at is None:
        since = format_time(run.requested_at, status.now)
        by = f" by {printable(run.requested_by)}" if run.requested_by else ""
        return f"open, requested at {since}{by}; {done}"
    ended = "cancelled" if run.cancelled else "ended"
    return f"{ended} at {format_time(run.finished_at, status.now)}; {done}"


def _line(status: SyncStatus) -> str:
    """Return the status in one line, which changes only if something other than time does."""
    line = _counts(status)
    run = status.imported
    if run is not None and run.finished_at is None:
        line += f"; importing, {counted(run.pages, 'page')}"
    reasons = reasons_to_wait(status)
    summaries = [printable(reason.summary, 500) for reason in reasons]
    return f"{line}. {' '.join(summaries)}" if reasons else f"{line}."

"""Does what beat and workers do, in one process: for cron, or a site too small for workers."""

from __future__ import annotations

import argparse
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Min, Q

from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.status.counts import Count
from bunce_sync.status.messages import OPERATION_PAUSED
from bunce_sync.status.status import PausedOperation, SyncStatus, get_status
from bunce_sync.sync.push import database_of
from bunce_sync.sync.work import Work, work

#: Seconds of work between two looks whether somebody asked to end; a request is always finished.
TIME_BUDGET = 1.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Status = Segment.Status
Operation = ApiCall.Operation


class Command(BaseCommand):
    """``manage.py bunce_sweep``; needs neither Celery nor a broker."""

    help = (
        "Sends waiting segments to Bunce and looks after the others, without Celery: once, or"
        " again and again with --loop. Safe beside workers and beside itself."
    )

    _using: str | None
    _ends: float
    _stop: threading.Event
    _quiet: bool
    _last: str

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("--loop", action="store_true",
            help="go on every SWEEP_INTERVAL seconds until Ctrl-C or SIGTERM, instead of ending"
            " when nothing more can be done now")  # fmt: skip
        add("--max-seconds", type=_seconds, default=math.inf, metavar="N",
            help="begin nothing new after so many seconds; 50 suits a cron job that starts every"
            " minute")  # fmt: skip
        add("--database", default=None, choices=tuple(connections), metavar="ALIAS",
            help="the database with the segments (the router's choice)")  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until nothing is left, time is up, or a signal comes.

        Raises:
            CommandError: a setting is missing or wrong, or the database cannot be used.
        """
        self._using: str | None = options["database"]
        self._ends = time.monotonic() + options["max_seconds"]
        with _told_to_stop() as self._stop:
            if options["loop"]:
                self._loop()
            else:
                self._work_and_tell()
            if self._stop.is_set():
                self._say("Asked to end: nothing new was begun.")

    def _loop(self) -> None:
        """Again and again; a database that went away is waited for."""
        interval = _interval()
        self._say(f"Sweeping every {interval:g} s. Ctrl-C ends it.")
        while not self._stop.is_set() and time.monotonic() < self._ends:
            try:
                self._work_and_tell(only_news=True)
            except CommandError as error:
                if isinstance(error.__cause__, ConfigurationError):
                    raise
                self.stderr.write(f"{error} Trying again in {interval:g} s.")
                connections[database_of(self._using)].close()
            self._stop.wait(min(interval, max(0.0, self._ends - time.monotonic())))

    def _work_and_tell(self, *, only_news: bool = False) -> None:
        try:
            text = _told(self._work(), get_status(self._using), self._using)
        except ConfigurationError as error:
            raise CommandError(
                f"Nothing is sent to Bunce: {error} Segments keep waiting; see BUNCE_SYNC in the"
                " settings, and run `manage.py check`."
            ) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(
                f"The database cannot be used: {_first_line(error)} Has `manage.py migrate` been"
                " run? Segments keep waiting; nothing is lost."
            ) from error
        if not (only_news and text == self._last):
            self._say(text)
        self._last = text

    def _work(self) -> Work:
        """One shift after the other, as long as there is something to do."""
        done = Work()
        while not self._stop.is_set() and (left := self._ends - time.monotonic()) > 0:
            shift = work(seconds=min(TIME_BUDGET, left), using=self._using)
            done += shift
            if not shift.requests:
                break
        return done

    def _say(self, text: str) -> None:
        if not self._quiet:
            self.stdout.write(text)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """As Django's; notes the verbosity."""
        self._quiet = options["verbosity"] == 0
        self._last = ""
        return super().execute(*args, **options)


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second Ctrl-C ends the process at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interval() -> float:
    try:
        return conf.SWEEP_INTERVAL
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def _told(done: Work, seen: SyncStatus, using: str | None) -> str:
    """What was done, or why nothing, and where all segments stand."""
    if done.requests:
        pages, reads = _number(done.pages, "page"), _number(done.reads, "single segment")
        lines = [
            f"Sent {_number(done.pushes, 'segment')}, read {pages} of Bunce's list and {reads}."
        ]
    else:
        lines = [f"Nothing was sent: {_why_nothing(seen, using)}"]
    if done.freed:
        lines.append(f"Took {_number(done.freed, 'segment')} from workers that died or hang.")
    return "\n".join([*lines, _where_all_stand(seen, using)])


def _why_nothing(seen: SyncStatus, using: str | None) -> str:
    """The reason, for somebody who expected something to be sent."""
    if seen.rate_limiter.state == "closed":
        reason = SyncState.Reason(seen.rate_limiter.reason).label
        until = (
            f"; next try at {seen.rate_limiter.until:%H:%M:%S} UTC"
            if seen.rate_limiter.until
            else ""
        )
        detail = f" ({seen.rate_limiter.detail})" if seen.rate_limiter.detail else ""
        return f"{reason}{detail}{until}."
    paused = [_paused(one) for one in seen.operations if _is_needed(one, seen, using)]
    waiting = seen.counts[Status.PENDING].value or seen.counts[Status.IN_DOUBT].value
    if not waiting and not paused:
        return "no segment waits."
    if seen.usage.limit is not None and seen.usage.used >= seen.usage.limit:
        limit = f"the limit of {seen.usage.limit} requests in {seen.usage.seconds:g} s"
        return " ".join([f"{limit} is used up for now.", *paused])
    return " ".join(paused) or "no segment is due yet."


def _is_needed(paused: PausedOperation, seen: SyncStatus, using: str | None) -> bool:
    """Whether a segment that is due waits for a paused operation."""
    due = Q(due_at__lte=seen.now)
    needing = {
        Operation.CREATE: due & Q(status=Status.PENDING, bunce_id__isnull=True),
        Operation.UPDATE: due & Q(status=Status.PENDING, bunce_id__isnull=False),
        Operation.LIST: due & Q(status=Status.IN_DOUBT),
        Operation.READ: Q(refresh_requested_at__isnull=False),
    }[Operation(paused.operation)]
    return Segment.objects.using(database_of(using)).filter(needing).exists()


def _paused(paused: PausedOperation) -> str:
    """That an operation is paused, with Bunce's words and the time of the next try."""
    what = str(OPERATION_PAUSED[Operation(paused.operation)]).rstrip(".")
    detail = f" ({paused.detail})" if paused.detail else ""
    following = f"next try at {paused.until:%H:%M:%S} UTC" if paused.until else "a try is due"
    return f"{what}{detail}; {following}."


def _where_all_stand(seen: SyncStatus, using: str | None) -> str:
    """One line on all segments."""
    parts = [f"{_about(seen.counts[Status.SYNCED])} synced"]
    for status, words in (
        (Status.PENDING, "waiting"),
        (Status.IN_DOUBT, "being checked with Bunce"),
    ):
        count = seen.counts[status]
        if count.value:
            rows = Segment.objects.using(database_of(using)).filter(status=status)
            first = rows.aggregate(first=Min("due_at"))["first"]
            wait = math.ceil((first - seen.now).total_seconds()) if first else 0
            parts.append(f"{_about(count)} {words}" + (f" (next in {wait} s)" if wait > 0 else ""))
    if seen.counts[Status.SENDING].value:
        parts.append(f"{_about(seen.counts[Status.SENDING])} being sent")
    if seen.counts[Status.REJECTED].value:
        refused = _about(seen.counts[Status.REJECTED])
        parts.append(f"{refused} in need of attention (Bunce refused them; the admin says why)")
    return f"Segments: {', '.join(parts)}."


def _about(count: Count) -> str:
    words = {"exact": "", "at_least": "at least ", "about": "about "}
    return f"{words[count.precision]}{count.value}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError("give a number of seconds greater than zero")
    return value

"""The work of beat and the workers in one process: for cron, or for a site without Celery."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, InterfaceError
from django.db.models import Min

from bunce_sync import clocks, database
from bunce_sync.choices import Operation, Outcome, Reason, Status, Sweeper
from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.management.console import (
    DONE,
    SyncCommand,
    counted,
    describe_configuration_error,
    describe_database_error,
)
from bunce_sync.status.messages import OPERATION_PAUSED
from bunce_sync.status.presenters import describe_key
from bunce_sync.status.status import PausedOperation, SyncStatus, get_status
from bunce_sync.sync.sweep import RunResult, run_once
from bunce_sync.sync.work import KINDS, OPERATIONS

#: Seconds of work between two checks for a shutdown request. A request is always finished.
TIME_BUDGET = 1.0

#: The outcomes of requests that did what they were made for, and of those that failed. Bunce's
#: refusal of a segment is an answer, and a request for a pause is part of the pace.
CONFIRMED = (Outcome.CONFIRMED, Outcome.DUPLICATE)
FAILED = (Outcome.NOT_SENT, Outcome.KEY_REFUSED, Outcome.UNKNOWN, Outcome.ABANDONED)


class Command(SyncCommand):
    """``manage.py bunce_sweep``; needs neither Celery nor a broker."""

    help = (
        "Send due segments to Bunce, check those in doubt and refresh those requested, without"
        " Celery: once, or repeatedly with --loop. Safe to run beside workers and itself. Exit code"
        " 1 if requests failed or are paused because of a failure, if a setting is wrong, or if the"
        " database cannot be used; segments that Bunce refuses and its rate limit are no failures."
    )

    has_json = False
    ends_by_signal = True

    _ends: float
    _sweeper: Sweeper
    _last = ""

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("--loop", action="store_true",
            help="repeat every SWEEP_INTERVAL seconds until Ctrl-C or SIGTERM, instead of ending"
            " when nothing is due")  # fmt: skip
        add("--max-seconds", type=_seconds, default=math.inf, metavar="N",
            help="start no request after this many seconds; 50 suits a cron job that runs every"
            " minute")  # fmt: skip

    def work(self, options: dict[str, Any]) -> int:
        """Work until nothing is left, time is up, or a signal comes.

        Raises:
            CommandError: a setting is missing or wrong, or the database cannot be used.
        """
        self._last = ""
        self._ends = clocks.monotonic() + options["max_seconds"]
        self._sweeper = Sweeper.LOOP if options["loop"] else Sweeper.CRON
        if options["loop"]:
            self._loop()
        else:
            self._work_and_report()
        if self.stop.is_set():
            self.say("Shutdown requested; stopping.")
        return DONE

    def _loop(self) -> None:
        """Work repeatedly, and wait for a database that is unavailable."""
        interval, failure = _interval(), ""
        self.say(f"Sweeping every {interval:g} s. Press Ctrl-C to stop.")
        while not self.stop.is_set() and clocks.monotonic() < self._ends:
            try:
                self._work_and_report(only_changes=True)
                failure = ""
            except CommandError as error:
                if isinstance(error.__cause__, ConfigurationError):
                    raise
                failure = str(error)
                self.stderr.write(f"{error} Retrying in {interval:g} s.")
                database.connection().close()
            self.stop.wait(min(interval, max(0.0, self._ends - clocks.monotonic())))
        if failure:
            raise CommandError(failure)

    def _work_and_report(self, *, only_changes: bool = False) -> None:
        """Work, print a report, and without ``--loop`` fail if something failed."""
        try:
            done, status = self._work(), get_status()
            text = _report(done, status)
        except ConfigurationError as error:
            raise CommandError(describe_configuration_error(error)) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(describe_database_error(error)) from error
        if not (only_changes and text == self._last):
            self.say(text)
        self._last = text
        if not only_changes and (failure := _failure(done, status)):
            raise CommandError(failure)

    def _work(self) -> RunResult:
        """Work until nothing is due, time is up or a shutdown is requested."""
        done = RunResult(0, {})
        while not self.stop.is_set() and (left := self._ends - clocks.monotonic()) > 0:
            part = run_once(seconds=min(TIME_BUDGET, left), by=self._sweeper)
            done += part
            if not part.requests:
                break
        return done


def _interval() -> float:
    try:
        return conf.SWEEP_INTERVAL
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def _report(done: RunResult, status: SyncStatus) -> str:
    """Return what was done, or why nothing was, and the number of segments in each state."""
    lines = []
    if parts := [
        kind.report % counted(count, kind.noun)
        for kind in reversed(KINDS)
        if (count := sum(done.outcomes_of(kind.name)[outcome] for outcome in CONFIRMED))
    ]:
        text = ", ".join(parts)
        lines.append(f"{text[0].upper()}{text[1:]}.")
    total = sum((done.outcomes_of(kind.name) for kind in KINDS), Counter())
    others = [
        f"{outcome.label.lower()}: {total[outcome]}"
        for outcome in Outcome
        if total[outcome] and outcome not in CONFIRMED
    ]
    if others:
        lines.append(f"Other requests: {', '.join(others)}. The admin shows the reasons.")
    if not lines:
        reason = _why_nothing(status) or "what is due could not be claimed; the log says why."
        lines.append(f"Nothing was sent: {reason}")
    if done.freed:
        lines.append(f"Took {counted(done.freed, 'segment')} back from workers that stopped.")
    return "\n".join([*lines, _segments(status)])


def _failure(done: RunResult, status: SyncStatus) -> str:
    """Return what failed, for the exit code; empty if all is in order."""
    failed = sum(done.outcomes_of(kind.name)[outcome] for kind in KINDS for outcome in FAILED)
    if failed:
        return f"{counted(failed, 'request')} to Bunce failed. The admin shows the reasons."
    if key := describe_key(status):
        return f"{key.summary} {key.action}"
    limiter = status.rate_limiter
    if limiter.state != "open" and limiter.reason != Reason.RATE_LIMITED and _is_waiting(status):
        return f"Requests to Bunce are paused: {Reason(limiter.reason).label}."
    if any(_is_needed(paused) for paused in status.operations):
        return "Requests that segments wait for are paused, see above."
    return ""


def _is_waiting(status: SyncStatus) -> bool:
    return any(
        (status.counts[Status.PENDING], status.counts[Status.IN_DOUBT], *status.due.values())
    )


def _why_nothing(status: SyncStatus) -> str:
    """Return why no request was made; empty if segments are due and nothing blocks them."""
    if key := describe_key(status):
        return key.cause
    if status.pause:
        return "pushes are paused; `manage.py bunce_resume` resumes them."
    if status.rate_limiter.state == "paused":
        reason = Reason(status.rate_limiter.reason).label
        until = (
            f"; next retry at {status.rate_limiter.until:%H:%M:%S} UTC"
            if status.rate_limiter.until
            else ""
        )
        detail = f" ({status.rate_limiter.detail})" if status.rate_limiter.detail else ""
        return f"{reason}{detail}{until}."
    paused = [_paused(one) for one in status.operations if _is_needed(one)]
    if not _is_waiting(status) and not paused:
        return "no segment is waiting."
    if status.usage.limit is not None and status.usage.used >= status.usage.limit:
        limit = f"the limit of {status.usage.limit} requests in {status.usage.seconds:g} s"
        return " ".join([f"{limit} is used up.", *paused])
    if paused or any(status.due.values()):
        return " ".join(paused)
    return "no segment is due yet."


def _is_needed(paused: PausedOperation) -> bool:
    """Return whether a segment that is due waits for a paused operation."""
    return any(rows.waiting().exists() for rows in OPERATIONS if rows.operation == paused.operation)


def _paused(paused: PausedOperation) -> str:
    """Return that an operation is paused, with Bunce's message and the time of the next retry."""
    what = str(OPERATION_PAUSED[Operation(paused.operation)]).rstrip(".")
    detail = f" ({paused.detail})" if paused.detail else ""
    following = f"next retry at {paused.until:%H:%M:%S} UTC" if paused.until else "a retry is due"
    return f"{what}{detail}; {following}."


def _segments(status: SyncStatus) -> str:
    """Return one line with the number of segments in each state."""
    parts = [f"{status.counts[Status.SYNCED]} synced"]
    for waiting, words in (
        (Status.PENDING, "waiting"),
        (Status.IN_DOUBT, "being checked with Bunce"),
    ):
        count = status.counts[waiting]
        if count:
            rows = database.segments().filter(status=waiting)
            first = rows.aggregate(first=Min("due_at"))["first"]
            wait = math.ceil((first - status.now).total_seconds()) if first else 0
            parts.append(f"{count} {words}" + (f" (next in {wait} s)" if wait > 0 else ""))
    if sending := status.counts[Status.SENDING]:
        parts.append(f"{sending} being sent")
    if rejected := status.counts[Status.REJECTED]:
        parts.append(f"{rejected} need attention (refused by Bunce; the admin shows why)")
    return f"Segments: {', '.join(parts)}."


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError("must be a number of seconds greater than zero")
    return value

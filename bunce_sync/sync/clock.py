"""Detection of jumps of the database's clock, and the recovery from them.

The rate limiter counts its window by the database's time. A clock that is set forward would empty
the window at once, one that is set back would keep it full for hours. Each process therefore
compares the steps of that clock with its own monotonic one, which cannot be set.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F

from bunce_sync import clocks, database
from bunce_sync.choices import Reason, Status
from bunce_sync.conf import conf
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import SegmentQuerySet, SyncState
from bunce_sync.sync import shared_state

logger = logging.getLogger(__name__)

#: Seconds by which the two clocks may differ between two readings.
TOLERANCE = 1.0
#: Additional drift allowed, in seconds per second: two free-running quartz clocks are a second
#: apart after some hours, which is no jump.
DRIFT = 0.0002


class ClockJumped(Exception):
    """The database's clock jumped, so the window cannot be counted before the recovery.

    Args:
        seconds: by how much; negative when the clock went back.
        epoch: the number of jumps before this one.
    """

    def __init__(self, seconds: float, epoch: int) -> None:
        super().__init__(seconds, epoch)
        self.seconds = seconds
        self.epoch = epoch


@dataclass(frozen=True, slots=True)
class _Seen:
    """The database's time, read between two monotonic moments."""

    now: datetime
    before: float
    after: float
    epoch: int


_seen: dict[str, _Seen] = {}


def forget_readings() -> None:
    """Forget the readings of this process."""
    _seen.clear()


class Reading:
    """One reading of the database's clock. Create it right before the query."""

    def __init__(self) -> None:
        self.before = clocks.monotonic()

    def jump(self, now: datetime, epoch: int) -> float:
        """Return by how many seconds the clock jumped since the last reading; 0 if it did not.

        Args:
            now: what the query returned.
            epoch: the number of jumps recovered from; the last reading counts only with the same.
        """
        alias = database.alias()
        last = _seen.get(alias)
        current = _Seen(now, self.before, clocks.monotonic(), epoch)
        _seen[alias] = current
        if last is None or last.epoch != epoch:
            return 0.0
        passed = (now - last.now).total_seconds()
        longest, shortest = current.after - last.before, current.before - last.after
        tolerance = TOLERANCE + DRIFT * longest
        if passed > longest + tolerance:
            return passed - longest
        if passed < shortest - tolerance:
            return passed - shortest
        return 0.0


def read_state() -> tuple[SyncState, datetime]:
    """Return the shared row and the database's time, once the clock has been checked.

    Raises:
        ClockJumped: the time cannot be relied on.
    """
    reading = Reading()
    state, now = shared_state.read()
    jump = reading.jump(now, state.clock_epoch)
    if state.swept_at and state.swept_at - now > timedelta(seconds=TOLERANCE):
        # It went back, whether or not this process had read it before.
        jump = min(jump, (now - state.swept_at).total_seconds())
    if jump:
        raise ClockJumped(jump, state.clock_epoch)
    return state, now


def check(*, window: timedelta) -> tuple[SyncState, datetime]:
    """Check the clock, recover if it jumped, and return the shared row and the database's time.

    The sweep calls this: after a clock went back no row is due for a while, so no request for a
    permit would notice.

    Args:
        window: as for ``recover_from_clock_jump``.
    """
    try:
        return read_state()
    except ClockJumped as jumped:
        recover_from_clock_jump(jumped, window=window)
        return shared_state.read()


def recover_from_clock_jump(jumped: ClockJumped, *, window: timedelta) -> None:
    """Move stored times along with the clock, and pause until the window is certainly empty.

    A pause that Bunce requested, or that a refused key or an outage caused, keeps its real length.

    Args:
        window: the time over which requests are counted.
    """
    by = timedelta(seconds=jumped.seconds)
    with database.atomic():
        now = shared_state.now()
        # Segments first, the shared row last, as in a push: the other order could deadlock.
        if jumped.seconds < 0:
            _move_times_back(now=now, by=-by)
        # When these were sent is unknown now, and Bunce may still be working on them.
        doubtful = database.segments().filter(status=Status.IN_DOUBT)
        doubtful.update_sync_fields(due_at=now + timedelta(seconds=conf.GRACE))
        first = (
            database.sync_state()
            .filter(clock_epoch=jumped.epoch)
            .update(clock_epoch=F("clock_epoch") + 1)
        )
        if not first:
            transaction.set_rollback(True, using=database.alias())  # another process recovered
            return
        state, now = shared_state.read()  # locked by the update above
        until = now + window
        changes = {
            "blocked_until": until,
            "blocked_reason": Reason.CLOCK,
            "blocked_since": now,
            "blocked_detail": f"{jumped.seconds:+.1f} s",
            "asked_until": None,
        }
        kept = state.blocked_until + by if state.blocked_until else None
        if kept and kept > until:
            changes = {
                "blocked_until": kept,
                "blocked_since": state.blocked_since and state.blocked_since + by,
                "asked_until": state.asked_until and state.asked_until + by,
            }
        database.sync_state().update(
            **changes,
            probe_until=None,
            resumed_at=None,
            # The scan's timestamps use the old time: rows sent after it began might look older.
            scan=None,
            scan_token=None,
        )
        logger.warning(
            "The database's clock jumped by %+.1f s",
            jumped.seconds,
            extra=event(LogEvent.CLOCK_JUMPED, seconds=jumped.seconds),
        )


def _move_times_back(*, now: datetime, by: timedelta) -> None:
    """After the clock went back, move every time back that lies ahead of it."""
    # In the order in which a push takes its locks.
    for rows, field in (
        (database.segments(), "due_at"),
        (database.segments(), "lease_until"),
        (database.operation_states(), "blocked_until"),
        (database.operation_states(), "probe_until"),
        (database.calls(), "started_at"),
        (database.sync_state(), "swept_at"),
        (database.sync_state(), "scan_lease_until"),
        (database.import_runs(), "scan_lease_until"),
        (database.sync_state(), "key_checked_until"),
    ):
        ahead = rows.filter(**{f"{field}__gt": now})
        changes = {field: F(field) - by}
        if isinstance(ahead, SegmentQuerySet):
            ahead.update_sync_fields(**changes)
        else:
            ahead.update(**changes)

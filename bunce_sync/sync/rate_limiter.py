"""The one rate limiter for all processes and hosts. Every request needs a permit, reads too.

It keeps its state in the call log and the shared row, and uses the database's clock. The call log
is also the schedule: a request that waits for its slot is already in it, with a start in the
future, so the next one queues behind it. A permit is taken in the transaction that writes that
row, under the lock of the shared row, so no two processes count the window at the same time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Max, Min, Q, QuerySet

from bunce_sync import database
from bunce_sync.choices import Operation, Outcome, Reason
from bunce_sync.client import RequestRecord
from bunce_sync.client.request_record import Instant
from bunce_sync.conf import conf
from bunce_sync.models import ApiCall, SyncState
from bunce_sync.results import Result
from bunce_sync.sync import clock, shared_state

#: Seconds for which a permit is valid. The window is counted this much longer than Bunce's, so
#: that a request sent at the end of its permit still leaves a full window.
PERMIT_SECONDS = 1.0
#: Seconds added for the way to Bunce, which may delay one request more than the next.
TRANSIT_SECONDS = 0.3
#: Seconds to which the queue for slots may grow. Later callers are turned away, since enough
#: workers are waiting to use every slot.
QUEUE_SECONDS = 0.35
#: The share of the window that may be used at once. The rest is spread over the time until the
#: window frees itself, so that a backlog flows evenly and nothing waits long for a slot.
BURST_SHARE = 0.5
#: The share of the window that reads may use: the scan of a large account must not starve pushes.
READ_SHARE = 0.5
#: Maximum seconds between two spread requests: no worker waits longer for its slot.
LONGEST_SPACING = 1.0
#: Seconds added to the pause Bunce requested, so that the next request is not slightly early.
PAUSE_MARGIN = 0.5
#: Seconds after which one request probes, however long the requested pause is.
LONGEST_PAUSE = 3600.0
#: Seconds between two probes while the key is refused.
KEY_PAUSE = 60.0
#: Seconds of the first pause after a 503 that requests less; doubled up to the cap.
UNAVAILABLE_BASE = 2.0
UNAVAILABLE_CAP = 60.0
#: Seconds until it is worth asking again with a key that has to be checked first.
UNKNOWN_KEY_SECONDS = 5.0
#: What ``permits_expected`` returns when there is no limit.
UNLIMITED_PERMITS = 100

READS = (Operation.READ, Operation.LIST)
CUSTOMERS = (Operation.ADD, Operation.REMOVE)
#: What leaves a share of the window to creates and updates of segments.
BULK = (*READS, *CUSTOMERS, Operation.SITE)
#: The share of the window that reads, customers and the site's requests may use together while
#: segments wait.
CUSTOMER_SHARE = 0.5


class NoPermit(Exception):
    """No request may be made now.

    Args:
        wait: seconds until it is worth asking again.
        reason: why requests are paused; empty when the window is full.
        queue_full: enough others are waiting to use the next slots.
    """

    def __init__(self, wait: float, reason: str = "", *, queue_full: bool = False) -> None:
        super().__init__(wait, reason)
        self.wait = wait
        self.reason = reason
        self.queue_full = queue_full

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"no request may be made for the next {self.wait:.1f} s{why}"


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to send one request within ``PERMIT_SECONDS`` of its slot.

    Attributes:
        slot: when the request may start, in the database's time.
        wait: seconds from now to the slot.
        healthy: no failure was recorded when the permit was given, so a success changes nothing.
        operations_failing: an operation had failures then, which a success may end.
        is_probe: it is the only permit until the result of its request is recorded.
        record: for the client, which refuses to send once the permit has expired.
    """

    slot: datetime
    wait: float
    healthy: bool
    operations_failing: bool
    is_probe: bool
    record: RequestRecord


@dataclass(frozen=True, slots=True)
class Usage:
    """The requests of a window, in numbers, and the slots of the first and the last.

    Attributes:
        used: all of them.
        reads: the reads among them.
        bulk: the requests of ``BULK``.
    """

    used: int
    reads: int
    bulk: int
    oldest: datetime | None
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Slot:
    """When the next request may start.

    Attributes:
        wait: seconds from now.
        queue: seconds until the last slot already taken; 0 when no request waits.
    """

    wait: float
    queue: float


def counted_window() -> timedelta:
    """Return the time over which requests are counted: Bunce's window and possible delays."""
    return timedelta(seconds=conf.RATE_WINDOW + PERMIT_SECONDS + TRANSIT_SECONDS)


# Permits


def take_permit(
    operation: Operation,
    *,
    max_wait: float = 0.0,
    must_wait: bool = False,
    any_key: bool = False,
    gives_way: bool = False,
) -> Permit:
    """Return a permit. Call it in the transaction that writes the call log row.

    Args:
        max_wait: seconds the caller can wait for its slot.
        must_wait: queue even if enough others are waiting.
        any_key: give one even if the key may belong to another account.
        gives_way: leave half of the window to creates and updates of segments.

    Raises:
        NoPermit: no request may be made now or within ``max_wait``.
        ClockJumped: the caller has to recover after the transaction.
    """
    if conf.RATE_LIMIT is not None:
        shared_state.lock()
    # Noted before the database's time is read: the permit ends early rather than late.
    began = Instant()
    state, now = clock.read_state()
    if state.blocked_reason and conf.RATE_LIMIT is None:
        # Without a limit nothing is counted and no lock is needed, except that after a pause
        # exactly one request may probe.
        shared_state.lock()
        began = Instant()
        state, now = shared_state.read()
    _raise_if_paused(state, now)
    if not any_key and not shared_state.key_is_known(state):
        raise NoPermit(UNKNOWN_KEY_SECONDS, "unknown_key")
    wait = _queue_up(
        operation, state, now, max_wait=max_wait, must_wait=must_wait, gives_way=gives_way
    )
    is_probe = bool(state.blocked_reason)
    if is_probe:
        seconds = wait + PERMIT_SECONDS + conf.request_deadline
        database.sync_state().update(probe_until=now + timedelta(seconds=seconds))
    return Permit(
        slot=now + timedelta(seconds=wait),
        wait=wait,
        healthy=not state.blocked_reason and not state.failures,
        operations_failing=vars(state)["operations_failing"],
        is_probe=is_probe,
        record=RequestRecord(send_within=wait + PERMIT_SECONDS - began.age()),
    )


def permits_expected(*, within: float) -> int:
    """Return about how many permits can be given in the next seconds.

    Args:
        within: seconds, at most the window.
    """
    state, now = shared_state.read()
    try:
        _raise_if_paused(state, now)
    except NoPermit:
        return 0
    if state.blocked_reason:
        return 1
    strange = state.strange_key == conf.key_digest
    if strange and state.key_checked_until and state.key_checked_until > now:
        return 0
    if conf.RATE_LIMIT is None:
        return UNLIMITED_PERMITS
    return available_slots(
        limit=conf.RATE_LIMIT,
        window=counted_window(),
        now=now,
        within=timedelta(seconds=within),
    )


def _raise_if_paused(state: SyncState, now: datetime) -> None:
    for until in (state.blocked_until, state.probe_until):
        if until and until > now:
            raise NoPermit((until - now).total_seconds(), state.blocked_reason)


def _queue_up(
    operation: Operation,
    state: SyncState,
    now: datetime,
    *,
    max_wait: float,
    must_wait: bool,
    gives_way: bool,
) -> float:
    """Return the seconds until the caller's slot.

    Raises:
        NoPermit: that is too long for it, or enough others are waiting.
        ClockJumped: the queue is longer than it can be.
    """
    if conf.RATE_LIMIT is None:
        return 0.0
    slot = next_slot(
        operation,
        limit=conf.RATE_LIMIT,
        window=counted_window(),
        now=now,
        resumed_at=state.resumed_at,
        gives_way=gives_way,
    )
    if slot.queue > LONGEST_SPACING + clock.TOLERANCE:
        # The clock went back, and no process is left that had read it before.
        raise clock.ClockJumped(-slot.queue, state.clock_epoch)
    queue_full = slot.queue > 0 and slot.wait > QUEUE_SECONDS and not must_wait
    if queue_full or slot.wait > max_wait:
        raise NoPermit(slot.wait, queue_full=queue_full)
    return slot.wait


# Pauses that Bunce requests


def report(permit: Permit, result: Result) -> None:
    """Pause or resume all requests after a response that concerns them all.

    Call it in the transaction that records the result. The circuit breaker handles outages.
    """
    if result.outcome == Outcome.RATE_LIMITED:
        _pause_as_requested(Reason.RATE_LIMITED, result.retry_after or conf.RATE_WINDOW, result)
    elif result.asks_to_wait and result.retry_after:
        _pause_as_requested(Reason.UNAVAILABLE, result.retry_after, result)
    elif result.outcome == Outcome.KEY_REFUSED:
        shared_state.pause(Reason.KEY_REFUSED, KEY_PAUSE, detail=result.detail)
    elif result.answered and not permit.healthy:
        shared_state.resume()


def _pause_as_requested(reason: Reason, seconds: float, result: Result) -> None:
    """Pause for as long as Bunce requested, at most ``LONGEST_PAUSE``."""
    shared_state.lock()
    state, now = shared_state.read()
    asked_until = None
    if seconds > LONGEST_PAUSE:
        asked_until = now + timedelta(seconds=seconds)
    if state.asked_until and state.asked_until > now:
        asked_until = max(asked_until or now, state.asked_until)
    pause = min(seconds, LONGEST_PAUSE) + PAUSE_MARGIN
    failures = 0
    if reason == Reason.UNAVAILABLE:
        # Each of these creates is in doubt, so a short pause grows as it does in an outage.
        sent_before = state.blocked_until is not None and state.blocked_until > now
        failures = state.failures + (not sent_before) if state.blocked_reason == reason else 1
        pause = max(pause, min(UNAVAILABLE_BASE * 2 ** min(failures - 1, 10), UNAVAILABLE_CAP))
    shared_state.pause(
        reason, pause, detail=result.detail, failures=failures, asked_until=asked_until
    )


# The window


def counted(*, since: datetime) -> QuerySet[ApiCall]:
    """Return the requests after a moment; those that never left do not count."""
    return database.calls_here().filter(started_at__gt=since).exclude(outcome=Outcome.NOT_SENT)


def usage(*, since: datetime) -> Usage:
    """Return the requests after a moment, in numbers."""
    return Usage(
        **counted(since=since).aggregate(
            used=Count("id"),
            reads=Count("id", filter=Q(operation__in=READS)),
            bulk=Count("id", filter=Q(operation__in=BULK)),
            oldest=Min("started_at"),
            newest=Max("started_at"),
        )
    )


def next_slot(
    operation: Operation,
    *,
    limit: int,
    window: timedelta,
    now: datetime,
    resumed_at: datetime | None,
    gives_way: bool = False,
) -> Slot:
    """Return when one more request may start, behind those that are waiting.

    Args:
        limit: how many requests may start within any ``window``.
        now: the database's time.
        resumed_at: when Bunce's last pause ended.
        gives_way: leave half of the window to creates and updates of segments.
    """
    current = usage(since=now - window)
    if current.oldest is None or current.newest is None:
        return Slot(0.0, queue=0.0)
    if current.used >= limit:
        at = _nth_start(current.used - limit, window, now) + window
    else:
        at = current.newest + _spacing(current, limit, window, now, resumed_at)
    reads_allowed = max(1, int(limit * READ_SHARE))
    if operation in READS and current.reads >= reads_allowed:
        at = max(at, _nth_start(current.reads - reads_allowed, window, now, READS) + window)
    bulk_allowed = max(1, int(limit * CUSTOMER_SHARE))
    if gives_way and current.bulk >= bulk_allowed:
        at = max(at, _nth_start(current.bulk - bulk_allowed, window, now, BULK) + window)
    at = max(at, current.newest)
    return Slot(_seconds(at - now), queue=_seconds(current.newest - now))


def available_slots(*, limit: int, window: timedelta, now: datetime, within: timedelta) -> int:
    """Return about how many requests may start within some time, which is at most the window."""
    current = usage(since=now - window)
    freed = current.used - usage(since=now - window + within).used
    burst = max(0, math.ceil(limit * BURST_SHARE) - current.used)
    until_free = current.oldest + window - now if current.oldest else within
    paced = (limit - current.used - burst) * min(1.0, within / max(until_free, within))
    # After the limit was lowered, more may be used than is allowed.
    return max(0, min(limit, burst + freed + math.ceil(paced)))


def _nth_start(
    number: int, window: timedelta, now: datetime, operations: tuple[Operation, ...] | None = None
) -> datetime:
    """Return the start of a request of the window; number 0 is the oldest."""
    calls = counted(since=now - window)
    if operations:
        calls = calls.filter(operation__in=operations)
    starts = calls.order_by("started_at").values_list("started_at", flat=True)
    # One of those that were counted may have turned out not to be sent: then there is room.
    return next(iter(starts[number : number + 1]), now - window)


def _spacing(
    current: Usage, limit: int, window: timedelta, now: datetime, resumed_at: datetime | None
) -> timedelta:
    """Return how long after the newest request the next one may start."""
    spacing = timedelta(0)
    if current.oldest and current.used >= limit * BURST_SHARE:
        spacing = (current.oldest + window - now) / (limit - current.used)
        spacing = min(spacing, timedelta(seconds=LONGEST_SPACING))
    if resumed_at and now - resumed_at < window:
        # Bunce has just blocked this address, so another program uses it too. Start with half the
        # even pace and reach the full pace after a window.
        spacing = max(spacing, window / limit * (2 - (now - resumed_at) / window))
    return spacing


def _seconds(ahead: timedelta) -> float:
    return max(0.0, ahead.total_seconds())

"""The one rate limiter that every request passes, reads included, on all processes and hosts.

It keeps Bunce's rate limit, the pause after a 429 or a refused key, and the circuit breaker. Its
memory is one row (``SyncState``) and the ledger, its clock is the database's.

A permit is taken inside the transaction that writes the ledger row: an UPDATE of the one row holds
its lock until the commit, so no two processes can count the window at the same time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Case, Exists, F, Q, When

from bunce_sync import database
from bunce_sync.client import RequestRecord
from bunce_sync.client.request_record import Instant
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, OperationState, Segment, SyncState
from bunce_sync.sync import clock
from bunce_sync.sync.outcome import PERMIT_EXPIRED, Outcome, Result
from bunce_sync.sync.window import LONGEST_SPACING, next_slot, room

logger = logging.getLogger(__name__)

Reason = SyncState.Reason

#: Seconds a permit is good for. The window is counted this much longer than Bunce's, so that a
#: request which starts at the end of its permit still falls out of a full window.
PERMIT_SECONDS = 1.0
#: Seconds added on top for the way to Bunce, which may hold one request back longer than the next.
TRANSIT_SECONDS = 0.3
#: Seconds to which the line of those who wait for their turn may grow; who comes later goes home,
#: since enough workers are awake to use every turn.
LINE_SECONDS = 0.35
#: Seconds added to the pause Bunce asked for, so that the next request is not a moment early.
PAUSE_MARGIN = 0.5
#: Seconds without a request at most, however long Bunce asked to wait: then one probes.
LONGEST_PAUSE = 3600.0
#: Seconds between two probes while the key is refused.
KEY_PAUSE = 60.0
#: Consecutive failures that close the rate_limiter.
BREAKER_THRESHOLD = 5
#: Seconds of the first closing, doubled with each failed probe up to the cap.
BREAKER_BASE = 2.0
BREAKER_CAP = 60.0
#: What ``permits_expected`` says when there is no limit.
UNLIMITED_PERMITS = 100


class NoPermit(Exception):
    """No permit now.

    Attributes:
        wait: seconds until it is worth asking again.
        reason: why the rate limiter is closed; empty when the window is merely full.
        queue_full: others wait already and will use the turns that come.
    """

    def __init__(self, wait: float, reason: str = "", *, queue_full: bool = False) -> None:
        super().__init__(wait, reason)
        self.wait = wait
        self.reason = reason
        self.queue_full = queue_full


class ClockJumped(NoPermit):
    """The database's clock jumped, so the window cannot be counted until it is healed.

    Attributes:
        seconds: by how much, negative when it went back.
        epoch: the count of jumps seen before this one.
    """

    def __init__(self, seconds: float, epoch: int) -> None:
        super().__init__(0.0, Reason.CLOCK)
        self.seconds = seconds
        self.epoch = epoch


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to send one request within ``PERMIT_SECONDS``, from a moment on.

    Attributes:
        at: the moment, in the database's time, for the ledger.
        wait: seconds from now until then; ``WaitBudget.wait`` sleeps them.
        healthy: nothing spoke against Bunce when the permit was given, so a success is no news.
        troubled: an operation was in trouble then (``circuit_breaker``), so a success may end that.
        probe: it is the only one given until its request has come to something.
        record: to be handed to the client, which refuses to send once the permit is too old.
    """

    at: datetime
    wait: float
    healthy: bool
    troubled: bool
    probe: bool
    record: RequestRecord


def window() -> timedelta:
    """The time over which requests are counted: Bunce's window and what may hold one back."""
    return timedelta(seconds=conf.RATE_WINDOW + PERMIT_SECONDS + TRANSIT_SECONDS)


def read_state(using: str | None = None) -> tuple[SyncState, datetime]:
    """The shared row, made when it is missing, and the database's time.

    The row has ``troubled`` beside its fields: whether any operation is in trouble.
    """
    using = using or database.alias()
    troubled = Exists(OperationState.objects.using(using))
    states = SyncState.objects.using(using).annotate(now=DatabaseNow(), troubled=troubled)
    for state in states:  # one at most
        return state, state.now
    SyncState.objects.using(using).get_or_create(pk=1)
    return read_state(using)


def _lock_state(using: str) -> None:
    """Keep the shared row from everybody else until the transaction ends."""
    shared = SyncState.objects.using(using).filter(pk=1)
    if not shared.update(permits=F("permits") + 1):
        SyncState.objects.using(using).get_or_create(pk=1)
        shared.update(permits=F("permits") + 1)


def take_permit(
    operation: ApiCall.Operation, using: str, *, patience: float = 0.0, must_wait: bool = False
) -> Permit:
    """Pass the rate limiter, or say how long to wait. To be called inside a transaction.

    Args:
        patience: seconds the caller can wait; its turn may lie so far ahead.
        must_wait: it waits also where others who are awake already could use every turn.

    Raises:
        NoPermit: no request may be made now, nor soon enough.
        ClockJumped: nor now, and the caller has to call ``recover_from_clock_jump`` after it.
    """
    if conf.RATE_LIMIT is not None:
        _lock_state(using)
    # Noted before the database's time is read: the permit ends early rather than late.
    began = Instant()
    state, now = _read_soundly(using)
    if state.blocked_reason and conf.RATE_LIMIT is None:
        # Without a limit nothing is counted and nobody need wait for the others' commits; but of
        # those who find the rate limiter closed one alone may be let through.
        _lock_state(using)
        began = Instant()
        state, now = read_state(using)
    _check_closed(state, now)
    wait = _line_up(operation, state, now, using, patience, must_wait)
    probe = bool(state.blocked_reason)
    if probe:
        # The first request after a closing is a probe; the others wait for what it finds.
        seconds = wait + PERMIT_SECONDS + conf.request_deadline
        until = now + timedelta(seconds=seconds)
        SyncState.objects.using(using).filter(pk=1).update(probe_until=until)
    return Permit(
        at=now + timedelta(seconds=wait),
        wait=wait,
        healthy=not state.blocked_reason and not state.failures,
        troubled=vars(state)["troubled"],
        probe=probe,
        record=RequestRecord(send_within=wait + PERMIT_SECONDS - began.age()),
    )


def _read_soundly(using: str) -> tuple[SyncState, datetime]:
    """As ``read_state``, once the clock has been looked at.

    Raises:
        ClockJumped: it cannot be gone by.
    """
    reading = clock.Reading(using)
    state, now = read_state(using)
    jump = reading.jump(now, state.clock_epoch)
    if state.swept_at and state.swept_at - now > timedelta(seconds=clock.TOLERANCE):
        # It went back, whether or not this process had read it before.
        jump = min(jump, (now - state.swept_at).total_seconds())
    if jump:
        raise ClockJumped(jump, state.clock_epoch)
    return state, now


def watch_clock(using: str) -> None:
    """Look at the clock, and heal it if it jumped.

    For the sweep: after a clock went back nothing is due for a while, so nobody asks for a permit
    and would notice.
    """
    try:
        _read_soundly(using)
    except ClockJumped as jumped:
        recover_from_clock_jump(jumped, using)


def _check_closed(state: SyncState, now: datetime) -> None:
    for until in (state.blocked_until, state.probe_until):
        if until and until > now:
            raise NoPermit((until - now).total_seconds(), state.blocked_reason)


def _line_up(
    operation: ApiCall.Operation,
    state: SyncState,
    now: datetime,
    using: str,
    patience: float,
    must_wait: bool,
) -> float:
    """Seconds until the caller's turn, if that is soon enough for it."""
    limit = conf.RATE_LIMIT
    if limit is None:
        return 0.0
    turn = next_slot(
        operation,
        limit=limit,
        span=window(),
        now=now,
        resumed_at=state.resumed_at,
        using=using,
    )
    if turn.line > LONGEST_SPACING + clock.TOLERANCE:
        # Nobody waits so long. The clock went back, and no process is left that saw it before.
        raise ClockJumped(-turn.line, state.clock_epoch)
    queue_full = turn.line > 0 and turn.wait > LINE_SECONDS and not must_wait
    if queue_full or turn.wait > patience:
        raise NoPermit(turn.wait, queue_full=queue_full)
    return turn.wait


def is_closed(using: str) -> bool:
    """Whether the limiter is closed now, for somebody who has a permit and waited."""
    shared = SyncState.objects.using(using).filter(pk=1)
    return shared.filter(blocked_until__gt=DatabaseNow()).exists()


def permits_expected(using: str, *, within: float) -> int:
    """About how many permits the rate limiter will give in the next seconds.

    Args:
        within: seconds, at most the window.
    """
    state, now = read_state(using)
    try:
        _check_closed(state, now)
    except NoPermit:
        return 0
    if state.blocked_reason:
        return 1
    if conf.RATE_LIMIT is None:
        return UNLIMITED_PERMITS
    return room(
        limit=conf.RATE_LIMIT,
        span=window(),
        now=now,
        within=timedelta(seconds=within),
        using=using,
    )


def report(permit: Permit, result: Result, using: str, *, segment_id: int | None = None) -> None:
    """Tell the rate limiter what a request came to. To be called inside a transaction.

    Args:
        segment_id: the row that it was about, if it was about one.
    """
    shared = SyncState.objects.using(using).filter(pk=1)
    match result.outcome:
        case _ if result.answered:
            if not permit.healthy:
                _reopen(using)
        case Outcome.RATE_LIMITED:
            _close(using, Reason.RATE_LIMITED, result.retry_after or conf.RATE_WINDOW, result)
        case _ if result.code == "unavailable" and result.retry_after:
            _close(using, Reason.UNAVAILABLE, result.retry_after, result)
        case Outcome.KEY_REFUSED:
            _close(using, Reason.KEY_REFUSED, KEY_PAUSE, result)
        case _ if result.shared or result.code in (PERMIT_EXPIRED, "internal"):
            # The operation's trouble is not everybody's; the others say nothing about Bunce.
            if permit.probe:
                shared.update(probe_until=None)
        case _:
            _count_failure(using, result, segment_id)


def _reopen(using: str) -> None:
    """Bunce answers again. A pause that it asked for is kept to its end all the same."""
    SyncState.objects.using(using).filter(
        Q(blocked_until__isnull=True)
        | Q(blocked_until__lte=DatabaseNow())
        | Q(blocked_reason=Reason.UNREACHABLE),
        pk=1,
    ).update(
        resumed_at=Case(
            When(blocked_reason=Reason.RATE_LIMITED, then=DatabaseNow()), default=F("resumed_at")
        ),
        failures=0,
        failed_segment_id=None,
        blocked_until=None,
        blocked_reason="",
        blocked_since=None,
        blocked_detail="",
        asked_until=None,
        probe_until=None,
    )


def _close(using: str, reason: SyncState.Reason, seconds: float, result: Result) -> None:
    SyncState.objects.using(using).filter(pk=1).update(permits=F("permits"))  # takes the lock
    state, now = read_state(using)
    same = state.blocked_reason == reason
    failures = state.failures if reason == Reason.UNREACHABLE else 0
    asked_until = None
    if reason in (Reason.RATE_LIMITED, Reason.UNAVAILABLE):
        if seconds > LONGEST_PAUSE:
            asked_until = now + timedelta(seconds=seconds)
        seconds = min(seconds, LONGEST_PAUSE) + PAUSE_MARGIN
        if state.asked_until and state.asked_until > now:
            asked_until = max(asked_until or now, state.asked_until)
    if reason == Reason.UNAVAILABLE:
        # Each of these creates is in doubt, so a short pause grows as it does in an outage.
        straggler = state.blocked_until is not None and state.blocked_until > now
        failures = state.failures + (not straggler) if same else 1
        seconds = max(seconds, min(BREAKER_BASE * 2 ** min(failures - 1, 10), BREAKER_CAP))
    until = now + timedelta(seconds=seconds)
    resumed_at = state.resumed_at
    if reason == Reason.UNREACHABLE and state.blocked_reason == Reason.RATE_LIMITED:
        # The probe after a pause failed: what follows begins gently all the same.
        resumed_at = until
    SyncState.objects.using(using).filter(pk=1).update(
        failures=failures,
        blocked_until=max(until, state.blocked_until) if state.blocked_until else until,
        blocked_reason=reason,
        blocked_since=state.blocked_since if same and state.blocked_since else now,
        blocked_detail=result.detail,
        asked_until=asked_until,
        probe_until=None,
        resumed_at=resumed_at,
    )
    if not same:
        logger.warning("No requests to Bunce for %.0f s: %s", seconds, reason.label)


def _count_failure(using: str, result: Result, segment_id: int | None) -> None:
    """Count towards the breaker.

    Stragglers of an outage that closed it already do not count, nor does a row that was the last
    to fail as well: that may be the row's own matter.
    """
    counted = ~Q(blocked_until__gt=DatabaseNow()) | Q(blocked_until__isnull=True)
    if segment_id is not None:
        another = ~Q(failed_segment_id=segment_id) | Q(failed_segment_id__isnull=True)
        counted &= another | ~Q(blocked_reason="")
    shared = SyncState.objects.using(using).filter(pk=1)
    changes = {"failures": F("failures") + 1, "failed_segment_id": segment_id, "probe_until": None}
    if not shared.filter(counted).update(**changes):
        return
    failures = shared.values_list("failures", flat=True).get()
    if failures >= BREAKER_THRESHOLD:
        doublings = min(failures - BREAKER_THRESHOLD, 10)
        _close(using, Reason.UNREACHABLE, min(BREAKER_BASE * 2**doublings, BREAKER_CAP), result)


def recover_from_clock_jump(jumped: ClockJumped, using: str) -> None:
    """Make the rows right again after the database's clock jumped, and wait out one window.

    Times in the future are drawn back with the clock, so that nothing waits for longer.
    """
    with transaction.atomic(using=using, durable=True):
        now = read_state(using)[1]
        # Segments first, the shared row last, as in a push: the other order could deadlock.
        if jumped.seconds < 0:
            clock.draw_back(using, now=now, by=timedelta(seconds=-jumped.seconds))
        # How long ago these were sent is not known any more, and Bunce may still be at them.
        doubtful = Segment.objects.using(using).filter(status=Segment.Status.IN_DOUBT)
        doubtful.update_sync_fields(due_at=now + timedelta(seconds=conf.GRACE))
        first = (
            SyncState.objects.using(using)
            .filter(pk=1, clock_epoch=jumped.epoch)
            .update(clock_epoch=F("clock_epoch") + 1)
        )
        if not first:
            transaction.set_rollback(True, using=using)  # another process has healed it
            return
        SyncState.objects.using(using).filter(pk=1).update(
            blocked_until=now + window(),
            blocked_reason=Reason.CLOCK,
            blocked_since=now,
            blocked_detail=f"{jumped.seconds:+.1f} s",
            asked_until=None,
            probe_until=None,
            resumed_at=None,
            # It goes by the old time: rows sent after it began might look older.
            scan=None,
            scan_token=None,
        )
        logger.warning("The database's clock jumped by %+.1f s", jumped.seconds)

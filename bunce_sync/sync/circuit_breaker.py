"""The circuit breakers: one for each operation, and one for all requests during an outage.

A failure concerns only its row until ``THRESHOLD`` consecutive requests of an operation, for
different rows, get the same response. Then the operation is paused: its rows wait, one request at
a time probes (for a row that has not failed yet, if there is one), and the other
operations continue. Failures of the connection and of Bunce's servers count for all requests.

Lock order: the segment's row, the operation's row, the shared row.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from bunce_sync import database
from bunce_sync.choices import Operation, Outcome, Reason
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import ApiCall, OperationState, SegmentQuerySet
from bunce_sync.results import PERMIT_EXPIRED, Result
from bunce_sync.sync import shared_state
from bunce_sync.sync.rate_limiter import PERMIT_SECONDS, NoPermit, Permit

logger = logging.getLogger(__name__)

#: How many consecutive failures, each of a different row, pause an operation.
THRESHOLD = 3
#: Refusals of one row, each followed by successes of other rows, that show it is the row's own.
PROOFS = 2
#: Seconds of an operation's first pause, doubled with each failed probe up to the cap.
FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0
#: How many failed rows are stored (they probe last), and how many calls of a row are considered.
REMEMBERED = 50
#: Consecutive failures that pause all requests.
OUTAGE_THRESHOLD = 5
#: Seconds of the first pause in an outage, doubled with each failed probe up to the cap.
OUTAGE_BASE = 2.0
OUTAGE_CAP = 60.0


class OperationPaused(NoPermit):
    """No request of this operation may be made now; other operations continue."""


@dataclass(frozen=True, slots=True)
class OperationRows:
    """The segments for which an operation is made. Each kind of work has one per operation.

    Attributes:
        condition: selects them, whether or not they can be sent now.
        waiting: returns those that could be sent now.
        is_expected: returns whether the operation may be needed, now or later. A pause of an
            operation that nothing needs would never end: no request would probe it.
        requeue: makes the rows wait again that got the same response before it was known to be the
            operation's; takes its state, returns how many rows changed.
    """

    operation: Operation
    condition: Q
    waiting: Callable[[], SegmentQuerySet]
    is_expected: Callable[[], bool]
    requeue: Callable[[OperationState], int]


def no_rows(operation: Operation) -> OperationRows:
    """Return an operation that no segment waits for."""
    return OperationRows(
        operation,
        condition=Q(pk__in=[]),
        waiting=lambda: database.segments().none(),
        is_expected=lambda: False,
        requeue=lambda state: 0,
    )


# One operation


def admit(rows: OperationRows, *, segment_id: int | None = None) -> bool:
    """Return whether the request is a probe. Call it in the transaction that takes the permit.

    Raises:
        OperationPaused: the operation is paused, and the request may not probe.
    """
    states = database.operation_states().filter(operation=rows.operation)
    state = states.filter(blocked_until__isnull=False).annotate(now=DatabaseNow()).first()
    if state is None:
        return False
    until = _paused_until(state)
    if until > state.now:
        raise OperationPaused((until - state.now).total_seconds(), rows.operation)
    others = rows.waiting().exclude(pk__in=state.segment_ids)
    if segment_id in state.segment_ids and others.exists():
        raise OperationPaused(0.0, rows.operation)
    free = Q(probe_until__isnull=True) | Q(probe_until__lte=DatabaseNow())
    seconds = PERMIT_SECONDS + conf.request_deadline
    taken = states.filter(free, blocked_until__lte=DatabaseNow()).update(
        probe_until=DatabaseNow() + timedelta(seconds=seconds)
    )
    if not taken:
        raise OperationPaused(seconds, rows.operation)
    return True


def is_closed(operation: Operation) -> Q:
    """Return the condition that an operation is not paused, for use within another query."""
    paused = database.operation_states().filter(operation=operation, blocked_until__isnull=False)
    return Q(~Exists(paused))


def may_be_sent(column: str) -> Q:
    """Return the condition that the operation named by a column is not paused, or may probe."""
    now = DatabaseNow()
    waits = Q(blocked_until__gt=now) | Q(blocked_until__isnull=False, probe_until__gt=now)
    paused = database.operation_states().filter(waits, operation=OuterRef(column))
    return Q(~Exists(paused))


def without_paused(segments: SegmentQuerySet, *operations: OperationRows) -> SegmentQuerySet:
    """Return those of the segments whose operation is not paused, or that may probe."""
    by_operation = {rows.operation: rows for rows in operations}
    paused = _paused(by_operation)
    for state in paused.annotate(now=DatabaseNow()):
        rows = by_operation[Operation(state.operation)]
        if _paused_until(state) > state.now:
            segments = segments.exclude(rows.condition)
        elif rows.waiting().exclude(pk__in=state.segment_ids).exists():
            # Those that failed probe only when there is no other.
            segments = segments.exclude(rows.condition, pk__in=state.segment_ids)
    return segments


def report_operation(
    result: Result, call: ApiCall, permit: Permit, *, is_probe: bool = False
) -> bool:
    """Record what a result says about its operation. Call it in the transaction that records.

    Args:
        call: the request; the segment it is about has to be locked already.
        is_probe: what ``admit`` returned for it.

    Returns:
        Whether the failure concerns the operation, not only the row.
    """
    operation = Operation(call.operation)
    states = database.operation_states().filter(operation=operation)
    if result.succeeded:
        # This success does not end a failure that began after its permit was given.
        if permit.operations_failing and states.delete()[0]:
            logger.info(
                "Requests to Bunce (%s) have resumed",
                operation,
                extra=event(LogEvent.OPERATION_RESUMED, operation=operation.value),
            )
        return False
    if not (result.may_concern_operation(operation) or result.is_failed_list(operation)):
        if is_probe:
            states.update(probe_until=None)
        return False
    if _fails_alone(call, result) and not states.filter(blocked_until__isnull=False).exists():
        return False
    return _count_for_operation(operation, result, call.segment_id, is_probe=is_probe)


def _count_for_operation(
    operation: Operation, result: Result, segment_id: int | None, *, is_probe: bool
) -> bool:
    state, now = _lock(operation, result)
    paused = state.blocked_until is not None
    if paused and not is_probe and _paused_until(state) > now:
        # Sent before the pause, so it does not lengthen it.
        state.segment_ids = _with(state.segment_ids, segment_id)
        state.save(using=database.alias())
        return True
    if not paused and not _is_same(state, result):
        state.segment_ids, state.failures, state.since = [], 0, now
    state.code, state.http_status, state.detail = result.code, result.http_status, result.detail
    state.segment_ids = _with(state.segment_ids, segment_id)
    state.failures += 1
    state.probe_until = None
    if operation == Operation.LIST:
        # The list is one thing for all rows: one refusal suffices, or several failures in a row.
        concerns_all = result.may_concern_operation(operation) or state.failures >= THRESHOLD
    else:
        concerns_all = len(state.segment_ids) >= THRESHOLD
    if paused or concerns_all:
        if not paused:
            logger.warning(
                "Requests to Bunce (%s) are paused: %s",
                operation,
                result.code,
                extra=event(
                    LogEvent.OPERATION_PAUSED,
                    operation=operation.value,
                    code=result.code,
                    http_status=result.http_status,
                ),
            )
            state.failures = 0
        state.blocked_until = now + _pause(operation, result, state.failures)
    state.save(using=database.alias())
    return paused or concerns_all


def requeue_refused(*operations: OperationRows) -> int:
    """Make rows wait that got the same response before it was known to be the operation's.

    Call it outside transactions that hold an operation's row.
    """
    by_operation = {rows.operation: rows for rows in operations}
    states = _paused(by_operation)
    return sum(by_operation[Operation(state.operation)].requeue(state) for state in states)


def forget_idle(*operations: OperationRows) -> None:
    """End the pauses of operations that no row needs."""
    paused = set(
        database.operation_states()
        .filter(blocked_until__isnull=False)
        .values_list("operation", flat=True)
    )
    for rows in operations:
        if rows.operation in paused and not rows.is_expected():
            forget(rows.operation)


def forget(operation: Operation) -> None:
    """Delete the state of an operation: its failures are over."""
    database.operation_states().filter(operation=operation).delete()


def _paused(operations: Iterable[Operation]) -> QuerySet[OperationState]:
    states = database.operation_states().filter(operation__in=[*operations])
    return states.filter(blocked_until__isnull=False)


def _is_same(state: OperationState, result: Result) -> bool:
    """Return whether other rows got this response just before."""
    if state.operation == Operation.LIST:
        return True  # any failure to get the list counts as the same failure
    if (state.code, state.http_status) != (result.code, result.http_status):
        return False
    # Two failures that Bunce explains are the same if the explanations are equal.
    return result.code != "says_failed" or state.detail == result.detail


def _paused_until(state: OperationState) -> datetime:
    """Return until when a paused operation makes no request; a running probe counts."""
    return max(filter(None, (state.blocked_until, state.probe_until)))


def _lock(operation: Operation, result: Result) -> tuple[OperationState, datetime]:
    """Lock the operation's row, which is created if needed; return it and the database's time."""
    states = database.operation_states().filter(operation=operation)
    if not states.update(failures=F("failures")):
        database.operation_states().get_or_create(
            environment=conf.environment,
            operation=operation,
            defaults={
                "code": result.code,
                "http_status": result.http_status,
                "detail": result.detail,
                "since": DatabaseNow(),
            },
        )
        states.update(failures=F("failures"))
    state = states.annotate(now=DatabaseNow()).get()
    return state, state.now


def _fails_alone(call: ApiCall, result: Result) -> bool:
    """Return whether this request was refused before, and others succeeded after each refusal.

    One such refusal proves nothing: the plan may have had room for one more segment. For a segment
    that is not found, one is enough.
    """
    if call.segment_id is None:
        return False
    calls = database.calls_here().filter(operation=call.operation)
    refused = (
        calls.filter(segment_id=call.segment_id, code=result.code)
        .exclude(pk=call.pk)
        .order_by("started_at")
        .values_list("started_at", "body")[:REMEMBERED]
    )
    times = [started_at for started_at, body in refused if body == call.body]
    confirmed = calls.filter(outcome=Outcome.CONFIRMED)
    followed = 0
    for started_at, until in itertools.pairwise([*times, call.started_at]):
        followed += confirmed.filter(started_at__gt=started_at, started_at__lt=until).exists()
        if followed >= (1 if result.code == "not_found" else PROOFS):
            return True
    return False


def _pause(operation: Operation, result: Result, failed_probes: int) -> timedelta:
    if operation == Operation.LIST and result.may_concern_operation(operation):
        return timedelta(seconds=LONGEST_PAUSE)  # retrying sooner cannot help
    return timedelta(seconds=min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failed_probes, 10)))


def _with(ids: list[int], segment_id: int | None) -> list[int]:
    if segment_id is None or segment_id in ids:
        return ids
    return [*ids, segment_id][-REMEMBERED:]


# An outage


def report_outage(permit: Permit, result: Result, *, segment_id: int | None) -> None:
    """Count a failure that concerns all requests. Call it in the transaction that records."""
    if result.answered or result.concerns_all:
        return  # handled by the rate limiter
    if result.shared or result.code in (PERMIT_EXPIRED, "internal"):
        # An error of one operation, or of this app, is not an outage of Bunce.
        if permit.is_probe:
            shared_state.end_probe()
        return
    # Not counted: requests sent before the pause, and repeated failures of one row, whose content
    # may be the cause.
    counted = ~Q(blocked_until__gt=DatabaseNow()) | Q(blocked_until__isnull=True)
    if segment_id is not None:
        another = ~Q(failed_segment_id=segment_id) | Q(failed_segment_id__isnull=True)
        counted &= another | ~Q(blocked_reason="")
    changes = {"failures": F("failures") + 1, "failed_segment_id": segment_id, "probe_until": None}
    if not database.sync_state().filter(counted).update(**changes):
        return
    state, now = shared_state.read()
    if state.failures < OUTAGE_THRESHOLD:
        return
    doublings = min(state.failures - OUTAGE_THRESHOLD, 10)
    seconds = min(OUTAGE_BASE * 2**doublings, OUTAGE_CAP)
    resumed_at = None
    if state.blocked_reason == Reason.RATE_LIMITED:
        # The probe after a pause failed; the pace is reduced all the same once requests resume.
        resumed_at = now + timedelta(seconds=seconds)
    shared_state.pause(
        Reason.UNREACHABLE,
        seconds,
        detail=result.detail,
        failures=state.failures,
        resumed_at=resumed_at,
    )

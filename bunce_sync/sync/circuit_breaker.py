"""The breaker of each operation: trouble that several rows in a row have is not the rows' own.

One row's answer is that row's own matter until ``THRESHOLD`` different rows in a row get the same
answer for the same operation, with no success between. Then the operation is paused: its rows
wait, one request at a time probes (a row that has not failed yet, if there is one), and the other
operations go on. What concerns every request (the key, the rate limit, an outage) is the limiter's.

Lock order: the segment's row, the operation's row, the shared row of the rate_limiter.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, Q, QuerySet

from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, OperationState, Segment
from bunce_sync.models.segment_queryset import SegmentQuerySet
from bunce_sync.sync.outcome import SHARED, Outcome, Result
from bunce_sync.sync.rate_limiter import PERMIT_SECONDS, NoPermit, Permit

logger = logging.getLogger(__name__)

Operation = ApiCall.Operation
Status = Segment.Status

#: Different rows in a row with the same answer.
THRESHOLD = 3
#: How often others have to go through after a row was refused, to show that it is the row's own.
PROOFS = 2
#: Seconds of the first pause, doubled with each failed probe up to the cap.
FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0
#: Rows of a run that are remembered: they probe last. And calls of a row that are looked at.
REMEMBERED = 50


class OperationPaused(NoPermit):
    """No request of this operation now; others may go on."""


def admit(operation: ApiCall.Operation, using: str, *, segment_id: int | None = None) -> bool:
    """Let a request pass unless its operation is paused. To be called inside a transaction.

    Returns:
        Whether it is the one that probes.

    Raises:
        OperationPaused: it has to wait.
    """
    states = OperationState.objects.using(using).filter(pk=operation)
    state = states.filter(blocked_until__isnull=False).annotate(now=DatabaseNow()).first()
    if state is None:
        return False
    until = _until(state)
    if until > state.now:
        raise OperationPaused((until - state.now).total_seconds(), operation)
    others = _waiting(operation, using).exclude(pk__in=state.segment_ids)
    if segment_id in state.segment_ids and others.exists():
        raise OperationPaused(0.0, operation)
    free = Q(probe_until__isnull=True) | Q(probe_until__lte=DatabaseNow())
    seconds = PERMIT_SECONDS + conf.request_deadline
    taken = states.filter(free, blocked_until__lte=DatabaseNow()).update(
        probe_until=DatabaseNow() + timedelta(seconds=seconds)
    )
    if not taken:
        raise OperationPaused(seconds, operation)
    return True


def clear_of_trouble(operation: ApiCall.Operation, using: str) -> Q:
    """The condition that an operation is not paused, to be asked within another query."""
    paused = OperationState.objects.using(using).filter(pk=operation, blocked_until__isnull=False)
    return Q(~Exists(paused))


def note(
    operation: ApiCall.Operation,
    result: Result,
    using: str,
    *,
    call: ApiCall,
    permit: Permit,
    probe: bool = False,
) -> bool:
    """Take down what a request came to. To be called inside a transaction.

    Args:
        call: the request; its segment, if it has one, has to be locked already.
        permit: under which it was made.
        probe: what ``admit`` returned for it.

    Returns:
        Whether its trouble is the operation's and not the row's own.
    """
    states = OperationState.objects.using(using).filter(pk=operation)
    if result.succeeded:
        # Trouble that began since then is no matter of a request that was let through before.
        if permit.troubled and states.delete()[0]:
            logger.info("Requests to Bunce (%s) have resumed", operation)
        return False
    if not (result.concerns(operation) or result.fails(operation)):
        if probe:
            states.update(probe_until=None)
        return False
    alone = _fails_alone(call, result, using)
    if alone and not states.filter(blocked_until__isnull=False).exists():
        return False
    _lock(states, operation, result, using)
    state = states.annotate(now=DatabaseNow()).get()
    now: datetime = state.now
    paused = state.blocked_until is not None
    if paused and not probe and _until(state) > now:
        # Sent before the pause; it lengthens nothing.
        state.segment_ids = _with(state.segment_ids, call.segment_id)
        state.save(using=using)
        return True
    if not paused and not _same(state, result):
        state.segment_ids, state.failures, state.since = [], 0, now
    state.code, state.http_status, state.detail = result.code, result.http_status, result.detail
    state.segment_ids = _with(state.segment_ids, call.segment_id)
    state.failures += 1
    state.probe_until = None
    if operation == Operation.LIST:
        # A list is one thing for all rows: one answer tells, and of others a few in a row.
        several = paused or result.concerns(operation) or state.failures >= THRESHOLD
    else:
        several = paused or len(state.segment_ids) >= THRESHOLD
    if several:
        if not paused:
            logger.warning("Requests to Bunce (%s) are paused: %s", operation, result.code)
            state.failures = 0
        state.blocked_until = now + _pause(operation, result, state.failures)
    state.save(using=using)
    return several


def requeue_refused(using: str) -> int:
    """Let the rows wait that got the same answer before it was known to be the operation's.

    To be called outside of transactions that hold an operation's row.
    """
    count = 0
    states = OperationState.objects.using(using).filter(blocked_until__isnull=False)
    for state in states.exclude(pk=Operation.LIST):
        rows = Segment.objects.using(using)
        if state.operation == Operation.READ:
            found = rows.filter(pk__in=state.segment_ids, refresh_requested_at__isnull=True)
            changes: dict[str, Any] = {"refresh_requested_at": DatabaseNow()}
        else:
            # The code may be another one by now.
            run = Q(pk__in=state.segment_ids, last_code__in=SHARED)
            alike = Q(last_code=state.code, last_error=state.detail)
            found = rows.filter(run | alike, _kind(state.operation), status=Status.REJECTED)
            changes = {"status": Status.PENDING, "due_at": DatabaseNow()}
        # Rows that others hold are left to the next sweep.
        keys = list(found.values_list("pk", flat=True))
        if keys:
            with transaction.atomic(using=using, durable=True):
                count += found.filter(pk__in=keys).not_held().update_sync_fields(**changes)
    return count


def passable(rows: SegmentQuerySet, using: str) -> SegmentQuerySet:
    """Those of the due rows whose operation is not paused, or that may probe."""
    return _without_paused(rows, (Operation.CREATE, Operation.UPDATE), using)


def passable_reads(rows: SegmentQuerySet, using: str) -> SegmentQuerySet:
    """Those of the rows to be looked up that may be read now."""
    return _without_paused(rows, (Operation.READ,), using)


def _without_paused(
    rows: SegmentQuerySet, operations: Sequence[ApiCall.Operation], using: str
) -> SegmentQuerySet:
    paused = OperationState.objects.using(using).filter(
        pk__in=operations, blocked_until__isnull=False
    )
    for state in paused.annotate(now=DatabaseNow()):
        kind = _kind(state.operation)
        others = _waiting(state.operation, using).exclude(pk__in=state.segment_ids)
        if _until(state) > state.now:
            rows = rows.exclude(kind)
        elif others.exists():
            # Those that failed probe only when there is no other.
            rows = rows.exclude(kind, pk__in=state.segment_ids)
    return rows


def clear(operation: str, using: str) -> None:
    """Forget the trouble of an operation."""
    OperationState.objects.using(using).filter(pk=operation).delete()


def forget_idle(using: str) -> None:
    """End the pause of operations that no row waits for: nothing would ever probe them."""
    segments = Segment.objects.using(using)
    states = OperationState.objects.using(using).filter(blocked_until__isnull=False)
    for operation in states.values_list("pk", flat=True):
        match operation:
            case Operation.LIST:
                wanted = segments.filter(status=Status.IN_DOUBT)
            case Operation.READ:
                wanted = segments.refresh_requested()
            case _:
                under_way = (Status.PENDING, Status.SENDING)
                wanted = segments.filter(_kind(operation), status__in=under_way)
                if operation == Operation.CREATE:
                    # Rows in doubt may be created once more.
                    wanted |= segments.filter(status=Status.IN_DOUBT)
        if not wanted.exists():
            clear(operation, using)


def _same(state: OperationState, result: Result) -> bool:
    """Whether it is the answer that other rows got just before."""
    if state.operation == Operation.LIST:
        return True  # that it does not come is the same, whatever the reason
    if (state.code, state.http_status) != (result.code, result.http_status):
        return False
    # A failure in Bunce's own words is the same if the words are.
    return result.code != "says_failed" or state.detail == result.detail


def _until(state: OperationState) -> datetime:
    """Until when a paused operation makes no request, the probe under way included."""
    return max(filter(None, (state.blocked_until, state.probe_until)))


def _lock(states: QuerySet[OperationState], operation: str, result: Result, using: str) -> None:
    """Keep the operation's row, which is made if need be, until the transaction ends."""
    if not states.update(failures=F("failures")):
        OperationState.objects.using(using).get_or_create(
            pk=operation,
            defaults={
                "code": result.code,
                "http_status": result.http_status,
                "detail": result.detail,
                "since": DatabaseNow(),
            },
        )
        states.update(failures=F("failures"))


def _fails_alone(call: ApiCall, result: Result, using: str) -> bool:
    """Whether the same request was refused twice before, and others went through after each time.

    Once is no proof, since a plan may have had room for one segment more; of a segment that is not
    found it is.
    """
    if call.segment_id is None:
        return False
    calls = ApiCall.objects.using(using).filter(operation=call.operation)
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


def _pause(operation: str, result: Result, failed_probes: int) -> timedelta:
    if operation == Operation.LIST and result.concerns(operation):
        return timedelta(seconds=LONGEST_PAUSE)  # nothing but time tells whether it got better
    return timedelta(seconds=min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failed_probes, 10)))


def _with(ids: list[int], segment_id: int | None) -> list[int]:
    if segment_id is None or segment_id in ids:
        return ids
    return [*ids, segment_id][-REMEMBERED:]


def _waiting(operation: str, using: str) -> SegmentQuerySet:
    rows = Segment.objects.using(using)
    return (
        rows.refresh_requested()
        if operation == Operation.READ
        else rows.due().filter(_kind(operation))
    )


def _kind(operation: str) -> Q:
    """The rows for which this operation is made."""
    if operation == Operation.READ:
        return Q(refresh_requested_at__isnull=False)
    return Q(bunce_id__isnull=operation == Operation.CREATE)

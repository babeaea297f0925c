"""Pushes: the creates and updates of segments.

A push is one ``Attempt``. Read it from top to bottom:

lease    transaction 1: the segment becomes ``sending``, if it is due and no check prevents it
send     the request; no transaction is open
save     transaction 2: the segment becomes what ``transitions.after_push`` says
"""

from __future__ import annotations

import logging
import math
import random
import time
import uuid
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from bunce_sync import database, transitions
from bunce_sync.choices import UNRESOLVED, Decision, Operation, Outcome, Status
from bunce_sync.client import RemoteSegment, RequestRecord
from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import ApiCall, OperationState, Segment, SegmentQuerySet
from bunce_sync.results import LINKED_ELSEWHERE, SHARED, Result
from bunce_sync.sync import account, circuit_breaker, events, holds, linking, shared_state
from bunce_sync.sync.attempt import Attempt, client
from bunce_sync.sync.budget import Budget, Kind, Progress, attempt_each, count_waiting
from bunce_sync.sync.circuit_breaker import OperationRows
from bunce_sync.sync.rate_limiter import NoPermit
from bunce_sync.transitions import MOST_ATTEMPTS, Claim

logger = logging.getLogger(__name__)

#: Rows read at a time when looking for work, and from how many of the oldest they are drawn.
BATCH = 10
OLDEST = 100
#: Permits for which one worker is woken: it continues with the next row, and enqueues the next run
#: when its budget is used up.
PERMITS_PER_WORKER = 10
#: The fields a claim reads. No times: a row whose times cannot be read is sent as well.
CLAIMED = (
    *Segment.CREATE_FIELDS,
    *("bunce_id", "status", "attempts", "sent_digest", "listed_digest", "settled"),
    "environment",
)
#: The fields that recording a result reads.
RECORDED = (
    *Segment.CREATE_FIELDS,
    *("status", "lease_token", "sent_digest", "listed_digest", "settled", "last_code"),
    *("bunce_id", "bunce_name", "bunce_description", "shown_digest", "environment"),
)


class Push(Attempt[RemoteSegment]):
    """One create or update of a segment.

    Args:
        row: as last read; its content is what will be sent.
        must_wait: queue for a slot even if enough others are waiting.

    Attributes:
        sent_before: the row's ``sent_digest`` before the next claim.
        collided: another row has the segment that the response is about.
        took_over: that row was imported, and has given way.
    """

    collided = False
    took_over = False

    def __init__(self, row: Segment, *, must_wait: bool = False) -> None:
        content = content_to_send(row)
        digests = row.digests_of(row.content(Segment.CREATE_FIELDS))
        self.row = row
        self.sent_before = row.sent_digest
        self.must_wait = must_wait
        self.claim = Claim(
            segment_id=row.pk,
            token=uuid.uuid4(),
            content=content,
            sent_digest=digests["sent_digest"],
            listed_digest=digests["listed_digest"],
            bunce_id=row.bunce_id,
            attempts=min(row.attempts, MOST_ATTEMPTS) + 1,
            environment=conf.environment,
            came_from=row.environment,
            settled=_settled(row, content),
        )
        if self.claim.creates:
            self.listed_digest = self.claim.listed_digest
        self.rows = CREATES if self.claim.creates else UPDATES
        path = "/segments" if row.bunce_id is None else f"/segments/{row.bunce_id}"
        super().__init__(path, segment_id=row.pk, body=content)

    def lease(self) -> bool:
        """Claim the segment, if it is due, not claimed by another worker and not sent before."""
        self.claim = replace(self.claim, token=uuid.uuid4())
        # Name and description are compared again when recording. A field that only a create sends
        # cannot be corrected by an update, so it must not have changed. Nor must the row have been
        # sent since it was read, other than by this push: other fields may be settled now.
        unchanged = self.row.content((*Segment.CREATE_ONLY_FIELDS, "bunce_id"))
        due = database.segments().due()
        due = due.filter(pk=self.row.pk, sent_digest=self.sent_before, **unchanged)
        values = transitions.claimed(
            self.claim, now=DatabaseNow(), lease=timedelta(seconds=conf.LEASE)
        )
        # Nearly always every check passes, so one query makes all of them and claims the row.
        operation = self.claim.operation
        clear = due.filter(circuit_breaker.is_closed(operation), holds.not_held())
        if self.claim.creates:
            earlier = linking.creates_that_may_have_arrived(OuterRef("pk"))
            clear = clear.exclude(Exists(earlier))
        self._checks_passed = bool(clear.lock_available().update_sync_fields(**values))
        self.sent_before = self.claim.sent_digest
        if self._checks_passed:
            return True
        # Claim the row all the same, so that no other worker acts on it, and look closer.
        if not due.lock_available().update_sync_fields(**values):
            return False
        return not self._restore_from_call_log()

    def _restore_from_call_log(self) -> bool:
        """Replace the claim of a row that has lost track of a create; return whether it has."""
        restored = _values_from_call_log(self.row) if self.claim.creates else {}
        if restored:
            logger.error(
                "Segment %s was sent before; the call log says how",
                self.row.pk,
                extra=event(LogEvent.SEGMENT_RESTORED, segment_id=self.row.pk),
            )
            database.segments().filter(pk=self.row.pk).update_sync_fields(**restored)
        return bool(restored)

    def admit(self) -> bool:
        if self._checks_passed:
            return False
        holds.admit(self.claim.operation)
        return super().admit()

    def is_held(self) -> bool:
        return holds.is_paused()

    def send(self, record: RequestRecord) -> RemoteSegment:
        if self.claim.bunce_id is None:
            return client().create_segment(self.claim.content, record=record)
        return client().update_segment(self.claim.bunce_id, self.claim.content, record=record)

    def confirmed(self, value: RemoteSegment) -> Result:
        return replace(super().confirmed(value), segment=value)

    def record(self, result: Result) -> Result:
        try:
            return super().record(result)
        except IntegrityError:
            if self.collided or result.segment is None or _unless_linked(result) is result:
                raise
            self.collided = True
            return super().record(result)

    def prepare(self, result: Result) -> Result:
        """Lock the segment, which may have changed or been deleted meanwhile."""
        rows = database.segments().locked().filter(pk=self.row.pk).only(*RECORDED)
        self.current = next(iter(rows), None)
        if self.collided and result.segment and self.current is not None:
            self.took_over = linking.give_way(result.segment.id, to=self.row.pk)
            return result if self.took_over else _unless_linked(result)
        if (
            self.current is not None
            and result.segment
            and self.current.bunce_id not in (None, result.segment.id)
        ):
            return _unless_linked(result)
        return result

    def save(self, result: Result) -> Result:
        """Write what the result makes of the segment."""
        current = self.current
        if current is None:
            if result.segment is not None:
                linking.bury({result.segment.id: None}, environment=self.claim.environment)
            logger.warning(
                "Segment %s was deleted while it was being sent: %s",
                self.row.pk,
                result.outcome.label,
                extra=event(
                    LogEvent.SEGMENT_DELETED,
                    segment_id=self.row.pk,
                    outcome=result.outcome.value,
                    bunce_id=result.segment.id if result.segment else "",
                ),
            )
            return replace(result, code=result.code or "row_deleted")
        claim = self.claim
        if self._is_given_up(current):
            logger.warning(
                "Segment %s gave up what this late response is about",
                current.pk,
                extra=event(
                    LogEvent.RESPONSE_LATE, segment_id=current.pk, outcome=result.outcome.value
                ),
            )
            if result.segment is not None and result.segment.id != current.bunce_id:
                ids = {result.segment.id: current.pk}
                linking.bury(ids, environment=self.claim.environment)
            return result
        if result.outcome == Outcome.REJECTED and claim.creates:
            claim = replace(claim, has_unresolved_create=self._has_unresolved_create())
        values = transitions.after_push(
            current, claim, result, now=DatabaseNow(), grace=timedelta(seconds=conf.GRACE)
        )
        if duplicate := values.get("bunce_duplicate_id"):
            result = replace(result, outcome=Outcome.DUPLICATE)
            logger.error(
                "Segment %s exists twice in Bunce, also as %s",
                current.pk,
                duplicate,
                extra=event(LogEvent.SEGMENT_DUPLICATED, segment_id=current.pk, bunce_id=duplicate),
            )
        if values and self.took_over:
            # The imported row may have sent updates since this create.
            values |= transitions.refresh_requested(now=DatabaseNow())
        if values:
            database.segments().filter(pk=current.pk).update_sync_fields(**values)
            events.announce(current, values)
        self._log_segment(current, values, result)
        return result

    def _log_segment(self, current: Segment, values: Mapping[str, Any], result: Result) -> None:
        """Log what became of the segment, if the push has ended."""
        about = {"segment_id": current.pk, "operation": self.claim.operation.value}
        match values.get("status"):
            case Status.SYNCED:
                bunce_id = values.get("bunce_id", current.bunce_id)
                logger.info(
                    "Segment %s is synced, in Bunce as %s",
                    current.pk,
                    bunce_id,
                    extra=event(LogEvent.SEGMENT_SYNCED, **about, bunce_id=bunce_id),
                )
            case Status.IN_DOUBT:
                logger.info(
                    "Segment %s may be in Bunce (%s); the list will show it",
                    current.pk,
                    result.code,
                    extra=event(LogEvent.SEGMENT_IN_DOUBT, **about, code=result.code),
                )
            case Status.REJECTED:
                # Without Bunce's words, which may quote the content. The admin shows them.
                logger.warning(
                    "Segment %s needs attention: %s",
                    current.pk,
                    result.code,
                    extra=event(
                        LogEvent.SEGMENT_REJECTED,
                        **about,
                        code=result.code,
                        http_status=result.http_status,
                    ),
                )

    def _is_given_up(self, current: Segment) -> bool:
        """Return whether the row was moved elsewhere, or gave its segment up, after the lease."""
        if current.lease_token == self.claim.token:
            return False
        if current.environment not in ("", self.claim.environment):
            return True
        return database.calls().filter(pk=self.call.pk, decision=Decision.RELEASED).exists()

    def _has_unresolved_create(self) -> bool:
        """Return whether an earlier create of the segment may have reached Bunce."""
        creates = database.calls_here().filter(
            segment_id=self.row.pk,
            operation=Operation.CREATE,
            outcome__in=UNRESOLVED,
        )
        creates = creates.exclude(pk=self.call.pk).exclude(decision=Decision.RELEASED)
        return creates.exists()


def content_to_send(row: Segment) -> dict[str, Any]:
    """Return the content of a row's next push: all of it, or what Bunce may not have yet."""
    names = Segment.CREATE_FIELDS if row.bunce_id is None else row.unsettled_fields
    return row.content(names)


def _settled(row: Segment, content: Mapping[str, Any]) -> dict[str, str]:
    """Return ``Segment.settled`` while a push with this content is under way."""
    if row.bunce_id is None:
        return row.field_digests(row.UPDATE_FIELDS)
    return {name: one for name, one in row.settled_digests.items() if name not in content}


def push(segment_id: int) -> bool:
    """Send one segment to Bunce, if it is due and a permit is available at once.

    Args:
        segment_id: of a segment. One that does not exist, is not due or is claimed is left alone.

    Returns:
        Whether a request was made or tried.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
        NoPermit: no request may be made now; the segment keeps its place.
    """
    budget = Budget(math.inf, wait_seconds=0)
    if not account.is_known(budget):
        return False
    return any(_push(row, budget) for row in _waiting_rows([segment_id]))


def run(budget: Budget, *, first_id: int | None = None, recheck_seconds: float = 0.0) -> Progress:
    """Push segments that are due, oldest first, until none is left or the budget is used up.

    Args:
        first_id: of the segment to begin with. If another worker has claimed it, that worker
            drains the queue.
        recheck_seconds: after which to look once more when no segment is due.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    requests = 0
    if not account.is_known(budget):
        return Progress()
    rows = _due_rows() if first_id is None else _waiting_rows([first_id])
    while rows:
        made, stop = attempt_each(rows, partial(_push_alone, budget, (first_id,)), budget)
        requests += made
        if stop:
            waiting = rows[stop.index].pk == first_id
            return Progress(requests, more=stop.more, waiting_id=first_id if waiting else None)
        if not made:
            break  # other workers have claimed these, and looking again would not help
        rows = _due_rows()
        if recheck_seconds and not rows:
            time.sleep(recheck_seconds)
            rows = _due_rows()
    return Progress(requests)


def run_only(keys: Sequence[int], budget: Budget) -> Progress:
    """Push those of some segments that are due, and no others, until the budget is used up.

    Args:
        keys: of the segments, of which as many are loaded at once.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    if not account.is_known(budget) or holds.is_paused():
        return Progress()
    due = database.segments().due().filter(pk__in=[*keys]).order_by("due_at")
    rows = _waiting_rows([*due.values_list("pk", flat=True)])
    made, stop = attempt_each(rows, partial(_push_alone, budget, keys), budget)
    return Progress(made, more=stop is not None and stop.more)


def workers_needed(permits: int) -> int:
    """Return for how many workers there are due segments."""
    most = math.ceil(permits / PERMITS_PER_WORKER)
    if not most:
        return 0
    return _sendable().order_by()[:most].count()


def _push(row: Segment, budget: Budget, *, must_wait: bool = False) -> bool:
    """Push one segment; return whether a request was made or none was needed."""
    if row.bunce_id is not None and not row.unsettled_fields:
        # Edited back to what Bunce has.
        return _settle(row.pk)
    return Push(row, must_wait=must_wait).run(budget) is not None


def _settle(pk: int) -> bool:
    """Make a waiting row synced that has nothing to send; return whether it still has nothing."""
    with database.atomic():
        fields = (*CLAIMED, "bunce_name", "bunce_description", "shown_digest", "last_code")
        row = database.segments().due().filter(pk=pk).lock_available().only(*fields).first()
        if row is None or row.bunce_id is None or row.unsettled_fields:
            return False
        values = transitions.nothing_to_send(row, now=DatabaseNow())
        database.segments().filter(pk=pk).update_sync_fields(**values)
        events.announce(row, values)
    return True


def _push_alone(budget: Budget, named: Container[int | None], row: Segment) -> bool:
    """Push one segment; an internal error postpones it and stops no other.

    Args:
        named: the keys of segments that are pushed on purpose, and queue for a slot.
    """
    try:
        return _push(row, budget, must_wait=row.pk in named)
    except (ConfigurationError, NoPermit, ProgrammingError):
        raise
    except (OperationalError, InterfaceError, InternalError) as error:
        # The connection, a deadlock, or a row the server refuses: a new connection shows which.
        if database.connection().in_atomic_block:
            raise
        database.connection().close()
        _postpone(row.pk, error)
    except Exception as error:  # noqa: BLE001 - any other error concerns this row
        _postpone(row.pk, error)
    return False


def _postpone(pk: int, error: Exception) -> None:
    """Postpone a waiting segment after an internal error.

    Raises:
        DatabaseError: the database itself does not work.
    """
    logger.error(
        "Pushing segment %s failed by an internal error",
        pk,
        exc_info=error,
        extra=event(LogEvent.INTERNAL_ERROR, segment_id=pk, error=type(error).__name__),
    )
    rows = database.segments().filter(pk=pk, status=Status.PENDING)
    brief = isinstance(error, OperationalError)
    rows.update_sync_fields(
        **transitions.after_internal_error(error, now=DatabaseNow(), brief=brief)
    )


# Which segments to push


def _sendable() -> SegmentQuerySet:
    """Return the due segments whose operation is neither paused nor held."""
    due = database.segments().due().filter(holds.not_held())
    return circuit_breaker.without_paused(due, CREATES, UPDATES)


def is_any_due() -> bool:
    """Return whether a segment waits for a permit."""
    return database.segments().due().exists()


def _due_rows() -> list[Segment]:
    """Return some of the segments that have been due for longest, half of them creates.

    Otherwise a bulk edit would delay every new segment.
    """
    due = _sendable().order_by("due_at")
    oldest = dict(due.values_list("pk", "bunce_id")[:OLDEST])
    creates = [pk for pk, bunce_id in oldest.items() if bunce_id is None]
    if len(oldest) == OLDEST and len(creates) < BATCH // 2:
        # Not "without an id": for that SQLite would use the index of ids, and sort what it finds.
        new = due.alias(known=Coalesce("bunce_id", Value(""))).filter(known="")
        creates = list(new.values_list("pk", flat=True)[:OLDEST])
    # At random: if several workers chose the same rows, all but one would find them claimed.
    some = _draw(creates, BATCH // 2)
    some += _draw([pk for pk in oldest if pk not in some], BATCH - len(some))
    return _waiting_rows(some) if some else []


def _draw(ids: list[int], most: int) -> list[int]:
    return random.sample(ids, min(most, len(ids)))


def _waiting_rows(keys: list[int]) -> list[Segment]:
    """Return those of the segments that are pending, with the fields a claim reads."""
    some = database.segments().only(*CLAIMED)
    try:
        rows = list(some.filter(pk__in=keys))
    except (DatabaseError, ValueError):
        # One that cannot be read, such as invalid text on SQLite, or no connection.
        rows = [row for pk in keys if (row := _readable(pk, some))]
    else:
        for missing in {*keys} - {row.pk for row in rows}:
            logger.info(
                "Segment %s does not exist (any more); nothing to push.",
                missing,
                extra=event(LogEvent.SEGMENT_MISSING, segment_id=missing),
            )
    return [row for row in rows if row.status == Status.PENDING]


def _readable(pk: int, rows: SegmentQuerySet) -> Segment | None:
    try:
        return rows.filter(pk=pk).first()
    except (DatabaseError, ValueError) as error:
        _postpone(pk, error)
        return None


# Second line of defence: earlier creates in the call log


def _unexpected_creates(pk: int) -> QuerySet[ApiCall]:
    """Return creates of this very row that Bunce confirmed, or that are unresolved.

    Every claim makes the simpler query of ``linking.creates_that_may_have_arrived`` first.
    The row existed when they were made, so it is not another one that got the same key.
    """
    created_at = database.segments().filter(pk=pk).values("created_at")
    unresolved = Q(outcome__in=(Outcome.UNDER_WAY, *UNRESOLVED), decision="")
    confirmed = Q(outcome=Outcome.CONFIRMED) | Q(decision=Decision.ADOPTED)
    return linking.creates_that_may_have_arrived(pk).filter(
        unresolved | (confirmed & ~Q(bunce_id="")), started_at__gte=Subquery(created_at)
    )


def _values_from_call_log(row: Segment) -> dict[str, Any]:
    """Return what an earlier create makes of a row that has lost track of it; often nothing.

    Whatever made the row forget it: without this it would be created twice.
    """
    for call in _unexpected_creates(row.pk).order_by("-pk"):
        if call.bunce_id:
            linked = database.segments().filter(bunce_id=call.bunce_id)
            if not linked.exists() or linking.give_way(call.bunce_id, to=row.pk):
                return transitions.after_restore(row, call.bunce_id, now=DatabaseNow())
        elif call.body and not call.decision:
            grace = timedelta(seconds=conf.GRACE + conf.request_deadline)
            # Not before now: a scan under way may have passed the page with the segment.
            due_at = max(call.started_at + grace, shared_state.now())
            return transitions.after_lost_create(
                row, call.body, sent_at=call.started_at, due_at=due_at
            )
    return {}


def _unless_linked(result: Result) -> Result:
    """Return the result, unless its segment belongs to another row already.

    Reconciliation gave it to a row with the same content, whose own segment may be there as well.
    Rows of the same content are interchangeable: this one has to find the other segment.
    """
    segment = result.segment
    if segment is None or not database.segments().filter(bunce_id=segment.id).exists():
        return result
    return replace(
        result, outcome=Outcome.UNKNOWN, segment=None, code=LINKED_ELSEWHERE, detail=segment.id
    )


# The kind of work


def _requeue(condition: Q, state: OperationState) -> int:
    """Make rejected segments pending again if the whole operation turned out to be failing."""
    # The code of a row may be another one by now.
    in_a_row = Q(pk__in=state.segment_ids, last_code__in=SHARED)
    alike = Q(last_code=state.code, last_error=state.detail)
    refused = database.segments().filter(in_a_row | alike, condition, status=Status.REJECTED)
    # Rows that other transactions hold are left to the next sweep.
    keys = list(refused.values_list("pk", flat=True))
    if not keys:
        return 0
    with database.atomic():
        rows = refused.filter(pk__in=keys).lock_available()
        return rows.update_sync_fields(**transitions.operation_paused(now=DatabaseNow()))


def _rows_of(operation: Operation) -> OperationRows:
    creates = operation == Operation.CREATE
    condition = Q(bunce_id__isnull=creates)
    unfinished = [Status.PENDING, Status.SENDING]
    if creates:
        unfinished.append(Status.IN_DOUBT)  # it may be created once more
    return OperationRows(
        operation,
        condition=condition,
        waiting=lambda: database.segments().due().filter(condition, holds.not_held()),
        is_expected=lambda: (
            database.segments().here().filter(condition, status__in=unfinished).exists()
        ),
        requeue=partial(_requeue, condition),
    )


CREATES: Final = _rows_of(Operation.CREATE)
UPDATES: Final = _rows_of(Operation.UPDATE)
PUSH: Final = Kind(
    name="push",
    label=_("to send"),
    workers_needed=workers_needed,
    run=run,
    operations=(CREATES, UPDATES),
    report="sent %s",
    noun="segment",
    count_due=partial(count_waiting, CREATES, UPDATES),
)

"""Customers: the members of segments, sent to Bunce in batches.

A batch is one ``Attempt``: some members of one segment that are to be added, or some that are to be
removed. Adding and removing can be repeated, so a batch of unknown outcome is sent again; what is
wanted now but differs from it waits until it can no longer take effect
(``member_transitions.WHEN_SETTLED``).

A refusal of a batch may concern one member, so its halves are sent, and so on until those that
Bunce refuses are alone. If batches are refused one after the other with no
success between, it concerns all of them, and the queue of the segment waits.
"""

from __future__ import annotations

import logging
import math
import re
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.db import InterfaceError, OperationalError, ProgrammingError
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils.translation import gettext_lazy as _

from bunce_sync import audiences, database, member_transitions, transitions
from bunce_sync.choices import MemberStatus, Operation, Outcome, Status
from bunce_sync.client import Customer, RequestRecord
from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError, NotFound
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.member_transitions import FORGOTTEN
from bunce_sync.models import CustomerQueue, Member, OperationState, Segment, SegmentQuerySet
from bunce_sync.models.forgotten import forgotten_among
from bunce_sync.results import PERMIT_EXPIRED, REFUSED_CONTENT, Result
from bunce_sync.sync import account, circuit_breaker, holds, push, shared_state
from bunce_sync.sync.attempt import Attempt, client
from bunce_sync.sync.budget import Budget, Kind, Progress, attempt_each
from bunce_sync.sync.circuit_breaker import OperationRows
from bunce_sync.sync.rate_limiter import NoPermit

logger = logging.getLogger(__name__)

#: Segments that one look for work finds, and how often each is served before the next look.
SEGMENTS: Final = 20
ROUNDS: Final = 5
#: Batches for which one worker is woken.
BATCHES_PER_WORKER: Final = 10
#: Consecutive refusals of different batches after which they concern all batches: more than it
#: takes to isolate one member of a batch of the usual size.
REFUSALS: Final = 8
#: Seconds of the first pause then, doubled with each further refusal up to the cap.
REFUSED_PAUSE: Final = 60.0
REFUSED_CAP: Final = 3600.0
#: The most members that a count of waiting ones counts.
COUNTED: Final = 10_000
#: Members of a segment that is new in Bunce that are reset at a time.
RESET_BATCH: Final = 5_000
#: The code of a queue that waits because Bunce refuses all batches.
ALL_REFUSED: Final = "all_refused"
#: A refusal that is about the number of customers in the request, perhaps with the number allowed.
_SIZE: Final = re.compile(
    r"(?:more than|at most|maximum(?: of)?|max\.?|up to|exceeds?|limit of|fewer than|less than)"
    r"\s+(?:the\s+)?(\d+)\s*(?:items|customers|entries|records|elements|rows|members)"
    r"|batch size[^.]*?(\d+)"
    r"|too many (?:items|customers|entries|records|elements|rows|members)"
    r"|(?:batch|payload|request|array|list) (?:is |was )?too (?:large|big|long)",
    re.IGNORECASE,
)
_EMAIL: Final = re.compile(r"\S+@\S+")
#: The shortest text of a profile that is replaced wherever it occurs.
_SHORTEST_REDACTED: Final = 3


class Batch(Attempt[None]):
    """One add or removal of some customers of a segment.

    Args:
        queue: of the segment's adds or removals, with its segment.
        only: the keys of the members to send, if they still wait; None for those that are due.

    Attributes:
        members: those that are sent, after ``reserve``.
        refused: whether Bunce refused at least one of them, after ``record``.
        paused: whether it seems to refuse all batches, so that the queue waits.
    """

    refused = False
    paused = False

    def __init__(self, queue: CustomerQueue, *, only: Sequence[int] | None = None) -> None:
        self.only = only
        self.queue = queue
        self.operation = Operation(queue.operation)
        self.bunce_id = str(queue.sync.segment.bunce_id)
        self.rows = ADDS if self.operation == Operation.ADD else REMOVALS
        self.token = uuid.uuid4()
        self.members: list[Member] = []
        self.words = ""
        self.accepted = shared_state.CustomerBatch()
        super().__init__(f"/segments/{self.bunce_id}/customers", segment_id=queue.sync_id)

    @property
    def adds(self) -> bool:
        return self.operation == Operation.ADD

    def lease(self) -> bool:
        """Claim the members that have been due for longest."""
        self.token = uuid.uuid4()
        queues = database.customer_queues().filter(pk=self.queue.pk, due_at__lte=DatabaseNow())
        if not queues.update(served_at=DatabaseNow()):
            return False
        # Whether the segment may still be served is decided by the query that finds the members.
        ready = _may_be_sent(database.customer_queues()).filter(
            pk=self.queue.pk, sync__bunce_id=self.bunce_id, sync__segment__bunce_id=self.bunce_id
        )
        due = database.members().due()
        if self.only is not None:
            due = database.members().filter(pk__in=self.only, status=MemberStatus.PENDING)
        due = due.filter(Exists(ready), segment_id=self.queue.sync_id)
        self.accepted = shared_state.customer_batch()
        self.size = self.accepted.size
        due = due.filter(wanted=self.adds)
        if not self.adds and self._is_audience_held():
            due = due.filter(profile_digest=FORGOTTEN)
        due = due.order_by("due_at").lock_available()
        found = list(due[: self.size])
        if never_told := [row.pk for row in found if not self.adds and row.in_bunce is False]:
            database.members().delete_keys(never_told)
            found = [row for row in found if row.pk not in never_told]
        if not found:
            return False
        split = 0 if self.only else found[0].split
        alike = [row for row in found if self.only or row.split == split]
        self.members = alike[: min(self.size, split or self.size)]
        self.keys = [row.pk for row in self.members]
        self.body = {"customers": len(self.members)}
        # Segments that wait have at least half of the window for themselves.
        self.gives_way = conf.RATE_LIMIT is not None and push.is_any_due()
        values = member_transitions.leased(
            self.token, until=DatabaseNow() + timedelta(seconds=conf.LEASE)
        )
        database.members().filter(pk__in=self.keys).update(**values)
        return True

    def _is_audience_held(self) -> bool:
        syncs = database.customer_syncs().filter(pk=self.queue.sync_id)
        return syncs.filter(held_at__isnull=False).exists()

    def is_held(self) -> bool:
        return holds.is_paused()

    def send(self, record: RequestRecord) -> None:
        if self.adds:
            customers = [_customer(row) for row in self.members]
            client().add_customers(self.bunce_id, customers, record=record)
        else:
            identifiers = [row.identifier for row in self.members]
            client().remove_customers(self.bunce_id, identifiers, record=record)

    def perform(self, budget: Budget) -> Result:
        """Make the request. Bunce's words about customers are kept apart from its result."""
        result = super().perform(budget)
        self.words = result.detail
        detail = "" if result.outcome == Outcome.REJECTED else self._redacted(result.detail)
        return replace(result, detail=detail)

    def prepare(self, result: Result) -> Result:
        """Lock the queue and the sync of the segment's customers, which may be deleted by now."""
        queues = database.customer_queues().filter(pk=self.queue.pk).select_related("sync")
        self.current = database.locked(queues).first()
        return result

    def save(self, result: Result) -> Result:
        """Write what the result makes of the members and of their queue."""
        current = self.current
        if current is None or current.sync.bunce_id != self.bunce_id:
            # The members are deleted, or begin again with another segment in Bunce.
            return replace(result, code=result.code or "row_deleted")
        refused = _is_refusal(result) or self._is_about_a_customer(current, result)
        too_large = refused and self._is_too_large(result)
        pause: Values = {}
        if too_large:
            shared_state.lower_customers_per_request(len(self.members))
        split, refusal = 0, ""
        if refused:
            pause = self._after_refusal(current, result)
            self.refused, self.paused = not too_large, bool(pause)
            split = 0 if too_large else math.ceil(len(self.members) / 2)
            if len(self.members) == 1 and not pause:
                refusal = self.words or result.code
        end = member_transitions.after_batch(
            self.operation,
            result,
            attempts=max(row.attempts for row in self.members) + 1,
            now=DatabaseNow(),
            grace=timedelta(seconds=conf.GRACE + conf.request_deadline),
            split=split if len(self.members) > 1 else 0,
            refusal=refusal,
        )
        mine = database.members().filter(pk__in=self.keys, lease_token=self.token)
        held = mine.lock_keys()
        if mine.filter(changed=False).update(**end.values) < len(self.keys):
            mine.update(**end.changed)
        if result.outcome == Outcome.CONFIRMED:
            self._after_success(current, held)
        elif not refused:
            self._after_failure(current, result)
        if result.outcome == Outcome.CONFIRMED or refusal:
            note_if_all_sent(self.queue.sync_id)
        return result

    def _after_success(self, queue: CustomerQueue, held: list[int]) -> None:
        if queue.failures or queue.last_code:
            database.customer_queues().filter(pk=self.queue.pk).update(**_WORKING)
        if len(self.members) > self.accepted.accepted:
            shared_state.note_accepted_customers(len(self.members))
        if not self.adds:
            gone = database.members().filter(pk__in=held, status=MemberStatus.REMOVED)
            gone = gone.filter(due_at__lte=DatabaseNow())
            database.members().delete_keys(list(gone.values_list("pk", flat=True)))

    def _after_refusal(self, queue: CustomerQueue, result: Result) -> Values:
        """Count a refusal; return the values of a queue that is paused by it, or none."""
        refusals = queue.refusals + 1
        values: Values = {"refusals": refusals, "failures": queue.failures + 1}
        pause: Values = {}
        if refusals >= REFUSALS:
            seconds = min(REFUSED_CAP, REFUSED_PAUSE * 2 ** min(refusals - REFUSALS, 10))
            pause = {
                "due_at": DatabaseNow() + timedelta(seconds=seconds),
                "last_code": ALL_REFUSED,
                "last_error": self._redacted(self.words) or result.code,
                "since": queue.since or DatabaseNow(),
            }
            if queue.last_code != ALL_REFUSED:
                logger.warning(
                    "Bunce refuses all customers of segment %s",
                    self.segment_id,
                    extra=event(
                        LogEvent.CUSTOMERS_REFUSED, segment_id=self.segment_id, code=result.code
                    ),
                )
        database.customer_queues().filter(pk=queue.pk).update(**values, **pause)
        return pause

    def _after_failure(self, queue: CustomerQueue, result: Result) -> None:
        """Postpone the segment's next batches after a failure that may concern them all."""
        if result.concerns_all or result.shared or result.code == PERMIT_EXPIRED:
            return  # they wait for the limiter, or for their operation
        values: Values = {"failures": queue.failures + 1}
        if result.outcome == Outcome.REJECTED or queue.failures:
            values |= {
                "due_at": DatabaseNow() + transitions.backoff(queue.failures + 1),
                "last_code": result.code,
                "last_error": self._redacted(self.words),
                "since": queue.since or DatabaseNow(),
            }
        database.customer_queues().filter(pk=queue.pk).update(**values)
        if result.code == NotFound.code:
            # A read of the segment shows whether Bunce still has it.
            rows = database.segments().filter(pk=self.queue.sync_id, refresh_requested_at=None)
            rows.update_sync_fields(**transitions.refresh_requested(now=DatabaseNow()))

    def _is_too_large(self, result: Result) -> bool:
        """Return whether Bunce refused the size of the batch, which it never accepted before."""
        size = len(self.members)
        if size == 1 or shared_state.customer_batch().accepted >= size:
            return False
        if result.http_status == 413:
            return True
        said = _SIZE.search(self.words) if result.http_status in (400, 422) else None
        if said is None:
            return False
        allowed = next(filter(None, said.groups()), None)
        # A larger number is that of something else, such as the customers of the plan.
        return allowed is None or int(allowed) < size

    def _is_about_a_customer(self, queue: CustomerQueue, result: Result) -> bool:
        """Return whether a 404 is about a customer: Bunce had it before, and has the segment."""
        if self.adds or result.code != NotFound.code or queue.last_code != NotFound.code:
            return False
        there = database.segments().filter(pk=self.queue.sync_id, refresh_requested_at=None)
        return there.exclude(last_code=NotFound.code).exists()

    def _redacted(self, text: str) -> str:
        """Return a text without what it says about the customers of the batch."""
        if not text:
            return ""
        text = _EMAIL.sub("[customer]", text)
        values = {row.identifier for row in self.members}
        for row in self.members:
            values |= {*(row.profile or {}).values()}
        for value in sorted(values, key=len, reverse=True):
            if len(value) >= _SHORTEST_REDACTED:
                text = re.sub(re.escape(value), "[customer]", text, flags=re.IGNORECASE)
            else:
                text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "[customer]", text)
        return text


Values = dict[str, Any]
_WORKING: Final[Values] = {
    "failures": 0, "refusals": 0, "last_code": "", "last_error": "", "since": None,
    "due_at": DatabaseNow(),
}  # fmt: skip


def _customer(row: Member) -> Customer:
    named = {"email" if row.is_email else "customer_id": row.identifier}
    return Customer(**{**(row.profile or {}), **named})


def _is_refusal(result: Result) -> bool:
    """Return whether Bunce refused what the batch contains, which may be a single member."""
    if result.outcome != Outcome.REJECTED or result.shared:
        return False
    return result.code in REFUSED_CONTENT or result.code == "says_failed"


def run(budget: Budget) -> Progress:
    """Send batches, segment by segment in turn, until the budget is used up.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    requests = 0
    if not account.is_known(budget):
        return Progress()
    while queues := ready_queues():
        rounds = queues * ROUNDS
        made, stop = attempt_each(rounds, partial(_send_alone, budget), budget)
        requests += made
        if stop:
            return Progress(requests, more=stop.more)
        if not made:
            break
    return Progress(requests)


def run_only(segment_id: int, budget: Budget) -> Progress:
    """Send batches of one segment until none is due or the budget is used up.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    requests = 0
    if not account.is_known(budget):
        return Progress()
    while queues := _loaded(_ready().filter(sync_id=segment_id)):
        made, stop = attempt_each(queues * ROUNDS, partial(_send_alone, budget), budget)
        requests += made
        if stop:
            return Progress(requests, more=stop.more)
        if not made:
            break
    return Progress(requests)


def workers_needed(permits: int) -> int:
    """Return for how many workers there are batches."""
    most = math.ceil(permits / BATCHES_PER_WORKER)
    if not most or not database.members().due().exists() or not _ready().exists():
        return 0
    batches = math.ceil(count_due() / shared_state.customer_batch().size)
    return min(most, math.ceil(batches / BATCHES_PER_WORKER)) or 1


def count_due() -> int:
    """Return how many members could be sent now, at most ``COUNTED``."""
    segments = _ready().values("sync_id")
    due = database.members().due().filter(segment_id__in=segments)
    return due[:COUNTED].count()


def ready_queues() -> list[CustomerQueue]:
    """Return some of the queues from which a batch can be sent, those unserved longest first."""
    if not database.members().due().exists():
        return []
    return _loaded(_ready().order_by("served_at")[:SEGMENTS])


def _loaded(queues: QuerySet[CustomerQueue]) -> list[CustomerQueue]:
    """Return queues with their segments, in the same order.

    In two steps: joined at once, SQLite would begin with all segments.
    """
    keys = list(queues.values_list("pk", flat=True))
    rows = database.customer_queues().filter(pk__in=keys).select_related("sync__segment")
    found = rows.only("operation", "sync__key", "sync__bunce_id", "sync__segment__bunce_id")
    by_key = {queue.pk: queue for queue in found}
    return [by_key[key] for key in keys if key in by_key]


def _ready() -> QuerySet[CustomerQueue]:
    """Return the queues from which a batch can be sent now."""
    due = database.members().due().filter(segment_id=OuterRef("sync_id"))
    adds, removals = due.filter(wanted=True), due.filter(wanted=False)
    has_adds = Q(Exists(adds), operation=Operation.ADD)
    has_removals = Q(operation=Operation.REMOVE) & (
        Q(Exists(removals), sync__held_at=None)
        | Q(Exists(removals.filter(profile_digest=FORGOTTEN)), sync__held_at__isnull=False)
    )
    return _may_be_sent(database.customer_queues().filter(has_adds | has_removals))


def _may_be_sent(queues: QuerySet[CustomerQueue]) -> QuerySet[CustomerQueue]:
    """Return those of the queues from which a batch can be sent if a member is due."""
    segments = database.segments().here().filter(bunce_id__isnull=False, hold__isnull=True)
    segments = segments.exclude(last_code=NotFound.code)
    return queues.filter(
        ~Exists(holds.pauses()),
        Exists(segments.filter(pk=OuterRef("sync_id"))),
        circuit_breaker.may_be_sent("operation"),
        due_at__lte=DatabaseNow(),
    )


def waits_for_segment(segment: Segment) -> bool:
    """Return whether no customer of a segment is sent until something else happens to it."""
    return (
        not segment.is_here
        or segment.hold_id is not None
        or segment.last_code == NotFound.code
        or (segment.bunce_id is None and segment.status in (Status.IN_DOUBT, Status.REJECTED))
    )


def _send_alone(budget: Budget, queue: CustomerQueue) -> int:
    """Send a batch; an internal error postpones the segment's customers and stops no others."""
    try:
        return _send(budget, queue)
    except (ConfigurationError, NoPermit, OperationalError, InterfaceError, ProgrammingError):
        raise
    except Exception as error:  # noqa: BLE001 - any other error concerns this segment
        # Without the traceback, which may quote customers.
        logger.error(
            "Customers of segment %s: internal error %s",
            queue.sync_id,
            type(error).__name__,
            extra=event(
                LogEvent.INTERNAL_ERROR, segment_id=queue.sync_id, error=type(error).__name__
            ),
        )
        database.customer_queues().filter(pk=queue.pk).update(
            due_at=DatabaseNow() + transitions.backoff(transitions.INTERNAL_ERROR_ATTEMPTS),
            failures=F("failures") + 1,
            last_code="internal",
            last_error=type(error).__name__,
        )
        return 0


def _send(budget: Budget, queue: CustomerQueue) -> int:
    """Send a batch of a queue; return how many requests were made."""
    segment = queue.sync.segment
    if queue.sync.bunce_id != segment.bunce_id:
        begin_again(queue.sync_id, str(segment.bunce_id))
        queue.sync.bunce_id = str(segment.bunce_id)
    if queue.operation == Operation.REMOVE and queue.sync.key:
        _keep_those_who_returned(queue)
    batch = Batch(queue)
    if batch.run(budget) is None:
        return 0
    if batch.refused and not batch.paused:
        return 1 + _isolate(budget, queue, batch.keys)
    return 1


def _isolate(budget: Budget, queue: CustomerQueue, keys: Sequence[int]) -> int:
    """Isolate the members of a batch that Bunce refused; return how many requests were made.

    One among n takes at most 2 log2(n) requests: if the first half of a refused batch is accepted,
    the second half need not be tried as a whole. Ended early, the rest is sent in batches of half
    the size (``Member.split``).
    """
    requests = 0
    suspected = deque([keys])
    while suspected and not budget.out_of_time:
        some = suspected.popleft()
        middle = len(some) // 2
        first, second = some[:middle], some[middle:]
        for part in filter(None, (first, second)):
            batch = Batch(queue, only=part)
            result = batch.run(budget)
            if result is None:
                continue
            requests += 1
            if batch.paused:
                return requests
            if batch.refused and len(part) > 1:
                suspected.append(part)
            if part is first and result.outcome == Outcome.CONFIRMED:
                suspected.append(second)
                break
    return requests


def begin_again(segment_id: int, bunce_id: str) -> None:
    """Have all members told to a segment that is new in Bunce: it starts without customers.

    A few thousand at a time. Killed in between, the next run does the rest.
    """
    last: int | None = 0
    while last is not None:
        with database.atomic():
            last = _reset_some(segment_id, bunce_id, after=last)


def notice_new_segments() -> int:
    """Make members due whose segment Bunce has under another id by now; return of how many.

    Some of each segment: the worker that sends the first batch resets the rest.
    """
    segments = database.segments().here().filter(bunce_id__isnull=False)
    syncs = database.customer_syncs().filter(Exists(segments.filter(pk=OuterRef("pk"))))
    moved = syncs.exclude(bunce_id="").exclude(bunce_id=F("segment__bunce_id"))
    found = list(moved.values_list("pk", "segment__bunce_id")[:SEGMENTS])
    for segment_id, bunce_id in found:
        with database.atomic():
            _reset_some(segment_id, str(bunce_id), after=0)
    return len(found)


def _reset_some(segment_id: int, bunce_id: str, *, after: int) -> int | None:
    """Reset some members of a segment that is new in Bunce.

    Returns:
        The key of the last one; None if there are no more, or another worker was quicker.
    """
    syncs = database.customer_syncs().filter(pk=segment_id)
    # Locks the sync: a worker that saw an old id must not reset what was told to a newer segment.
    segments = database.segments().filter(pk=segment_id, bunce_id=bunce_id)
    if not syncs.exclude(bunce_id=bunce_id).filter(Exists(segments)).update(bunce_id=F("bunce_id")):
        return None
    members = database.members().filter(segment_id=segment_id)
    # With those that are being sent to the old one, which records nothing any more.
    told = members.filter(pk__gt=after).exclude(in_bunce=False, lease_token=None)
    keys = list(told.order_by("pk").values_list("pk", flat=True)[:RESET_BATCH])
    members.filter(pk__in=keys).lock_keys()
    if not keys:
        syncs.update(bunce_id=bunce_id)
        return None
    some = members.filter(pk__in=keys)
    some.filter(wanted=False).delete()
    some.update(**member_transitions.lost())
    return keys[-1]


def _keep_those_who_returned(queue: CustomerQueue) -> None:
    """Ask an audience once more about those who are about to be removed."""
    audience = audiences.get(queue.sync.key)
    if audience is None:
        return
    due = database.members().due().filter(segment_id=queue.sync_id, wanted=False)
    some = list(due.order_by("due_at").only("identifier")[: shared_state.customer_batch().size])
    leaving = {row.identifier for row in some}
    leaving -= forgotten_among([*leaving], using=database.alias())
    back = [entry for entry in audience.present([*leaving]) if entry.identifier in leaving]
    if back:
        database.members().want(queue.sync_id, back)


def note_if_all_sent(segment_id: int) -> bool:
    """Request a refresh of a segment of which no customer waits; return whether none does.

    Call it in the transaction that locks the segment's ``CustomerSync``. The refresh shows how many
    customers Bunce counts.
    """
    members = database.members().filter(segment_id=segment_id)
    if members.unsent().exists():
        return False
    database.customer_syncs().filter(pk=segment_id).update(
        sent_all_at=DatabaseNow(), sent_count=members.filter(in_bunce=True).count()
    )
    rows = database.segments().filter(pk=segment_id, bunce_id__isnull=False)
    rows.update_sync_fields(**transitions.refresh_requested(now=DatabaseNow()))
    return True


def free_leases() -> int:
    """Free the members whose worker recorded no result in time; return how many."""
    keys = list(database.members().abandoned().values_list("pk", flat=True)[:RESET_BATCH])
    if not keys:
        return 0
    end = member_transitions.unsettled(now=DatabaseNow(), grace=timedelta(seconds=conf.GRACE))
    with database.atomic():
        abandoned = database.members().abandoned().filter(pk__in=keys)
        held = [row.pk for row in abandoned.only("pk").lock_available()]
        abandoned.filter(pk__in=held, changed=True).update(**end.changed)
        abandoned.filter(pk__in=held).update(**end.values)
    logger.warning(
        "%d customers were left by a worker that died or hangs",
        len(held),
        extra=event(LogEvent.LEASES_FREED, count=len(held)),
    )
    return len(held)


def delete_removed() -> int:
    """Delete the rows of removed customers that no late request can bring back any more."""
    gone = database.members().filter(status=MemberStatus.REMOVED, due_at__lte=DatabaseNow())
    keys = list(gone.values_list("pk", flat=True)[:RESET_BATCH])
    if not keys:
        return 0
    with database.atomic():
        free = [row.pk for row in gone.filter(pk__in=keys).only("pk").lock_available()]
        database.members().delete_keys(free)
    return len(free)


# The kind of work


def _waiting(operation: Operation) -> SegmentQuerySet:
    queues = _ready().filter(operation=operation).values("sync_id")
    return database.segments().filter(pk__in=queues)


def _requeue(operation: Operation, state: OperationState) -> int:
    """Make members wait again that were refused before all of their operation were."""
    refused = database.members().filter(
        segment_id__in=state.segment_ids,
        wanted=operation == Operation.ADD,
        status=MemberStatus.REFUSED,
        last_code=state.code,
    )
    return refused.update(**member_transitions.retried())


def _rows_of(operation: Operation) -> OperationRows:
    return OperationRows(
        operation,
        condition=Q(customer_sync__isnull=False),
        waiting=partial(_waiting, operation),
        is_expected=lambda: (
            database.members().unsent().filter(wanted=operation == Operation.ADD).exists()
        ),
        requeue=partial(_requeue, operation),
    )


ADDS: Final = _rows_of(Operation.ADD)
REMOVALS: Final = _rows_of(Operation.REMOVE)
CUSTOMERS: Final = Kind(
    name="customers",
    label=_("customers to send"),
    workers_needed=workers_needed,
    run=run,
    operations=(ADDS, REMOVALS),
    report="sent %s of customers",
    noun="batch",
    count_due=count_due,
    counted=COUNTED,
)

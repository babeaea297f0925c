"""The way of one segment, from top to bottom.

push        one row: claim, request, record
drain       whatever else is due, while the rate limiter lets it through
claim       transaction 1: the row's lease, the permit, the ledger row
send        the request; no transaction is open
record      transaction 2: the outcome, in the ledger and in the row
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
    router,
    transaction,
)
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from bunce_sync.client import BunceClient, RequestRecord, shared_client
from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, Segment
from bunce_sync.models.segment_queryset import SegmentQuerySet
from bunce_sync.sync import circuit_breaker, ledger, rate_limiter
from bunce_sync.sync.outcome import (
    LINKED_ELSEWHERE,
    PERMIT_EXPIRED,
    Claim,
    Outcome,
    Result,
    after_push,
    backoff,
    doubted,
    restored,
    result_of,
)
from bunce_sync.sync.patience import WaitBudget

logger = logging.getLogger(__name__)

Operation = ApiCall.Operation

#: Rows read at a time when looking for work, and from how many of the oldest they are drawn.
BATCH = 10
OLDEST = 100
#: What a claim has to know of a row. No times: rows whose times cannot be read are sent as well.
CLAIMED = (
    *("name", "description", "add_all_customers", "bunce_id"),
    *("status", "attempts", "sent_digest"),
)
#: What recording has to know of a row: much less than all that it may change.
SETTLED = (
    *("name", "description", "add_all_customers", "status", "lease_token", "sent_digest"),
    *("bunce_id", "bunce_name", "bunce_description"),
)
#: How far attempts are counted.
MOST_ATTEMPTS = 1_000_000


def database_of(using: str | None) -> str:
    """The alias of the database that holds the app's tables."""
    return using or router.db_for_write(Segment)


def push(segment_id: int, *, using: str | None = None) -> bool:
    """Send one row to Bunce, if it is due and the rate limiter lets it through.

    Args:
        segment_id: the row. One that does not exist, is not due or is already being sent is left.
        using: the database alias; the router's choice when None.

    Returns:
        Whether a request was made or tried.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used; nothing was sent.
        NoPermit: no request may be made now; the row keeps its place.
    """
    alias = database_of(using)
    return any(_push_row(row, alias, WaitBudget(0)) for row in _rows([segment_id], alias))


def drain(
    *,
    seconds: float,
    first: int | None = None,
    recheck_delay: float = 0.0,
    on_more_work: Callable[[int | None], object] | None = None,
    using: str | None = None,
) -> int:
    """Push rows that are due, oldest first, until none is left, time is up or the limiter closes.

    Args:
        seconds: when to stop beginning new pushes.
        first: the id of a row to begin with. If somebody else has taken it, that one is awake and
            does all the rest as well.
        recheck_delay: seconds after which to look once more when nothing is left.
        on_more_work: called at the end when another worker should go on: this one worked or waited
            for long enough, and there is more to do. It is given ``first`` if that still waits.

    Returns:
        How many requests were made or tried.

    Raises:
        ConfigurationError: as for ``push``.
    """
    alias = database_of(using)
    ends = time.monotonic() + seconds
    patience = WaitBudget()
    pushed = 0
    batch = _due_rows(alias) if first is None else _rows([first], alias)
    while batch:
        before = pushed
        for row in batch:
            rang = row.pk == first
            tired = time.monotonic() >= ends
            if not tired:
                try:
                    pushed += _push_alone(row, alias, patience, must_wait=rang)
                except circuit_breaker.OperationPaused:
                    continue  # rows of the other operations go on
                except rate_limiter.NoPermit as closed:
                    if not patience.ended_by(closed):
                        return pushed
                    tired = True
            if tired:
                if on_more_work:
                    on_more_work(first if rang else None)
                return pushed
        if pushed == before:
            break  # these are in other hands, and looking again would not help
        batch = _due_rows(alias)
        if recheck_delay and not batch:
            time.sleep(recheck_delay)
            batch = _due_rows(alias)
    return pushed


def _rows(keys: list[int], alias: str) -> list[Segment]:
    """Those of the rows that wait, as far as a claim has to know them."""
    some = Segment.objects.using(alias).only(*CLAIMED)
    try:
        rows = list(some.filter(pk__in=keys))
    except (DatabaseError, ValueError):
        # One that cannot be read, such as text that is none on SQLite, or no connection.
        rows = [row for pk in keys if (row := _readable(pk, some, alias))]
    else:
        for missing in {*keys} - {row.pk for row in rows}:
            logger.info("Segment %s does not exist (any more); nothing to push.", missing)
    return [row for row in rows if row.status == Segment.Status.PENDING]


def _readable(pk: int, rows: SegmentQuerySet, alias: str) -> Segment | None:
    try:
        return rows.filter(pk=pk).first()
    except (DatabaseError, ValueError) as error:
        _put_off(pk, error, alias)
        return None


def _put_off(pk: int, error: Exception, alias: str) -> None:
    """Let a row wait that an error of ours has stopped, so that it stops no other.

    Raises:
        DatabaseError: it is the database that does not work.
    """
    logger.error("Pushing segment %s failed by an error of ours", pk, exc_info=error)
    rows = Segment.objects.using(alias).filter(pk=pk, status=Segment.Status.PENDING)
    # How often it failed before may be what cannot be read. A deadlock is over soon.
    wait = backoff(4 if isinstance(error, OperationalError) else 8)
    rows.update_sync_fields(
        due_at=DatabaseNow() + wait, last_code="internal", last_error=type(error).__name__
    )


def _due_rows(alias: str) -> list[Segment]:
    """A few of the rows that have been due for longest, half of them creates if there are any.

    Else an edit of very many rows would hold back every new one until all of them are sent.
    """
    rows = circuit_breaker.passable(Segment.objects.using(alias).due(), alias)
    due = rows.order_by("due_at")
    oldest = dict(due.values_list("pk", "bunce_id")[:OLDEST])
    creates = [pk for pk, bunce_id in oldest.items() if bunce_id is None]
    if len(oldest) == OLDEST and len(creates) < BATCH // 2:
        # Not "without an id": for that SQLite would take the index of ids, and sort what it finds.
        new = due.alias(known=Coalesce("bunce_id", Value(""))).filter(known="")
        creates = list(new.values_list("pk", flat=True)[:OLDEST])
    # Workers that go for the same rows would all but one find them taken.
    some = _some(creates, BATCH // 2)
    some += _some([pk for pk in oldest if pk not in some], BATCH - len(some))
    return _rows(some, alias) if some else []


def _some(ids: list[int], most: int) -> list[int]:
    return random.sample(ids, min(most, len(ids)))


def _push_alone(row: Segment, alias: str, patience: WaitBudget, *, must_wait: bool) -> bool:
    """Push one row; an error of ours puts that row off and stops no other."""
    try:
        return _push_row(row, alias, patience, must_wait=must_wait)
    except (ConfigurationError, rate_limiter.NoPermit, ProgrammingError):
        raise
    except (OperationalError, InterfaceError) as error:
        # The connection, a deadlock, or one row that the server refuses: a new connection tells.
        if connections[alias].in_atomic_block:
            raise
        connections[alias].close()
        _put_off(row.pk, error, alias)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this row's
        _put_off(row.pk, error, alias)
    return False


def _push_row(row: Segment, alias: str, patience: WaitBudget, *, must_wait: bool = False) -> bool:
    for _ in range(2):
        claimed = claim(row, alias, patience=patience.left, must_wait=must_wait)
        if claimed is None:
            return False
        taken, call, permit = claimed
        result = patience.wait(permit, alias) or send(taken, permit.record)
        record(taken, call, permit, result, alias)
        if result.code != PERMIT_EXPIRED:
            break
        # Connecting outlasted the permit. The connection stands now, so try again at once.
    return True


def claim(
    row: Segment, alias: str, *, patience: float = 0.0, must_wait: bool = False
) -> tuple[Claim, ApiCall, rate_limiter.Permit] | None:
    """Transaction 1. ``row`` is as last read; what it says is what will be sent.

    Args:
        patience: seconds the caller can wait for its turn at the rate_limiter.
        must_wait: as for ``take_permit``.

    Returns:
        None when the row is not due or somebody else has it.

    Raises:
        ConfigurationError, NoPermit: nothing was claimed.
    """
    client()  # an unusable setting shows before anything is claimed
    taken = Claim(
        segment_id=row.pk,
        token=uuid.uuid4(),
        name=row.name,
        description=row.description,
        add_all_customers=row.add_all_customers,
        bunce_id=row.bunce_id,
        attempts=min(row.attempts, MOST_ATTEMPTS) + 1,
    )
    try:
        with transaction.atomic(using=alias, durable=True):
            # Name and description are compared again when recording. The last of these only goes
            # out with a create and cannot be mended by an update.
            due = Segment.objects.using(alias).due()
            due = due.filter(
                pk=row.pk, bunce_id=row.bunce_id, add_all_customers=row.add_all_customers
            )
            lease = {
                "status": Segment.Status.SENDING,
                "lease_token": taken.token,
                "lease_until": DatabaseNow() + timedelta(seconds=conf.LEASE),
                "attempts": taken.attempts,
                "sent_digest": taken.digest,
                "sent_at": DatabaseNow(),
            }
            # Nearly always nothing is in the way, so that is asked in the same query.
            clear = due.filter(circuit_breaker.clear_of_trouble(taken.operation, alias))
            if taken.creates:
                clear = clear.exclude(Exists(_earlier_creates(OuterRef("pk"), alias)))
            if not clear.not_held().update_sync_fields(**lease):
                if not due.not_held().update_sync_fields(**lease):
                    return None
                if taken.creates and (changes := _from_earlier(row, alias)):
                    logger.error("Segment %s was sent before; the call log says how", row.pk)
                    Segment.objects.using(alias).filter(pk=row.pk).update_sync_fields(**changes)
                    return None
                probe = circuit_breaker.admit(taken.operation, alias, segment_id=row.pk)
                taken = replace(taken, probe=probe)
            operation = taken.operation
            permit = rate_limiter.take_permit(
                operation, alias, patience=patience, must_wait=must_wait
            )
            call = ledger.begin(
                permit,
                operation,
                "/segments" if taken.creates else f"/segments/{taken.bunce_id}",
                using=alias,
                segment_id=row.pk,
                body=body_of(taken),
            )
    except rate_limiter.ClockJumped as jumped:
        rate_limiter.recover_from_clock_jump(jumped, alias)
        raise
    return taken, call, permit


def _earlier_creates(pk: Any, alias: str) -> QuerySet[ApiCall]:
    """The creates of this very row that Bunce confirmed, or that nobody has decided about.

    The row existed when they were made, so it is not another one that got the same key.
    """
    created_at = Segment.objects.using(alias).filter(pk=OuterRef("segment_id"))
    undecided = Q(outcome__in=(Outcome.UNKNOWN, Outcome.ABANDONED, Outcome.UNDER_WAY), decision="")
    confirmed = Q(outcome=Outcome.CONFIRMED) | Q(decision=ApiCall.Decision.ADOPTED)
    return ApiCall.objects.using(alias).filter(
        undecided | (confirmed & ~Q(bunce_id="")),
        segment_id=pk,
        operation=Operation.CREATE,
        started_at__gte=Subquery(created_at.values("created_at")),
    )


def _from_earlier(row: Segment, alias: str) -> dict[str, Any]:
    """The changes that an earlier create makes to a row that does not know of it; often none.

    Whatever path of Django or SQL made the row forget it: without this it would be created twice.
    """
    now = DatabaseNow()
    for call in _earlier_creates(row.pk, alias).order_by("-pk"):
        if call.bunce_id:
            if not Segment.objects.using(alias).filter(bunce_id=call.bunce_id).exists():
                return restored(row, call.bunce_id, now=now)
        elif call.body and not call.decision:
            grace = timedelta(seconds=conf.GRACE + conf.request_deadline)
            return doubted(call.body, sent_at=call.started_at, due_at=call.started_at + grace)
    return {}


def body_of(taken: Claim) -> dict[str, Any]:
    """What is sent, as the ledger shows it."""
    body: dict[str, Any] = {"name": taken.name, "description": taken.description}
    return body | {"add_all_customers": taken.add_all_customers} if taken.creates else body


def client() -> BunceClient:
    """This process's client for the site's settings.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used, be it one that is only
            needed once the request has been made.
    """
    conf.check()
    return shared_client(
        base_url=conf.base_url,
        api_key=conf.API_KEY,
        connect_timeout=conf.CONNECT_TIMEOUT,
        read_timeout=conf.READ_TIMEOUT,
    )


def send(taken: Claim, record: RequestRecord) -> Result:
    """The request. Whatever goes wrong becomes a result, for it has to be recorded."""
    try:
        if taken.bunce_id is None:
            segment = client().create_segment(body_of(taken), record=record)
        else:
            segment = client().update_segment(taken.bunce_id, body_of(taken), record=record)
    except Exception as error:
        result = result_of(error, sent=record.sent, operation=taken.operation)
        if result.code == "internal":
            logger.exception("Pushing segment %s failed by an error of ours", taken.segment_id)
        return result
    return Result(Outcome.CONFIRMED, segment=segment, http_status=record.http_status)


def record(
    taken: Claim, call: ApiCall, permit: rate_limiter.Permit, result: Result, alias: str
) -> None:
    """Transaction 2. Recording late, after the lease ran out, or twice, is safe."""
    try:
        shared = _record(taken, call, permit, result, alias)
    except (OperationalError, InterfaceError):
        # The connection broke, at the commit perhaps. What Bunce said is known only here, so it
        # is worth a second try; failing that, the lease runs out and reconciliation finds it.
        logger.warning("Recording segment %s once more, on a new connection", taken.segment_id)
        connections[alias].close()
        shared = _record(taken, call, permit, result, alias)
    except IntegrityError:
        linked = _unless_linked(result, alias)
        if linked is result:
            raise
        shared = _record(taken, call, permit, linked, alias)
    if shared:
        circuit_breaker.requeue_refused(alias)


def _unless_linked(result: Result, alias: str) -> Result:
    """The result, unless its segment belongs to another row already.

    Reconciliation has given it to one with the same content, whose own segment may be there as
    well. Rows of the same content are interchangeable: this one has to look for the other.
    """
    segment = result.segment
    if segment is None or not Segment.objects.using(alias).filter(bunce_id=segment.id).exists():
        return result
    return replace(
        result, outcome=Outcome.UNKNOWN, segment=None, code=LINKED_ELSEWHERE, detail=segment.id
    )


def _record(
    taken: Claim, call: ApiCall, permit: rate_limiter.Permit, result: Result, alias: str
) -> bool:
    """Record once; returns whether the trouble is the whole operation's."""
    with transaction.atomic(using=alias, durable=True):
        rows = Segment.objects.using(alias).locked().filter(pk=taken.segment_id)
        row = next(iter(rows.only(*SETTLED)), None)
        if row is not None and result.segment and row.bunce_id not in (None, result.segment.id):
            result = _unless_linked(result, alias)
        shared = circuit_breaker.note(
            taken.operation, result, alias, call=call, permit=permit, probe=taken.probe
        )
        result = replace(result, shared=shared)
        if row is None:
            result = replace(result, code=result.code or "row_deleted")
            logger.warning(
                "Segment %s was deleted while it was being sent: %s",
                taken.segment_id,
                result.outcome.label,
            )
        else:
            if result.outcome == Outcome.REJECTED and taken.creates:
                taken = replace(taken, doubted=_was_in_doubt(row, call, alias))
            grace = timedelta(seconds=conf.GRACE)
            changes = after_push(row, taken, result, now=DatabaseNow(), grace=grace)
            if twin := changes.get("bunce_duplicate_id"):
                result = replace(result, outcome=Outcome.DUPLICATE)
                logger.error("Segment %s exists twice in Bunce, also as %s", row.pk, twin)
            if changes:
                Segment.objects.using(alias).filter(pk=row.pk).update_sync_fields(**changes)
            if changes.get("status") == Segment.Status.SYNCED:
                bunce_id = changes.get("bunce_id", row.bunce_id)
                logger.info("Segment %s is synced, in Bunce as %s", row.pk, bunce_id)
        ledger.finish(call, permit, result, using=alias)
        rate_limiter.report(permit, result, alias, segment_id=taken.segment_id)
    return shared


def _was_in_doubt(row: Segment, call: ApiCall, alias: str) -> bool:
    """Whether an earlier create of the same row may have arrived after all."""
    return (
        ApiCall.objects.using(alias)
        .filter(
            segment_id=row.pk,
            operation=Operation.CREATE,
            outcome__in=(Outcome.UNKNOWN, Outcome.ABANDONED),
        )
        .exclude(pk=call.pk)
        .exists()
    )

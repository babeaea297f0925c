"""The safety net: frees rows whose worker died, and says how many workers have enough to do."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Case, Q, Value, When
from django.db.models.expressions import CombinedExpression

from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, IdempotencyKey, Segment, SyncState
from bunce_sync.sync import circuit_breaker, rate_limiter
from bunce_sync.sync.push import client, database_of

logger = logging.getLogger(__name__)

Status = Segment.Status

#: Ledger rows and idempotency keys deleted by one sweep at most, so that no sweep takes long.
PRUNE_BATCH = 1000
#: No time of a row lies before this one, or further ahead than that: longer than any grace period.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_WAIT = timedelta(days=2)
#: Permits for which one worker is woken: it goes on with the next row, and hands on when it has
#: worked for long enough.
PERMITS_A_WORKER = 10


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found.

    Attributes:
        workers: how many workers to ring for, for what is due until the next sweep.
        in_doubt: whether rows in doubt wait for a look into Bunce.
        asked: whether somebody asked to see what Bunce has of a row.
        freed: rows whose lease had run out.
    """

    workers: int
    in_doubt: bool
    asked: bool
    freed: int


def sweep(*, using: str | None = None) -> Sweep:
    """Look after every row once; a few short queries, whatever the number of rows.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used. Leases were freed all
            the same; there is nothing to ring for.
    """
    alias = database_of(using)
    rate_limiter.watch_clock(alias)
    SyncState.objects.using(alias).filter(pk=1).update(swept_at=DatabaseNow())
    repair_times(alias)
    freed = free_leases(alias)
    circuit_breaker.requeue_refused(alias)
    circuit_breaker.forget_idle(alias)
    prune_ledger(alias)
    prune_keys(alias)
    client()
    expected = rate_limiter.permits_expected(alias, within=conf.SWEEP_INTERVAL)
    segments = Segment.objects.using(alias)
    most = math.ceil(expected / PERMITS_A_WORKER)
    scanning = SyncState.objects.using(alias).filter(scan__isnull=False)
    return Sweep(
        workers=circuit_breaker.passable(segments.due(), alias).order_by()[:most].count()
        if most
        else 0,
        in_doubt=bool(expected) and (segments.checkable().exists() or scanning.exists()),
        asked=bool(expected) and segments.refresh_requested().exists(),
        freed=freed,
    )


def repair_times(alias: str) -> int:
    """Let rows go on that wait for a time which never comes, or which Python cannot read.

    Rows written past Django may hold anything: an infinite time, the year 0, no time at all.
    """
    rows = Segment.objects.using(alias)
    repaired = 0
    for field, statuses in (
        ("due_at", (Status.PENDING, Status.IN_DOUBT)),
        ("lease_until", (Status.SENDING,)),
        ("sent_at", (Status.IN_DOUBT,)),
        ("refresh_requested_at", Status.values),
    ):
        impossible = Q(**{f"{field}__lt": EARLIEST}) | Q(**{f"{field}__gt": _ahead(LONGEST_WAIT)})
        # Looked for first: an UPDATE by anything but the keys would wait for rows that others hold.
        found = list(rows.filter(impossible, status__in=statuses).values_list("pk", flat=True))
        if found:
            with transaction.atomic(using=alias, durable=True):
                held = rows.filter(pk__in=found).not_held()
                repaired += held.update_sync_fields(**{field: DatabaseNow()})
    if repaired:
        logger.warning("%d segments had an impossible time, which was set to now", repaired)
    return repaired


def _ahead(time: timedelta) -> CombinedExpression:
    return DatabaseNow() + time


def free_leases(alias: str) -> int:
    """Let rows go on whose worker did not record in time: it was killed, or it hangs."""
    grace = DatabaseNow() + timedelta(seconds=conf.GRACE)
    creates = Q(bunce_id__isnull=True)
    with transaction.atomic(using=alias, durable=True):
        rows = Segment.objects.using(alias).abandoned().not_held()
        freed = rows.update_sync_fields(
            status=Case(When(creates, then=Value(Status.IN_DOUBT)), default=Value(Status.PENDING)),
            due_at=Case(When(creates, then=grace), default=DatabaseNow()),
            lease_token=None,
            lease_until=None,
            last_code="worker_lost",
            last_error="",
            absent_at=None,
        )
    if freed:
        logger.warning("%d segments were left by a worker that died or hangs", freed)
    calls = ApiCall.objects.using(alias).filter(
        outcome=ApiCall.Outcome.UNDER_WAY,
        started_at__lte=DatabaseNow() - timedelta(seconds=conf.LEASE),
    )
    # By their ids: MariaDB would lock an index and then its rows, a recording the other way round,
    # and the two could deadlock.
    left = list(calls.order_by().values_list("pk", flat=True))
    if left:
        calls.filter(pk__in=left).update(outcome=ApiCall.Outcome.ABANDONED, code="worker_lost")
    return freed


def prune_ledger(alias: str) -> int:
    """Delete ledger rows that are older than LEDGER_DAYS, some at a time.

    A create that gave a row its Bunce id is kept while the row exists: should the row lose the id,
    the ledger is where it is found again. So the ledger is gone through in rounds.
    """
    calls = ApiCall.objects.using(alias)
    state, now = rate_limiter.read_state(alias)
    old = calls.filter(started_at__lt=now - timedelta(days=conf.LEDGER_DAYS))
    if state.pruned_to is not None:
        old = old.filter(started_at__gt=state.pruned_to)
    fields = ("pk", "started_at", "segment_id", "operation", "bunce_id")
    some = list(old.order_by("started_at").values_list(*fields)[:PRUNE_BATCH])
    linked = {
        pk: segment_id
        for pk, _, segment_id, operation, bunce_id in some
        if segment_id is not None and bunce_id and operation == ApiCall.Operation.CREATE
    }
    rows = Segment.objects.using(alias).filter(pk__in=set(linked.values()))
    existing = set(rows.values_list("pk", flat=True)) if linked else set()
    gone = [pk for pk, *_ in some if linked.get(pk) not in existing]
    pruned_to = some[-1][1] if len(some) == PRUNE_BATCH else None
    if pruned_to != state.pruned_to:
        SyncState.objects.using(alias).filter(pk=1).update(pruned_to=pruned_to)
    return calls.filter(pk__in=gone).delete()[0] if gone else 0


def prune_keys(alias: str) -> int:
    """Delete expired idempotency keys, a batch at a time; return how many."""
    expired = IdempotencyKey.objects.using(alias).filter(IdempotencyKey.EXPIRED)
    return expired.filter(pk__in=list(expired.values_list("pk", flat=True)[:PRUNE_BATCH])).delete()[
        0
    ]

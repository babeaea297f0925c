"""The safety net: frees rows whose worker died, and says how many workers have enough to do."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import Case, Q, Value, When

from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, IdempotencyKey, Segment, SyncState
from bunce_sync.sync import gate
from bunce_sync.sync.push import client, database_of

logger = logging.getLogger(__name__)

Status = Segment.Status

#: Ledger rows and idempotency keys deleted by one sweep at most, so that no sweep takes long.
PRUNE_BATCH = 1000
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
    gate.watch_clock(alias)
    SyncState.objects.using(alias).filter(pk=1).update(swept_at=DatabaseNow())
    freed = free_leases(alias)
    prune_ledger(alias)
    prune_keys(alias)
    client()
    expected = gate.permits_expected(alias, within=conf.SWEEP_INTERVAL)
    segments = Segment.objects.using(alias)
    most = math.ceil(expected / PERMITS_A_WORKER)
    scanning = SyncState.objects.using(alias).filter(scan__isnull=False)
    return Sweep(
        workers=segments.due().order_by()[:most].count() if most else 0,
        in_doubt=bool(expected) and (segments.checkable().exists() or scanning.exists()),
        asked=bool(expected) and segments.asked().exists(),
        freed=freed,
    )


def free_leases(alias: str) -> int:
    """Let rows go on whose worker did not record in time: it was killed, or it hangs."""
    grace = DatabaseNow() + timedelta(seconds=conf.GRACE)
    creates = Q(bunce_id__isnull=True)
    with transaction.atomic(using=alias, durable=True):
        rows = Segment.objects.using(alias).abandoned().not_held()
        freed = rows.update(
            status=Case(When(creates, then=Value(Status.IN_DOUBT)), default=Value(Status.PENDING)),
            due_at=Case(When(creates, then=grace), default=DatabaseNow()),
            lease_token=None,
            lease_until=None,
            last_code="worker_lost",
            last_error="",
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
    """Delete ledger rows that are older than LEDGER_DAYS, some at a time."""
    calls = ApiCall.objects.using(alias)
    keep_from = DatabaseNow() - timedelta(days=conf.LEDGER_DAYS)
    old = list(
        calls.filter(started_at__lt=keep_from)
        .order_by("started_at")
        .values_list("pk", flat=True)[:PRUNE_BATCH]
    )
    if not old:
        return 0
    return calls.filter(pk__in=old).delete()[0]


def prune_keys(alias: str) -> int:
    """Delete idempotency keys that are no longer kept, some at a time."""
    keys = IdempotencyKey.objects.using(alias)
    keep_from = DatabaseNow() - IdempotencyKey.KEPT_FOR
    old = list(keys.filter(started_at__lt=keep_from).values_list("pk", flat=True)[:PRUNE_BATCH])
    if not old:
        return 0
    # Asked once more: a key that lapsed may just have been taken into use again.
    return keys.filter(pk__in=old, started_at__lt=keep_from).delete()[0]

"""The sweep: it repairs what crashed workers left, and finds for how many workers there is work."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Q

from bunce_sync import clocks, database, transitions
from bunce_sync.choices import Operation, Outcome, Status, Sweeper
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import IdempotencyKey, SyncState
from bunce_sync.sync import (
    circuit_breaker,
    clock,
    customers,
    host_clocks,
    rate_limiter,
    request_totals,
    shared_state,
)
from bunce_sync.sync.attempt import client
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.work import KINDS, OPERATIONS

logger = logging.getLogger(__name__)

#: Call log rows and idempotency keys deleted by one sweep at most, so that no sweep takes long.
PRUNE_BATCH = 1000
#: Times of rows before the first or further ahead than the second are impossible: no grace period
#: is longer.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_WAIT = timedelta(days=2)

#: Until when a sweep counts as recent, by this process's monotonic clock, for each database and
#: environment.
_recent_until: dict[tuple[str, str], float] = {}


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep found.

    Attributes:
        workers: for how many workers each kind has work until the next sweep, by name.
        freed: segments and customers whose lease had ended.
    """

    workers: Mapping[str, int]
    freed: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a sweep and the work after it did in this process.

    Attributes:
        requests: counted as in ``Progress``; none at all means that there is nothing more to do.
        outcomes: how the requests ended, for each kind of work by name.
        freed: segments and customers whose lease had ended.
    """

    requests: int
    outcomes: Mapping[str, Counter[Outcome]]
    freed: int = 0

    def __add__(self, other: RunResult) -> RunResult:
        outcomes = {
            kind.name: Counter(self.outcomes.get(kind.name))
            + Counter(other.outcomes.get(kind.name))
            for kind in KINDS
        }
        return RunResult(self.requests + other.requests, outcomes, self.freed + other.freed)

    def outcomes_of(self, kind: str) -> Counter[Outcome]:
        """Return how the requests of one kind of work ended."""
        return self.outcomes.get(kind, Counter())


def run_once(*, seconds: float, by: Sweeper = Sweeper.LOOP) -> RunResult:
    """Sweep, then do some of each kind of work, in this process and without Celery.

    Any number of processes may do this at once, beside workers too.

    Args:
        seconds: how long each kind of work may take.
        by: what runs it, for the status.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used; nothing was sent.
    """
    found = sweep(by=by)
    requests = 0
    outcomes = {}
    # Pushes first: they are what a person waits for.
    for kind in reversed(KINDS):
        if found.workers[kind.name]:
            budget = Budget(seconds)
            requests += kind.run(budget).requests
            outcomes[kind.name] = budget.outcomes
    return RunResult(requests, outcomes, found.freed)


def sweep(
    *,
    by: Sweeper = Sweeper.WORKER,
    unless_recent: bool = False,
    sender: host_clocks.Sender | None = None,
) -> SweepResult:
    """Repair all rows and find work, with a few short queries whatever the number of rows.

    Args:
        by: what runs it, for the status.
        unless_recent: do nothing, and find nothing, if a worker began a sweep less than half an
            interval ago by the database's clock. If that one failed, the next one repairs.
        sender: of the message that requests the sweep, if one does.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used. Leases were freed all
            the same; nothing can be sent.
    """
    with host_clocks.Comparison() as comparison:
        state, now = clock.check(window=rate_limiter.counted_window())
    host_clocks.report(state, now, ahead=comparison.ahead(now), sender=sender)
    is_recent = _is_recent(state, now)
    if by == Sweeper.WORKER:
        _remember_sweep(now - state.swept_at if is_recent and state.swept_at else timedelta(0))
    if unless_recent and is_recent:
        return SweepResult({kind.name: 0 for kind in KINDS}, 0)
    database.sync_state().update(swept_at=DatabaseNow(), swept_by=by)
    repair_times()
    freed = free_leases() + customers.free_leases()
    circuit_breaker.requeue_refused(*OPERATIONS)
    circuit_breaker.forget_idle(*OPERATIONS)
    request_totals.update()
    prune_call_log()
    prune_keys()
    prune_imports()
    customers.delete_removed()
    customers.notice_new_segments()
    client()
    permits = rate_limiter.permits_expected(within=conf.SWEEP_INTERVAL)
    return SweepResult({kind.name: kind.workers_needed(permits) for kind in KINDS}, freed)


def _is_recent(state: SyncState, now: datetime) -> bool:
    if state.swept_at is None or state.swept_by != Sweeper.WORKER:
        return False
    return now - state.swept_at < _recent_age()


def _recent_age() -> timedelta:
    return timedelta(seconds=conf.usable("SWEEP_INTERVAL")) / 2


def _remember_sweep(age: timedelta) -> None:
    left = (_recent_age() - age).total_seconds()
    _recent_until[database.alias(), conf.environment] = clocks.monotonic() + left


def is_known_recent() -> bool:
    """Return whether this process knows without a query that a worker has just begun a sweep.

    A query costs a connection in most sites, which for a pile of messages takes minutes.
    """
    return clocks.monotonic() < _recent_until.get((database.alias(), conf.environment), 0.0)


def forget_sweep() -> None:
    """Forget when this process knew of a sweep."""
    _recent_until.clear()


def repair_times() -> int:
    """Reset times to now that will never be reached or that Python cannot read.

    Rows written with SQL may hold anything: an infinite time, the year 0, no time at all.
    """
    rows = database.segments()
    repaired = 0
    for field, used in (
        ("due_at", Q(status__in=(Status.PENDING, Status.IN_DOUBT))),
        ("lease_until", Q(status=Status.SENDING)),
        ("sent_at", Q(status=Status.IN_DOUBT, due_at__lte=DatabaseNow())),
        ("refresh_requested_at", Q()),
    ):
        too_late = DatabaseNow() + LONGEST_WAIT
        impossible = Q(**{f"{field}__lt": EARLIEST}) | Q(**{f"{field}__gt": too_late})
        # Find them first: an UPDATE by anything but the keys would wait for locked rows. Without
        # an order, so that the index of the condition is used, not that of the ids.
        found = list(rows.filter(impossible, used).order_by().values_list("pk", flat=True))
        if found:
            with database.atomic():
                held = rows.filter(pk__in=found).lock_available()
                repaired += held.update_sync_fields(**{field: DatabaseNow()})
    if repaired:
        logger.warning(
            "%d segments had an impossible time, which was set to now",
            repaired,
            extra=event(LogEvent.TIMES_REPAIRED, count=repaired),
        )
    return repaired


def free_leases() -> int:
    """Free the segments whose worker recorded no result in time, because it died or hangs."""
    freed = 0
    with database.atomic():
        # Lock first, then split by bunce_id: a query by it makes MariaDB wait for locked rows.
        abandoned = dict(
            database.segments().abandoned().lock_available().values_list("pk", "bunce_id")
        )
        for creates in (True, False):
            keys = [pk for pk, bunce_id in abandoned.items() if (bunce_id is None) == creates]
            if not keys:
                continue
            freed += (
                database.segments()
                .filter(pk__in=keys)
                .update_sync_fields(
                    **transitions.after_lease_expired(
                        creates=creates, now=DatabaseNow(), grace=timedelta(seconds=conf.GRACE)
                    )
                )
            )
    if freed:
        logger.warning(
            "%d segments were left by a worker that died or hangs",
            freed,
            extra=event(LogEvent.LEASES_FREED, count=freed),
        )
    calls = database.calls().filter(
        outcome=Outcome.UNDER_WAY,
        started_at__lte=DatabaseNow() - timedelta(seconds=conf.LEASE),
    )
    # By their ids: MariaDB would lock an index and then its rows, a recording the other way round,
    # and the two could deadlock.
    left = list(calls.order_by().values_list("pk", flat=True))
    if left:
        calls.filter(pk__in=left).update(outcome=Outcome.ABANDONED, code="worker_lost")
    return freed


def prune_call_log() -> int:
    """Delete call log rows that are older than LEDGER_DAYS, some at a time.

    A create that gave a row its Bunce id is kept while the row exists: if the row loses the id, it
    is found in the call log. So the log is searched in rounds.
    """
    calls = database.calls()
    state, now = shared_state.read()
    old = calls.filter(started_at__lt=now - timedelta(days=conf.LEDGER_DAYS))
    if state.pruned_to is not None:
        old = old.filter(started_at__gt=state.pruned_to)
    fields = ("pk", "started_at", "segment_id", "operation", "bunce_id")
    some = list(old.order_by("started_at").values_list(*fields)[:PRUNE_BATCH])
    linked = {
        pk: segment_id
        for pk, _, segment_id, operation, bunce_id in some
        if segment_id is not None and bunce_id and operation == Operation.CREATE
    }
    rows = database.segments().filter(pk__in=set(linked.values()))
    existing = set(rows.values_list("pk", flat=True)) if linked else set()
    gone = [pk for pk, *_ in some if linked.get(pk) not in existing]
    pruned_to = some[-1][1] if len(some) == PRUNE_BATCH else None
    if pruned_to != state.pruned_to:
        database.sync_state().update(pruned_to=pruned_to)
    return calls.filter(pk__in=gone).delete()[0] if gone else 0


def prune_imports() -> int:
    """Delete imports that ended longer than LEDGER_DAYS ago; return how many."""
    kept = timedelta(days=conf.LEDGER_DAYS)
    ended = database.import_runs().filter(finished_at__lt=DatabaseNow() - kept)
    return ended.delete()[0]


def prune_keys() -> int:
    """Delete expired idempotency keys, a batch at a time; return how many."""
    expired = database.idempotency_keys().filter(IdempotencyKey.EXPIRED)
    keys = list(expired.values_list("pk", flat=True)[:PRUNE_BATCH])
    return expired.filter(pk__in=keys).delete()[0] if keys else 0

"""Where everything stands: what the admin's panel shows, and the REST API's ``status/``.

A handful of queries, whatever the number of rows. All times are the database's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from django.db.models import Case, CharField, Func, IntegerField, Q, Value, When
from django.db.models import Count as CountRows

from bunce_sync.conf import SETTINGS, conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, OperationState, Segment, SyncState
from bunce_sync.status.counts import CappedCount, Count, capped, estimated_rows
from bunce_sync.sync import rate_limiter
from bunce_sync.sync.list_scan import Scan as KeptScan
from bunce_sync.sync.push import database_of
from bunce_sync.sync.window import usage as requests_since

Status = Segment.Status
Outcome = ApiCall.Outcome

#: A sweep that is later than this many intervals means that none runs.
LATE_INTERVALS = 3
#: The chart: this many buckets, each of so many seconds.
BUCKETS = 12
BUCKET_SECONDS = 300

ACCEPTED = (Outcome.CONFIRMED, Outcome.DUPLICATE)


@dataclass(frozen=True, slots=True)
class RateLimiterStatus:
    """Whether requests may be made.

    Attributes:
        state: ``open``; ``closed`` until a moment; or ``probing``: one request goes first.
        reason: one of ``SyncState.Reason``, empty when open.
        until: when it is tried again; None unless closed.
        since: since when the reason holds.
        detail: Bunce's message or a technical remark.
        asked_until: until when Bunce asked to wait, where that is longer than ``until``.
    """

    state: Literal["open", "closed", "probing"] = "open"
    reason: str = ""
    until: datetime | None = None
    since: datetime | None = None
    detail: str = ""
    asked_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class PausedOperation:
    """An operation that Bunce refuses, or answers in a way that cannot be read, for every row.

    Attributes:
        operation: one of ``ApiCall.Operation``.
        code: of the answer, as in ``ApiCall``.
        http_status: of the answer.
        since: when the first of these answers came.
        until: when one request tries again; None when that is due.
        detail: Bunce's message or a technical remark.
    """

    operation: str
    code: str
    http_status: int | None
    since: datetime
    until: datetime | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of the rate limit is used.

    Attributes:
        used: requests counted in the window.
        limit: how many there may be; None for no limit.
        seconds: the length of the window.
    """

    used: int
    limit: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """The last sweep: when, its age in seconds, whether one is overdue, and how often one runs."""

    at: datetime | None
    age: float | None
    late: bool
    interval: float


@dataclass(frozen=True, slots=True)
class Scan:
    """A reading of Bunce's whole list that is under way."""

    started_at: datetime
    pages: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """The requests of some minutes: accepted, rejected, and all that came to nothing."""

    start: datetime
    accepted: int = 0
    rejected: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """Where everything stands.

    Attributes:
        now: the database's time, by which all others here are to be read.
        counts: rows in each state, by ``Segment.Status`` value.
        usage: of the rate limit.
        rate_limiter: whether requests may be made.
        operations: those that are paused, each by itself.
        configuration_problem: the setting that cannot be used, so that nothing is sent; or empty.
        key_missing: there is no API key.
        sweep: the safety net's last run.
        scan: reconciliation under way.
        hour: the last hour's requests, oldest first, ``BUCKETS`` of ``BUCKET_SECONDS`` each.
    """

    now: datetime
    counts: Mapping[str, Count]
    usage: Usage
    rate_limiter: RateLimiterStatus
    configuration_problem: str
    key_missing: bool
    sweep: Sweep
    scan: Scan | None
    hour: tuple[Bucket, ...]
    operations: tuple[PausedOperation, ...] = ()


class BucketNumber(Func):
    """How many whole buckets lie between 1970 and a moment; for grouping by time."""

    output_field = IntegerField()
    arity = 1

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = f"(CAST(strftime('%%%%s', %(expressions)s) AS INTEGER) / {BUCKET_SECONDS})"
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = f"FLOOR(EXTRACT(EPOCH FROM %(expressions)s) / {BUCKET_SECONDS})::bigint"
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = (
            f"(TIMESTAMPDIFF(SECOND, '1970-01-01 00:00:00', %(expressions)s) DIV {BUCKET_SECONDS})"
        )
        return self.as_sql(compiler, connection, template=template, **extra)


def get_status(using: str | None = None) -> SyncStatus:
    """Look at the rows, the ledger, the shared state and the settings.

    Args:
        using: the database alias; the one written to when None, as a replica may be behind.
    """
    alias = database_of(using)
    state, now, counts = _state_and_counts(alias)
    problem = get_configuration_problem()
    requests = requests_since(alias, since=now - _window())
    return SyncStatus(
        now=now,
        counts=counts,
        usage=Usage(
            used=requests.used,
            limit=_setting("RATE_LIMIT"),
            seconds=_setting("RATE_WINDOW"),
        ),
        rate_limiter=_gate(state, now),
        configuration_problem=problem,
        key_missing=not problem and not conf.API_KEY,
        sweep=_sweep(state, now, first_request=requests.oldest),
        scan=_scan(state),
        hour=_hour(alias, now),
        operations=_operations(alias, now),
    )


def get_configuration_problem() -> str:
    """The first setting that cannot be used, in one sentence; empty when all can."""
    for key in SETTINGS:
        try:
            getattr(conf, key)
        except ConfigurationError as error:
            return str(error)
    return ""


def call_log_days() -> int:
    """For how many days the ledger keeps calls."""
    days: int = _setting("LEDGER_DAYS")
    return days


def _setting(key: str) -> Any:
    """The setting, or its default while the site's value cannot be used: the panel says so."""
    try:
        return getattr(conf, key)
    except ConfigurationError:
        return SETTINGS[key].default


def _window() -> timedelta:
    return timedelta(
        seconds=_setting("RATE_WINDOW") + rate_limiter.PERMIT_SECONDS + rate_limiter.TRANSIT_SECONDS
    )


def _state_and_counts(alias: str) -> tuple[SyncState, datetime, dict[str, Count]]:
    segments = Segment.objects.using(alias)
    rows = SyncState.objects.using(alias).annotate(
        now=DatabaseNow(),
        **{
            f"rows_{status}": CappedCount(segments.filter(status=status), "status")
            for status in Status.values
        },
    )
    state = rows.first()
    if state is None:
        rate_limiter.read_state(alias)  # makes the row on a new database
        state = rows.get(pk=1)
    counts = {status: capped(getattr(state, f"rows_{status}")) for status in Status.values}
    if counts[Status.SYNCED].precision != "exact":
        counts[Status.SYNCED] = _estimate_synced(counts, alias)
    return state, state.now, counts


def _estimate_synced(counts: Mapping[str, Count], alias: str) -> Count:
    """Nearly all rows of a large table are synced: the planner's figure less the others."""
    total = estimated_rows(Segment, alias)
    if total is None:
        return counts[Status.SYNCED]
    others = sum(count.value for status, count in counts.items() if status != Status.SYNCED)
    if total - others <= counts[Status.SYNCED].value:
        return counts[Status.SYNCED]
    return Count(total - others, "about")


def _gate(state: SyncState, now: datetime) -> RateLimiterStatus:
    closed = state.blocked_until is not None and state.blocked_until > now
    if not closed and not state.blocked_reason:
        return RateLimiterStatus()
    return RateLimiterStatus(
        state="closed" if closed else "probing",
        reason=state.blocked_reason,
        until=state.blocked_until if closed else None,
        since=state.blocked_since,
        detail=state.blocked_detail,
        asked_until=state.asked_until if closed else None,
    )


def _operations(alias: str, now: datetime) -> tuple[PausedOperation, ...]:
    states = OperationState.objects.using(alias).filter(blocked_until__isnull=False)
    return tuple(
        PausedOperation(
            operation=state.operation,
            code=state.code,
            http_status=state.http_status,
            since=state.since,
            until=state.blocked_until if state.blocked_until > now else None,
            detail=state.detail,
        )
        for state in states.order_by("operation")
        if state.blocked_until is not None
    )


def _sweep(state: SyncState, now: datetime, *, first_request: datetime | None) -> Sweep:
    interval: float = _setting("SWEEP_INTERVAL")
    patience = timedelta(seconds=LATE_INTERVALS * interval)
    if state.swept_at is None:
        # Beat's first sweep comes an interval after its start: a worker has just begun, perhaps.
        begun = first_request is not None and now - first_request <= patience
        return Sweep(at=None, age=None, late=not begun, interval=interval)
    age = max((now - state.swept_at).total_seconds(), 0.0)
    late = now - state.swept_at > patience
    return Sweep(at=state.swept_at, age=age, late=late, interval=interval)


def _scan(state: SyncState) -> Scan | None:
    kept = KeptScan.from_json(state.scan) if state.scan else None
    return Scan(started_at=kept.started_at, pages=kept.pages) if kept else None


def _hour(alias: str, now: datetime) -> tuple[Bucket, ...]:
    last = int(now.timestamp()) // BUCKET_SECONDS
    first = last - BUCKETS + 1
    begins = datetime.fromtimestamp(first * BUCKET_SECONDS, UTC)
    kind = Case(
        When(outcome__in=ACCEPTED, then=Value("accepted")),
        When(outcome=Outcome.REJECTED, then=Value("rejected")),
        default=Value("failed"),
        output_field=CharField(),
    )
    counted = (
        ApiCall.objects.using(alias)
        .filter(~Q(outcome=Outcome.UNDER_WAY), started_at__gte=begins)
        .annotate(bucket=BucketNumber("started_at"), kind=kind)
        .order_by()
        .values_list("bucket", "kind")
        .annotate(count=CountRows("pk"))
    )
    tallies: dict[int, dict[str, int]] = {}
    for bucket, name, count in counted:
        tallies.setdefault(int(bucket), {})[name] = count
    return tuple(
        Bucket(
            start=datetime.fromtimestamp(number * BUCKET_SECONDS, UTC), **tallies.get(number, {})
        )
        for number in range(first, last + 1)
    )

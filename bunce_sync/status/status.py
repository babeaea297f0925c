"""The status of the sync, as the admin and the REST API show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from django.db.models import Count, Q

from bunce_sync import database
from bunce_sync.choices import MemberStatus, Sweeper
from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.models import SyncState
from bunce_sync.status.counts import (
    Bucket,
    count_changed_in_bunce,
    count_elsewhere,
    count_requests,
    count_segments,
)
from bunce_sync.sync import host_clocks, list_scan, rate_limiter, shared_state
from bunce_sync.sync.host_clocks import Comparison, HostClock
from bunce_sync.sync.importer import COUNTS
from bunce_sync.sync.work import KINDS

#: A sweep is late after this many intervals: then no worker with beat is running, or all are busy.
LATE_INTERVALS: Final = 3
#: Seconds after which a sweep of a cron job is late, if that is longer: cron runs it once a minute.
CRON_LATE: Final = 150.0


@dataclass(frozen=True, slots=True)
class RateLimiterStatus:
    """Whether requests may be made.

    Attributes:
        state: ``open``, ``paused`` until a given time, or ``probing``: one request goes first.
        reason: a ``Reason`` value; empty when open.
        until: when the next request is made; None unless closed.
        since: when the reason arose.
        detail: Bunce's message or a technical detail.
        asked_until: until when Bunce asked for a pause, if that is after ``until``.
    """

    state: Literal["open", "paused", "probing"] = "open"
    reason: str = ""
    until: datetime | None = None
    since: datetime | None = None
    detail: str = ""
    asked_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class PausedOperation:
    """An operation that is paused because its requests fail for every segment.

    Attributes:
        operation: an ``Operation`` value.
        code: of the last response, as in ``ApiCall``.
        http_status: of the last response.
        since: when the first such response came.
        until: when one request is sent as a probe; None if that is due.
        detail: Bunce's message or a technical detail.
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
        limit: the maximum; None for no limit.
        seconds: the length of the window.
    """

    used: int
    limit: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """The last sweep.

    Attributes:
        at: when it ran; None before the first.
        age: seconds since then.
        late: whether the next one is overdue.
        interval: seconds between two sweeps; those of a cron job are as far apart as its runs.
        by: a ``Sweeper`` value; empty before the first.
    """

    at: datetime | None
    age: float | None
    late: bool
    interval: float
    by: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """The scan of Bunce's list that is under way."""

    started_at: datetime
    pages: int


@dataclass(frozen=True, slots=True)
class Pause:
    """The pause of all pushes by a person.

    Attributes:
        by: who paused.
        reason: why, in that person's words.
        since: when.
    """

    by: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class BlockHold:
    """A ``no_push()`` block that has not ended, or whose process died.

    Attributes:
        id: for ``bunce_resume --hold``.
        process: user, host and process id.
        reason: what the block is for; may be empty.
        since: when it began.
        segments: how many segments it holds.
    """

    id: int
    process: str
    reason: str
    since: datetime
    segments: int


@dataclass(frozen=True, slots=True)
class ImportStatus:
    """The open import, or the last one.

    Attributes:
        requested_by: who asked for it.
        requested_at: when.
        finished_at: when it ended; None while it is open.
        cancelled: whether it was ended before it was complete.
        adopt: whether it links waiting segments, and so holds creates back while it is open.
        pages: of Bunce's list, read so far.
        counts: what was done with Bunce's segments, see ``importer.COUNTS``.
    """

    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    cancelled: bool
    adopt: bool
    pages: int
    counts: Mapping[str, int]

    @property
    def holds_creates(self) -> bool:
        """Whether no segment is created until it ends."""
        return self.adopt and self.finished_at is None


@dataclass(frozen=True, slots=True)
class HeldAudience:
    """An audience whose removals a person has to confirm.

    Attributes:
        segment_id: of its segment.
        key: of the audience.
        removals: how many there are.
        members: of how many customers.
        since: when it was held.
    """

    segment_id: int
    key: str
    removals: int
    members: int
    since: datetime


@dataclass(frozen=True, slots=True)
class CustomersStatus:
    """The customers of all segments.

    Attributes:
        refused: how many Bunce refused.
        held: the audiences that are held.
        failed: the keys of audiences whose last comparison failed.
        delayed: how many segments' customers wait after repeated failures.
    """

    refused: int = 0
    held: tuple[HeldAudience, ...] = ()
    failed: tuple[str, ...] = ()
    delayed: int = 0


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """The status of the sync. All times are the database's.

    Attributes:
        now: the database's time.
        counts: segments by ``Status`` value.
        due: segments that could be worked on now, by the name of the kind of work.
        usage: of the rate limit.
        rate_limiter: whether requests may be made.
        configuration_problem: which setting cannot be used, so that nothing is sent; or empty.
        key_missing: whether there is no API key.
        sweep: the last one.
        scan: the one under way.
        hour: the requests of the last hour, oldest first.
        environment: where segments are sent, as in ``Segment.environment``.
        operations: those that are paused.
        pause: of all pushes by a person, if there is one.
        holds: the ``no_push()`` blocks.
        elsewhere: how many segments belong to other environments, by environment.
        strange_key_since: since when the key seems to belong to another account or cannot be
            checked; None if it is in order.
        strange_key_detail: why it cannot be checked; empty if the account is the problem.
        imported: the open import, or else the last one.
        changed_in_bunce: how many segments were changed in Bunce and not settled since.
        customers: what is wrong with customers.
        clocks: the hosts whose clock differs from the database's, as far as is known.
    """

    now: datetime
    counts: Mapping[str, int]
    due: Mapping[str, int]
    usage: Usage
    rate_limiter: RateLimiterStatus
    configuration_problem: str
    key_missing: bool
    sweep: Sweep
    scan: Scan | None
    hour: tuple[Bucket, ...]
    environment: str
    operations: tuple[PausedOperation, ...] = ()
    pause: Pause | None = None
    holds: tuple[BlockHold, ...] = ()
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    strange_key_since: datetime | None = None
    strange_key_detail: str = ""
    imported: ImportStatus | None = None
    changed_in_bunce: int = 0
    customers: CustomersStatus = CustomersStatus()
    clocks: tuple[HostClock, ...] = ()


def get_status() -> SyncStatus:
    """Return the status, in a fixed number of queries."""
    with Comparison() as comparison:
        state, now = shared_state.read()
    configuration_problem = _configuration_problem()
    requests = rate_limiter.usage(since=now - _window())
    pause, holds = _holds()
    return SyncStatus(
        now=now,
        counts=count_segments(),
        due={kind.name: kind.count_due() for kind in KINDS},
        usage=Usage(requests.used, conf.usable("RATE_LIMIT"), conf.usable("RATE_WINDOW")),
        rate_limiter=_rate_limiter(state, now),
        configuration_problem=configuration_problem,
        key_missing=not configuration_problem and not conf.API_KEY,
        sweep=_sweep(state, now, first_request=requests.oldest),
        scan=_scan(state),
        hour=count_requests(now),
        environment=conf.environment,
        operations=_paused_operations(now),
        pause=pause,
        holds=holds,
        elsewhere=count_elsewhere(),
        strange_key_since=_strange_key_since(state),
        strange_key_detail=state.strange_detail,
        imported=_last_import(),
        changed_in_bunce=count_changed_in_bunce(),
        customers=_customers(),
        clocks=host_clocks.wrong_clocks(state, now, ahead=comparison.ahead(now)),
    )


def call_log_days() -> int:
    """Return for how many days the call log keeps calls."""
    days: int = conf.usable("LEDGER_DAYS")
    return days


def _configuration_problem() -> str:
    try:
        conf.check()
    except ConfigurationError as error:
        return str(error)
    return ""


def _window() -> timedelta:
    """Return for how long a request counts, as the rate limiter counts it."""
    return timedelta(
        seconds=conf.usable("RATE_WINDOW")
        + rate_limiter.PERMIT_SECONDS
        + rate_limiter.TRANSIT_SECONDS
    )


def _rate_limiter(state: SyncState, now: datetime) -> RateLimiterStatus:
    paused = state.blocked_until is not None and state.blocked_until > now
    if not paused and not state.blocked_reason:
        return RateLimiterStatus()
    return RateLimiterStatus(
        state="paused" if paused else "probing",
        reason=state.blocked_reason,
        until=state.blocked_until if paused else None,
        since=state.blocked_since,
        detail=state.blocked_detail,
        asked_until=state.asked_until if paused else None,
    )


def _holds() -> tuple[Pause | None, tuple[BlockHold, ...]]:
    """Return the pause of all pushes, if there is one, and the ``no_push()`` blocks."""
    pause, blocks = None, []
    for hold in database.holds().annotate(count=Count("segments")).order_by("pk"):
        if hold.pauses_all:
            pause = Pause(by=hold.by, reason=hold.reason, since=hold.since)
        else:
            blocks.append(BlockHold(hold.pk, hold.by, hold.reason, hold.since, hold.count))
    return pause, tuple(blocks)


def _strange_key_since(state: SyncState) -> datetime | None:
    try:
        return state.strange_since if state.strange_key == conf.key_digest else None
    except ConfigurationError:
        return None


def _last_import() -> ImportStatus | None:
    run = database.import_runs().order_by("-pk").defer("scan").first()
    if run is None:
        return None
    return ImportStatus(
        requested_by=run.requested_by,
        requested_at=run.requested_at,
        finished_at=run.finished_at,
        cancelled=run.cancelled,
        adopt=run.adopt,
        pages=run.pages,
        # In this order, which not every database keeps.
        counts={name: run.counts[name] for name in COUNTS if name in run.counts},
    )


def _customers() -> CustomersStatus:
    if not database.customer_syncs().exists():
        return CustomersStatus()
    telling = database.customer_syncs().filter(Q(held_at__isnull=False) | ~Q(run_error=""))
    syncs = list(telling.order_by("key"))
    queues = database.customer_queues().exclude(last_code="")
    return CustomersStatus(
        refused=database.members().filter(status=MemberStatus.REFUSED).count(),
        held=tuple(
            HeldAudience(
                sync.pk, str(sync.key), sync.held_removals, sync.held_members, sync.held_at
            )
            for sync in syncs
            if sync.held_at is not None
        ),
        failed=tuple(str(sync.key) for sync in syncs if sync.run_error),
        delayed=queues.values("sync_id").distinct().count(),
    )


def _paused_operations(now: datetime) -> tuple[PausedOperation, ...]:
    states = database.operation_states().filter(blocked_until__isnull=False)
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
    interval: float = conf.usable("SWEEP_INTERVAL")
    seconds = LATE_INTERVALS * interval
    by_cron = state.swept_at is not None and state.swept_by == Sweeper.CRON
    tolerance = timedelta(seconds=max(seconds, CRON_LATE) if by_cron else seconds)
    if state.swept_at is None:
        # Beat sweeps for the first time one interval after its start, so a worker that made its
        # first request only now is not late.
        just_started = first_request is not None and now - first_request <= tolerance
        return Sweep(at=None, age=None, late=not just_started, interval=interval)
    age = now - state.swept_at
    return Sweep(
        at=state.swept_at,
        age=max(age.total_seconds(), 0.0),
        late=age > tolerance,
        interval=interval,
        by=state.swept_by,
    )


def _scan(state: SyncState) -> Scan | None:
    scan = list_scan.Scan.from_json(state.scan) if state.scan else None
    return Scan(scan.started_at, scan.pages) if scan else None

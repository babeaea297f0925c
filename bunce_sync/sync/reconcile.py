"""Settles the rows in doubt: one scan of Bunce's list for all of them.

A scan is kept in ``SyncState`` and goes forward page by page, each page through the limiter, so it
survives being killed at any point and several processes never scan at once. A row is
considered when its grace period was over as the scan began. What is found is adopted at once; what
is not found becomes pending again only when the whole list was read.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import CombinedExpression

from bunce_sync.client import Page, Position, RemoteSegment
from bunce_sync.conf import conf
from bunce_sync.fingerprint import content_digest
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.models.segment_queryset import SegmentQuerySet
from bunce_sync.sync import circuit_breaker, rate_limiter
from bunce_sync.sync.list_scan import Scan
from bunce_sync.sync.outcome import REFUSED_CONTENT, Outcome, Result, adopted, backoff
from bunce_sync.sync.patience import WaitBudget
from bunce_sync.sync.push import client, database_of
from bunce_sync.sync.read import read

logger = logging.getLogger(__name__)

Status = Segment.Status
Decision = ApiCall.Decision

#: How far apart the attempt and Bunce's time of creation may lie: the zone of ``created_at`` is
#: not documented.
NEAR = timedelta(days=1)
#: A scan that stood still for longer is begun anew: the list has changed too much since.
STALE = timedelta(hours=1)
#: Rows of a page at least, when Bunce refuses the size that is set.
SMALLEST_PAGE = 10
DOUBTFUL = (Outcome.UNKNOWN, Outcome.ABANDONED)


def reconcile(
    *, seconds: float, on_more_work: Callable[[], object] | None = None, using: str | None = None
) -> int:
    """Go on with the scan, or begin one when rows in doubt are ready for it.

    Args:
        seconds: when to stop; the next call goes on from there.
        on_more_work: called at the end when the next call should come at once.

    Returns:
        How many pages of the list were read.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    alias = database_of(using)
    client()
    ends = time.monotonic() + seconds
    patience = WaitBudget()
    token = uuid.uuid4()
    scan = _take(token, alias)
    pause = 0.0
    pages = 0
    tired = False
    try:
        while scan is not None:
            if time.monotonic() >= ends:
                tired = True
                break
            try:
                page, result = _read(scan, patience, alias)
            except rate_limiter.NoPermit as closed:
                tired = patience.ended_by(closed)
                break
            if page is None:
                smaller = _smaller(scan, result)
                if smaller is None:
                    _give_up(result, token, alias)
                    break
                circuit_breaker.clear(ApiCall.Operation.LIST, alias)
                scan = smaller
                continue
            pages += 1
            _remember_page_size(scan, alias)
            adopt(page.segments, scan, alias)
            scan = scan.after(page)
            if _may_stop(scan, alias):
                _finish(scan, token, alias)
                break
            if page.next is None:
                if _was_disturbed(scan, alias):
                    pause = _begin_anew(token, alias)
                else:
                    _finish(scan, token, alias)
                break
            if not _keep(scan, token, alias):
                break
    finally:
        _release(token, alias, pause)
    if tired and on_more_work:
        on_more_work()
    return pages


def _read(scan: Scan, patience: WaitBudget, alias: str) -> tuple[Page | None, Result]:
    return read(
        lambda record: client().list_page(scan.position, record=record),
        operation=ApiCall.Operation.LIST,
        path=f"/segments?page={scan.position.page}&per_page={scan.position.per_page}",
        patience=patience,
        using=alias,
    )


def _lease(seconds: float) -> CombinedExpression:
    return DatabaseNow() + timedelta(seconds=seconds)


def _page_lease() -> CombinedExpression:
    # One page takes at most a whole request, and the rate limiter may let it wait before.
    return _lease(conf.request_deadline + 10)


def _states(alias: str) -> QuerySet[SyncState]:
    return SyncState.objects.using(alias).filter(pk=1)


def _take(token: uuid.UUID, alias: str) -> Scan | None:
    """Take the lease on the scan; None when somebody has it, or there is nothing to look for."""
    state, now = rate_limiter.read_state(alias)
    free = Q(scan_lease_until__isnull=True) | Q(scan_lease_until__lte=DatabaseNow())
    taken = _states(alias).filter(free).update(scan_token=token, scan_lease_until=_page_lease())
    if not taken:
        return None
    kept = _states(alias).values_list("scan", flat=True).get()
    scan = Scan.from_json(kept) if kept else None
    environment = _environment()
    first = Position(per_page=_page_size(state, environment))
    if (
        scan
        and timedelta(0) <= now - scan.kept_at < STALE
        # A place in the list is counted in pages of this size, of this account's list.
        and (scan.position.per_page, scan.environment) == (first.per_page, environment)
    ):
        return scan
    if Segment.objects.using(alias).checkable().exists():
        return Scan(started_at=now, kept_at=now, environment=environment, position=first)
    _states(alias).filter(scan_token=token).update(scan=None)
    return None


def _keep(scan: Scan, token: uuid.UUID, alias: str) -> bool:
    """Write the progress down; False when the lease was lost to somebody else."""
    scan = replace(scan, kept_at=rate_limiter.read_state(alias)[1])
    mine = _states(alias).filter(scan_token=token)
    return bool(mine.update(scan=scan.to_json(), scan_lease_until=_page_lease()))


def _release(token: uuid.UUID, alias: str, pause: float) -> None:
    _states(alias).filter(scan_token=token).update(
        scan_token=None, scan_lease_until=_lease(pause) if pause else None
    )


def _environment() -> str:
    """Whose list is read, and at which address: a scan of one is none of another."""
    return f"{conf.environment} {conf.base_url}"


def _page_size(state: SyncState, environment: str) -> int:
    """Rows to ask for at a time: fewer than is set where Bunce refused that before."""
    known = state.list_page or {}
    if known.get("environment") != environment:
        return conf.PAGE_SIZE
    return min(conf.PAGE_SIZE, int(known["size"]))


def _smaller(scan: Scan, result: Result) -> Scan | None:
    """The scan from its beginning with pages of half the size, if this size was refused.

    That shows at the first page; what is refused later has another reason. Pages are not made so
    small that a few hidden segments could make two of them empty.
    """
    size = scan.position.per_page
    smaller = max(SMALLEST_PAGE, size // 2)
    if result.code not in REFUSED_CONTENT or scan.pages or smaller >= size:
        return None
    logger.info("Bunce refused a list of %d segments a page; %d are tried", size, smaller)
    return Scan(
        started_at=scan.started_at,
        kept_at=scan.kept_at,
        environment=scan.environment,
        position=Position(per_page=smaller),
    )


def _remember_page_size(scan: Scan, alias: str) -> None:
    """Note the size of a page that Bunce gave, if it refuses the one that is set."""
    size = scan.position.per_page
    if scan.pages == 0 and size < conf.PAGE_SIZE:
        known = {"environment": scan.environment, "size": size}
        _states(alias).update(list_page=known)


def _give_up(result: Result, token: uuid.UUID, alias: str) -> None:
    """After a page that could not be read: forget a position that is of no more use.

    How long the list is then left alone is the breaker's to say.
    """
    if result.concerns(ApiCall.Operation.LIST):
        logger.warning("Bunce's list of segments cannot be used: %s", result.code)
        _states(alias).filter(scan_token=token).update(scan=None)


def adopt(remotes: Sequence[RemoteSegment], scan: Scan, alias: str) -> int:
    """Link rows in doubt to segments of the same content that belong to no row yet.

    Returns:
        How many were linked. One to one: a segment that fits several rows goes to the row whose
        attempt was nearest to its creation.
    """
    by_digest: dict[str, list[RemoteSegment]] = defaultdict(list)
    for remote in remotes:
        by_digest[content_digest(remote.name, remote.description)].append(remote)
    waiting: dict[str, list[Segment]] = defaultdict(list)
    alike = _considered(scan, alias).filter(sent_digest__in=by_digest)
    for row in alike.only("sent_digest", "sent_at"):
        waiting[row.sent_digest].append(row)
    if not waiting:
        return 0
    candidates = [remote for digest in waiting for remote in by_digest[digest]]
    linked = set(
        Segment.objects.using(alias)
        .filter(bunce_id__in=[remote.id for remote in candidates])
        .values_list("bunce_id", flat=True)
    )
    count = 0
    for digest, rows in waiting.items():
        pairs = sorted(
            (distance, row.pk, remote.id)
            for row in rows
            for remote in by_digest[digest]
            if remote.id not in linked and (distance := _distance(row, remote)) <= NEAR
        )
        by_pk = {row.pk: row for row in rows}
        by_id = {remote.id: remote for remote in by_digest[digest]}
        for _, pk, bunce_id in pairs:
            if pk not in by_pk or bunce_id not in by_id:
                continue
            adoption = _adopt(by_pk[pk], by_id[bunce_id], alias)
            count += adoption == Adoption.DONE
            # What stood in the way of this pair must not keep the other half from its next one: a
            # row left over counts as absent, and would be created again.
            if adoption != Adoption.ROW_SETTLED:
                del by_id[bunce_id]
            if adoption != Adoption.SEGMENT_TAKEN:
                del by_pk[pk]
    return count


def _distance(row: Segment, remote: RemoteSegment) -> timedelta:
    """How far the attempt lies from the creation; none when Bunce does not say when that was."""
    if remote.created_at is None or row.sent_at is None:
        return timedelta(0)
    return abs(remote.created_at - row.sent_at)


class Adoption(Enum):
    """What came of trying to link a row to a segment."""

    DONE = auto()
    ROW_SETTLED = auto()
    SEGMENT_TAKEN = auto()


def _adopt(row: Segment, remote: RemoteSegment, alias: str) -> Adoption:
    now = DatabaseNow()
    try:
        with transaction.atomic(using=alias, durable=True):
            # Read again and locked: an edit made since then has to be pushed after the adoption.
            current = (
                Segment.objects.using(alias)
                .locked()
                .filter(pk=row.pk, status=Status.IN_DOUBT, sent_digest=row.sent_digest)
                .only("name", "description", "sent_digest", "status")
                .first()
            )
            if current is None:
                return Adoption.ROW_SETTLED
            changes = adopted(current, remote, now=now)
            segments = Segment.objects.using(alias)
            segments.filter(pk=row.pk).update_sync_fields(**changes)
            _doubtful_calls(alias, [row.pk]).update(
                decision=Decision.ADOPTED, decided_at=now, bunce_id=remote.id
            )
            # Another row's segment too many, it was thought; now it is this row's own.
            told = list(segments.filter(bunce_duplicate_id=remote.id).values_list("pk", flat=True))
            if told:
                segments.filter(pk__in=told).update_sync_fields(bunce_duplicate_id=None)
    except IntegrityError:
        if not Segment.objects.using(alias).filter(bunce_id=remote.id).exists():
            raise  # it must not count as absent, or it would be created again
        # Another row took it a moment ago: its worker recorded the answer after we had looked.
        return Adoption.SEGMENT_TAKEN
    return Adoption.DONE


def _considered(scan: Scan, alias: str) -> SegmentQuerySet:
    rows = Segment.objects.using(alias)
    return rows.filter(status=Status.IN_DOUBT, due_at__lte=scan.started_at)


def _doubtful_calls(alias: str, segment_ids: Iterable[int]) -> QuerySet[ApiCall]:
    """The creates about which nothing was decided yet."""
    return ApiCall.objects.using(alias).filter(
        segment_id__in=segment_ids,
        operation=ApiCall.Operation.CREATE,
        outcome__in=DOUBTFUL,
        decision="",
    )


def _failed_before(pk: Any, alias: str) -> QuerySet[ApiCall]:
    """The creates of a row that Bunce called failures and whose segment was not in its list."""
    return ApiCall.objects.using(alias).filter(
        segment_id=pk,
        operation=ApiCall.Operation.CREATE,
        code="says_failed",
        decision=Decision.ABSENT,
    )


def _may_stop(scan: Scan, alias: str) -> bool:
    """Whether every row in question has found its match. For all else the end has to be proven."""
    return not _considered(scan, alias).exists()


def _was_disturbed(scan: Scan, alias: str) -> bool:
    """Whether an update of ours may have moved a segment from a page to come to one already read.

    That takes a list of several pages whose order an update can change, such as one by name.
    """
    if scan.pages < 2 or scan.by_creation:
        return False
    # An update that was answered may have taken effect up to its answer; one that was not, later.
    answered = Q(started_at__gte=scan.started_at - timedelta(seconds=conf.request_deadline))
    unanswered = Q(
        started_at__gte=scan.started_at - timedelta(seconds=conf.GRACE),
        outcome__in=(*DOUBTFUL, Outcome.UNDER_WAY),
    )
    updates = ApiCall.objects.using(alias).filter(operation=ApiCall.Operation.UPDATE)
    return updates.filter(answered | unanswered).exclude(outcome=Outcome.NOT_SENT).exists()


def _begin_anew(token: uuid.UUID, alias: str) -> float:
    """Forget the scan; how many seconds to leave the list alone before the next."""
    logger.info("Bunce's list changed its order while it was read; it will be read once more")
    _states(alias).filter(scan_token=token).update(scan=None)
    return conf.GRACE


def _finish(scan: Scan, token: uuid.UUID, alias: str) -> None:
    """What the whole list does not have was never created: those rows are to be sent again.

    A row that Bunce refused as a possible twin of its own earlier create is rejected for good,
    unless it was edited since: the twin is somebody else's.
    """
    now = DatabaseNow()
    with transaction.atomic(using=alias, durable=True):
        # What somebody else holds stays in doubt until the next scan: waiting for several rows at
        # once could deadlock with an import.
        absent = list(_considered(scan, alias).not_held().values_list("pk", flat=True))
        rows = Segment.objects.using(alias).filter(pk__in=absent)
        edited = [
            row.pk
            for row in rows.only("name", "description", "sent_digest")
            if row.digest != row.sent_digest
        ]
        # What Bunce calls a failure was once not in the list before, and is not in it again.
        failed = Q(last_code="says_failed") & Exists(_failed_before(OuterRef("pk"), alias))
        refused = rows.exclude(pk__in=edited).filter(Q(last_code__in=REFUSED_CONTENT) | failed)
        # By the keys: MySQL cannot update rows by a condition on others.
        refused = rows.filter(pk__in=list(refused.values_list("pk", flat=True)))
        refused.update_sync_fields(status=Status.REJECTED, absent_at=now)
        rows = rows.filter(status=Status.IN_DOUBT)
        rows.filter(pk__in=edited).update_sync_fields(**Segment.requeue_values())
        for attempts in list(rows.order_by().values_list("attempts", flat=True).distinct()):
            # A create that fails again and again costs a scan each time: at growing intervals.
            due_at = now + backoff(attempts - 1) if attempts > 1 else now
            # The cause stays: it is why the row waits.
            rows.filter(attempts=attempts).update_sync_fields(
                status=Status.PENDING, due_at=due_at, absent_at=now
            )
        _doubtful_calls(alias, absent).update(decision=Decision.ABSENT, decided_at=now)
        # Rows first, the shared row last, as in a push: the other order could deadlock with one.
        if not _states(alias).filter(scan_token=token).update(scan=None):
            transaction.set_rollback(True, using=alias)
            return
    if absent:
        logger.info("%d segments in doubt are not in Bunce", len(absent))

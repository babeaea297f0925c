"""Actions that people request for segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from celery import Task
from django.db import transaction
from django.db.models import Q

from bunce_sync import database, transitions
from bunce_sync.choices import Status
from bunce_sync.conf import conf
from bunce_sync.exceptions import NotFound
from bunce_sync.fingerprint import LISTED_FIELDS
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import Segment, SegmentQuerySet
from bunce_sync.services.publishing import publish_after_commit
from bunce_sync.services.segments import BATCH_SIZE
from bunce_sync.sync import linking
from bunce_sync.sync.reconcile import RECONCILE
from bunce_sync.sync.refresh import REFRESH as REFRESH_WORK
from bunce_sync.tasks import push_segment, work

_DIFFERENT: Final = Q(status=Status.SYNCED, last_code__in=Segment.DIFFERING)
#: Segments that Bunce does not have any more.
_GONE: Final = Q(status=Status.REJECTED, last_code=NotFound.code, bunce_id__isnull=False)


@dataclass(frozen=True, slots=True)
class SegmentAction:
    """An action that a person can request for segments.

    Attributes:
        name: one word, used in URLs and forms.
        fits: whether the action makes sense for a segment in its current state.
        candidates: the condition for segments it would change, without those already requested.
        run: request the action; takes segments, returns how many rows changed.
    """

    name: str
    fits: Callable[[Segment], bool]
    candidates: Q
    run: Callable[[SegmentQuerySet], int]

    def applies(self, segment: Segment) -> bool:
        """Return whether the action would change a segment, or have it looked for in Bunce."""
        return segment.is_here and self.fits(segment)


def push_now(segments: SegmentQuerySet) -> int:
    """Make waiting segments due now.

    Returns:
        How many rows changed.
    """
    rows = segments.here().filter(status=Status.PENDING)
    return _mark(rows, transitions.push_requested(now=DatabaseNow()), push_segment)


def retry(segments: SegmentQuerySet) -> int:
    """Make rejected segments pending, and read those again that Bunce did not have.

    Returns:
        How many rows changed.
    """
    keys = list(segments.values_list("id", flat=True))
    rows = database.segments().here().filter(pk__in=keys, status=Status.REJECTED)
    # A read showed that they are gone: there is nothing to send that could show it once more.
    gone = rows.filter(_GONE).only(*Segment.UPDATE_FIELDS, "settled")
    unread = [row.pk for row in gone.iterator(chunk_size=BATCH_SIZE) if not row.unsettled_fields]
    return _mark(
        rows.exclude(pk__in=unread), transitions.requeued(now=DatabaseNow()), push_segment
    ) + refresh(rows.filter(pk__in=unread))


def refresh(segments: SegmentQuerySet) -> int:
    """Request a read of these segments from Bunce.

    For segments in doubt this does not shorten the grace period: Bunce may still be working on
    their create. After it they are looked up in Bunce's list without being requested.

    Returns:
        How many rows changed.
    """
    if segments.filter(status=Status.IN_DOUBT).exists():
        publish_after_commit(work, RECONCILE.name)
    rows = segments.here().filter(bunce_id__isnull=False)
    return _mark(rows, transitions.refresh_requested(now=DatabaseNow()), work, REFRESH_WORK.name)


def push_ours(segments: SegmentQuerySet) -> int:
    """Replace what Bunce has by the whole content here, for segments that differ there.

    Returns:
        How many rows changed.
    """
    rows = segments.here().filter(_DIFFERENT)
    return _mark(rows, transitions.ours_pushed(now=DatabaseNow()), push_segment)


def take_theirs(segments: SegmentQuerySet) -> int:
    """Replace the content here by what Bunce has, as last read, for segments that differ there.

    The rows are saved one by one, so that the site's receivers and versioning apps notice.

    Args:
        segments: of ``Segment`` or of the site's model that extends it, which is then saved.

    Returns:
        How many rows changed.
    """
    with transaction.atomic(using=database.alias()):
        keys = list(segments.values_list("id", flat=True))
        here = database.segments().here().filter(_DIFFERENT, pk__in=keys)
        locked = list(here.locked().order_by("pk").values_list("pk", flat=True))
        rows = segments.model._base_manager.using(database.alias()).filter(id__in=locked)
        taken = list(rows.order_by("id"))
        for row in taken:
            row.set_stored(**transitions.held_content(row))
            values = transitions.theirs_taken(row)
            # First, so that the save finds nothing to send.
            database.segments().filter(pk=row.id).update_sync_fields(**values)
            row.save(using=database.alias(), update_fields=[*LISTED_FIELDS])
    return len(taken)


def create_again(segments: SegmentQuerySet) -> int:
    """Create segments in Bunce again that it does not have any more.

    Their old ids are given up, and an import leaves them out if they reappear.

    Returns:
        How many rows changed.
    """
    with transaction.atomic(using=database.alias()):
        keys = list(segments.values_list("id", flat=True))
        rows = database.segments().here().filter(_GONE, pk__in=keys).locked().order_by("pk")
        gone = dict(rows.values_list("pk", "bunce_id"))
        ids = {str(bunce_id): None for bunce_id in gone.values()}
        linking.bury(ids, environment=conf.environment)
        linking.release(gone)
        changes = transitions.created_again(now=DatabaseNow())
        return _mark(database.segments().filter(pk__in=[*gone]), changes, push_segment)


def _is_different(segment: Segment) -> bool:
    return segment.status == Status.SYNCED and segment.last_code in Segment.DIFFERING


def _is_gone(segment: Segment) -> bool:
    linked = segment.bunce_id is not None
    return linked and segment.status == Status.REJECTED and segment.last_code == NotFound.code


PUSH: Final = SegmentAction(
    name="push",
    fits=lambda segment: segment.status == Status.PENDING,
    candidates=Q(status=Status.PENDING, due_at__gt=DatabaseNow()),
    run=push_now,
)
PUSH_OURS: Final = SegmentAction(
    name="push_ours", fits=_is_different, candidates=_DIFFERENT, run=push_ours
)
TAKE_THEIRS: Final = SegmentAction(
    name="take_theirs", fits=_is_different, candidates=_DIFFERENT, run=take_theirs
)
CREATE_AGAIN: Final = SegmentAction(
    name="create_again", fits=_is_gone, candidates=_GONE, run=create_again
)
RETRY: Final = SegmentAction(
    name="retry",
    fits=lambda segment: segment.status == Status.REJECTED,
    candidates=Q(status=Status.REJECTED),
    run=retry,
)
REFRESH: Final = SegmentAction(
    name="refresh",
    fits=lambda segment: segment.bunce_id is not None or segment.status == Status.IN_DOUBT,
    candidates=Q(bunce_id__isnull=False, refresh_requested_at__isnull=True),
    run=refresh,
)
ACTIONS: Final = (PUSH, RETRY, REFRESH, PUSH_OURS, TAKE_THEIRS, CREATE_AGAIN)


def _mark(
    rows: SegmentQuerySet, changes: Mapping[str, Any], task: Task[Any, Any], *args: Any
) -> int:
    rows = rows.using(database.alias())
    with transaction.atomic(using=database.alias()):
        # In one order: two people who select the same rows would otherwise block each other.
        keys = list(rows.locked().order_by("pk").values_list("pk", flat=True))
        count = rows.filter(pk__in=keys).update_sync_fields(**changes) if keys else 0
        if count:
            publish_after_commit(task, *(args or [keys[0]]))
    return count

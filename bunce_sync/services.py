"""What a person may ask for, in the admin or over the REST API.

None of these makes a request to Bunce: rows are marked, and a worker is rung for after the
commit. Who may ask is for the caller to decide.
"""

from __future__ import annotations

from typing import Any

from celery import Task
from django.db import transaction
from django.db.models import Q

from bunce_sync.functions import DatabaseNow
from bunce_sync.models import Segment
from bunce_sync.models.segment_queryset import SegmentQuerySet
from bunce_sync.publisher import publisher
from bunce_sync.tasks import push_segment, reconcile, refresh_segments

Status = Segment.Status


def push_now(segments: SegmentQuerySet) -> int:
    """Send waiting rows without further backoff, and synced rows that differ in Bunce once more.

    Returns:
        How many rows were marked.
    """
    differing = Q(status=Status.SYNCED, last_code__in=Segment.DIFFERING)
    rows = segments.filter(Q(status=Status.PENDING) | differing)
    return _mark(segments, rows, {"status": Status.PENDING, "due_at": DatabaseNow()}, push_segment)


def retry(segments: SegmentQuerySet) -> int:
    """Send rejected rows again.

    Returns:
        How many rows were marked.
    """
    rows = segments.filter(status=Status.REJECTED)
    return _mark(segments, rows, Segment.requeue_values(), push_segment)


def check(segments: SegmentQuerySet) -> int:
    """Have a worker look what Bunce has of these rows.

    Rows in doubt are looked for anyway, as soon as their grace period is over: looking earlier
    could miss a create that Bunce is still working on.

    Returns:
        How many rows were marked.
    """
    if segments.filter(status=Status.IN_DOUBT).exists():
        _ring_after_commit(reconcile, segments.write_alias, None)
    rows = segments.filter(bunce_id__isnull=False)
    return _mark(segments, rows, {"refresh_requested_at": DatabaseNow()}, refresh_segments)


def _mark(
    segments: SegmentQuerySet, rows: SegmentQuerySet, changes: dict[str, Any], task: Task[Any, Any]
) -> int:
    alias = segments.write_alias
    with transaction.atomic(using=alias):
        first = rows.using(alias).values_list("pk", flat=True).first()
        count = rows.using(alias).update_sync_fields(**changes)
        if count:
            _ring_after_commit(task, alias, first if task is push_segment else None)
    return count


def _ring_after_commit(task: Task[Any, Any], using: str, segment_id: int | None) -> None:
    args = (using,) if segment_id is None else (segment_id, using)

    def ring() -> None:
        publisher.publish(task, *args)

    transaction.on_commit(ring, using=using, robust=True)

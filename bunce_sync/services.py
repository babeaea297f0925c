"""The public functions of the app. The admin and the REST API change segments through them.

The rules about what may be done are here; permissions are the caller's responsibility.
No function makes a request to Bunce: it writes rows, and a worker is woken after the commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from celery import Task
from django.db import connections, transaction
from django.db.models import Q

from bunce_sync import database, transitions
from bunce_sync.choices import Status
from bunce_sync.exceptions import BunceSyncError
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import Segment, SegmentQuerySet
from bunce_sync.publisher import publisher
from bunce_sync.sync import shared_state
from bunce_sync.sync.reconcile import RECONCILE
from bunce_sync.sync.refresh import REFRESH as REFRESH_WORK
from bunce_sync.tasks import push_segment, work

#: Segments that one query changes.
BATCH_SIZE: Final = 500
#: The states in which a segment cannot be deleted: its request is unresolved.
UNDELETABLE: Final = (Status.SENDING, Status.IN_DOUBT)


class SegmentsBusy(BunceSyncError):
    """Segments cannot be deleted, because their requests to Bunce are unresolved.

    Args:
        segments: those segments.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        super().__init__(segments)
        self.segments = segments


class SegmentsChanged(BunceSyncError):
    """Segments were changed since they were read, so the changes were not stored."""


class AlreadySaved(BunceSyncError):
    """The same segments were stored before."""


@dataclass(frozen=True, slots=True)
class SegmentAction:
    """An action that a person can request for segments.

    Attributes:
        name: one word, used in URLs and forms.
        applies: whether the action makes sense for a segment in its current state.
        candidates: the condition for segments it would change, without those already requested.
        run: request the action; takes segments, returns how many rows changed.
    """

    name: str
    applies: Callable[[Segment], bool]
    candidates: Q
    run: Callable[[SegmentQuerySet], int]


def create_segment(**fields: Any) -> Segment:
    """Store a segment, which a worker then creates in Bunce.

    Args:
        fields: the fields named in ``Segment.CREATE_FIELDS``.
    """
    return database.segments().create(**fields)


def create_segments(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Store several segments, with one INSERT where the database returns the keys.

    One message wakes a worker, which then works through all segments that are due.

    Args:
        rows: the fields of each segment, as for ``create_segment``.

    Returns:
        The ids, in the order of ``rows``.
    """
    segments = database.segments()
    with transaction.atomic(using=database.alias()):
        if connections[database.alias()].features.can_return_rows_from_bulk_insert:
            made = segments.bulk_create(Segment(**fields) for fields in rows)
        else:  # MySQL, unlike MariaDB, does not return the keys of an INSERT of many rows
            made = [segments.create(**fields) for fields in rows]
        ids = [segment.pk for segment in made]
        if ids:
            _publish_after_commit(push_segment, ids[0])
    return ids


def save_segments(
    new: Sequence[Segment],
    changed: Sequence[tuple[Segment, Mapping[str, Any]]],
    *,
    once: str = "",
) -> None:
    """Store new segments and changes of others: all of them, or none.

    One message wakes a worker, which then works through all segments that are due. As in other
    bulk operations of Django, the signals of a save are not sent, except for subclasses of the
    model with tables of their own.

    Args:
        new: of one model, not stored yet.
        changed: each with the names of the fields to store, and the values they had when the
            segment was read.
        once: identifies the call; another one with the same text stores nothing.

    Raises:
        SegmentsChanged: one of these fields has another value now, or can no longer change.
        AlreadySaved: ``once`` was used before.
    """
    with transaction.atomic(using=database.alias()):
        if once:
            _use_once(once)
        for start in range(0, len(changed), BATCH_SIZE):
            _lock_unchanged(changed[start : start + BATCH_SIZE])
        if _can_bulk_create(new):
            SegmentQuerySet(type(new[0]), using=database.alias()).bulk_create(
                new, batch_size=BATCH_SIZE
            )
        else:
            for segment in new:
                segment.save(using=database.alias(), force_insert=True)
        _store_changes(changed)
        if first := [*new, *(segment for segment, _before in changed)][:1]:
            _publish_after_commit(push_segment, first[0].id)


def _use_once(text: str) -> None:
    digest = hashlib.sha256(text.encode()).hexdigest()
    _key, is_new = database.idempotency_keys().get_or_create(
        digest=digest, defaults={"body_digest": ""}
    )
    if not is_new:
        raise AlreadySaved


def _lock_unchanged(changed: Sequence[tuple[Segment, Mapping[str, Any]]]) -> None:
    """Lock segments.

    Raises:
        SegmentsChanged: they differ from what was read.
    """
    ids = [segment.id for segment, _before in changed]
    names = {name for _segment, before in changed for name in before}
    rows = SegmentQuerySet(type(changed[0][0]), using=database.alias()).filter(id__in=ids)
    rows = rows.only("bunce_id", "status", *names).locked().order_by("id")
    stored = {row.id: row for row in rows}
    for segment, before in changed:
        row = stored.get(segment.id)
        if row is None or _values_of(row, before) != before:
            raise SegmentsChanged
        if row.all_customers_fixed and Segment.CREATE_ONLY_FIELDS & before.keys():
            raise SegmentsChanged


def _values_of(segment: Segment, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of fields by name; of a relation, the key."""
    fields: Any = segment._meta
    return {name: getattr(segment, fields.get_field(name).attname) for name in names}


def _can_bulk_create(new: Sequence[Segment]) -> bool:
    """Return whether one statement can insert the rows, and returns their keys."""
    if not new or new[0]._meta.concrete_model is not Segment:
        return False
    return bool(connections[database.alias()].features.can_return_rows_from_bulk_insert)


def _store_changes(changed: Sequence[tuple[Segment, Mapping[str, Any]]]) -> None:
    """Store changes, with few queries where the segments are in one table."""
    groups: dict[frozenset[str], list[Segment]] = {}
    for segment, before in changed:
        groups.setdefault(frozenset(before), []).append(segment)
    for names, segments in groups.items():
        if segments[0]._meta.concrete_model is Segment:
            rows = SegmentQuerySet(type(segments[0]), using=database.alias())
            rows.bulk_update(segments, sorted(names), batch_size=BATCH_SIZE)
            continue
        for segment in segments:
            segment.save(using=database.alias(), update_fields=[*names, "updated_at"])


def delete_segments(segments: SegmentQuerySet) -> int:
    """Delete all of these segments, or none. Bunce keeps them: its API cannot delete.

    Returns:
        How many were deleted.

    Raises:
        SegmentsBusy: at least one of them has an unresolved request.
    """
    with transaction.atomic(using=database.alias()):
        # While the rows are locked, no worker can claim them. SQLite locks the whole database.
        keys = list(
            segments.values_list("id", flat=True)
        )  # a subclass may have its own primary key
        rows = list(
            database.segments().filter(pk__in=keys).without_long_fields().locked().order_by("pk")
        )
        if busy := [row for row in rows if not can_delete(row)]:
            raise SegmentsBusy(busy)
        # Use the caller's model, so that rows of a subclass are deleted too.
        segments.model._base_manager.using(database.alias()).filter(id__in=keys).delete()
    return len(rows)


def can_delete(segment: Segment) -> bool:
    """Return whether a segment can be deleted in its current state."""
    return segment.status not in UNDELETABLE


def push_now(segments: SegmentQuerySet) -> int:
    """Make waiting segments due now, and send synced segments again that differ in Bunce.

    Returns:
        How many rows changed.
    """
    rows = segments.filter(Q(status=Status.PENDING) | _DIFFERENT)
    return _mark(rows, transitions.push_requested(now=DatabaseNow()), push_segment)


def retry(segments: SegmentQuerySet) -> int:
    """Make rejected segments pending.

    Returns:
        How many rows changed.
    """
    rows = segments.filter(status=Status.REJECTED)
    return _mark(rows, transitions.requeued(now=DatabaseNow()), push_segment)


def refresh(segments: SegmentQuerySet) -> int:
    """Request a read of these segments from Bunce.

    For segments in doubt this does not shorten the grace period: Bunce may still be working on
    their create. After it they are looked up in Bunce's list without being requested.

    Returns:
        How many rows changed.
    """
    if segments.filter(status=Status.IN_DOUBT).exists():
        _publish_after_commit(work, RECONCILE.name)
    rows = segments.filter(bunce_id__isnull=False)
    return _mark(rows, transitions.refresh_requested(now=DatabaseNow()), work, REFRESH_WORK.name)


def requests_resume_in() -> float | None:
    """Return in how many seconds requests to Bunce resume, or None if they are not paused."""
    state, now = shared_state.read()
    if state.blocked_until is None or state.blocked_until <= now:
        return None
    return (state.blocked_until - now).total_seconds()


def database_time() -> datetime:
    """Return the database's current time, on which all stored timestamps are based."""
    return shared_state.now()


def resolved_in(segment: Segment) -> float | None:
    """Return in how many seconds an unresolved segment is processed next, or None if resolved."""
    until = {
        Status.SENDING: segment.lease_until,
        Status.IN_DOUBT: segment.due_at,
    }.get(Status(segment.status))
    if until is None:
        return None
    return max(0.0, (until - shared_state.read()[1]).total_seconds())


_DIFFERENT: Final = Q(status=Status.SYNCED, last_code__in=Segment.DIFFERING)


def _is_different(segment: Segment) -> bool:
    return segment.status == Status.SYNCED and segment.last_code in Segment.DIFFERING


PUSH: Final = SegmentAction(
    name="push",
    applies=lambda segment: segment.status == Status.PENDING or _is_different(segment),
    candidates=Q(status=Status.PENDING, due_at__gt=DatabaseNow()) | _DIFFERENT,
    run=push_now,
)
RETRY: Final = SegmentAction(
    name="retry",
    applies=lambda segment: segment.status == Status.REJECTED,
    candidates=Q(status=Status.REJECTED),
    run=retry,
)
REFRESH: Final = SegmentAction(
    name="refresh",
    applies=lambda segment: segment.bunce_id is not None or segment.status == Status.IN_DOUBT,
    candidates=Q(bunce_id__isnull=False, refresh_requested_at__isnull=True),
    run=refresh,
)
ACTIONS: Final = (PUSH, RETRY, REFRESH)


def _mark(
    rows: SegmentQuerySet, changes: Mapping[str, Any], task: Task[Any, Any], *args: Any
) -> int:
    rows = rows.using(database.alias())
    with transaction.atomic(using=database.alias()):
        # In one order: two people who select the same rows would otherwise block each other.
        keys = list(rows.locked().order_by("pk").values_list("pk", flat=True))
        count = rows.filter(pk__in=keys).update_sync_fields(**changes) if keys else 0
        if count:
            _publish_after_commit(task, *(args or [keys[0]]))
    return count


def _publish_after_commit(task: Task[Any, Any], *args: Any) -> None:
    transaction.on_commit(
        lambda: publisher.publish(task, *args), using=database.alias(), robust=True
    )

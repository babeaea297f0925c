"""Services that store and delete segments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from django.db import connections, transaction

from bunce_sync import database
from bunce_sync.choices import Status
from bunce_sync.exceptions import BunceSyncError
from bunce_sync.models import Segment, SegmentQuerySet
from bunce_sync.services.holds import no_push
from bunce_sync.services.publishing import publish_after_commit
from bunce_sync.sync import shared_state
from bunce_sync.tasks import push_segment

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
            publish_after_commit(push_segment, ids[0])
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
        if _are_plain([*new, *(segment for segment, _before in changed)]):
            database.segments().bulk_create(new, batch_size=BATCH_SIZE)
            _update(changed)
            if new or changed:
                publish_after_commit(push_segment)
        else:
            with no_push():  # which wakes workers once, at its end
                for segment in new:
                    segment.save(using=database.alias(), force_insert=True)
                for segment, before in changed:
                    names = [*before, "updated_at"]
                    segment.save(using=database.alias(), update_fields=names)


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


def _are_plain(segments: Iterable[Segment]) -> bool:
    """Return whether bulk operations can store the segments, and give new ones their keys."""
    returns_keys = connections[database.alias()].features.can_return_rows_from_bulk_insert
    return returns_keys and all(one._meta.concrete_model is Segment for one in segments)


def _update(changed: Sequence[tuple[Segment, Mapping[str, Any]]]) -> None:
    """Store changes, with one query for many segments that change in the same fields."""
    groups: dict[frozenset[str], list[Segment]] = {}
    for segment, before in changed:
        groups.setdefault(frozenset(before), []).append(segment)
    rows = database.segments()
    for names, segments in groups.items():
        rows.bulk_update(segments, sorted(names), batch_size=BATCH_SIZE)


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
        # In the order in which the result of a batch is recorded, or the two would deadlock.
        queues = database.customer_queues().filter(sync_id__in=keys).select_related("sync")
        list(database.locked(queues).order_by("pk"))
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


def resolved_in(segment: Segment) -> float | None:
    """Return in how many seconds an unresolved segment is processed next, or None if resolved."""
    until = {
        Status.SENDING: segment.lease_until,
        Status.IN_DOUBT: segment.due_at,
    }.get(Status(segment.status))
    if until is None:
        return None
    return max(0.0, (until - shared_state.read()[1]).total_seconds())

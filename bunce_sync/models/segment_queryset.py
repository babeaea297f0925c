"""Queries for segments, and the bulk writes that do not call ``Segment.save()``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, connections, router, transaction
from django.db.models import QuerySet

from bunce_sync import transitions
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.identifiers import parse_id
from bunce_sync.models.api_call import ApiCall
from bunce_sync.models.push_hold import open_block

if TYPE_CHECKING:
    from bunce_sync.models.segment import Segment

#: How many rows ``write_sync_fields()`` writes with one statement.
WRITE_BATCH = 100
#: How many rows ``update()`` writes and compares at a time: it loads their descriptions.
BATCH = 1_000


class SegmentQuerySet(QuerySet["Segment"]):
    model: type[Segment]
    _db: str | None

    @property
    def write_alias(self) -> str:
        """The database where these rows are written; ``db`` could be a replica."""
        return self._db or router.db_for_write(self.model)

    def here(self) -> SegmentQuerySet:
        """Return the rows of the current environment, and those that were never sent.

        No request is made for any other row until it is moved here (``bunce_rehome``).
        """
        return self.filter(environment__in=("", conf.environment))

    def elsewhere(self) -> SegmentQuerySet:
        """Return the rows that belong to another environment."""
        return self.exclude(environment__in=("", conf.environment))

    def due(self) -> SegmentQuerySet:
        """Return pending rows whose ``due_at`` has passed and that no ``no_push()`` block holds."""
        pending = self.here().filter(status=self.model.Status.PENDING, hold__isnull=True)
        return pending.filter(due_at__lte=DatabaseNow())

    def checkable(self) -> SegmentQuerySet:
        """Return rows in doubt whose grace period is over: Bunce's list can resolve them."""
        doubtful = self.here().filter(status=self.model.Status.IN_DOUBT)
        return doubtful.filter(due_at__lte=DatabaseNow())

    def abandoned(self) -> SegmentQuerySet:
        """Return rows whose lease expired before a worker recorded an outcome."""
        return self.filter(status=self.model.Status.SENDING, lease_until__lte=DatabaseNow())

    def refresh_requested(self) -> SegmentQuerySet:
        """Return rows with a requested refresh."""
        return self.here().filter(refresh_requested_at__isnull=False)

    def without_long_fields(self) -> SegmentQuerySet:
        """Return the rows without their long texts, which are loaded when they are read."""
        return self.defer(*self.model.LONG_FIELDS)

    def locked(self) -> SegmentQuerySet:
        """Lock the rows until the transaction ends, where the database locks rows."""
        if connections[self.db].features.has_select_for_update:
            return self.select_for_update()
        return self

    def lock_available(self) -> SegmentQuerySet:
        """Lock the rows that no other transaction has locked, and leave out the others.

        An import in one transaction may lock a row for minutes; a worker must not wait for it.
        Call this inside a transaction. On databases without row locks all rows are returned.
        """
        connection = connections[self.db]
        if not connection.features.has_select_for_update_skip_locked:
            return self
        free = self.order_by("pk").select_for_update(skip_locked=True).values_list("pk", flat=True)
        rows = self.model._default_manager.using(self.db)
        # PostgreSQL can do both in one query.
        return rows.filter(pk__in=free if connection.vendor == "postgresql" else [*free])

    # Public writes: only the editable fields

    def link(self, bunce_id: str, **fields: Any) -> Segment:
        """Return the row of a segment that Bunce has already, which is stored if it is not known.

        For code that migrates from a table of its own. The row is synced: its content is taken to
        be what Bunce has, and a worker reads the segment soon to show any difference.

        Args:
            bunce_id: Bunce's id.
            fields: the editable fields. A row that has the id already is left as it is.

        Raises:
            ValueError: the id cannot be Bunce's, a field is not editable, or the id belongs to a
                row that is not of this model.
        """
        known_as = parse_id(bunce_id)
        if known_as is None or isinstance(bunce_id, int):
            raise ValueError("bunce_id must be the id of a segment in Bunce, as text")
        bunce_id = known_as
        if protected := fields.keys() & self.model.PROTECTED_FIELDS:
            raise ValueError(only_the_sync_writes("Segment.objects.link()", protected))
        known = self.using(self.write_alias).filter(bunce_id=bunce_id)
        if (row := known.first()) is not None:
            return row
        row = self.model(**fields)
        row.linked_id = bunce_id
        try:
            with transaction.atomic(using=self.write_alias):
                row.save(force_insert=True, using=self.write_alias)
        except IntegrityError:
            # An import was quicker, or the row is not of this model.
            if (other := known.first()) is not None:
                return other
            if self._segments.filter(bunce_id=bunce_id).exists():
                raise ValueError(
                    f"Segment.objects.link(): {bunce_id} belongs to a segment that is no"
                    f" {self.model.__name__}."
                ) from None
            raise
        return row

    def update(self, **kwargs: Any) -> int:
        """Update rows as Django does, but ignore the fields that only the sync writes.

        Rows at rest whose content changed are pushed again. ``bulk_update`` calls this method.

        Raises:
            ValueError: only fields of the sync are named.
        """
        if not kwargs:
            return super().update()
        values = self._without_sync_fields("Segment.objects.update()", kwargs)
        values["updated_at"] = DatabaseNow()
        if not {*self.model.CREATE_FIELDS} & values.keys() or self.query.is_sliced:
            return super().update(**values)
        with transaction.atomic(using=self.write_alias):
            # Select by key: a row that a worker finishes meanwhile must be in both queries.
            rows = self.using(self.write_alias)
            # A subclass may have its own primary key.
            keys = list(dict(rows.order_by().values_list("pk", "id")).items())
            count = 0
            for start in range(0, len(keys), BATCH):
                some = dict(keys[start : start + BATCH])
                count += super(SegmentQuerySet, rows.filter(pk__in=[*some])).update(**values)
                self._segments.requeue_changed([*some.values()])
        self._result_cache = None
        return count

    def bulk_create(
        self,
        objs: Iterable[Segment],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[Segment]:
        """Insert rows as Django does; each starts with the defaults of the sync's fields.

        With ``update_conflicts`` existing rows keep the sync's fields, and are pushed again if
        their content changed.

        Raises:
            ValueError: the caller set a Bunce id, ``unique_fields`` names a field of the sync, or
                ``update_fields`` names only such fields.
        """
        rows = list(objs)
        hold_id = open_block(self.write_alias)
        for segment in rows:
            segment.prepare_insert(hold_id=hold_id)
        if not update_conflicts:
            return super().bulk_create(rows, batch_size, ignore_conflicts)
        if known := set(unique_fields or ()) & self.model.SYNC_FIELDS:
            raise ValueError(
                "Segment.objects.bulk_create() cannot find rows by"
                f" {', '.join(sorted(known))}: only the sync writes these fields."
            )
        named = self._without_sync_fields(
            "Segment.objects.bulk_create()", dict.fromkeys(update_fields or ())
        )
        if not connections[self.write_alias].features.supports_update_conflicts_with_target:
            for segment in rows:
                segment.bunce_id = None  # MySQL would find another row by it
        with transaction.atomic(using=self.write_alias):
            made = super().bulk_create(
                rows,
                batch_size,
                ignore_conflicts,
                update_conflicts,
                [*named, "updated_at"],
                unique_fields,
            )
            keys = [segment.pk for segment in made if segment.pk is not None]
            self._segments.requeue_changed(keys)
        return made

    def requeue_changed(self, keys: Sequence[int]) -> None:
        """Make rows at rest pending if their content differs from what was sent.

        Rows that are being sent are left out: recording the result compares their content. In a
        ``no_push()`` block all of these rows are held, whatever their status.
        """
        if (hold_id := open_block(self.write_alias)) is not None:
            self.filter(pk__in=keys).update_sync_fields(hold=hold_id)
        at_rest = self.filter(pk__in=keys, status__in=transitions.AT_REST).order_by()
        rows = list(at_rest.only(*self.model.CREATE_FIELDS, "sent_digest", "bunce_id"))
        changed = {row.pk for row in rows if row.content_fingerprint != row.sent_digest}
        changed |= self._differing_from_create(row for row in rows if row.pk not in changed)
        if changed:
            at_rest.filter(pk__in=changed).update_sync_fields(
                **transitions.requeued(now=DatabaseNow())
            )

    def _differing_from_create(self, rows: Iterable[Segment]) -> set[int]:
        """Return the rows without a Bunce id that differ from their last create."""
        unlinked = {row.pk: row for row in rows if row.bunce_id is None}
        if not unlinked:
            return set()
        creates = ApiCall.objects.using(self.write_alias).filter(
            segment_id__in=[*unlinked], operation=ApiCall.Operation.CREATE
        )
        bodies = dict(creates.order_by("pk").values_list("segment_id", "body"))
        return {
            pk
            for pk, body in bodies.items()
            if pk and transitions.create_only_fields_differ(unlinked[pk], body or {})
        }

    @property
    def _segments(self) -> SegmentQuerySet:
        """All segments in the database for writes, also when the model is a subclass."""
        model: Any = self.model._meta.get_field("status").model
        rows: SegmentQuerySet = model.objects.using(self.write_alias)
        return rows

    def _without_sync_fields(self, call: str, values: Mapping[str, Any]) -> dict[str, Any]:
        protected = self.model.PROTECTED_FIELDS
        writable = {name: value for name, value in values.items() if name not in protected}
        if values and not writable and "updated_at" not in values:
            raise ValueError(only_the_sync_writes(call, values))
        return writable

    # Writes by the sync

    def update_sync_fields(self, **values: Any) -> int:
        """Update the fields that only the sync writes. Internal to ``bunce_sync``.

        This also sets ``updated_at``, so that readers of ``updated_since`` see these changes.

        Raises:
            ValueError: another field is named.
        """
        if others := values.keys() - self.model.SYNC_FIELDS:
            raise ValueError(f"Not fields of the sync: {', '.join(sorted(others))}.")
        return super().update(updated_at=DatabaseNow(), **values)

    def insert_as_stored(self, rows: Sequence[Segment]) -> None:
        """Insert rows with their values for the fields of the sync. Internal to ``bunce_sync``."""
        self._plain.bulk_create(rows)

    def write_sync_fields(
        self, rows: Sequence[Segment], names: Iterable[str], *, seen: bool = True
    ) -> None:
        """Write these fields of the rows, which differ from row to row. Internal to ``bunce_sync``.

        Args:
            seen: whether readers can see the change, so that ``updated_at`` is set as well.

        Raises:
            ValueError: another field is named.
        """
        if others := {*names} - self.model.SYNC_FIELDS:
            raise ValueError(f"Not fields of the sync: {', '.join(sorted(others))}.")
        written = [*names]
        if seen:
            written.append("updated_at")
            for row in rows:
                row.updated_at = DatabaseNow()
        self._plain.bulk_update(rows, written, batch_size=WRITE_BATCH)

    @property
    def _plain(self) -> QuerySet[Segment]:
        """All segments, without the protection of the fields of the sync."""
        rows: QuerySet[Segment] = QuerySet(self.model, using=self.write_alias)
        return rows


def only_the_sync_writes(call: str, names: Iterable[str]) -> str:
    """Return the error message for a call that names only fields of the sync."""
    return (
        f"{call} does not write {', '.join(sorted(names))}: only the sync writes these fields."
        " Set an editable field, or use a function in bunce_sync.services."
    )

"""The questions the app asks of its segments, and the writes that reach past ``save()``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import connections, router, transaction
from django.db.models import QuerySet

from bunce_sync import transitions
from bunce_sync.functions import DatabaseNow

if TYPE_CHECKING:
    from bunce_sync.models.segment import Segment

#: Rows that are looked at together after an update of many.
BATCH = 10_000


class SegmentQuerySet(QuerySet["Segment"]):
    model: type[Segment]
    _db: str | None

    @property
    def write_alias(self) -> str:
        """The database where these rows are changed; ``db`` would name a replica."""
        return self._db or router.db_for_write(self.model)

    def due(self) -> SegmentQuerySet:
        """Rows that wait for a create or an update whose time has come."""
        return self.filter(status=self.model.Status.PENDING, due_at__lte=DatabaseNow())

    def checkable(self) -> SegmentQuerySet:
        """Rows in doubt whose grace period is over: a look into Bunce may settle them."""
        return self.filter(status=self.model.Status.IN_DOUBT, due_at__lte=DatabaseNow())

    def abandoned(self) -> SegmentQuerySet:
        """Rows whose worker has not recorded an outcome before its lease ran out."""
        return self.filter(status=self.model.Status.SENDING, lease_until__lte=DatabaseNow())

    def refresh_requested(self) -> SegmentQuerySet:
        """Rows of which somebody asked to see what Bunce has."""
        return self.filter(refresh_requested_at__isnull=False)

    def locked(self) -> SegmentQuerySet:
        """Lock the rows until the transaction ends, where the database locks rows."""
        if connections[self.db].features.has_select_for_update:
            return self.select_for_update()
        return self

    def not_held(self) -> SegmentQuerySet:
        """Lock those of the rows that no other transaction holds, and leave out the others.

        Somebody's import in one transaction may hold a row for minutes; a worker must not wait
        for that. To be called inside a transaction. Where nothing locks rows, they are all here.
        """
        connection = connections[self.db]
        if not connection.features.has_select_for_update_skip_locked:
            return self
        free = self.order_by("pk").select_for_update(skip_locked=True).values_list("pk", flat=True)
        rows = self.model._default_manager.using(self.db)
        # PostgreSQL can do both in one query.
        return rows.filter(pk__in=free if connection.vendor == "postgresql" else [*free])

    # Writes by everybody: what is wanted, and nothing else

    def update(self, **kwargs: Any) -> int:
        """Update rows as Django does, except for what only the sync writes.

        Rows at rest whose content changed are pushed again. ``bulk_update`` ends here too.

        Raises:
            ValueError: nothing but fields of the sync is named.
        """
        if not kwargs:
            return super().update()
        values = self._without_sync_fields("Segment.objects.update()", kwargs)
        values["updated_at"] = DatabaseNow()
        if not {*self.model.CREATE_FIELDS} & values.keys() or self.query.is_sliced:
            return super().update(**values)
        with transaction.atomic(using=self.write_alias):
            # By the keys: else a row that comes to rest just now would be updated and not requeued.
            rows = self.using(self.write_alias)
            # A subclass may have a key of its own.
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
        """Insert rows as Django does; each starts as a new segment does.

        With ``update_conflicts`` the rows that exist keep what the sync knows of them, and are
        pushed again if their content changed.

        Raises:
            ValueError: an instance has a Bunce id of the caller's, or ``update_fields`` or
                ``unique_fields`` names fields of the sync where they cannot be left out.
        """
        rows = list(objs)
        for segment in rows:
            segment.prepare_insert()
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
        """Let those of the rows be pushed again that rest and say something else than was sent.

        Rows under way are left alone: recording compares what was sent with what the row says.
        """
        rows = self.filter(pk__in=keys, status__in=transitions.AT_REST).order_by()
        fields = (*self.model.CREATE_FIELDS, "sent_digest", "bunce_id")
        changed = [
            row.pk
            for row in rows.only(*fields)
            if row.content_fingerprint != row.sent_digest or row.refused_with_other_customers()
        ]
        if changed:
            rows.filter(pk__in=changed).update_sync_fields(
                **transitions.requeued(now=DatabaseNow())
            )

    @property
    def _segments(self) -> SegmentQuerySet:
        """All segments where these are written, also when these are rows of a subclass."""
        model: Any = self.model._meta.get_field("status").model
        rows: SegmentQuerySet = model.objects.using(self.write_alias)
        return rows

    def _without_sync_fields(self, call: str, values: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in values.items() if name not in self.model.KEPT_FIELDS}
        if values and not kept and "updated_at" not in values:
            raise ValueError(only_the_sync_writes(call, values))
        return kept

    # Writes by the sync

    def update_sync_fields(self, **values: Any) -> int:
        """Update what only the sync writes. For ``bunce_sync`` itself.

        ``updated_at`` moves as well: who asks what changed since a time sees what the sync did.

        Raises:
            ValueError: another field is named.
        """
        if others := values.keys() - self.model.SYNC_FIELDS:
            raise ValueError(f"not a field of the sync: {', '.join(sorted(others))}")
        return super().update(updated_at=DatabaseNow(), **values)


def only_the_sync_writes(call: str, names: Iterable[str]) -> str:
    """Return the message for a call that names nothing but fields of the sync."""
    return (
        f"{call} does not write {', '.join(sorted(names))}: only the sync writes these fields."
        " Edit a wanted field, or see bunce_sync.services for what can be asked of the sync."
    )

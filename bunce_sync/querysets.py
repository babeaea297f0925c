"""The questions the app asks of its segments, and the edits that reach past ``save()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections, router
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.expressions import Combinable

from bunce_sync.functions import DatabaseNow

if TYPE_CHECKING:
    from bunce_sync.models import Segment


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

    def asked(self) -> SegmentQuerySet:
        """Rows of which somebody asked to see what Bunce has."""
        return self.filter(check_asked_at__isnull=False)

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

    def mark_edited(self) -> int:
        """Let rows at rest be pushed again, because their content changed.

        Rows under way are left alone: recording compares what was sent with what the row then says.
        """
        return self.filter(status__in=self.model.RESTING).update(**self.model.fresh_start())

    def bulk_create(self, *args: Any, **kwargs: Any) -> list[Segment]:
        """As Django's, but it cannot edit rows.

        Raises:
            ValueError: ``update_conflicts`` is set. Which of the rows are on their way to Bunce,
                and must not be sent again, only a row by row look can tell.
        """
        if kwargs.get("update_conflicts"):
            raise ValueError(
                "Segment.objects.bulk_create() cannot update rows: their edits would not be sent to"
                " Bunce. Use update_or_create(), save() or update()."
            )
        return super().bulk_create(*args, **kwargs)

    def update(self, **kwargs: Any) -> int:
        """As Django's, and an edit of name or description lets the row be pushed again.

        ``updated_at`` moves as well: who asks what changed since then sees what the sync did.
        """
        kwargs.setdefault("updated_at", DatabaseNow())
        if not {"name", "description"} & kwargs.keys() or "status" in kwargs:
            return super().update(**kwargs)
        resting = Q(status__in=self.model.RESTING)
        fresh = self.model.fresh_start()
        fields = {field.name: field for field in self.model._meta.concrete_fields}
        # The status last: MySQL works from left to right with the values already changed, and all
        # the others ask for the status as it was.
        for name in sorted(fresh, key=lambda name: name == "status"):
            # A bare string would be taken for the name of a field.
            value = fresh[name] if isinstance(fresh[name], Combinable) else Value(fresh[name])
            changed = Case(When(resting, then=value), default=F(name), output_field=fields[name])
            kwargs.setdefault(name, changed)
        return super().update(**kwargs)

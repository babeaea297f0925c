"""What becomes of rows that nobody looks at when the row they belong to is deleted."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.db.models.deletion import Collector


def delete_unseen(
    collector: Collector, field: Any, sub_objs: QuerySet[Any, Any], using: str
) -> None:
    """Delete rows without loading them, for ``on_delete``.

    ``CASCADE`` loads the rows if any code listens to deletions, and for the confirmation page of
    the admin, which also asks for a permission to delete each of them. A segment may have a
    million customers. No signals are sent for these rows.
    """
    for related in sub_objs.model._meta.related_objects:
        rows = related.related_model._base_manager.using(using)
        collector.fast_deletes.append(rows.filter(**{f"{related.field.name}__in": sub_objs}))
    collector.fast_deletes.append(sub_objs)


# The collector then does not look whether there are any.
delete_unseen.lazy_sub_objs = True  # type: ignore[attr-defined]

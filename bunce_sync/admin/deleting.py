"""Deleting: refused while nobody knows what Bunce has, and never more than it says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from bunce_sync import texts
from bunce_sync.admin.skin import ModelAdmin
from bunce_sync.models import Segment

#: Rows that are deleted at once; Django asks for a confirmation with one field for each.
MOST: Final = 500


class Deleting(ModelAdmin):
    """Rows being sent or in doubt are kept; the pages say which, why, and what Bunce keeps."""

    def get_deleted_objects(
        self, objs: Iterable[Any], request: HttpRequest
    ) -> tuple[list[Any], dict[Any, Any], set[Any], list[Any]]:
        rows = list(objs)
        found, counts, lacking, protected = super().get_deleted_objects(rows, request)
        refused = [
            texts.BUSY[row.status] % {"name": row} for row in rows if row.status in texts.BUSY
        ]
        return found, counts, lacking, [*protected, *refused]

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"bunce_keeps": texts.BUNCE_KEEPS, **(extra_context or {})}
        return super().delete_view(request, object_id, context)

    def delete_model(self, request: HttpRequest, obj: Segment) -> None:
        """Delete the row unless a worker has just taken it."""
        rows = self.model._default_manager.filter(pk=obj.pk).exclude(status__in=texts.BUSY)
        if not rows.delete()[0]:
            # The page was checked a moment ago. Nothing is changed: this view is one transaction.
            raise PermissionDenied(texts.BUSY[Segment.Status.SENDING] % {"name": obj})

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        queryset.exclude(status__in=texts.BUSY).delete()

    @admin.action(description=_("Delete selected segments"), permissions=["delete"])
    def delete_selected(
        self, request: HttpRequest, queryset: QuerySet[Segment]
    ) -> TemplateResponse | None:
        """Django's own, for a number of rows that it can ask about."""
        if len(queryset.values_list("pk", flat=True)[: MOST + 1]) > MOST:
            messages.error(request, texts.TOO_MANY_TO_DELETE % {"n": MOST})
            return None
        response = delete_selected(self, request, queryset)
        if response is not None and response.context_data is not None:
            response.context_data["bunce_keeps"] = texts.BUNCE_KEEPS
        return response

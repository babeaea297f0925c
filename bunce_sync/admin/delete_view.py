"""Deleting: refused while nobody knows what Bunce has, and never more than it says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.contrib import admin
from django.contrib import messages as flash
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from bunce_sync.admin.base import ModelAdmin
from bunce_sync.models import Segment
from bunce_sync.status import messages

#: Rows that are deleted at once; Django asks for a confirmation with one field for each.
MOST: Final = 500


class Busy(Exception):
    """A worker has taken a row since its page was shown; the message is for people."""


class Deleting(ModelAdmin):
    """Rows being sent or in doubt are kept; the pages say which, why, and what Bunce keeps."""

    def get_deleted_objects(
        self, objs: Iterable[Any], request: HttpRequest
    ) -> tuple[list[Any], dict[Any, Any], set[Any], list[Any]]:
        rows = list(objs)
        found, counts, lacking, protected = super().get_deleted_objects(rows, request)
        return found, counts, lacking, [*protected, *_reasons(rows)]

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        segment = self.get_object(request, unquote(object_id))
        context = {"bunce_keeps": _kept([segment] if segment else []), **(extra_context or {})}
        try:
            return super().delete_view(request, object_id, context)
        except Busy as error:  # nothing is changed: that view is one transaction
            flash.error(request, str(error))
            may_look = self.has_view_or_change_permission(request)
            page = "admin:bunce_sync_segment_changelist" if may_look else "admin:index"
            return redirect(reverse(page, current_app=self.admin_site.name))

    def delete_model(self, request: HttpRequest, obj: Segment) -> None:
        self.delete_queryset(request, self.model._default_manager.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        """Delete the rows, all of them or none.

        Raises:
            Busy: a worker has taken one since they were looked at.
        """
        chosen = Segment.objects.using(queryset.db).filter(pk__in=[row.pk for row in queryset])
        # Under their locks no worker can take them; SQLite's transaction holds the whole database.
        reasons = _reasons(chosen.locked().order_by("pk"))
        if reasons:
            raise Busy(" ".join([str(messages.NOTHING_DELETED), *reasons[:3]]))
        chosen.delete()

    @admin.action(description=_("Delete selected segments"), permissions=["delete"])
    def delete_selected(
        self, request: HttpRequest, queryset: QuerySet[Segment]
    ) -> TemplateResponse | None:
        """Django's own, for a number of rows that it can ask about."""
        if len(queryset.values_list("pk", flat=True)[: MOST + 1]) > MOST:
            flash.error(request, messages.TOO_MANY_TO_DELETE % {"n": MOST})
            return None
        try:
            # With the note in the log, which is written first.
            with transaction.atomic(using=queryset.db):
                response = delete_selected(self, request, queryset)
        except Busy as error:
            flash.error(request, str(error))
            return None
        if response is not None and response.context_data is not None:
            response.context_data["bunce_keeps"] = _kept(queryset)
        return response


def _reasons(rows: Iterable[Segment]) -> list[str]:
    """Why these rows may not be deleted now."""
    busy = {str(status): why for status, why in messages.BUSY.items()}
    return [busy[row.status] % {"name": row} for row in rows if row.status in busy]


def _kept(rows: Iterable[Segment]) -> messages.Text:
    """What stays in Bunce of rows that are deleted here."""
    rows = list(rows)
    if any(row.bunce_id for row in rows):
        return messages.BUNCE_KEEPS
    return messages.BUNCE_HAS_NONE if any(row.sent_at for row in rows) else messages.NEVER_SENT

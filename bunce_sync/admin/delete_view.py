"""Deletion of segments, refused while one of their requests is unresolved."""

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

from bunce_sync import database, services
from bunce_sync.admin.base import ModelAdmin
from bunce_sync.models import Member, Segment
from bunce_sync.services import SegmentsBusy
from bunce_sync.status import messages

#: The maximum number of segments that one list action deletes: Django's confirmation has a field
#: for each, and accepts 1,000 fields.
MAX_SELECTED: Final = 500
#: Names in the message shown when segments became busy after the confirmation page.
MAX_NAMED: Final = 3


class DeleteViewMixin(ModelAdmin):
    """Confirmation pages that name the segments that prevent deletion, and say what Bunce keeps."""

    def get_deleted_objects(
        self, objs: Iterable[Any], request: HttpRequest
    ) -> tuple[list[Any], dict[Any, Any], set[Any], list[Any]]:
        segments = list(objs)
        found, counts, lacking, protected = super().get_deleted_objects(segments, request)
        # The sync's own rows about customers are not named one by one: there may be a million.
        keys = [segment.id for segment in segments]
        if customers := database.members().filter(segment_id__in=keys).order_by().count():
            counts[str(Member._meta.verbose_name_plural)] = customers
        busy = [segment for segment in segments if not services.can_delete(segment)]
        return found, counts, lacking, [*protected, *_reasons(busy)]

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        segment = self.get_object(request, unquote(object_id))
        context = {"bunce_keeps": _kept_in_bunce([segment] if segment else [])}
        try:
            return super().delete_view(request, object_id, context | (extra_context or {}))
        except SegmentsBusy as error:  # Django's transaction was rolled back
            _show_busy(request, error)
            can_view = self.has_view_or_change_permission(request)
            if can_view:
                return redirect(self.url("changelist"))
            return redirect(reverse("admin:index", current_app=self.admin_site.name))

    def delete_model(self, request: HttpRequest, obj: Segment) -> None:
        services.delete_segments(self.model._default_manager.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        services.delete_segments(queryset)  # type: ignore[arg-type]  # Django's type of the rows

    @admin.action(description=_("Delete selected segments"), permissions=["delete"])
    def delete_selected(
        self, request: HttpRequest, queryset: QuerySet[Segment]
    ) -> TemplateResponse | None:
        """Delete as Django's action does, all segments or none."""
        if len(queryset.values_list("pk", flat=True)[: MAX_SELECTED + 1]) > MAX_SELECTED:
            flash.error(request, messages.TOO_MANY_TO_DELETE % {"n": MAX_SELECTED})
            return None
        try:
            # Django writes the log entries first: they are rolled back too.
            with transaction.atomic(using=database.alias()):
                response = delete_selected(self, request, queryset)
        except SegmentsBusy as error:
            _show_busy(request, error)
            return None
        if response is not None and response.context_data is not None:
            response.context_data["bunce_keeps"] = _kept_in_bunce(queryset)
        return response


def _reasons(busy: Iterable[Segment]) -> list[str]:
    texts = {str(status): text for status, text in messages.BUSY.items()}
    return [texts[segment.status] % {"name": segment} for segment in busy]


def _show_busy(request: HttpRequest, error: SegmentsBusy) -> None:
    reasons = _reasons(error.segments[:MAX_NAMED])
    flash.error(request, " ".join([str(messages.NOTHING_DELETED), *reasons]))


def _kept_in_bunce(segments: Iterable[Segment]) -> messages.Text:
    """Return what Bunce keeps of segments that are deleted here."""
    segments = list(segments)
    if any(segment.bunce_id for segment in segments):
        return messages.BUNCE_KEEPS
    if any(segment.sent_at for segment in segments):
        return messages.BUNCE_HAS_NONE
    return messages.NEVER_SENT

"""The ledger: every request that was made, to be looked at only."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import Media
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from bunce_sync.admin import cells
from bunce_sync.admin.pagination import Capped
from bunce_sync.admin.timeline import duration, look
from bunce_sync.models import ApiCall, Segment

#: The longest message of a line; its page has all of it.
LONGEST: Final = 120


@admin.register(ApiCall)
class ApiCallAdmin(Capped):
    """The calls of all segments, also of those that are gone."""

    list_display = (
        *("when", "operation", "segment_cell", "outcome_cell", "status_cell"),
        *("duration", "message_cell"),
    )
    list_filter = ("outcome", "operation")
    search_fields = ("segment_id",)
    search_help_text = _("Segment number or Bunce id")
    sortable_by = ()
    #: Indexes keep this order, also among the calls of one outcome.
    ordering = ("-started_at",)
    fields = (
        *("when", "operation", "segment_cell", "path", "body", "outcome", "http_status"),
        *("duration", "code", "message", "bunce_id", "decision", "decided_at"),
    )

    @property
    def media(self) -> Media:
        return super().media + Media(css={"all": ["bunce_sync/admin.css"]})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # No join: for the calls of one segment Django would make it an inner one, and lose those
        # whose segment is gone.
        return super().get_queryset(request).prefetch_related("segment")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The calls of one segment, by the segments' indexes.

        An id of Bunce that no segment has, as that of a duplicate, is looked for in the whole
        ledger.
        """
        term = search_term.strip()
        if term.isdecimal() and len(term) < 19:
            return queryset.filter(segment_id=int(term)), False
        owner = Segment.objects.using(queryset.db).filter(bunce_id__in=(term, term.lower())).first()
        if owner is not None:
            return queryset.filter(segment_id=owner.pk), False
        return queryset.filter(bunce_id__in=(term, term.lower())) if term else queryset, False

    @admin.display(description=_("when"))
    def when(self, call: ApiCall) -> SafeString:
        return cells.time(call.started_at, seconds=True)

    @admin.display(description=_("segment"))
    def segment_cell(self, call: ApiCall) -> SafeString | str:
        if call.segment_id is None:
            return cells.NONE
        if call.segment is None:
            return f"{call.segment_id}"
        address = reverse(
            "admin:bunce_sync_segment_change",
            args=[call.segment_id],
            current_app=self.admin_site.name,
        )
        return format_html('<a href="{}">{}</a>', address, call.segment)

    @admin.display(description=_("outcome"))
    def outcome_cell(self, call: ApiCall) -> SafeString:
        words = call.get_outcome_display()
        return format_html('<span class="bunce-outcome bunce-{}">{}</span>', look(call), words)

    @admin.display(description=_("status"))
    def status_cell(self, call: ApiCall) -> SafeString | str:
        return str(call.http_status) if call.http_status else cells.NONE

    @admin.display(description=_("duration"))
    def duration(self, call: ApiCall) -> SafeString | str:
        return duration(call.duration_ms) or cells.NONE

    @admin.display(description=_("message"))
    def message_cell(self, call: ApiCall) -> SafeString | str:
        if not call.message:
            return cells.NONE
        return call.message if len(call.message) <= LONGEST else f"{call.message[:LONGEST]}…"

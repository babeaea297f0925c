"""The call log: every request to Bunce, read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Prefetch, QuerySet
from django.forms import Media
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from bunce_sync.admin import cells
from bunce_sync.admin.change_list import LeanListMixin
from bunce_sync.admin.timeline import css_class, format_duration
from bunce_sync.models import ApiCall, Segment

if TYPE_CHECKING:
    CallPaginator = Paginator[ApiCall]
else:
    CallPaginator = Paginator

#: Characters of a message in the list; the call's page shows all of it.
MESSAGE_LENGTH: Final = 120
#: Rows that can be paged through. The log may have millions: for each million,
#: counting them takes 40 ms on PostgreSQL, and reading far into them 350 ms.
MAX_ROWS: Final = 10_000


class CappedPaginator(CallPaginator):
    """Pages of the first ``MAX_ROWS`` rows."""

    object_list: QuerySet[ApiCall]

    @cached_property
    def count(self) -> int:
        return min(self._found, MAX_ROWS)

    @property
    def capped(self) -> bool:
        """Whether there are more rows."""
        return self._found > MAX_ROWS

    @cached_property
    def _found(self) -> int:
        # Sorted, they would be read in that order, whatever the filters could use an index for.
        return self.object_list.order_by()[: MAX_ROWS + 1].count()


@admin.register(ApiCall)
class ApiCallAdmin(LeanListMixin):
    """The calls of all segments, including deleted ones."""

    long_fields = ("body",)

    list_display = (
        *("when", "operation_cell", "segment_cell", "outcome_cell", "status_cell"),
        *("duration", "message_cell"),
    )
    list_filter = ("outcome", "operation")
    list_per_page = 50
    search_fields = ("segment_id",)
    search_help_text = _("Segment number or Bunce id")
    sortable_by = ()
    #: There is an index in this order, also within one outcome.
    ordering = ("-started_at",)
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    fields = (
        *("when", "environment", "operation", "segment_cell", "path", "body", "outcome"),
        "http_status",
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
        # Not select_related: filtered by segment, Django would make it an inner join, which loses
        # the calls of deleted segments.
        segments = Prefetch("segment", Segment.objects.only("name"))
        return super().get_queryset(request).prefetch_related(segments)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find the calls of one segment, by its number or Bunce id.

        A Bunce id that no segment has, such as that of a duplicate, is looked for in the call log
        itself, which has no index for it.
        """
        term = search_term.strip()
        if term.isdecimal() and len(term) < 19:
            return queryset.filter(segment_id=int(term)), False
        bunce_ids = (term, term.lower())
        segments = Segment.objects.using(queryset.db).filter(bunce_id__in=bunce_ids)
        if pk := segments.values_list("pk", flat=True).first():
            return queryset.filter(segment_id=pk), False
        return queryset.filter(bunce_id__in=bunce_ids) if term else queryset, False

    @cells.column(_("when"))
    def when(self, call: ApiCall) -> SafeString:
        return cells.time(call.started_at, seconds=True)

    @cells.column(_("operation"))
    def operation_cell(self, call: ApiCall) -> str:
        return call.get_operation_display()

    @cells.column(_("segment"))
    def segment_cell(self, call: ApiCall) -> SafeString | str:
        if call.segment_id is None:
            return cells.EMPTY
        if call.segment is None:
            return f"{call.segment_id}"
        if not self.admin_site.is_registered(Segment):
            return str(call.segment)
        address = reverse(
            "admin:bunce_sync_segment_change",
            args=[call.segment_id],
            current_app=self.admin_site.name,
        )
        return format_html('<a href="{}">{}</a>', address, call.segment)

    @cells.column(_("outcome"))
    def outcome_cell(self, call: ApiCall) -> SafeString:
        label = call.get_outcome_display()
        return format_html('<span class="bunce-outcome {}">{}</span>', css_class(call), label)

    @cells.column(_("status"))
    def status_cell(self, call: ApiCall) -> SafeString | str:
        return str(call.http_status) if call.http_status else cells.EMPTY

    @cells.column(_("duration"))
    def duration(self, call: ApiCall) -> SafeString | str:
        return format_duration(call.duration_ms) or cells.EMPTY

    @cells.column(_("message"))
    def message_cell(self, call: ApiCall) -> SafeString | str:
        return Truncator(call.message).chars(MESSAGE_LENGTH) or cells.EMPTY

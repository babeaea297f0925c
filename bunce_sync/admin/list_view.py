"""The list of segments, with the status panel above it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from bunce_sync.admin import cells, live
from bunce_sync.admin.change_list import LeanListMixin
from bunce_sync.admin.controls import ControlsMixin
from bunce_sync.admin.filters import OriginFilter, ProblemFilter, TypeFilter
from bunce_sync.admin.panel import STATUS_FILTER, panel
from bunce_sync.models import Segment
from bunce_sync.status import messages
from bunce_sync.status.status import SyncStatus, get_status


class ListViewMixin(ControlsMixin, LeanListMixin):
    """Columns, filters and search, and the updates of an open list."""

    long_fields = Segment.LONG_FIELDS

    list_display = (
        "name_cell",
        "badge",
        "bunce_id_cell",
        "type_cell",
        "created_cell",
        "updated_cell",
    )
    # No date_hierarchy: on SQLite its query takes 0.35 s with 100,000 segments.
    # No filter by status: the panel's tiles filter by it.
    list_filter = (
        *(ProblemFilter, TypeFilter, OriginFilter),
        *("add_all_customers", "bunce_created_at"),
    )
    list_per_page = 50
    list_max_show_all = live.MAX_ROWS
    show_facets = admin.ShowFacets.NEVER  # seven more queries: 0.35 s with 100,000 segments
    search_fields = ("name", "description", "bunce_id")
    search_help_text = _("Name, description or Bunce id")
    #: The columns that an index can sort.
    sortable_by = ("name_cell", "updated_cell")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Segment]:
        return cells.with_pauses(super().get_queryset(request))

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None)
        if context and "cl" in context:
            status = get_status()
            chosen = request.GET.get(STATUS_FILTER, "")
            query = f"?{urlencode({STATUS_FILTER: chosen})}" if chosen else ""
            context["panel"] = self._panel(request, status, with_times=True)
            context["live"] = live.page_context(status, self.url("live_list") + query)
            context["controls"] = self._controls(request)
            context["import_label"] = messages.IMPORT_FROM_BUNCE
        return response

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.live_list_view)
        return [path("live/", view, name=self.url_name("live_list")), *super().get_urls()]

    def live_list_view(self, request: HttpRequest) -> HttpResponseBase:
        """Return the panel, and the cells of the rows in the parameter ``ids``.

        The list's filter by status is a parameter as well: its tile is marked.
        """
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        values = request.GET.get("ids", "").split(",")[: live.MAX_ROWS]
        ids = [int(value) for value in values if value.isdecimal() and len(value) < 19]
        fragments = {cells.cell_id("badge", pk): cells.deleted_badge() for pk in ids}
        for row in self.get_queryset(request).filter(pk__in=ids).defer(*self.long_fields):
            fragments |= {
                cells.cell_id(name, row.pk): cells.CELLS[name](row) for name in cells.CELLS
            }
        status = get_status()
        fragments["bunce-panel"] = self._panel(request, status)
        return live.respond(request, fragments, status)

    def _panel(
        self, request: HttpRequest, status: SyncStatus, *, with_times: bool = False
    ) -> SafeString:
        return panel(
            status,
            self.url("changelist"),
            controls=self._controls(request),
            chosen=request.GET.get(STATUS_FILTER, ""),
            with_times=with_times,
        )

    def _controls(self, request: HttpRequest) -> dict[str, str]:
        """Return the URLs of the views for all segments that the user may use, by name."""
        return {name: self.url(name) for name in sorted(self.allowed_controls(request))}

    @admin.display(description=_("name"), ordering="name")
    def name_cell(self, row: Segment) -> str:
        return str(row)

    @cells.column(_("status"))
    def badge(self, row: Segment) -> SafeString:
        return cells.cell("badge", row)

    @cells.column(_("Bunce id"))
    def bunce_id_cell(self, row: Segment) -> SafeString:
        return cells.cell("bunce_id", row)

    @cells.column(_("type"))
    def type_cell(self, row: Segment) -> SafeString:
        return cells.cell("type", row)

    @cells.column(_("created in Bunce"))
    def created_cell(self, row: Segment) -> SafeString:
        return cells.cell("created", row)

    @cells.column(_("updated at"), ordering="updated_at")
    def updated_cell(self, row: Segment) -> SafeString:
        return cells.cell("updated", row)

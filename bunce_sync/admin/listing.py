"""The list, whose queries stay few and quick with a million rows."""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import formats
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from bunce_sync import counting
from bunce_sync.admin import cells, live
from bunce_sync.admin.dates import FIELD, hierarchy
from bunce_sync.admin.filters import ErrorFilter, TypeFilter
from bunce_sync.admin.paginator import CappedPaginator
from bunce_sync.admin.panel import panel
from bunce_sync.admin.skin import UNFOLD, ChangeList, ModelAdmin
from bunce_sync.models import Segment
from bunce_sync.overview import overview

UUID: Final = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)


class SegmentChangeList(ChangeList):
    """The rows of one page, found by the ids that were read for counting."""

    paginator: CappedPaginator
    unfold = UNFOLD

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Segment]) -> list[Any]:
        """One column and, in the same direction, the key: what an index has in order.

        Django's own order would go back and forth, as in "name, -id", and take further columns.
        """
        first = str(super().get_ordering(request, queryset)[0])
        if first in ("-pk", "-id"):
            return [first]
        return [first, "-pk" if first.startswith("-") else "pk"]

    def get_ordering_field_columns(self) -> dict[int, Literal["asc", "desc"]]:
        """The one column by which the rows are really ordered."""
        return dict(list(super().get_ordering_field_columns().items())[:1])

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.capped = self.paginator.capped
        if not self.multi_page or (self.show_all and self.can_show_all):
            self.result_list = self.paginator.rows()

    @property
    def capped_text(self) -> str:
        """Why not every row can be paged to, and how to get at the others."""
        total = None
        if not self.get_filters_params() and not self.query:
            total = counting.estimated_rows(self.model, self.queryset.db)
        shown = _grouped(counting.CAP)
        if total and total > counting.CAP:
            rounded = round(total, 2 - len(str(total)) + 1)
            text = _(
                "The first %(shown)s of about %(total)s segments. The number is estimated, as"
                " counting them would take long. Search, filter or choose a date to see others."
            )
            return text % {"shown": shown, "total": _grouped(rounded)}
        text = _(
            "The first %(shown)s segments of more, which are not counted, as that would take long."
            " Search, filter or choose a date to see others."
        )
        return text % {"shown": shown}


class Listing(ModelAdmin):
    """The columns, filters and search, and the panel above."""

    list_display = ("name", "badge", "bunce_id_cell", "type_cell", "created_cell", "updated_cell")
    list_filter = (
        "status",
        TypeFilter,
        "add_all_customers",
        ErrorFilter,
        ("bunce_created_at", admin.DateFieldListFilter),
        ("updated_at", admin.DateFieldListFilter),
    )
    search_fields = ("name", "description", "bunce_id")
    search_help_text = gettext_lazy("Name, description or Bunce id")
    #: Only what an index keeps in order, together with the key.
    sortable_by = ("name", "updated_cell")
    date_hierarchy = FIELD
    list_per_page = 50
    list_max_show_all = 200
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SegmentChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Segment]:
        return cells.annotated(super().get_queryset(request))

    def get_paginator(self, *args: Any, **kwargs: Any) -> Paginator[Segment]:
        return CappedPaginator(*args[1:], **kwargs)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Segment], search_term: str
    ) -> tuple[QuerySet[Segment], bool]:
        term = search_term.strip()
        if UUID.fullmatch(term):
            # Found by its index, where "contains" would read the whole table.
            return queryset.filter(bunce_id__in=(term, term.lower())), False
        return super().get_search_results(request, queryset, search_term)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None)
        if context and "cl" in context:
            seen = overview()
            context["panel"] = panel(seen, self.admin_site.name, whole=True)
            context["live"] = live.root(
                seen,
                reverse("admin:bunce_sync_segment_live_list", current_app=self.admin_site.name),
            )
            context["dates"] = hierarchy(context["cl"])
        return response

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.live_list)
        return [path("live/", view, name="bunce_sync_segment_live_list"), *super().get_urls()]

    def live_list(self, request: HttpRequest) -> HttpResponseBase:
        """The panel, and the cells of the rows named by ``ids``, for the list while it is open."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        named = request.GET.get("ids", "").split(",")[: live.MOST_ROWS]
        ids = [int(value) for value in named if value.isdecimal() and len(value) < 19]
        rows = list(self.get_queryset(request).filter(pk__in=ids)) if ids else []
        seen = overview()
        fragments = {cells.cell_id("badge", pk): cells.gone() for pk in ids}
        fragments |= {
            cells.cell_id(name, row.pk): draw(row)
            for row in rows
            for name, draw in cells.CELLS.items()
        }
        fragments["bunce-panel"] = panel(seen, self.admin_site.name)
        return live.answer(request, fragments, seen)

    @admin.display(description=gettext_lazy("status"))
    def badge(self, row: Segment) -> SafeString:
        return cells.cell("badge", row)

    @admin.display(description=gettext_lazy("Bunce id"))
    def bunce_id_cell(self, row: Segment) -> SafeString:
        return cells.cell("bunce_id", row)

    @admin.display(description=gettext_lazy("type"))
    def type_cell(self, row: Segment) -> SafeString:
        return cells.cell("type", row)

    @admin.display(description=gettext_lazy("created in Bunce"))
    def created_cell(self, row: Segment) -> SafeString:
        return cells.cell("created", row)

    @admin.display(description=gettext_lazy("last change"), ordering="updated_at")
    def updated_cell(self, row: Segment) -> SafeString:
        return cells.cell("updated", row)


def _grouped(number: int) -> str:
    return formats.number_format(number, use_l10n=True, force_grouping=True)

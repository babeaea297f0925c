"""The list of the customers in segments, read-only but for two actions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib import messages as flash
from django.db.models import Prefetch, QuerySet
from django.forms import Media
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from bunce_sync import database
from bunce_sync.admin import cells
from bunce_sync.admin.actions import MAX_SELECTED
from bunce_sync.admin.call_log import CappedPaginator
from bunce_sync.admin.change_list import LeanListMixin
from bunce_sync.choices import MemberStatus
from bunce_sync.exceptions import CustomersNotByHand
from bunce_sync.fingerprint import normalize
from bunce_sync.log_entries import log_for_segment
from bunce_sync.models import Member, Segment
from bunce_sync.services import retry_customers
from bunce_sync.status import messages


@admin.register(Member)
class MemberAdmin(LeanListMixin):
    """The customers of all segments; the page of a segment links to its own."""

    long_fields = ("profile",)
    list_display = ("identifier", "segment_cell", "status_cell", "problem_cell")
    list_filter = ("status",)
    list_per_page = 50
    search_fields = ("identifier",)
    search_help_text = _("Beginning of the customer id or email address")
    sortable_by = ()
    #: The unique constraint has an index in this order.
    ordering = ("segment_id", "identifier")
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ("remove_selected", "retry_selected")
    fields = (
        *("segment_cell", "identifier", "status_cell", "in_bunce", "due_at", "attempts"),
        *("last_code", "last_error"),
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

    def has_customers_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may add and remove customers."""
        return bool(request.user.has_perm("bunce_sync.change_customers"))

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup in ("segment", "segment__exact", "status__exact")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        segments = Prefetch("segment", Segment.objects.only("name"))
        return super().get_queryset(request).prefetch_related(segments)

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find customers by the beginning of the identifier, in which only addresses lack case."""
        term = normalize(search_term).strip()
        if not term:
            return queryset, False
        terms = {term.lower()} if "@" in term else {term, term.lower()}
        return queryset.beginning_with(*sorted(terms)), False

    @admin.action(description=messages.MEMBER_REMOVE, permissions=["customers"])
    def remove_selected(self, request: HttpRequest, queryset: QuerySet[Member]) -> None:
        """Remove the selected customers from their segments, unless an audience adds them."""
        removed = left = 0
        for segment, rows in self._by_segment(queryset):
            try:
                counts = segment.remove_customers([row.identifier for row in rows])
            except CustomersNotByHand:
                left += len(rows)
                continue
            removed += counts["removed"]
            text = messages.CUSTOMERS_REMOVED_LOG
            log_for_segment(request.user, segment, text, number=counts["removed"])
        numbers = {"removed": cells.grouped(removed), "unchanged": "0"}
        if removed:
            flash.success(request, messages.CUSTOMERS_REMOVED % numbers)
        if left:
            flash.warning(request, messages.MEMBER_NOT_BY_HAND % {"n": cells.grouped(left)})

    @admin.action(description=messages.MEMBER_RETRY, permissions=["customers"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Member]) -> None:
        """Send those of the selected customers again that Bunce refused."""
        number = 0
        for segment, rows in self._by_segment(queryset.filter(status=MemberStatus.REFUSED)):
            retried = retry_customers([row.pk for row in rows])
            number += retried
            log_for_segment(request.user, segment, messages.REFUSED_RETRIED_LOG, number=retried)
        flash.success(request, messages.CUSTOMERS_RETRIED % {"n": cells.grouped(number)})

    def _by_segment(self, queryset: QuerySet[Member]) -> list[tuple[Segment, list[Member]]]:
        keys = list(queryset.order_by("pk").values_list("pk", flat=True)[:MAX_SELECTED])
        groups: dict[int, list[Member]] = {}
        for row in database.members().filter(pk__in=keys).only("segment_id", "identifier"):
            groups.setdefault(row.segment_id, []).append(row)
        segments = database.segments().filter(pk__in=[*groups]).without_long_fields()
        return [(segment, groups[segment.pk]) for segment in segments]

    @cells.column(_("segment"))
    def segment_cell(self, member: Member) -> SafeString | str:
        if not self.admin_site.is_registered(Segment):
            return str(member.segment)
        address = reverse(
            "admin:bunce_sync_segment_change",
            args=[member.segment_id],
            current_app=self.admin_site.name,
        )
        return format_html('<a href="{}">{}</a>', address, member.segment)

    @cells.column(_("status"))
    def status_cell(self, member: Member) -> str:
        label = member.get_status_display()
        leaves = not member.wanted and member.status != MemberStatus.REMOVED
        return str(messages.MEMBER_REMOVING % {"label": label}) if leaves else label

    @cells.column(_("Bunce's message"))
    def problem_cell(self, member: Member) -> str:
        return member.last_error or cells.EMPTY

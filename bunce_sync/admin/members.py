"""The list of the customers of one segment, read-only but for two actions."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.contrib import messages as flash
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.forms import Media
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
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

#: The list's parameter that names the segment.
SEGMENT: Final = "segment"
#: The attribute of a request that keeps what ``_listed`` found.
LISTED: Final = "bunce_sync_listed"


class MemberList(ChangeList):
    """A list of one segment's customers; without a segment it is empty.

    Only within a segment do search, filters and order have an index.
    """

    def get_queryset(self, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        rows = super().get_queryset(*args, **kwargs)
        return rows if self.params.get(SEGMENT) else rows.none()


@admin.register(Member)
class MemberAdmin(LeanListMixin):
    """The customers of one segment, whose page links to them."""

    long_fields = ("profile",)
    list_display = ("identifier_cell", "status_cell", "problem_cell")
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

    def has_removal_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may remove those listed: not the customers of an audience."""
        if not self.has_customers_permission(request):
            return False
        segment = self._listed(request)
        return segment is None or not self._has_audience(segment)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        base = super().get_changelist(request, **kwargs)
        return type(base.__name__, (MemberList, base), {})

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        segment = self._listed(request)
        title = capfirst(self.opts.verbose_name_plural)
        context = {"title": title, "choose": messages.MEMBER_CHOOSE, "choose_url": ""}
        if self.admin_site.is_registered(Segment):
            name = "admin:bunce_sync_segment_changelist"
            context["choose_url"] = reverse(name, current_app=self.admin_site.name)
        if segment is not None:
            context = {
                "title": messages.MEMBER_TITLE % {"segment": segment},
                "segment": self._segment_link(segment),
            }
        return super().changelist_view(request, context | (extra_context or {}))

    def _listed(self, request: HttpRequest) -> Segment | None:
        """Return the segment whose customers are listed; queried once per request."""
        if not hasattr(request, LISTED):
            text = request.GET.get(SEGMENT, "")
            segments = database.segments().without_long_fields().select_related("customer_sync")
            usable = text.isdecimal() and len(text) < 19
            setattr(request, LISTED, segments.filter(pk=int(text)).first() if usable else None)
        known: Segment | None = getattr(request, LISTED)
        return known

    def _has_audience(self, segment: Segment) -> bool:
        sync = getattr(segment, "customer_sync", None)
        return sync is not None and sync.key is not None

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup in (SEGMENT, "status__exact")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find customers by the beginning of the identifier, in which only addresses lack case."""
        term = normalize(search_term).strip()
        if not term:
            return queryset, False
        terms = {term.lower()} if "@" in term else {term, term.lower()}
        return queryset.beginning_with(*sorted(terms)), False

    @admin.action(description=messages.MEMBER_REMOVE, permissions=["removal"])
    def remove_selected(self, request: HttpRequest, queryset: QuerySet[Member]) -> None:
        """Remove the selected customers from their segments, unless an audience adds them."""
        removed = unchanged = left = 0
        for segment, rows in self._by_segment(request, queryset):
            try:
                counts = segment.remove_customers([row.identifier for row in rows])
            except CustomersNotByHand:
                left += len(rows)
                continue
            removed += counts["removed"]
            unchanged += counts["unchanged"]
            self._log(request, segment, messages.CUSTOMERS_REMOVED_LOG, counts["removed"])
        numbers = {"removed": cells.grouped(removed), "unchanged": cells.grouped(unchanged)}
        if removed or unchanged:
            flash.success(request, messages.CUSTOMERS_REMOVED % numbers)
        if left:
            flash.warning(request, messages.MEMBER_NOT_BY_HAND % {"n": cells.grouped(left)})

    @admin.action(description=messages.MEMBER_RETRY, permissions=["customers"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Member]) -> None:
        """Send those of the selected customers again that Bunce refused."""
        number = 0
        refused = queryset.filter(status=MemberStatus.REFUSED)
        for segment, rows in self._by_segment(request, refused):
            retried = retry_customers([row.pk for row in rows])
            number += retried
            self._log(request, segment, messages.REFUSED_RETRIED_LOG, retried)
        flash.success(request, messages.CUSTOMERS_RETRIED % {"n": cells.grouped(number)})

    def _by_segment(
        self, request: HttpRequest, queryset: QuerySet[Member]
    ) -> list[tuple[Segment, list[Member]]]:
        keys = list(queryset.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        if len(keys) > MAX_SELECTED:
            flash.warning(request, messages.TOO_MANY % {"n": cells.grouped(MAX_SELECTED)})
        groups: dict[int, list[Member]] = {}
        rows = database.members().filter(pk__in=keys[:MAX_SELECTED])
        for row in rows.only("segment_id", "identifier").order_by():
            groups.setdefault(row.segment_id, []).append(row)
        segments = database.segments().filter(pk__in=[*groups]).without_long_fields()
        return [(segment, groups[segment.pk]) for segment in segments]

    def _log(self, request: HttpRequest, segment: Segment, text: Any, number: int) -> None:
        if number:
            log_for_segment(request.user, segment, text, number=number)

    def _segment_link(self, segment: Segment) -> SafeString | str:
        if not self.admin_site.is_registered(Segment):
            return str(segment)
        address = reverse(
            "admin:bunce_sync_segment_change", args=[segment.pk], current_app=self.admin_site.name
        )
        return format_html('<a href="{}">{}</a>', address, segment)

    @cells.column(_("segment"))
    def segment_cell(self, member: Member) -> SafeString | str:
        return self._segment_link(member.segment)

    # The title of the row where rows are cards.
    @admin.display(description=_("identifier"))
    def identifier_cell(self, member: Member) -> SafeString:
        return format_html("<code>{}</code>", member.identifier)

    @cells.column(_("status"))
    def status_cell(self, member: Member) -> str:
        label = member.get_status_display()
        leaves = not member.wanted and member.status != MemberStatus.REMOVED
        return str(messages.MEMBER_REMOVING % {"label": label}) if leaves else label

    @cells.column(_("Bunce's message"))
    def problem_cell(self, member: Member) -> str:
        return member.last_error or cells.EMPTY

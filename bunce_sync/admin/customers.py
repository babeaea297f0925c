"""The customers of a segment: the panel of the change page, and the pages behind its buttons.

Log entries and messages contain numbers only: identifiers stand in the list of customers alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import messages as flash
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from bunce_sync import audiences, database, services
from bunce_sync.admin.cells import grouped
from bunce_sync.admin.change_view import ChangeViewMixin
from bunce_sync.admin.controls import ControlsMixin
from bunce_sync.choices import MemberStatus
from bunce_sync.customer_entries import FIELDS, InvalidCustomer, read_entry
from bunce_sync.exceptions import CustomersNotByHand
from bunce_sync.log_entries import log_for_segment
from bunce_sync.models import CustomerSync, Member, Segment
from bunce_sync.status import messages
from bunce_sync.status.customers import SegmentCustomers, customers_of
from bunce_sync.status.presenters import format_time
from bunce_sync.status.status import SyncStatus

#: Customers that one form takes.
MAX_CUSTOMERS: Final = 100_000
#: Bytes of a file, which is read at once; that many customers with all columns are half as large.
MAX_BYTES: Final = 32 * 2**20
#: Lines with mistakes that are named.
SHOWN_MISTAKES: Final = 10
TEMPLATE: Final = "admin/bunce_sync/segment/customers_decide.html"
FORM_TEMPLATE: Final = "admin/bunce_sync/segment/customers_form.html"
#: The attribute of a segment that keeps what ``_sync_of`` found.
_SYNC: Final = "_bunce_customer_sync"
_LABELS: Final = {**messages.CUSTOMERS_NUMBERS, "by_bunce": messages.CUSTOMERS_BY_BUNCE}
#: The actions without a page of their own: forms on the change page.
POSTED: Final = ("customers_retry", "customers_compare")


class CustomersForm(forms.Form):
    """Customers as text or as a file."""

    text = forms.CharField(
        label=messages.CUSTOMERS_TEXT,
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 12, "autocomplete": "off", "spellcheck": "false"}),
    )
    file = forms.FileField(
        label=messages.CUSTOMERS_FILE,
        help_text=messages.CUSTOMERS_FILE_HELP % {"n": grouped(MAX_CUSTOMERS)},
        required=False,
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv,text/plain"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        help_text = str(messages.CUSTOMERS_TEXT_HELP)
        # Django refuses larger forms before this one sees them.
        if most := settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            size = filesizeformat(most)
            help_text += f" {messages.CUSTOMERS_TEXT_SIZE % {'size': size}}"
        self.fields["text"].help_text = help_text

    def clean(self) -> dict[str, Any]:
        """Read the customers, which are then in ``customers``.

        Raises:
            ValidationError: there are none, too many, or one cannot be used; no mistake quotes a
                customer.
        """
        cleaned = super().clean() or {}
        text, file = cleaned.get("text", ""), cleaned.get("file")
        if bool(text.strip()) == bool(file):
            raise ValidationError(messages.CUSTOMERS_BOTH if file else messages.CUSTOMERS_NEITHER)
        if file:
            if file.size > MAX_BYTES:
                size = filesizeformat(MAX_BYTES)
                raise ValidationError(messages.CUSTOMERS_TOO_LARGE % {"size": size})
            try:
                text = file.read().decode("utf-8-sig")
            except UnicodeDecodeError:
                raise ValidationError(messages.CUSTOMERS_NOT_TEXT) from None
        self.customers = read_customers(text)
        return cleaned


def read_customers(text: str) -> list[Any]:
    """Return the customers in a text: one in each line, or a CSV file with a line of headings.

    Raises:
        ValidationError: there are none or too many, or lines cannot be used.
    """
    text = text.removeprefix("\ufeff")
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    # All kinds of line breaks are read; not strictly, an open quotation mark would be a long value.
    rows = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, strict=True)
    columns: Sequence[str] | None = None
    customers: list[Any] = []
    mistakes: list[tuple[int, str]] = []
    for line, row in _lines(rows, mistakes):
        values = [value.strip() for value in row]
        if not any(values):
            continue
        if not customers and columns is None and (columns := _headings(values, line)):
            continue
        given: Any = dict(zip(columns, values, strict=False)) if columns else values[0]
        try:
            if len(values) > len(columns or [""]):
                raise InvalidCustomer("there are more values than columns")
            read_entry(given)
        except InvalidCustomer as error:
            mistakes.append((line, str(error)))
        customers.append(given)
        if len(customers) > MAX_CUSTOMERS:
            raise ValidationError(messages.CUSTOMERS_TOO_MANY % {"n": grouped(MAX_CUSTOMERS)})
    if mistakes:
        raise ValidationError(_told(mistakes))
    if not customers:
        raise ValidationError(messages.CUSTOMERS_NEITHER)
    return customers


def _lines(rows: Any, mistakes: list[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV reader, each with the line where it begins.

    A line that is no CSV is a mistake, after which nothing can be read.
    """
    line = 1
    try:
        for row in rows:
            yield line, row
            line = rows.line_num + 1
    except csv.Error:
        mistakes.append((line, str(messages.CUSTOMERS_NO_CSV)))


def _headings(values: Sequence[str], line: int) -> list[str] | None:
    """Return the columns that a first line names; None if it is a customer.

    Raises:
        ValidationError: it names a column that does not exist, or one twice.
    """
    names = [value.lower().replace(" ", "_") for value in values]
    if not {*names} & {*FIELDS}:
        return None
    if {*names} - {*FIELDS}:
        problem = messages.CUSTOMERS_UNKNOWN_COLUMN % {"columns": ", ".join(FIELDS)}
        raise ValidationError(_told([(line, problem)]))
    if len({*names}) < len(names):
        raise ValidationError(_told([(line, str(messages.CUSTOMERS_REPEATED_COLUMN))]))
    return names


def _told(mistakes: Sequence[tuple[int, str]]) -> list[str]:
    told = [
        str(messages.CUSTOMERS_LINE % {"line": grouped(line), "problem": problem})
        for line, problem in mistakes[:SHOWN_MISTAKES]
    ]
    if (more := len(mistakes) - SHOWN_MISTAKES) > 0:
        told.append(str(messages.CUSTOMERS_MORE_LINES % {"n": grouped(more)}))
    return told


class CustomersMixin(ControlsMixin, ChangeViewMixin):
    """The customers of a segment.

    Changes require ``change_customers``, and a decision about held removals ``confirm_removals``;
    all require that the user may see the segment.
    """

    def has_customers_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may add and remove customers."""
        return bool(request.user.has_perm("bunce_sync.change_customers"))

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may decide about held removals."""
        return bool(request.user.has_perm("bunce_sync.confirm_removals"))

    def get_urls(self) -> list[URLPattern]:
        views = {
            "customers_add": self.customers_add_view,
            "customers_remove": self.customers_remove_view,
            "customers_retry": self.customers_retry_view,
            "customers_compare": self.customers_compare_view,
            "customers_resync": self.customers_resync_view,
            "customers_decide": self.customers_decide_view,
        }
        urls = [
            path(
                f"<path:object_id>/{name.replace('_', '/')}/",
                self.admin_site.admin_view(view),
                name=self.url_name(name),
            )
            for name, view in views.items()
        ]
        return urls + super().get_urls()

    def get_readonly_fields(self, request: HttpRequest, obj: Segment | None = None) -> list[str]:
        """Return the fields as before, and those that an audience's class owns."""
        fields = super().get_readonly_fields(request, obj)
        if obj is not None and _audience_key(obj) is not None:
            fields += ["name", "description"]
        return fields

    def get_form(
        self, request: HttpRequest, obj: Segment | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is not None and (key := _audience_key(obj)) is not None:
            note = messages.NAME_OF_AUDIENCE % {"key": key}
            kwargs["help_texts"] = {**kwargs.get("help_texts", {}), "name": note}
        return super().get_form(request, obj, change=change, **kwargs)

    # The panel

    def _fragments(
        self, request: HttpRequest, segment: Segment, status: SyncStatus
    ) -> dict[str, SafeString]:
        fragments = super()._fragments(request, segment, status)
        return fragments | {"customers": self._customers_panel(request, segment, status)}

    def _actions(self, request: HttpRequest, segment: Segment) -> list[dict[str, Any]]:
        actions = super()._actions(request, segment)
        if self.has_customers_permission(request):
            actions += [
                {"name": name, "url": self.url(name, segment.pk), "applies": False}
                for name in POSTED
            ]
        return actions

    def _customers_panel(
        self, request: HttpRequest, segment: Segment, status: SyncStatus
    ) -> SafeString:
        everyone = segment.add_all_customers or segment.bunce_all_customers
        found = customers_of(segment) if not everyone and _sync_of(segment) else None
        context: dict[str, Any] = {"customers": found}
        if found is None:
            context["none"] = messages.CUSTOMERS_ALL if everyone else messages.CUSTOMERS_NONE
            if not everyone and self.has_customers_permission(request):
                context["links"] = [self._link(segment, "customers_add", messages.CUSTOMERS_ADD)]
            return render_to_string("bunce_sync/admin/customers.html", context)
        numbers = {name: getattr(found.counts, name) for name in messages.CUSTOMERS_NUMBERS}
        if found.bunce_count is not None:
            numbers["by_bunce"] = found.bunce_count
        context |= {
            "numbers": [
                {"label": _LABELS[name], "count": grouped(number), "name": name}
                for name, number in numbers.items()
                if number or name not in ("to_add", "to_remove", "refused")
            ],
            "facts": self._facts(found, status),
            **self._buttons(request, segment, found),
        }
        return render_to_string("bunce_sync/admin/customers.html", context)

    def _facts(self, found: SegmentCustomers, status: SyncStatus) -> list[str]:
        if found.key is None:
            return []
        facts = []
        if found.maintained:
            facts.append(str(messages.CUSTOMERS_OF_AUDIENCE % {"key": found.key}))
        if found.compared_at is not None:
            at = format_time(found.compared_at, status.now)
            facts.append(str(messages.CUSTOMERS_COMPARED % {"time": at}))
        if found.next_at is not None and found.maintained:
            at = format_time(max(found.next_at, status.now), status.now)
            facts.append(str(messages.CUSTOMERS_NEXT % {"time": at}))
        return facts

    def _buttons(
        self, request: HttpRequest, segment: Segment, found: SegmentCustomers
    ) -> dict[str, Any]:
        """Return the links and buttons that apply and that the user may use."""
        links, buttons = [], []
        if found.held is not None and self.has_decide_permission(request):
            links.append(self._link(segment, "customers_decide", messages.CUSTOMERS_DECIDE))
        if self.has_customers_permission(request):
            if found.key is None:
                links.append(self._link(segment, "customers_add", messages.CUSTOMERS_ADD))
                if found.counts.members:
                    links.append(self._link(segment, "customers_remove", messages.CUSTOMERS_REMOVE))
            elif found.maintained:
                compare = {"name": "customers_compare", "label": messages.CUSTOMERS_COMPARE}
                buttons.append(compare)
            if found.counts.refused:
                buttons.append({"name": "customers_retry", "label": messages.CUSTOMERS_RETRY})
            if found.counts.members:
                links.append(self._link(segment, "customers_resync", messages.CUSTOMERS_RESYNC))
        lists = []
        if self.admin_site.is_registered(Member) and request.user.has_perm(
            "bunce_sync.view_member"
        ):
            lists.append(self._list_link(segment, messages.CUSTOMERS_LIST))
            if found.counts.refused:
                label = messages.CUSTOMERS_LIST_REFUSED
                query = {"status__exact": MemberStatus.REFUSED.value}
                lists.append(self._list_link(segment, label, query))
        return {"links": links, "buttons": buttons, "lists": lists}

    def _link(self, segment: Segment, name: str, label: Any) -> dict[str, Any]:
        return {"name": name, "label": label, "url": self.url(name, segment.pk)}

    def _list_link(
        self, segment: Segment, label: Any, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        name = "admin:bunce_sync_member_changelist"
        address = reverse(name, current_app=self.admin_site.name)
        values = {"segment": str(segment.id), **(query or {})}
        return {"label": label, "url": f"{address}?{urlencode(values)}"}

    # The pages

    def customers_add_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for customers, or add them."""
        segment = self._segment_of(request, object_id)
        if refusal := _refusal(segment):
            flash.error(request, refusal)
            return self._back(segment)
        form = CustomersForm(request.POST or None, request.FILES or None, label_suffix="")
        if request.method == "POST" and form.is_valid():
            try:
                counts = segment.add_customers(form.customers)
            except CustomersNotByHand as error:
                flash.error(request, str(error))
                return self._back(segment)
            numbers = {name: grouped(counts[name]) for name in ("added", "changed", "unchanged")}
            flash.success(request, messages.CUSTOMERS_ADDED % numbers)
            if counts["forgotten"]:
                left_out = messages.CUSTOMERS_FORGOTTEN % {"n": grouped(counts["forgotten"])}
                flash.warning(request, left_out)
            changed = counts["added"] + counts["changed"]
            self._log(request, segment, messages.CUSTOMERS_ADDED_LOG, changed)
            return self._back(segment)
        return self._form_page(
            request, segment, form, messages.CUSTOMERS_ADD, messages.CUSTOMERS_ADD_INTRO
        )

    def customers_remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for customers, or remove them."""
        segment = self._segment_of(request, object_id)
        if refusal := _refusal(segment):
            flash.error(request, refusal)
            return self._back(segment)
        form = CustomersForm(request.POST or None, request.FILES or None, label_suffix="")
        if request.method == "POST" and form.is_valid():
            try:
                counts = segment.remove_customers(form.customers)
            except CustomersNotByHand as error:
                flash.error(request, str(error))
                return self._back(segment)
            numbers = {name: grouped(counts[name]) for name in ("removed", "unchanged")}
            flash.success(request, messages.CUSTOMERS_REMOVED % numbers)
            self._log(request, segment, messages.CUSTOMERS_REMOVED_LOG, counts["removed"])
            return self._back(segment)
        return self._form_page(
            request, segment, form, messages.CUSTOMERS_REMOVE, messages.CUSTOMERS_REMOVE_INTRO
        )

    def _form_page(
        self, request: HttpRequest, segment: Segment, form: CustomersForm, title: Any, intro: Any
    ) -> HttpResponse:
        return self.page(
            request,
            title,
            texts=[str(segment), intro],
            form=form,
            submit=title,
            template=FORM_TEMPLATE,
            changelist_url=self._url_of(segment),
        )

    @method_decorator(require_POST)
    def customers_retry_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the refused customers again."""
        segment = self._segment_of(request, object_id)
        number = services.retry_refused(segment)
        self._log(request, segment, messages.REFUSED_RETRIED_LOG, number)
        flash.success(request, messages.CUSTOMERS_RETRIED % {"n": grouped(number)})
        return self._back(segment)

    @method_decorator(require_POST)
    def customers_compare_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have the audience compared soon."""
        segment = self._segment_of(request, object_id)
        if not services.request_comparison(segment):
            raise Http404
        log_for_segment(request.user, segment, messages.COMPARED_LOG)
        flash.success(request, messages.CUSTOMERS_COMPARE_REQUESTED)
        return self._back(segment)

    def customers_resync_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask whether all customers are to be sent again, or have them sent."""
        segment = self._segment_of(request, object_id)
        found = customers_of(segment)
        if found is None or not found.counts.members:
            flash.info(request, messages.CUSTOMERS_NONE)
            return self._back(segment)
        if request.method == "POST":
            number = services.resync_customers(segment)
            self._log(request, segment, messages.RESYNCED_LOG, number)
            flash.success(request, messages.CUSTOMERS_RESENT % {"n": grouped(number)})
            return self._back(segment)
        members = grouped(found.counts.members)
        return self.page(
            request,
            messages.CUSTOMERS_RESYNC,
            texts=[str(segment), messages.CUSTOMERS_RESYNC_INTRO % {"n": members}],
            form=(),
            submit=messages.CUSTOMERS_RESYNC,
            changelist_url=self._url_of(segment),
        )

    def customers_decide_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the held removals of an audience, or let them happen, or drop them."""
        segment = self._segment_of(request, object_id, decides=True)
        if request.method == "POST":
            return self._decide(request, segment)
        sync = database.customer_syncs().filter(pk=segment.id, held_at__isnull=False).first()
        if sync is None:
            flash.info(request, messages.DECIDE_CHANGED)
            return self._back(segment)
        numbers = {
            "removals": grouped(sync.held_removals),
            "members": grouped(sync.held_members),
            "key": sync.key,
        }
        return self.page(
            request,
            messages.DECIDE_TITLE,
            texts=[str(segment), messages.DECIDE_INTRO % numbers],
            template=TEMPLATE,
            examples=self._examples(request, sync),
            examples_label=messages.DECIDE_EXAMPLES,
            help=messages.DECIDE_CONFIRM_HELP % numbers,
            shown=sync.held_removals,
            confirm=messages.DECIDE_CONFIRM % numbers,
            drop=messages.DECIDE_DROP,
            changelist_url=self._url_of(segment),
        )

    def _examples(self, request: HttpRequest, sync: CustomerSync) -> list[str]:
        if not request.user.has_perm("bunce_sync.view_member"):
            return []
        rows = database.members().filter(pk__in=sync.held_examples, segment_id=sync.pk)
        return list(rows.order_by("identifier").values_list("identifier", flat=True))

    def _decide(self, request: HttpRequest, segment: Segment) -> HttpResponse:
        text = request.POST.get("shown", "")
        shown = int(text) if text.isdecimal() and len(text) < 10 else -1
        drops = "drop" in request.POST
        try:
            if drops:
                services.drop_removals(segment, shown=shown)
            else:
                services.confirm_removals(segment, shown=shown)
        except services.RemovalsChanged:
            flash.error(request, messages.DECIDE_CHANGED)
            return redirect(self.url("customers_decide", segment.pk))
        log = messages.REMOVALS_DROPPED_LOG if drops else messages.REMOVALS_CONFIRMED_LOG
        self._log(request, segment, log, shown)
        flash.success(request, messages.DECIDE_DROPPED if drops else messages.DECIDE_CONFIRMED)
        return self._back(segment)

    def _segment_of(
        self, request: HttpRequest, object_id: str, *, decides: bool = False
    ) -> Segment:
        """Return the segment of a page.

        Raises:
            PermissionDenied: the user may not do this.
            Http404: there is no such segment.
        """
        segment: Segment | None = self.get_object(request, unquote(object_id))
        allowed = self.has_decide_permission if decides else self.has_customers_permission
        if not (allowed(request) and self.has_view_or_change_permission(request, segment)):
            raise PermissionDenied
        if segment is None:
            raise Http404
        return segment

    def _log(self, request: HttpRequest, segment: Segment, text: Any, number: int) -> None:
        """Log a change of customers, unless there were none to change."""
        if number:
            log_for_segment(request.user, segment, text, number=number)

    def _url_of(self, segment: Segment) -> str:
        return self.url("change", segment.pk)

    def _back(self, segment: Segment) -> HttpResponse:
        return redirect(self._url_of(segment))


def _refusal(segment: Segment) -> Any:
    """Return why people cannot add or remove customers; empty if they can."""
    if segment.add_all_customers or segment.bunce_all_customers:
        return messages.CUSTOMERS_ALL
    sync = _sync_of(segment)
    return messages.CUSTOMERS_OF_AUDIENCE % {"key": sync.key} if sync and sync.key else ""


def _audience_key(segment: Segment) -> str | None:
    """Return the key of a segment's audience, if its class exists."""
    sync = _sync_of(segment)
    return sync.key if sync and audiences.get(sync.key) else None


def _sync_of(segment: Segment) -> CustomerSync | None:
    """Return the sync of a segment's customers, with its key; queried once per instance."""
    if _SYNC not in vars(segment):
        vars(segment)[_SYNC] = database.customer_syncs().filter(pk=segment.id).only("key").first()
    known: CustomerSync | None = vars(segment)[_SYNC]
    return known

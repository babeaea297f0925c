"""The change page: what is wanted beside what Bunce has, how it stands, and the calls made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from bunce_sync.admin import cells, live
from bunce_sync.admin.actions import ASKS, Asking
from bunce_sync.admin.icons import icon
from bunce_sync.admin.timeline import timeline
from bunce_sync.fingerprint import content_digest
from bunce_sync.models import Segment
from bunce_sync.status import messages
from bunce_sync.status.messages import Permission
from bunce_sync.status.presenters import describe_segment, is_paused, paused_until
from bunce_sync.status.status import SyncStatus, call_log_days, get_status

Status = Segment.Status


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of what Bunce has; ``differs`` when something else is wanted."""

    label: str
    value: SafeString | str
    differs: bool = False


class Changing(Asking):
    """Three fields to fill in, all else to look at and kept up to date."""

    save_on_top = False

    def get_fields(self, request: HttpRequest, obj: Segment | None = None) -> Any:
        if not self._is_fixed(request, obj):
            return [*Segment.WANTED]
        return [*Segment.WANTED[:-1], "added_all_customers"]

    def get_readonly_fields(self, request: HttpRequest, obj: Segment | None = None) -> list[str]:
        return ["added_all_customers"] if self._is_fixed(request, obj) else []

    def _is_fixed(self, request: HttpRequest, segment: Segment | None) -> bool:
        """Whether ``add_all_customers`` can only be looked at."""
        if segment is None:
            return False
        # Bunce has no call that changes it.
        return segment.all_customers_fixed or not self.has_change_permission(request, segment)

    @admin.display(description=gettext_lazy("add all customers"))
    def added_all_customers(self, segment: Segment) -> str:
        """In a word, for Django's red cross for "no" looks like something that went wrong."""
        return _("Yes") if segment.add_all_customers else _("No")

    def get_form(
        self, request: HttpRequest, obj: Segment | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is not None and obj.all_customers_fixed:
            kwargs["help_texts"] = {"added_all_customers": messages.FIXED_AFTER_SENDING}
        return super().get_form(request, obj, change=change, **kwargs)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        segment: Segment | None = context.get("original")
        if segment is not None:
            seen = get_status()
            if request.method == "POST":  # the form has put what was typed into the other one
                segment = self.get_object(request, str(segment.pk)) or segment
            context |= {
                "fragments": self.fragments(request, segment, seen),
                "live": live.root(seen, self.segment_url("live", segment)),
                "asks": self._asks(request, segment),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def fragments(
        self, request: HttpRequest, segment: Segment, seen: SyncStatus
    ) -> dict[str, SafeString]:
        """The parts of the page that change by themselves, by name."""
        told = describe_segment(segment, seen, self._rights(request, segment))
        until, paused = paused_until(segment, seen), is_paused(segment, seen)
        state = {
            "badge": cells.badge(segment, now=seen.now, gate_until=until, paused=paused),
            "told": told,
            "answered": told.from_bunce,
            "twin": _twin(segment),
            "asks": [ask for ask in self._asks(request, segment) if ask["applies"]],
        }
        return {
            "state": _render("state", state),
            "remote": _render("remote", {"facts": facts(segment), "segment": segment}),
            "calls": _render("timeline", self._calls(request, segment, seen.now)),
        }

    def _rights(self, request: HttpRequest, segment: Segment) -> set[Permission]:
        may: dict[Permission, bool] = {
            "change": self.has_change_permission(request, segment),
            "push": self.has_push_permission(request),
            "replace": self.has_add_permission(request)
            and self.has_delete_permission(request, segment),
        }
        return {right for right, granted in may.items() if granted}

    def _calls(self, request: HttpRequest, segment: Segment, now: datetime) -> dict[str, Any]:
        if not request.user.has_perm("bunce_sync.view_apicall"):
            return {"forbidden": True}
        return {
            "timeline": timeline(segment, now),
            "nothing": messages.NO_CALLS % {"n": call_log_days()},
            "ledger": self._ledger(segment),
            "copy": icon("copy"),
            "copied": icon("synced"),
        }

    def _asks(self, request: HttpRequest, segment: Segment) -> list[dict[str, Any]]:
        """The forms behind the buttons; a button that does not apply now may do so later."""
        if not self.has_push_permission(request):
            return []
        return [
            {
                "name": ask.name,
                "label": ask.label,
                "url": self.segment_url(ask.name, segment),
                "applies": ask.applies(segment),
            }
            for ask in ASKS
        ]

    def _ledger(self, segment: Segment) -> str:
        """The address of all calls made for a segment."""
        calls = reverse("admin:bunce_sync_apicall_changelist", current_app=self.admin_site.name)
        return f"{calls}?{SEARCH_VAR}={segment.pk}"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.live_view)
        return [
            path("<path:object_id>/live/", view, name="bunce_sync_segment_live"),
            *super().get_urls(),
        ]

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """The changing parts of the page, for the page while it is open."""
        segment = self.get_object(request, unquote(object_id))
        if not self.has_view_or_change_permission(request, segment):
            raise PermissionDenied
        if segment is None:
            raise Http404
        seen = get_status()
        fragments = self.fragments(request, segment, seen)
        return live.answer(request, {f"bunce-{name}": fragments[name] for name in fragments}, seen)

    def segment_url(self, name: str, segment: Segment) -> str:
        """The address of one of the views of a segment."""
        return reverse(
            f"admin:bunce_sync_segment_{name}",
            args=[segment.pk],
            current_app=self.admin_site.name,
        )


def facts(segment: Segment) -> list[Fact]:
    """What Bunce has of the segment, as far as it was last told."""
    if segment.bunce_id is None:
        return []
    same_name = content_digest(segment.bunce_name, None) == content_digest(segment.name, None)
    described = content_digest("", segment.bunce_description)
    everyone = segment.bunce_all_customers
    return [
        Fact(_("Bunce id"), cells.bunce_id(segment)),
        Fact(_("Name"), segment.bunce_name or cells.NONE, not same_name),
        Fact(
            _("Description"),
            segment.bunce_description or cells.NONE,
            described != content_digest("", segment.description),
        ),
        Fact(_("All customers"), {True: _("Yes"), False: _("No"), None: cells.NONE}[everyone]),
        Fact(_("Type"), cells.bunce_type(segment)),
        Fact(_("Customers"), _count(segment.bunce_customers_count)),
        Fact(_("Created"), _long_time(segment.bunce_created_at)),
        Fact(_("Updated"), _long_time(segment.bunce_updated_at)),
        Fact(_("Conditions"), _conditions(segment.bunce_conditions)),
    ]


def _twin(segment: Segment) -> SafeString | str:
    """The id of a second one in Bunce, to be copied."""
    other = segment.bunce_duplicate_id
    if other is None:
        return ""
    return cells.with_copy(other, "twin", messages.COPY_ID % {"id": other})


def _count(number: int | None) -> SafeString | str:
    if number is None:
        return cells.NONE
    return str(formats.number_format(number, use_l10n=True, force_grouping=True))


def _long_time(at: datetime | None) -> SafeString | str:
    if at is None:
        return cells.NONE
    return formats.date_format(timezone.localtime(at), "DATETIME_FORMAT")


def _conditions(value: Any) -> SafeString | str:
    if value in (None, [], {}, ""):
        return cells.NONE
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False))


def _render(name: str, context: dict[str, Any]) -> SafeString:
    return render_to_string(f"bunce_sync/admin/{name}.html", context)

"""The change page: content here beside content in Bunce, the status, and the timeline of calls."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, Final, cast

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from bunce_sync import database
from bunce_sync.admin import cells, live
from bunce_sync.admin.actions import DIFFERENCE, TEXTS, SegmentActionsMixin, difference
from bunce_sync.admin.edit_form import SHOWN, EditForm, label_of, snapshot
from bunce_sync.admin.timeline import timeline
from bunce_sync.models import ApiCall, Segment
from bunce_sync.services import ACTIONS, PUSH_OURS, TAKE_THEIRS
from bunce_sync.status import messages
from bunce_sync.status.messages import Permission
from bunce_sync.status.presenters import describe_segment, is_held, is_paused, paused_until
from bunce_sync.status.status import SyncStatus, call_log_days, get_status

#: Control characters, which would be invisible, except for those that break lines and indent.
CONTROL_CODES: Final = {
    code: f"[U+{code:04X}]" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in b"\t\n\r"
}
#: The attribute of a request that saves the change page.
SAVING: Final = "bunce_sync_saving"


class ChangeViewMixin(SegmentActionsMixin):
    """A form for the fields that are sent; everything else is read-only and kept up to date."""

    save_on_top = False

    def get_fields(self, request: HttpRequest, obj: Segment | None = None) -> Any:
        fields = [*(super().get_fields(request, obj) if self.fields else Segment.CREATE_FIELDS)]
        if self._all_customers_readonly(request, obj):
            shown = {"add_all_customers": "added_all_customers"}
            return [shown.get(name, name) if isinstance(name, str) else name for name in fields]
        return fields

    def get_readonly_fields(self, request: HttpRequest, obj: Segment | None = None) -> list[str]:
        fields = [str(name) for name in super().get_readonly_fields(request, obj)]
        if self._all_customers_readonly(request, obj):
            # The second for a site's own fieldsets.
            fields += ["added_all_customers", "add_all_customers"]
        return fields

    def _all_customers_readonly(self, request: HttpRequest, segment: Segment | None) -> bool:
        if segment is None:
            return False
        return segment.all_customers_fixed or not self.has_change_permission(request, segment)

    @admin.display(description=gettext_lazy("add all customers"))
    def added_all_customers(self, segment: Segment) -> str:
        """Return a word; Django's icon for False, a red cross, looks like an error."""
        return _("Yes") if segment.add_all_customers else _("No")

    def get_form(
        self, request: HttpRequest, obj: Segment | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is not None and obj.all_customers_fixed:
            own = {"added_all_customers": messages.FIXED_AFTER_SENDING}
            kwargs["help_texts"] = own | kwargs.get("help_texts", {})
        if change:
            form = kwargs.get("form", self.form)
            kwargs["form"] = type(form.__name__, (EditForm, form), {})
        return super().get_form(request, obj, change=change, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Segment]:
        queryset = super().get_queryset(request)
        return queryset.using(database.alias()) if getattr(request, SAVING, False) else queryset

    def get_object(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """Return the row as in Django; one that is saved is locked, so that it stays as it is."""
        found = super().get_object(request, object_id, *args, **kwargs)
        if found is None or not getattr(request, SAVING, False):
            return found
        # Not by the queryset of the admin, which a site may have joined with what cannot be locked.
        locked = database.segments().filter(pk=found.id).locked().first()
        current = super().get_object(request, object_id, *args, **kwargs)
        if locked is None or current is None:
            return None
        for name in Segment.CREATE_FIELDS:  # a transaction may still read what it read before
            setattr(current, name, getattr(locked, name))
        return current

    def _changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """As in Django, within whose transaction it runs; a row that is saved is locked."""
        setattr(request, SAVING, request.method == "POST")
        return cast("HttpResponse", super()._changeform_view(request, *args, **kwargs))  # type: ignore[misc]  # not in the stubs

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        segment: Segment | None = context.get("original")
        if segment is not None:
            status = get_status()
            if request.method == "POST":  # the form has changed this instance; show the stored one
                segment = self.get_object(request, str(segment.pk)) or segment
            context |= {
                "fragments": self._fragments(request, segment, status),
                "live": live.page_context(
                    status, self.url("live", segment.pk), content=_content(segment)
                ),
                "shown_name": SHOWN,
                "shown": json.dumps(snapshot(segment, self._editable(request, segment))),
                "segment_actions": self._actions(request, segment),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.live_view)
        return [
            path("<path:object_id>/live/", view, name=self.url_name("live")),
            *super().get_urls(),
        ]

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Return the page's fragments."""
        segment = self.get_object(request, unquote(object_id))
        if not self.has_view_or_change_permission(request, segment):
            raise PermissionDenied
        if segment is None:
            raise Http404
        status = get_status()
        fragments = self._fragments(request, segment, status)
        by_id = {f"bunce-{name}": fragment for name, fragment in fragments.items()}
        values = [
            [label_of(segment, name), name, text, _is_plain(segment, name)]
            for name, text in snapshot(segment, self._editable(request, segment)).items()
        ]
        return live.respond(request, by_id, status, content=_content(segment), values=values)

    def _editable(self, request: HttpRequest, segment: Segment) -> list[str]:
        """Return the fields that the page offers for editing."""
        if not self.has_change_permission(request, segment):
            return []
        names = flatten_fieldsets(self.get_fieldsets(request, segment))
        readonly = {*self.get_readonly_fields(request, segment)}
        return [str(name) for name in names if name not in readonly]

    def _fragments(
        self, request: HttpRequest, segment: Segment, status: SyncStatus
    ) -> dict[str, SafeString]:
        """Return the parts of the page that are kept up to date, by name."""
        badge = cells.badge(
            segment,
            now=status.now,
            blocked_until=paused_until(segment, status),
            paused=is_paused(segment, status),
            held=is_held(segment, status),
        )
        duplicate = segment.bunce_duplicate_id
        actions = self._actions(request, segment)
        contexts: dict[str, dict[str, Any]] = {
            "state": {
                "badge": badge,
                "message": describe_segment(segment, status, self._permissions(request, segment)),
                "duplicate": cells.copyable_id(duplicate, "duplicate") if duplicate else "",
                "segment_actions": [action for action in actions if action["applies"]],
                "difference_name": DIFFERENCE,
            },
            "remote": {
                "fields": _remote_fields(segment),
                "segment": segment,
                "outdated": segment.problem_code == "not_found" or not segment.is_here,
            },
            "timeline": self._timeline(request, segment, status.now),
        }
        return {
            name: render_to_string(f"bunce_sync/admin/{name}.html", context)
            for name, context in contexts.items()
        }

    def _permissions(self, request: HttpRequest, segment: Segment) -> set[Permission]:
        can_change = self.has_change_permission(request, segment)
        can_push = self.has_push_permission(request)
        granted: dict[Permission, bool] = {
            "change": can_change,
            "push": can_push,
            "settle": self.has_settle_permission(request, segment),
        }
        return {permission for permission, has in granted.items() if has}

    def _actions(self, request: HttpRequest, segment: Segment) -> list[dict[str, Any]]:
        """Return all actions: the page has a form for each, since an update may add its button."""
        return [
            {
                "name": action.name,
                "label": TEXTS[action.name].label,
                "url": self.url(action.name, segment.pk),
                "applies": action.applies(segment),
                "difference": difference(segment) if action in (PUSH_OURS, TAKE_THEIRS) else "",
            }
            for action in ACTIONS
            if self.may_run(request, action, segment)
        ]

    def _timeline(self, request: HttpRequest, segment: Segment, now: datetime) -> dict[str, Any]:
        if not request.user.has_perm("bunce_sync.view_apicall"):
            return {"forbidden": True}
        call_log = ""  # a custom admin site may have none
        if self.admin_site.is_registered(ApiCall):
            name = "admin:bunce_sync_apicall_changelist"
            call_log = reverse(name, current_app=self.admin_site.name)
        return {
            **timeline(segment, now),
            "no_calls": messages.NO_CALLS % {"n": call_log_days()},
            "call_log_url": call_log and f"{call_log}?{SEARCH_VAR}={segment.id}",
            "copy_icon": cells.icon("copy"),
            "copied_icon": cells.icon("synced"),
        }


def _content(segment: Segment) -> str:
    """Return a digest of what people may edit, to notice that it has changed."""
    values = [field.value_to_string(segment) for field in _editable_fields(segment)]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _is_plain(segment: Segment, name: str) -> bool:
    """Return whether a form shows a field's text as it is, or as a box."""
    kinds = (models.CharField, models.TextField, models.BooleanField)
    field = segment._meta.get_field(name)
    return isinstance(field, kinds) and not field.choices


def _editable_fields(segment: Segment) -> list[Any]:
    return [field for field in segment._meta.concrete_fields if field.editable]


def _remote_fields(segment: Segment) -> list[dict[str, Any]]:
    """Return what Bunce has, as far as it is known, and which fields differ from here."""
    if segment.bunce_id is None:
        return []
    everyone = {True: _("Yes"), False: _("No"), None: ""}[segment.bunce_all_customers]
    differing = segment.differing_fields
    values = [
        ("", _("Bunce id"), cells.copyable_id(segment.bunce_id, segment.pk)),
        ("name", _("Name"), _visible(segment.bunce_name)),
        ("description", _("Description"), _visible(segment.bunce_description)),
        ("add_all_customers", _("All customers"), everyone),
        ("", _("Type"), cells.type_label(segment)),
        ("", _("Customers"), _format_count(segment.bunce_customers_count)),
        ("", _("Created"), _format_time(segment.bunce_created_at)),
        ("", _("Updated"), _format_time(segment.bunce_updated_at)),
        ("", _("Imported"), _format_time(segment.imported_at)),
        ("", _("Conditions"), _format_conditions(segment.bunce_conditions)),
    ]
    return [
        {"label": label, "value": value or cells.EMPTY, "differs": name in differing}
        for name, label, value in values
        if value or label != _("Imported")
    ]


def _visible(text: str) -> str:
    """Return a text of Bunce with its control characters named; empty if it is blank."""
    return text.translate(CONTROL_CODES) if text.strip() else ""


def _format_count(count: int | None) -> str:
    return "" if count is None else cells.grouped(count)


def _format_time(at: datetime | None) -> str:
    return "" if at is None else formats.date_format(timezone.localtime(at), "DATETIME_FORMAT")


def _format_conditions(conditions: Any) -> str:
    if not conditions:
        return ""
    return format_html("<pre>{}</pre>", json.dumps(conditions, indent=2, ensure_ascii=False))

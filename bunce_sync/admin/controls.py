"""Pages and buttons of the list that concern all segments: imports, and the pause of pushes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import messages as flash
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from bunce_sync import services
from bunce_sync.admin.actions import SegmentActionsMixin, show_reason_to_wait
from bunce_sync.choices import Operation
from bunce_sync.conf import conf
from bunce_sync.log_entries import log_for_all
from bunce_sync.status import messages
from bunce_sync.status.messages import Text
from bunce_sync.status.presenters import describe_environment, format_time
from bunce_sync.status.status import get_status
from bunce_sync.validators import validate_visible

#: The templates that all pages of this module and of ``adopt_view`` can have.
PAGE = "admin/bunce_sync/segment/page.html"


class ImportForm(forms.Form):
    """The options of an import."""

    adopt = forms.BooleanField(
        label=messages.IMPORT_ADOPT, help_text=messages.IMPORT_ADOPT_HELP, required=False
    )
    include_deleted = forms.BooleanField(
        label=messages.IMPORT_DELETED, help_text=messages.IMPORT_DELETED_HELP, required=False
    )


class PauseForm(forms.Form):
    """Why pushes are paused."""

    reason = forms.CharField(
        label=messages.PAUSE_REASON,
        help_text=messages.PAUSE_REASON_HELP,
        max_length=500,
        validators=[validate_visible],
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class ControlsMixin(SegmentActionsMixin):
    """The views of the panel's buttons and of the pages they lead to."""

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may pause and resume all pushes."""
        return bool(request.user.has_perm("bunce_sync.pause_push"))

    def allowed_controls(self, request: HttpRequest) -> set[str]:
        """Return the names of the views that the user may use."""
        names: set[str] = set()
        if self.has_push_permission(request):
            names |= {"bunce_import", "cancel_import"}
        if self.has_pause_permission(request):
            names |= {"pause", "resume"}
        return names

    def get_urls(self) -> list[URLPattern]:
        views = {
            "bunce_import": self.bunce_import_view,
            "cancel_import": self.cancel_import_view,
            "pause": self.pause_view,
            "resume": self.resume_view,
        }
        urls = [
            path(f"bunce/{name}/", self.admin_site.admin_view(view), name=self.url_name(name))
            for name, view in views.items()
        ]
        return urls + super().get_urls()

    def bunce_import_view(self, request: HttpRequest) -> HttpResponse:
        """Show the options of an import, or request it."""
        self._require(request, "bunce_import")
        data = request.POST if request.method == "POST" else None
        form = ImportForm(data, label_suffix="")
        if form.is_valid():
            options = {name: form.cleaned_data[name] for name in form.fields}
            services.request_import(by=request.user.get_username(), **options)
            flash.success(request, messages.IMPORT_REQUESTED)
            show_reason_to_wait(request, Operation.LIST)
            return redirect(self.url("changelist"))
        status = get_status()
        environment = describe_environment(conf.environment)
        texts: list[Text] = [
            messages.IMPORT_INTRO % {"environment": environment},
            messages.IMPORT_IN_BACKGROUND,
        ]
        if status.imported is not None and status.imported.finished_at is None:
            since = format_time(status.imported.requested_at, status.now)
            texts.append(messages.IMPORT_OPEN % {"since": since})
        return self.page(
            request,
            messages.IMPORT_FROM_BUNCE,
            texts=texts,
            form=form,
            submit=messages.IMPORT_START,
        )

    @method_decorator(require_POST)
    def cancel_import_view(self, request: HttpRequest) -> HttpResponse:
        """End the open import."""
        self._require(request, "cancel_import")
        if services.cancel_import():
            flash.success(request, messages.IMPORT_CANCELLED)
        else:
            flash.info(request, messages.NO_IMPORT)
        return redirect(self.url("changelist"))

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for the reason, or pause all pushes."""
        self._require(request, "pause")
        form = PauseForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            reason = form.cleaned_data["reason"]
            services.pause(reason=reason, by=request.user.get_username())
            log_for_all(request.user, messages.PAUSED_FOR, reason=reason)
            flash.success(request, messages.PUSHES_PAUSED)
            return redirect(self.url("changelist"))
        return self.page(
            request,
            messages.PAUSE,
            texts=[messages.PAUSE_INTRO],
            form=form,
            submit=messages.PAUSE,
        )

    @method_decorator(require_POST)
    def resume_view(self, request: HttpRequest) -> HttpResponse:
        """End the pause of all pushes."""
        self._require(request, "resume")
        if services.resume():
            log_for_all(request.user, messages.RESUMED_LOG)
            flash.success(request, messages.PUSHES_RESUMED)
        else:
            flash.info(request, messages.NOT_PAUSED)
        return redirect(self.url("changelist"))

    def page(
        self, request: HttpRequest, title: Text, *, texts: Sequence[Text], **context: Any
    ) -> TemplateResponse:
        """Return a page of this admin with an explanation and a form."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "texts": texts,
            "changelist_url": self.url("changelist"),
            "breadcrumb_style": self.breadcrumb_style,
            "unfold": self.unfold,
            **context,
        }
        request.current_app = self.admin_site.name  # for the URLs in the template
        return TemplateResponse(request, context.pop("template", PAGE), context)

    def _require(self, request: HttpRequest, name: str) -> None:
        # As for the actions: users who may not view the list have no use of its buttons.
        if name not in self.allowed_controls(request) or not self.has_view_or_change_permission(
            request
        ):
            raise PermissionDenied

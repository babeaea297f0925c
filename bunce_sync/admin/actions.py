"""The actions on segments: buttons on the change page and actions of the list.

``bunce_sync.services`` decides which segments an action applies to and what it does. This module
adds permissions, log entries and messages. It makes no requests to Bunce.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import admin
from django.contrib import messages as flash
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import translation
from django.views.decorators.http import require_POST

from bunce_sync import database
from bunce_sync.admin.base import ModelAdmin
from bunce_sync.models import Segment
from bunce_sync.services import (
    ACTIONS,
    CREATE_AGAIN,
    PUSH,
    PUSH_OURS,
    REFRESH,
    RETRY,
    TAKE_THEIRS,
    SegmentAction,
)
from bunce_sync.status import messages
from bunce_sync.status.messages import Text
from bunce_sync.status.presenters import reasons_to_wait
from bunce_sync.status.status import get_status

#: Segments that are changed and logged in one transaction.
BATCH_SIZE: Final = 500
#: The maximum number of segments that one list action changes.
MAX_SELECTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class ActionTexts:
    """The texts of an action; ``done`` and ``skipped`` take a count ``n``."""

    label: Text
    done: Any
    skipped: Any


TEXTS: Final = {
    PUSH.name: ActionTexts(messages.PUSH_NOW, messages.PUSHED, messages.NOT_PUSHED),
    RETRY.name: ActionTexts(messages.RETRY, messages.RETRIED, messages.NOT_RETRIED),
    PUSH_OURS.name: ActionTexts(messages.PUSH_OURS, messages.PUSHED, messages.NOT_DIFFERENT),
    TAKE_THEIRS.name: ActionTexts(messages.TAKE_THEIRS, messages.TAKEN, messages.NOT_DIFFERENT),
    CREATE_AGAIN.name: ActionTexts(
        messages.CREATE_AGAIN, messages.CREATED_AGAIN, messages.NOT_GONE
    ),
    REFRESH.name: ActionTexts(messages.REFRESH, messages.REFRESHED, messages.NOT_REFRESHED),
}


def run_action(request: HttpRequest, action: SegmentAction, ids: Sequence[int]) -> None:
    """Run an action on the segments it applies to, log it for each, and show the counts."""
    changed = in_doubt = 0
    user: Any = request.user.pk
    texts = TEXTS[action.name]
    for start in range(0, len(ids), BATCH_SIZE):
        with transaction.atomic(using=database.alias()):
            batch = database.segments().filter(pk__in=ids[start : start + BATCH_SIZE])
            batch = batch.without_long_fields()
            segments = [segment for segment in batch if action.applies(segment)]
            if not segments:
                continue
            keys = [segment.pk for segment in segments]
            changed += action.run(database.segments().filter(pk__in=keys))
            in_doubt += sum(segment.status == Segment.Status.IN_DOUBT for segment in segments)
            with translation.override(None):  # readers of the log may use another language
                LogEntry.objects.log_actions(user, segments, CHANGE, str(texts.label))
    skipped = len(ids) - changed - in_doubt
    if changed:
        flash.success(request, texts.done % {"n": changed})
    if in_doubt:
        flash.info(request, messages.LOOKED_FOR % {"n": in_doubt})
    if skipped > 0:
        flash.warning(request, texts.skipped % {"n": skipped})
    if changed or in_doubt:
        for message in reasons_to_wait(get_status())[:1]:
            flash.warning(request, f"{message.summary} {message.action}")


class SegmentActionsMixin(ModelAdmin):
    """The actions of the list, and the views behind the buttons of the change page.

    All require ``push_segment``, even a refresh: it uses up part of the shared rate limit. All also
    require that the user may see the segment.
    """

    actions: tuple[str, ...] = ("push_selected", "retry_selected", "refresh_selected")

    def has_push_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may have workers make requests to Bunce."""
        codename = get_permission_codename("push", self.opts)
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    @admin.action(description=messages.PUSH_MANY, permissions=["push"])
    def push_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        _run_on_selected(request, PUSH, queryset)

    @admin.action(description=messages.RETRY_MANY, permissions=["push"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        _run_on_selected(request, RETRY, queryset)

    @admin.action(description=messages.REFRESH_MANY, permissions=["push"])
    def refresh_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        _run_on_selected(request, REFRESH, queryset)

    def get_urls(self) -> list[URLPattern]:
        urls = [
            path(
                f"<path:object_id>/{action.name}/",
                self.admin_site.admin_view(self._action_view(action)),
                name=self.url_name(action.name),
            )
            for action in ACTIONS
        ]
        return urls + super().get_urls()

    def _action_view(self, action: SegmentAction) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            segment = self.get_object(request, unquote(object_id))
            if not self.has_push_permission(request):
                raise PermissionDenied
            # As for the list's actions: users cannot act on segments that they may not view.
            if not self.has_view_or_change_permission(request, segment):
                raise PermissionDenied
            if segment is not None:
                run_action(request, action, [segment.id])
            # For a deleted segment, the change view shows Django's message.
            return redirect(self.url("change", object_id))

        return require_POST(view)


def _run_on_selected(
    request: HttpRequest, action: SegmentAction, queryset: QuerySet[Segment]
) -> None:
    ids = _first_ids(queryset)
    if len(ids) > MAX_SELECTED:
        # Leave out segments the action was run on before, so that repeating it reaches the others.
        ids = _first_ids(queryset.filter(action.candidates))
        if not ids:
            flash.info(request, messages.ALL_REQUESTED)
    run_action(request, action, ids[:MAX_SELECTED])
    if len(ids) > MAX_SELECTED:
        flash.warning(request, messages.TOO_MANY % {"n": MAX_SELECTED})


def _first_ids(queryset: QuerySet[Segment]) -> list[int]:
    return list(queryset.values_list("id", flat=True)[: MAX_SELECTED + 1])

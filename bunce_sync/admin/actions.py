"""The actions on segments: buttons on the change page and actions of the list.

``bunce_sync.services`` decides which segments an action applies to and what it does. This module
adds permissions, log entries and messages. It makes no requests to Bunce.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from bunce_sync.choices import Operation
from bunce_sync.conf import conf
from bunce_sync.models import Segment, SegmentQuerySet
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
from bunce_sync.status.presenters import reason_to_wait
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


#: The hidden field with the digest of the difference that the page showed.
DIFFERENCE: Final = "bunce_difference"


def difference(segment: Segment) -> str:
    """Return a digest of what is here and what Bunce has, to notice that either has changed."""
    values = [segment.name, segment.description, segment.bunce_name, segment.bunce_description]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


class SegmentActionsMixin(ModelAdmin):
    """The actions of the list, and the views behind the buttons of the change page.

    All require ``push_segment``, even a refresh: it uses up part of the shared rate limit. "Take
    theirs" also edits, so it requires ``change_segment`` as well. For all of them the user must be
    allowed to see the segment.
    """

    actions: tuple[str, ...] = (
        *("push_selected", "retry_selected", "refresh_selected"),
        *("push_ours_selected", "take_theirs_selected", "create_again_selected"),
    )

    def has_push_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may have workers make requests to Bunce."""
        codename = get_permission_codename("push", self.opts)
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    def has_settle_permission(self, request: HttpRequest, obj: Segment | None = None) -> bool:
        """Return whether the user may replace the content here by what Bunce has."""
        return self.has_push_permission(request) and self.has_change_permission(request, obj)

    def may_run(
        self, request: HttpRequest, action: SegmentAction, segment: Segment | None = None
    ) -> bool:
        """Return whether the user may run an action, on this segment or in general."""
        if action is TAKE_THEIRS:
            return self.has_settle_permission(request, segment)
        return self.has_push_permission(request)

    @admin.action(description=messages.PUSH_MANY, permissions=["push"])
    def push_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        self._run_on_selected(request, PUSH, queryset)

    @admin.action(description=messages.RETRY_MANY, permissions=["push"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        self._run_on_selected(request, RETRY, queryset)

    @admin.action(description=messages.REFRESH_MANY, permissions=["push"])
    def refresh_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        self._run_on_selected(request, REFRESH, queryset)

    @admin.action(description=messages.PUSH_OURS_MANY, permissions=["push"])
    def push_ours_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        self._run_on_selected(request, PUSH_OURS, queryset)

    @admin.action(description=messages.TAKE_THEIRS_MANY, permissions=["settle"])
    def take_theirs_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        self._run_on_selected(request, TAKE_THEIRS, queryset)

    @admin.action(description=messages.CREATE_AGAIN_MANY, permissions=["push"])
    def create_again_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        self._run_on_selected(request, CREATE_AGAIN, queryset)

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
            if not self.may_run(request, action, segment):
                raise PermissionDenied
            # As for the list's actions: users cannot act on segments that they may not view.
            if not self.has_view_or_change_permission(request, segment):
                raise PermissionDenied
            if segment is not None:
                self._run_on_page(request, action, segment)
            # For a deleted segment, the change view shows Django's message.
            return redirect(self.url("change", object_id))

        return require_POST(view)

    def _run_on_page(self, request: HttpRequest, action: SegmentAction, segment: Segment) -> None:
        """Run an action on the segment of a page, unless the page showed another difference."""
        shown = request.POST.get(DIFFERENCE)
        with transaction.atomic(using=database.alias()):
            if shown is not None:
                current = database.segments().filter(pk=segment.id).locked().first()
                if current is not None and difference(current) != shown:
                    flash.warning(request, messages.OTHER_DIFFERENCE)
                    return
            self.run_action(request, action, [segment.id])

    def _run_on_selected(
        self, request: HttpRequest, action: SegmentAction, queryset: QuerySet[Segment]
    ) -> None:
        ids = first_ids(queryset)
        if len(ids) > MAX_SELECTED:
            # Leave out segments the action was run on before, so that repeating it reaches others.
            here = queryset.filter(environment__in=("", conf.environment))
            ids = first_ids(here.filter(action.candidates))
            if not ids:
                flash.info(request, messages.ALL_REQUESTED)
        self.run_action(request, action, ids[:MAX_SELECTED])
        if len(ids) > MAX_SELECTED:
            flash.warning(request, messages.TOO_MANY % {"n": MAX_SELECTED})

    def run_action(self, request: HttpRequest, action: SegmentAction, ids: Sequence[int]) -> None:
        """Run an action on the segments it applies to, log it for each, and show the counts."""
        changed = in_doubt = elsewhere = held = 0
        operations: set[Operation] = set()
        texts = TEXTS[action.name]
        for start in range(0, len(ids), BATCH_SIZE):
            with transaction.atomic(using=database.alias()), self.revision(request):
                batch = self.stored().filter(id__in=ids[start : start + BATCH_SIZE])
                rows = list(batch.without_long_fields())
                elsewhere += sum(not row.is_here for row in rows)
                segments = [
                    row
                    for row in rows
                    if action.applies(row) and self.may_run(request, action, row)
                ]
                if not segments:
                    continue
                changed += action.run(self._to_run(action, [row.id for row in segments]))
                in_doubt += sum(row.status == Segment.Status.IN_DOUBT for row in segments)
                held += sum(row.hold_id is not None for row in segments)
                operations |= {_operation(action, row) for row in segments}
                log_changes(request, segments, texts.label)
        skipped = len(ids) - changed - in_doubt - elsewhere
        if changed:
            flash.success(request, texts.done % {"n": changed})
        if in_doubt:
            flash.info(request, messages.LOOKED_FOR % {"n": in_doubt})
        if elsewhere:
            flash.warning(request, messages.NOT_HERE % {"n": elsewhere})
        if skipped > 0:
            flash.warning(request, texts.skipped % {"n": skipped})
        if held and action not in (REFRESH, TAKE_THEIRS):
            flash.warning(request, messages.STAY_HELD % {"n": held})
        if (changed or in_doubt) and action is not TAKE_THEIRS:
            show_reason_to_wait(request, *sorted(operations))

    def stored(self) -> SegmentQuerySet:
        """Return all rows of the model of this admin, which may be the site's own."""
        return SegmentQuerySet(self.model, using=database.alias())

    def revision(self, request: HttpRequest) -> AbstractContextManager[None]:
        """Return the revision in which django-reversion's admin keeps what a request changes."""
        create: Callable[..., AbstractContextManager[None]] | None
        create = getattr(self, "create_revision", None)
        return create(request) if create else nullcontext()

    def _to_run(self, action: SegmentAction, ids: list[int]) -> SegmentQuerySet:
        """Return the rows for an action: those that it saves are of the model of this admin."""
        if action is TAKE_THEIRS:
            return self.stored().filter(id__in=ids)
        return database.segments().filter(pk__in=ids)


def log_changes(
    request: HttpRequest, segments: Sequence[Any], text: Text, flag: int = CHANGE, **values: Any
) -> None:
    """Add to the admin's history of each segment.

    Args:
        text: is not translated: readers of the log may use another language.
        flag: what was done, as in ``LogEntry``.
        values: for the placeholders of the text.
    """
    user: Any = request.user.pk
    with translation.override(None):
        LogEntry.objects.log_actions(user, segments, flag, str(text) % values)


def show_reason_to_wait(request: HttpRequest, *operations: Operation) -> None:
    """Show why what was requested does not happen at once, if there is a reason."""
    if reason := reason_to_wait(get_status(), *operations):
        flash.warning(request, reason)


def _operation(action: SegmentAction, segment: Segment) -> Operation:
    """Return the operation that an action requests for a segment."""
    if segment.status == Segment.Status.IN_DOUBT:
        return Operation.LIST
    if action is REFRESH:
        return Operation.READ
    return Operation.CREATE if segment.creates or action is CREATE_AGAIN else Operation.UPDATE


def first_ids(queryset: QuerySet[Segment]) -> list[int]:
    """Return the ids of the first ``MAX_SELECTED`` segments, and of one more if there are more."""
    return list(queryset.values_list("id", flat=True)[: MAX_SELECTED + 1])

"""What people may ask for: "Push now", "Retry" and "Check with Bunce", for one row and for many.

No request to Bunce is made here: rows are marked and a worker is rung for (``actions.py``).
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
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import translation
from django.views.decorators.http import require_POST

from bunce_sync import services
from bunce_sync.admin.base import ModelAdmin
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import Segment
from bunce_sync.models.segment_queryset import SegmentQuerySet
from bunce_sync.status import counts, messages
from bunce_sync.status.messages import Text
from bunce_sync.status.presenters import reasons_to_wait
from bunce_sync.status.status import get_status

Status = Segment.Status

#: Rows marked, and noted in the log, in one transaction.
BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing to ask for.

    Attributes:
        name: in addresses and forms.
        label: on the button.
        applies: whether it makes sense for a row; the action itself looks again.
        run: marks the rows and says how many.
        done, skipped: messages with a count ``n``.
        open: the rows for which asking changes anything; those asked before are not among them.
    """

    name: str
    label: Text
    applies: Callable[[Segment], bool]
    run: Callable[[SegmentQuerySet], int]
    done: Any
    skipped: Any
    open: Q


PUSH: Final = Ask(
    "push",
    messages.PUSH_NOW,
    lambda row: (
        row.status == Status.PENDING
        or (row.status == Status.SYNCED and row.last_code in Segment.DIFFERING)
    ),
    services.push_now,
    messages.PUSHED,
    messages.NOT_PUSHED,
    Q(status=Status.PENDING, due_at__gt=DatabaseNow())
    | Q(status=Status.SYNCED, last_code__in=Segment.DIFFERING),
)
RETRY: Final = Ask(
    "retry",
    messages.RETRY,
    lambda row: row.status == Status.REJECTED,
    services.retry,
    messages.RETRIED,
    messages.NOT_RETRIED,
    Q(status=Status.REJECTED),
)
CHECK: Final = Ask(
    "check",
    messages.REFRESH,
    lambda row: row.bunce_id is not None or row.status == Status.IN_DOUBT,
    services.refresh,
    messages.REFRESHED,
    messages.NOT_REFRESHED,
    Q(bunce_id__isnull=False, refresh_requested_at__isnull=True),
)
ASKS: Final = (PUSH, RETRY, CHECK)


def ask_for(request: HttpRequest, ask: Ask, ids: Sequence[int]) -> None:
    """Mark the rows it applies to, note each in the log, and tell how many there were."""
    marked = looked_for = 0
    user: Any = request.user.pk
    alias = Segment.objects.all().write_alias
    for start in range(0, len(ids), BATCH):
        with transaction.atomic(using=alias):
            wanted = Segment.objects.using(alias).filter(pk__in=ids[start : start + BATCH])
            rows = [row for row in wanted if ask.applies(row)]
            if not rows:
                continue
            marked += ask.run(Segment.objects.using(alias).filter(pk__in=[row.pk for row in rows]))
            looked_for += sum(row.status == Status.IN_DOUBT for row in rows)
            with translation.override(None):  # the log is read by people of other languages
                LogEntry.objects.log_actions(user, rows, CHANGE, str(ask.label))
    skipped = len(ids) - marked - looked_for
    if marked:
        flash.success(request, ask.done % {"n": marked})
    if looked_for:
        flash.info(request, messages.LOOKED_FOR % {"n": looked_for})
    if skipped > 0:
        flash.warning(request, ask.skipped % {"n": skipped})
    if marked or looked_for:
        for told in reasons_to_wait(get_status())[:1]:
            flash.warning(request, f"{told.summary} {told.action}")


def _first(rows: QuerySet[Segment]) -> list[int]:
    return list(rows.values_list("pk", flat=True)[: counts.CAP + 1])


class Asking(ModelAdmin):
    """The buttons of the change page and the actions of the list.

    All three need ``push_segment``: a look into Bunce costs requests of the limit that all share.
    """

    actions: tuple[str, ...] = ("push_selected", "retry_selected", "check_selected")

    def has_push_permission(self, request: HttpRequest) -> bool:
        """Whether the user may have workers make requests to Bunce."""
        codename = get_permission_codename("push", self.opts)
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    @admin.action(description=messages.PUSH_MANY, permissions=["push"])
    def push_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        self._ask_for_selected(request, PUSH, queryset)

    @admin.action(description=messages.RETRY_MANY, permissions=["push"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        self._ask_for_selected(request, RETRY, queryset)

    @admin.action(description=messages.REFRESH_MANY, permissions=["push"])
    def check_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> None:
        self._ask_for_selected(request, CHECK, queryset)

    def _ask_for_selected(
        self, request: HttpRequest, ask: Ask, queryset: QuerySet[Segment]
    ) -> None:
        ids = _first(queryset)
        if len(ids) > counts.CAP:
            # Else the same first ones would be asked for each time.
            ids = _first(queryset.filter(ask.open))
            if not ids:
                flash.info(request, messages.ALL_REQUESTED)
        ask_for(request, ask, ids[: counts.CAP])
        if len(ids) > counts.CAP:
            flash.warning(request, messages.TOO_MANY % {"n": counts.CAP})

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                f"<path:object_id>/{ask.name}/",
                self.admin_site.admin_view(self._view(ask)),
                name=f"bunce_sync_segment_{ask.name}",
            )
            for ask in ASKS
        ]
        return own + super().get_urls()

    def _view(self, ask: Ask) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            if not self.has_push_permission(request):
                raise PermissionDenied
            segment = self.get_object(request, unquote(object_id))
            if segment is not None:
                ask_for(request, ask, [segment.pk])
            # Of a segment that is gone, the change page says so.
            page, args = "admin:bunce_sync_segment_change", [object_id]
            if not self.has_view_or_change_permission(request, segment):
                page, args = "admin:index", []
            return redirect(reverse(page, args=args, current_app=self.admin_site.name))

        return require_POST(view)

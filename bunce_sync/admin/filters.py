"""Filters of the segment list with fixed choices."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from bunce_sync.choices import Status
from bunce_sync.exceptions import NotFound
from bunce_sync.models import Segment
from bunce_sync.status import messages
from bunce_sync.status.counts import elsewhere


class TypeFilter(admin.SimpleListFilter):
    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*messages.TYPES.items(), ("other", _("Another")), ("none", _("None yet"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Segment]) -> QuerySet[Segment]:
        match self.value():
            case None:
                return queryset
            case "other":
                return queryset.exclude(bunce_type__in=("", *messages.TYPES))
            case "none":
                return queryset.filter(bunce_type="")
            case known:
                return queryset.filter(bunce_type=known)


class ProblemFilter(admin.SimpleListFilter):
    """The problems that badges name, and any problem.

    Each of them is found by an index; whether there is any problem is not.
    """

    title = _("problem")
    parameter_name = "problem"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("yes", _("With a problem")),
            ("no", _("Without one")),
            ("drift", messages.BADGE_SYNCED["drift"]),
            ("differs", messages.BADGE_SYNCED["stored_differently"]),
            ("duplicate", messages.BADGE_SYNCED["duplicate"]),
            ("gone", _("No longer in Bunce")),
            ("held", messages.BADGE_HELD),
            ("elsewhere", _("Belongs elsewhere")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Segment]) -> QuerySet[Segment]:
        match self.value():
            case "yes":
                return queryset.filter(Segment.HAS_PROBLEM)
            case "no":
                return queryset.exclude(Segment.HAS_PROBLEM)
            case "drift":
                return queryset.filter(status=Status.SYNCED, last_code="drift")
            case "differs":
                return queryset.filter(status=Status.SYNCED, last_code="stored_differently")
            case "duplicate":
                return queryset.filter(bunce_duplicate_id__isnull=False)
            case "gone":
                return queryset.filter(status=Status.REJECTED, last_code=NotFound.code)
            case "held":
                return queryset.filter(status=Status.PENDING, hold__isnull=False)
            case "elsewhere":
                return queryset.filter(elsewhere())
            case _:
                return queryset


class OriginFilter(admin.SimpleListFilter):
    title = _("origin")
    parameter_name = "origin"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("here", _("Added here")), ("imported", _("Imported from Bunce"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Segment]) -> QuerySet[Segment]:
        match self.value():
            case "here":
                return queryset.filter(imported_at__isnull=True)
            case "imported":
                return queryset.filter(imported_at__isnull=False)
            case _:
                return queryset

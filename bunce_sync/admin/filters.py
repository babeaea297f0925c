"""Filters of the segment list with fixed choices."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from bunce_sync.models import Segment
from bunce_sync.status import messages


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
    title = _("problem")
    parameter_name = "problem"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("With a problem")), ("no", _("Without one"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Segment]) -> QuerySet[Segment]:
        match self.value():
            case "yes":
                return queryset.filter(Segment.HAS_PROBLEM)
            case "no":
                return queryset.exclude(Segment.HAS_PROBLEM)
            case _:
                return queryset

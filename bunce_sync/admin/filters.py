"""Filters whose choices are known, so that no query has to look for them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import FieldListFilter
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from bunce_sync.models import Segment
from bunce_sync.status import messages
from bunce_sync.status.messages import Text


class TypeFilter(admin.SimpleListFilter):
    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            *messages.TYPES.items(),
            ("other", _("Another")),
            ("none", _("None yet")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Segment]) -> QuerySet[Segment]:
        match self.value():
            case "other":
                return queryset.exclude(bunce_type__in=("", *messages.TYPES))
            case "none":
                return queryset.filter(bunce_type="")
            case str() as known:
                return queryset.filter(bunce_type=known)
            case _:
                return queryset


#: As ``Segment.problem_code``: what there is to tell of a row.
PROBLEM = (
    ~Q(last_code="")
    | Q(bunce_duplicate_id__isnull=False)
    | Q(status=Segment.Status.SYNCED, bunce_all_customers=True, add_all_customers=False)
    | Q(status=Segment.Status.SYNCED, bunce_all_customers=False, add_all_customers=True)
)


class ErrorFilter(admin.SimpleListFilter):
    title = _("problem")
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("With a problem")), ("no", _("Without one"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Segment]) -> QuerySet[Segment]:
        match self.value():
            case "yes":
                return queryset.filter(PROBLEM)
            case "no":
                return queryset.exclude(PROBLEM)
            case _:
                return queryset


def titled(kind: type[FieldListFilter], title: Text) -> type[FieldListFilter]:
    """A filter of Django's with words of ours after "By"; its own come from the field."""

    class Titled(kind):  # type: ignore[valid-type, misc]  # which one is known when it is called
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.title = title

    return Titled

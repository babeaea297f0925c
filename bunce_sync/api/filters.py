"""What a list of segments can be narrowed to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError as FormError
from django.db import connections
from django.db.models import F, Func, Q, QuerySet, TextField, Value
from django.db.models.lookups import Exact
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from django_filters.fields import IsoDateTimeField

from bunce_sync.models import Segment

#: Characters of a text that is looked for; no name or id is longer.
MAX_TEXT = 255


class MomentField(IsoDateTimeField):
    """A date, or a date and time in ISO 8601; without a zone it is UTC."""

    def to_python(self, value: Any) -> datetime | None:
        """Read the moment.

        Raises:
            django.core.exceptions.ValidationError: it is none, or beyond what a database stores.
        """
        # A plus in an address is a space unless it is written %2B; nobody does the first time.
        text = str(value or "").strip().replace(" ", "+")
        if not text:
            return None
        try:
            moment = parse_datetime(text)
            if moment is None and (day := parse_date(text)):
                moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
            if moment is not None:
                return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            pass  # told below
        raise FormError(_("Send a moment such as 2026-01-31T08:30:00Z, or a date."), "invalid")


class MomentFilter(filters.IsoDateTimeFilter):
    """Compares with a moment."""

    field_class = MomentField


class _Bytes(Func):
    """A text that MySQL compares by its characters, whatever the column's charset and collation."""

    template = "CONVERT(%(expressions)s USING utf8mb4) COLLATE utf8mb4_bin"
    output_field = TextField()


class ExactFilter(filters.CharFilter):
    """Finds a text exactly, where MySQL by itself takes "VIP" and "víp" for the same."""

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow by the collation, which has the index, then by the characters."""
        found: QuerySet[Any] = super().filter(qs, value)
        if value and connections[found.db].vendor == "mysql":
            found = found.filter(Exact(_Bytes(F(str(self.field_name))), Value(value)))
        return found


class SegmentFilter(filters.FilterSet):
    """Every filter can be combined with every other."""

    status = filters.MultipleChoiceFilter(
        choices=Segment.Status.choices,
        method="filter_status",
        label="In one of these states; repeat the parameter for several.",
    )
    type = ExactFilter(
        field_name="bunce_type", max_length=MAX_TEXT, label="The type that Bunce gave it, exactly."
    )
    name = ExactFilter(max_length=MAX_TEXT, label="The name, exactly.")
    bunce_id = ExactFilter(max_length=MAX_TEXT, label="The id in Bunce, exactly.")
    search = filters.CharFilter(
        method="filter_search",
        max_length=MAX_TEXT,
        label="A part of the name or the description, or a whole Bunce id.",
    )
    created_since = MomentFilter("created_at", "gte", label="Created here at or after.")
    created_before = MomentFilter("created_at", "lt", label="Created here before.")
    updated_since = MomentFilter("updated_at", "gte", label="Last changed at or after.")
    updated_before = MomentFilter("updated_at", "lt", label="Last changed before.")
    bunce_created_since = MomentFilter("bunce_created_at", "gte", label="Created in Bunce since.")
    bunce_created_before = MomentFilter("bunce_created_at", "lt", label="Created in Bunce before.")

    class Meta:
        model = Segment
        fields: list[str] = []

    @classmethod
    def parameters(cls) -> dict[str, bool]:
        """The query parameters that are read here, and whether each may be repeated."""
        return {
            name: isinstance(filter_, filters.MultipleChoiceFilter)
            for name, filter_ in cls.base_filters.items()
        }

    def filter_status(
        self, queryset: QuerySet[Segment], name: str, value: list[str]
    ) -> QuerySet[Segment]:
        """Narrow by IN: the filter's own way is a DISTINCT, which sorts by every column."""
        return queryset.filter(status__in=value) if value else queryset

    def filter_search(
        self, queryset: QuerySet[Segment], name: str, value: str
    ) -> QuerySet[Segment]:
        """Look into the texts; an id is looked up whole, for which there is an index."""
        return queryset.filter(
            Q(name__icontains=value) | Q(description__icontains=value) | Q(bunce_id=value)
        )

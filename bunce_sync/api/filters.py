"""The filters of the list of segments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError as FormError
from django.db import connections
from django.db.models import F, Func, Q, QuerySet, TextField, Value
from django.db.models.lookups import Exact
from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from django_filters.fields import IsoDateTimeField

from bunce_sync.models import Segment

#: The maximum length of a text filter; no name or id is longer.
MAX_TEXT = 255


class TimeField(IsoDateTimeField):
    """An ISO 8601 date or time; without an offset it is in the site's time zone."""

    def to_python(self, value: Any) -> datetime | None:
        """Return the time in UTC.

        Raises:
            django.core.exceptions.ValidationError: it is not a time that a database can store.
        """
        time: datetime | None = super().to_python(value)
        try:
            return time and time.astimezone(UTC)
        except OverflowError:
            raise FormError(_("This time is out of range."), "invalid") from None


class TimeFilter(filters.IsoDateTimeFilter):
    """A comparison with a time."""

    field_class = TimeField


class _BinaryText(Func):
    """A text that MySQL compares by its characters, whatever the column's collation."""

    template = "CONVERT(%(expressions)s USING utf8mb4) COLLATE utf8mb4_bin"
    output_field = TextField()


class ExactFilter(filters.CharFilter):
    """An exact match, also on MySQL, whose collation treats "VIP" and "víp" as equal."""

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow by the collation, which can use the index, then by the characters."""
        found: QuerySet[Any] = super().filter(qs, value)
        if value and connections[found.db].vendor == "mysql":
            found = found.filter(Exact(_BinaryText(F(str(self.field_name))), Value(value)))
        return found


class SegmentFilter(filters.FilterSet):
    """The filters, which can all be combined."""

    status = filters.MultipleChoiceFilter(
        choices=Segment.Status.choices,
        distinct=False,  # a DISTINCT would sort by every column
        label="Any of these states. Repeat the parameter for several.",
    )
    type = ExactFilter("bunce_type", max_length=MAX_TEXT, label="The exact type in Bunce.")
    name = ExactFilter(max_length=MAX_TEXT, label="The exact name.")
    bunce_id = ExactFilter(max_length=MAX_TEXT, label="The exact id in Bunce.")
    search = filters.CharFilter(
        method="filter_search",
        max_length=MAX_TEXT,
        label="Part of the name or the description, or the exact Bunce id.",
    )
    created_since = TimeFilter("created_at", "gte", label="Created here at or after this time.")
    created_before = TimeFilter("created_at", "lt", label="Created here before this time.")
    updated_since = TimeFilter("updated_at", "gte", label="Changed at or after this time.")
    updated_before = TimeFilter("updated_at", "lt", label="Last changed before this time.")
    bunce_created_since = TimeFilter(
        "bunce_created_at", "gte", label="Created in Bunce at or after this time."
    )
    bunce_created_before = TimeFilter(
        "bunce_created_at", "lt", label="Created in Bunce before this time."
    )

    imported_since = TimeFilter("imported_at", "gte", label="Imported at or after this time.")
    imported_before = TimeFilter("imported_at", "lt", label="Imported before this time.")
    last_code = ExactFilter(
        max_length=32,
        label="The exact code of the last problem, such as `drift`: changed in Bunce.",
    )
    environment = ExactFilter(max_length=MAX_TEXT, label="The exact environment.")

    class Meta:
        model = Segment
        fields: list[str] = []

    def filter_search(
        self, queryset: QuerySet[Segment], name: str, value: str
    ) -> QuerySet[Segment]:
        """Search the texts; the id is compared as a whole, for which there is an index."""
        return queryset.filter(
            Q(name__icontains=value) | Q(description__icontains=value) | Q(bunce_id=value)
        )

"""Pages by key: a page starts after the last row of the one before, however far down that is.

No page counts rows or skips them by number, so the last page of a million rows costs what the
first does, and rows that come or go meanwhile neither repeat others nor hide them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import DateTimeField, F, Func, QuerySet, TextField, Value
from django.db.models.lookups import GreaterThan, LessThan
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

CURSOR = "cursor"
SIZE = "page_size"
ORDERING = "ordering"

#: Above it, no id of any database.
MAX_ID = 2**63 - 1


class _Row(Func):
    """Several columns as one value: ``(created_at, id)``."""

    template = "(%(expressions)s)"
    output_field = TextField()


@dataclass(frozen=True, slots=True)
class Cursor:
    """The row beside which a page starts.

    Attributes:
        ordering: the order it belongs to.
        back: whether the page ends there instead.
        value: the row's value of the ordering's field.
        pk: the row's id.
    """

    ordering: str
    back: bool
    value: Any
    pk: int

    def encode(self) -> str:
        """The cursor as a word for an address."""
        value = self.value.isoformat() if isinstance(self.value, datetime) else self.value
        place = [self.ordering, self.back, value, self.pk]
        text = json.dumps(place, separators=(",", ":"), ensure_ascii=False)
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, word: str) -> Cursor:
        """Read a cursor.

        Raises:
            ValueError: it is none.
        """
        try:
            text = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
            ordering, back, value, pk = json.loads(text)
        except (binascii.Error, TypeError, RecursionError) as error:
            raise ValueError("not a cursor") from error
        if not (isinstance(ordering, str) and isinstance(back, bool) and isinstance(value, str)):
            raise ValueError("not a cursor")
        if type(pk) is not int or not 0 <= pk <= MAX_ID or "\0" in value or not _encodes(value):
            raise ValueError("not a cursor")
        if ordering.lstrip("-").endswith("_at"):
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise ValueError("not a cursor")
            try:
                # In UTC: some databases take no other zone, and none takes the year 0 or 10000.
                return cls(ordering, back, moment.astimezone(UTC), pk)
            except OverflowError as error:
                raise ValueError("not a cursor") from error
        return cls(ordering, back, value, pk)


class KeysetPagination(BasePagination):
    """Pages in an order that has an index; the row's id decides between equals.

    Attributes:
        orderings: fields that may be ordered by: not null, and indexed together with the id.
        default: the order when none is asked for.
    """

    page_size = 50
    max_page_size = 500
    orderings: Sequence[str] = ()
    default = "-id"

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """Return the rows of the page.

        Raises:
            ValidationError: the ordering, the size or the cursor cannot be used.
        """
        size = self._size(request)
        ordering = self._ordering(request)
        cursor = self._cursor(request, ordering)
        rows = list(_beside(queryset, ordering, cursor)[: size + 1])
        more = len(rows) > size
        rows = rows[:size]
        back = cursor is not None and cursor.back
        if back:
            rows.reverse()
        field = ordering.lstrip("-")
        address = request.build_absolute_uri()
        self._next = self._previous = None
        if rows and (more or back):
            after = Cursor(ordering, False, _value(rows[-1], field), rows[-1].pk)
            self._next = replace_query_param(address, CURSOR, after.encode())
        if rows and cursor is not None and (more or not back):
            before = Cursor(ordering, True, _value(rows[0], field), rows[0].pk)
            self._previous = replace_query_param(address, CURSOR, before.encode())
        if not rows and cursor is not None:
            # The rows it stood beside are gone: the way out is the first page.
            self._previous = remove_query_param(address, CURSOR)
        return rows

    def get_paginated_response(self, data: Any) -> Response:
        """Return the page with the addresses of its neighbours."""
        return Response({"next": self._next, "previous": self._previous, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe the answer for OpenAPI."""
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": {**link, "description": "The next page; null on the last."},
                "previous": {**link, "description": "The page before; null on the first."},
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Describe the parameters for OpenAPI."""
        parameters: list[dict[str, Any]] = [
            {
                "name": CURSOR,
                "description": "Where the page starts: follow `next` and `previous`.",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
            },
            {
                "name": SIZE,
                "description": "Rows on a page.",
                "schema": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": self.max_page_size,
                    "default": self.page_size,
                },
            },
        ]
        if self.orderings:
            parameters.append(
                {
                    "name": ORDERING,
                    "description": "The order of the rows; a minus means descending.",
                    "schema": {"type": "string", "enum": self._choices(), "default": self.default},
                }
            )
        return [{"in": "query", "required": False, **parameter} for parameter in parameters]

    @classmethod
    def parameters(cls) -> dict[str, bool]:
        """The query parameters that are read here, none of which may be repeated."""
        return dict.fromkeys((CURSOR, SIZE, ORDERING) if cls.orderings else (CURSOR, SIZE), False)

    def _choices(self) -> list[str]:
        return [f"{sign}{field}" for field in self.orderings for sign in ("", "-")]

    def _size(self, request: Request) -> int:
        text = request.query_params.get(SIZE)
        if text is None:
            return self.page_size
        size = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        if 0 < size <= self.max_page_size:
            return size
        message = _("Send a number from 1 to %(most)d.") % {"most": self.max_page_size}
        raise ValidationError({SIZE: [message]})

    def _ordering(self, request: Request) -> str:
        if not self.orderings:
            return self.default
        ordering: str = request.query_params.get(ORDERING, self.default)
        if ordering not in self._choices():
            message = _("Choose one of %(choices)s.") % {"choices": ", ".join(self._choices())}
            raise ValidationError({ORDERING: [message]})
        return ordering

    def _cursor(self, request: Request, ordering: str) -> Cursor | None:
        word = request.query_params.get(CURSOR)
        if word is None:
            return None
        try:
            cursor = Cursor.decode(word)
        except ValueError:
            cursor = None
        if cursor is None or cursor.ordering != ordering:
            message = _("This is not a cursor of this list in this order. Start without one.")
            raise ValidationError({CURSOR: [message]})
        return cursor


def _beside(queryset: QuerySet[Any], ordering: str, cursor: Cursor | None) -> QuerySet[Any]:
    """The rows after the cursor, or before it and from there backwards."""
    field = ordering.lstrip("-")
    down = ordering.startswith("-") != (cursor is not None and cursor.back)
    sign = "-" if down else ""
    columns = ["pk"] if field == "id" else [field, "pk"]
    ordered = queryset.order_by(*(f"{sign}{column}" for column in columns))
    if cursor is None:
        return ordered
    if field == "id":
        return ordered.filter(**{f"pk__{'lt' if down else 'gt'}": cursor.pk})
    key = _Row(F(field), F("pk"))
    column = DateTimeField() if isinstance(cursor.value, datetime) else TextField()
    there = _Row(Value(cursor.value, column), Value(cursor.pk))
    comparison = LessThan(key, there) if down else GreaterThan(key, there)
    # Said twice: MySQL finds no range of an index in a comparison of rows.
    return ordered.filter(comparison, **{f"{field}__{'lte' if down else 'gte'}": cursor.value})


def _value(row: Any, field: str) -> Any:
    value = getattr(row, field)
    return value if isinstance(value, datetime | str) else str(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

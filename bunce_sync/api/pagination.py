"""Pages of lists, newest first."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from bunce_sync import services

CURSOR = "cursor"


class IdPagination(CursorPagination):
    """Cursor pages by the id, which is unique: no page repeats or skips a row."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500
    ordering = "-id"
    cursor_query_param = CURSOR

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return the cursor of the request; None on the first page.

        Raises:
            ValidationError: it is not a cursor of this API.
        """
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None and cursor.position is not None:
                int(cursor.position)
        except (NotFound, ValueError):
            message = _("Invalid cursor. Follow 'next' and 'previous', or start without a cursor.")
            raise ValidationError({CURSOR: [message]}) from None
        return cursor

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe the response for OpenAPI 3.1."""
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }


class SegmentPagination(IdPagination):
    """Pages of segments that include the time as of which they are valid."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """Return the rows of the page; read the time before them, so that no change is missed."""
        self.as_of = services.database_time()
        return super().paginate_queryset(queryset, request, view)

    def get_paginated_response(self, data: Any) -> Response:
        """Return the page, with the time in UTC, which needs no escaping in a URL."""
        response = super().get_paginated_response(data)
        as_of = serializers.DateTimeField(format="iso-8601", default_timezone=UTC)
        response.data["as_of"] = as_of.to_representation(self.as_of)
        return response

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe the response for OpenAPI 3.1."""
        described = super().get_paginated_response_schema(schema)
        described["required"].append("as_of")
        described["properties"]["as_of"] = {
            "type": "string",
            "format": "date-time",
            "description": "The time of this page. Send the first page's as `updated_since` later.",
        }
        return described

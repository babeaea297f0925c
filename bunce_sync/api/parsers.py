"""The parser of request bodies."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import UnreadablePostError
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class LimitedJSONParser(JSONParser):
    """REST framework's parser with the size limit ``DATA_UPLOAD_MAX_MEMORY_SIZE`` (bytes)."""

    strict = True

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the decoded body. JSON is UTF-8, whatever charset the header names.

        Raises:
            ParseError: the body is not JSON in UTF-8.
            RequestDataTooBig: the body is larger than the limit.
        """
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        try:
            body: bytes = stream.read() if limit is None else stream.read(limit + 1)
            if limit is not None and len(body) > limit:
                raise RequestDataTooBig
            context = {**(parser_context or {}), "encoding": "utf-8"}
            return super().parse(BytesIO(body), media_type, context)
        except UnreadablePostError:
            raise ParseError(_("The connection closed before the body was complete.")) from None
        except RecursionError:
            raise ParseError(_("The body is nested too deeply.")) from None

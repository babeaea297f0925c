"""Reads request bodies: JSON in UTF-8, of a bounded size, and nothing that breaks later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.http import UnreadablePostError
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from bunce_sync.api.problems import TooLarge


class JSONBodyParser(BaseParser):
    """As REST framework's, which reads bodies of any size and trusts any charset.

    The limit is the site's ``DATA_UPLOAD_MAX_MEMORY_SIZE``, in bytes.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Decode a body.

        Raises:
            ParseError: it is not JSON.
            TooLarge: it is longer than the site allows.
        """
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        try:
            content: bytes = stream.read() if limit is None else stream.read(limit + 1)
        except UnreadablePostError:
            raise ParseError(_("The body broke off.")) from None
        if limit is not None and len(content) > limit:
            raise TooLarge(limit)
        try:
            return json.loads(
                content.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_object
            )
        except RecursionError:
            raise ParseError(_("The body is nested too deeply.")) from None
        except ValueError as error:
            raise ParseError(
                _("The body is not JSON in UTF-8: %(why)s") % {"why": _reason(error)}
            ) from None


class _Twice(ValueError):
    """An object names a key twice; Python would forget the first of the two."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _reason(error: ValueError) -> str:
    """What is wrong and where, without repeating what was sent."""
    match error:
        case json.JSONDecodeError():
            return f"{error.msg}, line {error.lineno}, column {error.colno}"
        case UnicodeDecodeError():
            return f"{error.reason}, byte {error.start}"
        case _Twice():
            return _("an object has the same key twice")
        case _:
            return _("a number that is too long, or NaN or Infinity")

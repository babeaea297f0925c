"""Bunce's HTTP responses, read into values or raised as errors.

The HTTP status decides first; a success whose body reports a failure is not trusted. Fields that
identify a segment are read strictly, all others leniently.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from ..exceptions import (
    BunceError,
    Conflict,
    Forbidden,
    KeyRefused,
    NoContent,
    NotFound,
    RateLimited,
    Rejected,
    ServerError,
    Unavailable,
    UnusableResponse,
)
from ..fingerprint import MAX_TEXT_LENGTH, clean, shorten
from ..identifiers import parse_id
from .redaction import Redact, one_line, redact_keys
from .types import RemoteSegment

LONGEST_PAUSE: Final = 366 * 86400.0
"""Seconds. Only prevents overflowing dates; the rate limiter decides how long to wait."""

MAX_DETAIL_LENGTH: Final = 300
MAX_TYPE_LENGTH: Final = 64
MAX_INTEGER: Final = 2**63 - 1

MAX_DEPTH: Final = 30
"""Levels of nesting kept of a value that is stored unchanged: MariaDB refuses JSON from 32 on."""

MILLISECONDS_FROM: Final = 10**11
"""Larger timestamps are milliseconds: in seconds, this would be the year 5138."""

FAILURE_VALUES: Final = frozenset({"false", "error", "fail", "failed", "failure"})

HTML_TITLE: Final = re.compile(rb"<title[^>]*>(.{1,500}?)</title", re.IGNORECASE | re.DOTALL)

ERRORS_BY_STATUS: Final[Mapping[int, type[BunceError]]] = {
    401: KeyRefused,
    402: Forbidden,
    403: Forbidden,
    404: NotFound,
    405: Forbidden,
    407: Forbidden,
    408: ServerError,
    409: Conflict,
    410: NotFound,
    422: Conflict,
    425: RateLimited,
    429: RateLimited,
    451: Forbidden,
}


@dataclass(frozen=True, slots=True)
class RawResponse:
    """The parts of an HTTP response that are read.

    They may contain secrets, so the repr shows the status only.

    Attributes:
        status: the HTTP status.
        headers: ``Date``, ``Location`` and ``Retry-After``, if present.
        body: the decompressed body; for an error, only the beginning.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def read_json(response: RawResponse, redact: Redact = redact_keys) -> Any:
    """Return the decoded body of a success; ``None`` for an empty body.

    Args:
        response: the response.
        redact: replaces secrets in the text that an error carries.

    Raises:
        BunceError: the class that fits the status; ``UnusableResponse`` for a success that is not
            JSON or reports a failure.
    """
    if not 200 <= response.status < 300:
        raise _error_for_status(response, redact)
    if not response.body.strip():
        return None
    content, is_json = _decode(response.body)
    if not is_json:
        raise UnusableResponse(
            _describe_non_json(response.body, redact),
            code="not_json",
            http_status=response.status,
        )
    if _reports_failure(content):
        raise UnusableResponse(
            one_line(_error_message(content), MAX_DETAIL_LENGTH, redact),
            code="says_failed",
            http_status=response.status,
        )
    return content


def read_segment(content: Any, *, http_status: int | None) -> RemoteSegment:
    """Return the segment in a response about one segment.

    It is the object in ``data``, ``data.data`` or ``data.segment``, or the whole body. A list of
    one object is not accepted: if a proxy turned the POST into a GET, it is another segment.

    Args:
        content: the decoded body; ``None`` if it is empty.
        http_status: the status, for the error.

    Raises:
        NoContent: the response has no content.
        UnusableResponse: there is no object (``wrong_shape``), or it has no usable id (``no_id``).
            The segment may exist nevertheless.
    """
    if _is_blank(content):
        raise NoContent("the response has no content", http_status=http_status)
    data = _single_object(content)
    if data is None:
        raise UnusableResponse(
            "the response has no segment", code="wrong_shape", http_status=http_status
        )
    segment_id = parse_id(data.get("id"))
    if segment_id is None:
        raise UnusableResponse(
            "the segment in the response has no usable id", code="no_id", http_status=http_status
        )
    return _segment(segment_id, data)


def read_listed_segment(row: Any, *, http_status: int | None) -> RemoteSegment:
    """Return a segment from Bunce's list.

    The list is used to conclude that a segment does not exist, so all fields that identify a
    segment must be readable: id, name and description.

    Raises:
        UnusableResponse: ``wrong_shape``.
    """
    if isinstance(row, dict):
        segment_id = parse_id(row.get("id"))
        name, description = row.get("name"), row.get("description")
        if segment_id and isinstance(name, str) and isinstance(description, str | None):
            return _segment(segment_id, row)
    raise UnusableResponse(
        "the list has an entry that cannot be read", code="wrong_shape", http_status=http_status
    )


def parse_bool(value: Any) -> bool | None:
    """Return a JSON boolean, 1, 0, or one of these as text; ``None`` for other values."""
    if isinstance(value, str):
        value = {"1": True, "true": True, "0": False, "false": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def parse_datetime(value: Any) -> dt.datetime | None:
    """Return a moment in UTC; ``None`` for other values.

    Accepts ``"2024-12-05 08:30:16"`` (documented, without a zone: UTC), ISO 8601, and seconds or
    milliseconds since 1970. Years are limited to those that every database can store in any zone.
    """
    try:
        if isinstance(value, str):
            moment = dt.datetime.fromisoformat(value.strip())
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=dt.UTC)
            moment = moment.astimezone(dt.UTC)
        elif isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            seconds = value if value < MILLISECONDS_FROM else value / 1000
            moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return moment if 1970 <= moment.year <= 9000 else None


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in ``Retry-After``, which is a number or a date.

    A date is compared with the response's own ``Date``, since clocks differ.

    Returns:
        More than 0 and at most ``LONGEST_PAUSE``; ``None`` when the header is missing, unreadable
        or not in the future, or when a date comes without ``Date``.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", value):
        seconds = float(value)
    elif (moment := _http_date(value)) and (now := _http_date(headers.get("Date", ""))):
        seconds = (moment - now).total_seconds()
    else:
        seconds = 0.0
    return min(seconds, LONGEST_PAUSE) if seconds > 0 else None


# Errors


def _error_for_status(response: RawResponse, redact: Redact) -> BunceError:
    status = response.status
    if 300 <= status < 400:
        target = _redirect_target(response.headers, redact)
        return UnusableResponse(target, code="redirect", http_status=status)
    content, is_json = _decode(response.body)
    if is_json:
        detail = one_line(_error_message(content), MAX_DETAIL_LENGTH, redact)
    else:
        detail = _describe_non_json(response.body, redact) if response.body.strip() else ""
    kind = ERRORS_BY_STATUS.get(status)
    retry_after = parse_retry_after(response.headers)
    if kind is RateLimited:
        return RateLimited(detail, http_status=status, retry_after=retry_after)
    if status == 503 and retry_after is not None:
        return Unavailable(detail, http_status=status, retry_after=retry_after)
    if kind is None:
        if not 400 <= status < 600:
            return UnusableResponse(detail, code="unexpected_status", http_status=status)
        kind = Rejected if status < 500 else ServerError
    return kind(detail, http_status=status)


def _reports_failure(content: Any) -> bool:
    """Return whether an envelope says that the request failed."""
    if not isinstance(content, dict):
        return False
    flags = (content.get("success"), content.get("status"))
    return any(
        flag is False or (isinstance(flag, str) and flag.strip().lower() in FAILURE_VALUES)
        for flag in flags
    )


def _error_message(content: Any) -> str:
    """Return Bunce's message, and the errors of single fields that it does not mention."""
    if not isinstance(content, dict):
        return ""
    error = content.get("error")
    if isinstance(error, dict):
        error = error.get("message")
    message = next((one for one in (content.get("message"), error) if isinstance(one, str)), "")
    field_errors = [one for one in _field_errors(content.get("errors")) if one not in message]
    return "; ".join(filter(None, (message, *field_errors)))


def _field_errors(errors: Any, field: str = "") -> Iterator[str]:
    """Yield the messages in ``errors``, whose shape is not documented, at most the first ten."""
    if isinstance(errors, str):
        yield f"{field}: {errors}" if field and field not in errors else errors
    elif isinstance(errors, list):
        for one in errors[:10]:
            if isinstance(one, str):
                yield from _field_errors(one, field)
            elif isinstance(one, dict):
                yield from _field_errors(one.get("message"), str(one.get("field", field)))
    elif isinstance(errors, dict) and not field:
        for name, one in list(errors.items())[:10]:
            yield from _field_errors(one, str(name))


def _describe_non_json(body: bytes, redact: Redact) -> str:
    """Return a short description of a body that is not JSON: for an HTML page, the title."""
    if body.lstrip()[:1] == b"<":
        title = HTML_TITLE.search(body)
        shown = one_line(title[1].decode(errors="replace"), 100, redact) if title else ""
        return "an HTML page instead of JSON" + (f" ({shown})" if shown else "")
    return f"not JSON: {one_line(body[: 64 * 1024].decode(errors='replace'), 100, redact)}"


def _redirect_target(headers: Mapping[str, str], redact: Redact) -> str:
    """Return where a redirect leads, without the parts of a URL that often contain a secret."""
    try:
        parts = urlsplit(headers.get("Location", ""))
        host = parts.hostname or ""
    except ValueError:
        return ""
    if not host and not parts.path:
        return ""
    origin = f"{parts.scheme}://{host}" if host else ""
    prefix = "redirects to "
    return prefix + one_line(f"{origin}{parts.path}", MAX_DETAIL_LENGTH - len(prefix), redact)


# Segments


def _is_blank(content: Any) -> bool:
    """Return whether a body is empty, or an envelope with nothing in it.

    A body that mentions errors, or has content outside ``data``, is not blank: it is not
    understood.
    """
    if content is None:
        return True
    if not isinstance(content, dict) or content.get("data") not in (None, [], {}):
        return False
    if content.get("error") or content.get("errors"):
        return False
    return "data" in content or not any(
        name in ("id", "name") or (name != "meta" and isinstance(one, dict | list) and one)
        for name, one in content.items()
    )


def _single_object(content: Any) -> dict[str, Any] | None:
    """Return the object that describes the segment, or ``None`` when there is no object."""
    if not isinstance(content, dict):
        return None
    if "data" not in content:
        bare = parse_id(content.get("id")) is not None and isinstance(content.get("name"), str)
        return content if bare else None
    data = content["data"]
    if not isinstance(data, dict):
        return None
    if parse_id(data.get("id")) is None and not _reports_failure(data):
        for inner in (data.get("data"), data.get("segment")):
            if isinstance(inner, dict) and parse_id(inner.get("id")) is not None:
                return inner
    return data


def _segment(segment_id: str, data: dict[str, Any]) -> RemoteSegment:
    kind = _text(data.get("type"))
    return RemoteSegment(
        id=segment_id,
        name=_text(data.get("name")) or "",
        description=_text(data.get("description")),
        type=kind if kind and len(kind) <= MAX_TYPE_LENGTH else None,
        all_customers=parse_bool(data.get("all_customers")),
        conditions=_storable(data.get("conditions")),
        customers_count=_count(data.get("customers_count")),
        created_at=parse_datetime(data.get("created_at")),
        updated_at=parse_datetime(data.get("updated_at")),
        left_out=frozenset({"name", "description", "conditions"} - data.keys()),
    )


def _text(value: Any) -> str | None:
    return shorten(clean(value)) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MAX_INTEGER else None


def _storable(value: Any) -> Any:
    """Return a JSON value that every database can store.

    ``None`` if it is nested too deeply, or longer as JSON than ``MAX_TEXT_LENGTH``.
    """
    try:
        cleaned = _clean(value, MAX_DEPTH)
    except RecursionError:
        return None
    return cleaned if len(json.dumps(cleaned)) <= MAX_TEXT_LENGTH else None


def _clean(value: Any, depth: int) -> Any:
    if depth == 0:
        raise RecursionError
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _clean(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in value]
    return value


# Decoding


def _decode(body: bytes) -> tuple[Any, bool]:
    """Return the JSON content and True, or None and False.

    It does not raise, because a decoding error would hold the body. Numbers that no database can
    store become ``None`` or a float.
    """
    try:
        return json.loads(
            body, parse_int=_integer, parse_float=_finite_float, parse_constant=_no_constant
        ), True
    except (ValueError, RecursionError):
        return None, False


def _integer(digits: str) -> int | float | None:
    if len(digits) > 300:
        return None
    number = int(digits)
    return number if -MAX_INTEGER - 1 <= number <= MAX_INTEGER else float(number)


def _finite_float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _no_constant(name: str) -> None:
    """Replace NaN and Infinity, which Python reads although they are not JSON."""


def _http_date(value: str) -> dt.datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

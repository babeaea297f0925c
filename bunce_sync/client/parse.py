"""Reading a segment out of an answer: strict on what decides, tolerant of all the rest."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from ..exceptions import NoContent, UnusableResponse
from ..fingerprint import clean
from .text import clean_value
from .types import RemoteSegment

LONGEST_ID: Final = 255
LONGEST_TYPE: Final = 64
LARGEST_COUNT: Final = 2**63 - 1
MILLISECONDS_FROM: Final = 10**11  # as seconds, this would be the year 5138
SAYS_NO: Final = frozenset({"false", "error", "fail", "failed", "failure"})


def says_no(content: Any) -> bool:
    """Return whether an envelope says that the request failed."""
    if not isinstance(content, dict):
        return False
    marks = (content.get("success"), content.get("status"))
    return any(
        mark is False or (isinstance(mark, str) and mark.strip().lower() in SAYS_NO)
        for mark in marks
    )


def usable_id(value: Any) -> str | None:
    """Return an id as text, or ``None`` when no segment could be found again by it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_ID
        and all(one.isprintable() and not one.isspace() for one in value)
    ):
        return value
    return None


def segment_of(content: Any, *, http_status: int | None) -> RemoteSegment:
    """Return the segment in an answer about one segment.

    It is the object in ``data``, ``data.data`` or ``data.segment``, or the whole answer. A list of
    one object is not accepted: where a proxy turns the POST into a GET, it is another segment.

    Args:
        content: the decoded answer; ``None`` for an empty body.
        http_status: its status, for the error.

    Raises:
        NoContent: the answer has no content.
        UnusableResponse: there is no object (``wrong_shape``), or it has no usable id (``no_id``).
            The segment may exist all the same.
    """
    if _is_blank(content):
        raise NoContent("the answer has no content", http_status=http_status)
    data = _single_object(content)
    if data is None:
        raise UnusableResponse(
            "the answer has no segment", code="wrong_shape", http_status=http_status
        )
    found = usable_id(data.get("id"))
    if found is None:
        raise UnusableResponse(
            "the segment in the answer has no usable id", code="no_id", http_status=http_status
        )
    return _segment(found, data)


def _is_blank(content: Any) -> bool:
    """Return whether an answer consists of nothing, or of an envelope with nothing in it.

    An answer that speaks of errors, or has something in another place than ``data``, is not blank:
    it is not understood.
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
        bare = usable_id(content.get("id")) is not None and isinstance(content.get("name"), str)
        return content if bare else None
    data = content["data"]
    if not isinstance(data, dict):
        return None
    if usable_id(data.get("id")) is None and not says_no(data):
        for inner in (data.get("data"), data.get("segment")):
            if isinstance(inner, dict) and usable_id(inner.get("id")) is not None:
                return inner
    return data


def listed_segment(row: Any, *, http_status: int | None) -> RemoteSegment:
    """Return a segment in a list, from which may be concluded that another is absent.

    So whatever a segment is recognised by must be readable: id, name and description.

    Raises:
        UnusableResponse: ``wrong_shape``.
    """
    if isinstance(row, dict):
        found = usable_id(row.get("id"))
        name, description = row.get("name"), row.get("description")
        if found and isinstance(name, str) and isinstance(description, str | None):
            return _segment(found, row)
    raise UnusableResponse(
        "the list has an entry that cannot be read", code="wrong_shape", http_status=http_status
    )


def _segment(found: str, data: dict[str, Any]) -> RemoteSegment:
    kind = _text(data.get("type"))
    return RemoteSegment(
        id=found,
        name=_text(data.get("name")) or "",
        description=_text(data.get("description")),
        type=kind if kind and len(kind) <= LONGEST_TYPE else None,
        all_customers=flag_of(data.get("all_customers")),
        conditions=clean_value(data.get("conditions")),
        customers_count=_count(data.get("customers_count")),
        created_at=moment_of(data.get("created_at")),
        updated_at=moment_of(data.get("updated_at")),
        left_out=frozenset({"name", "description", "conditions"} - data.keys()),
    )


def moment_of(value: Any) -> dt.datetime | None:
    """Return a moment in UTC from any of the forms Bunce uses or might; ``None`` if unreadable.

    ``"2024-12-05 08:30:16"`` (documented, no zone: UTC), ISO 8601, seconds or milliseconds since
    1970. Years are kept within what every database can store in any zone.
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


def flag_of(value: Any) -> bool | None:
    """Return a truth value given as JSON boolean, 1 or 0, or text; ``None`` if unreadable."""
    if isinstance(value, str):
        value = {"1": True, "true": True, "0": False, "false": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def _text(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= LARGEST_COUNT else None

"""Reading a segment out of an answer: strict on what decides, tolerant of all the rest."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from ..exceptions import UnusableAnswer
from .text import clean, clean_value
from .types import RemoteSegment

LONGEST_ID: Final = 255
LONGEST_TYPE: Final = 64
LARGEST_COUNT: Final = 2**63 - 1
MILLISECONDS_FROM: Final = 10**11  # as seconds, this would be the year 5138


def usable_id(value: Any) -> str | None:
    """An id as text, or ``None`` when no segment could be found again by it."""
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
    """The segment in an answer about one segment.

    Args:
        content: the decoded answer.
        http_status: its status, for the error.

    Raises:
        UnusableAnswer: there is no object (``wrong_shape``), or it has no usable id (``no_id``).
            The segment may exist all the same.
    """
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict):
        raise UnusableAnswer(
            "the answer has no segment", code="wrong_shape", http_status=http_status
        )
    found = usable_id(data.get("id"))
    if found is None:
        raise UnusableAnswer(
            "the segment in the answer has no usable id", code="no_id", http_status=http_status
        )
    return _segment(found, data)


def listed_segment(row: Any, *, http_status: int | None) -> RemoteSegment:
    """A segment in a list, from which may be concluded that another is absent.

    So whatever a segment is recognised by must be readable: id, name and description.

    Raises:
        UnusableAnswer: ``wrong_shape``.
    """
    if isinstance(row, dict):
        found = usable_id(row.get("id"))
        name, description = row.get("name"), row.get("description")
        if found and isinstance(name, str) and isinstance(description, str | None):
            return _segment(found, row)
    raise UnusableAnswer(
        "the list has an entry that cannot be read", code="wrong_shape", http_status=http_status
    )


def _segment(found: str, data: dict[str, Any]) -> RemoteSegment:
    kind = _text(data.get("type"))
    return RemoteSegment(
        id=found,
        name=_text(data.get("name")) or "",
        description=_text(data.get("description")),
        type=kind if kind and len(kind) <= LONGEST_TYPE else None,
        all_customers=_flag(data.get("all_customers")),
        conditions=clean_value(data.get("conditions")),
        customers_count=_count(data.get("customers_count")),
        created_at=moment_of(data.get("created_at")),
        updated_at=moment_of(data.get("updated_at")),
    )


def moment_of(value: Any) -> dt.datetime | None:
    """A moment in UTC from any of the forms Bunce uses or might; ``None`` when unreadable.

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


def _text(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) else None


def _flag(value: Any) -> bool | None:
    if isinstance(value, str):
        value = {"1": True, "true": True, "0": False, "false": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= LARGEST_COUNT else None

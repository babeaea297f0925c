"""Bunce's ids of segments."""

from __future__ import annotations

from typing import Any, Final

#: The most characters of an id; the documentation shows UUIDs only.
MAX_ID_LENGTH: Final = 255


def parse_id(value: Any) -> str | None:
    """Return an id as text; ``None`` if it cannot be used in a URL and stored."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if (
        isinstance(value, str)
        and 0 < len(value) <= MAX_ID_LENGTH
        and all(one.isprintable() and not one.isspace() for one in value)
    ):
        return value
    return None

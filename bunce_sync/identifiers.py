"""Bunce's ids of segments."""

from __future__ import annotations

import re
from typing import Any, Final

#: The most characters of an id; the documentation shows UUIDs only.
MAX_ID_LENGTH: Final = 255
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def parse_id(value: Any) -> str | None:
    """Return an id as text; ``None`` if it cannot be used in a URL and stored.

    A UUID is returned in lower case: some databases take two spellings for the same text, and
    others do not.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return None
    if _UUID.fullmatch(value):
        return value.lower()
    # A space is the only whitespace that is printable.
    usable = 0 < len(value) <= MAX_ID_LENGTH and value.isprintable() and " " not in value
    return value if usable else None

"""The form in which this site can hold the texts of a segment that was created in Bunce.

Bunce's names may be blank, longer than a name here, or contain control characters. The columns
``bunce_name`` and ``bunce_description`` have them as they are; the editable fields have this form,
which is the text itself for every text that a segment of this site can have. Comparisons with
Bunce's content use this form on both sides.
"""

from __future__ import annotations

import re

from bunce_sync.validators import NAME_LENGTH, REFUSED, is_visible


def local_name(name: str, bunce_id: str) -> str:
    """Return a name that fits here: without control characters, visible, not too long.

    Args:
        bunce_id: of the segment; it names one whose own name is not visible.
    """
    text = re.sub(REFUSED, "", name).strip()
    if not is_visible(text):
        text = f"Segment {bunce_id}"
    return text if len(text) <= NAME_LENGTH else f"{text[: NAME_LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}"


def local_description(description: str | None) -> str | None:
    """Return a description that fits here: without control characters, None instead of blank."""
    return re.sub(REFUSED, "", description or "").strip() or None

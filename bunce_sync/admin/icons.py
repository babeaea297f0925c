"""The few icons, drawn inline: a font or a sprite from another host would need a looser CSP."""

from __future__ import annotations

from functools import cache
from typing import Final

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

#: Paths in a square of 16, drawn with a line of the text's colour.
PATHS: Final = {
    "pending": "M8 4.5V8l2.5 1.5M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
    "sending": "M8 13V3M4 7l4-4 4 4",
    "synced": "m3 8.5 3.5 3.5L13 4.5",
    "in_doubt": "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10Zm3.5-1.5L14 14",
    "rejected": "M8 2 15 14H1L8 2Zm0 4.5V10m0 2v.01",
    "drift": "M3 6h9l-3-3m4 7H4l3 3",
    "paused": "M5.5 3v10M10.5 3v10",
    "copy": "M5.5 5.5v-3h8v8h-3m-8-5h8v8h-8v-8Z",
    "gone": "M3 8h10",
    "info": "M8 7.5V11M8 5v.01M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
}


@cache
def icon(name: str) -> SafeString:
    """An icon beside a word that says the same: hidden from screen readers."""
    return format_html(
        '<svg class="bunce-icon" viewBox="0 0 16 16" width="16" height="16" fill="none"'
        ' stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"'
        ' aria-hidden="true" focusable="false"><path d="{}"/></svg>',
        mark_safe(PATHS[name]),  # noqa: S308 - one of the constants above
    )

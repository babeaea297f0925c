"""Bytes and text from outside, made fit for a database and for one line of a page."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
TITLE: Final = re.compile(rb"<title[^>]*>(.{1,500}?)</title", re.IGNORECASE | re.DOTALL)

DEEPEST: Final = 30
"""Levels of nesting kept of a value that is stored as it came: MariaDB refuses JSON from 32 on."""


def load_json(content: bytes) -> Any:
    """Decode a JSON text, in which numbers no database can store become ``None`` or a float.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(
            content, parse_int=_integer, parse_float=_number, parse_constant=_no_number
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def clean(text: str) -> str:
    """Text that every database can store: without NUL, and without halves of characters."""
    return SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\0", ""))


def clean_value(value: Any, depth: int = DEEPEST) -> Any:
    """A JSON value with all its text cleaned; ``None`` when it is nested too deeply to store."""
    try:
        return _clean_value(value, depth)
    except RecursionError:
        return None


def one_line(text: str, length: int) -> str:
    """Text without control characters and line breaks, and not longer than ``length``."""
    text = CONTROL.sub(" ", clean(text)).strip()
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def what_instead_of_json(content: bytes) -> str:
    """A few words on a body that is not JSON: for an HTML page no more than its title."""
    if not content.strip():
        return "an empty answer"
    if content.lstrip()[:1] == b"<":
        title = TITLE.search(content)
        words = one_line(title[1].decode(errors="replace"), 100) if title else ""
        return (
            f"an HTML page instead of JSON ({words})" if words else "an HTML page instead of JSON"
        )
    return f"not JSON: {one_line(content[:400].decode(errors='replace'), 100)}"


def _clean_value(value: Any, depth: int) -> Any:
    if depth == 0:
        raise RecursionError
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _clean_value(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean_value(item, depth - 1) for item in value]
    return value


def _integer(digits: str) -> int | float | None:
    if len(digits) > 300:
        return None
    number = int(digits)
    return number if -(2**63) <= number < 2**63 else float(number)


def _number(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _no_number(name: str) -> None:
    """NaN and Infinity, which Python reads though they are not JSON."""

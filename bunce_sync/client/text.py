"""Bytes and text from outside, made fit for a database and for one line of a page."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from ..fingerprint import clean

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
TITLE: Final = re.compile(rb"<title[^>]*>(.{1,500}?)</title", re.IGNORECASE | re.DOTALL)

KEYS: Final = re.compile(r"(?<![a-z])sk_(?:live|test)_\w+")
"""Anything that looks like one of Bunce's API keys."""

READ_FOR_DETAIL: Final = 64 * 1024
"""How many bytes of a body that is not JSON are looked at for a few words on it."""

Redact: TypeAlias = Callable[[str], str]
"""A function that replaces secrets in a text that is shown."""

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


def clean_value(value: Any, depth: int = DEEPEST) -> Any:
    """A JSON value with all its text cleaned; ``None`` when it is nested too deeply to store."""
    try:
        return _clean_value(value, depth)
    except RecursionError:
        return None


def redactor(key: str = "") -> Redact:
    """Return a function that replaces API keys in a text: any by its pattern, and this very key.

    The key is also found as it is written in an address, in HTML and in JSON. The function is for
    text that is shown: content that is compared must stay as it came.
    """
    spellings: set[str] = set()
    if key:
        escaped = json.dumps(key)[1:-1]
        spellings = {key, quote(key), quote(key, safe=""), html.escape(key), escaped}
        spellings.add(escaped.replace("/", "\\/"))
    known = [f"(?i:{re.escape(one)})" for one in sorted(spellings, key=len, reverse=True)]
    secrets = re.compile("|".join([*known, KEYS.pattern]))
    return lambda text: secrets.sub("[key]", text)


redact_keys: Final = redactor()


def one_line(text: str, length: int, redact: Redact = redact_keys) -> str:
    """Return text from outside as it may be stored and shown.

    It has no control characters, line breaks or keys, and at most ``length`` characters. It is cut
    last: of a key that was cut through, one part would be left.
    """
    text = redact(CONTROL.sub(" ", clean(text)).strip())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def what_instead_of_json(content: bytes, redact: Redact = redact_keys) -> str:
    """Return a few words on a body that is not JSON: for an HTML page no more than its title."""
    if not content.strip():
        return "an empty answer"
    if content.lstrip()[:1] == b"<":
        title = TITLE.search(content)
        words = one_line(title[1].decode(errors="replace"), 100, redact) if title else ""
        return (
            f"an HTML page instead of JSON ({words})" if words else "an HTML page instead of JSON"
        )
    return f"not JSON: {one_line(content[:READ_FOR_DETAIL].decode(errors='replace'), 100, redact)}"


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

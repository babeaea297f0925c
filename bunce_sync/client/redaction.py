"""Text from outside, made safe to store and to show: on one line and without API keys."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Final, TypeAlias
from urllib.parse import quote

from ..fingerprint import clean

Redact: TypeAlias = Callable[[str], str]
"""A function that replaces secrets in a text that is shown."""

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")

KEYS: Final = re.compile(r"(?<![a-z])sk_(?:live|test)_\w+")
"""Anything that looks like one of Bunce's API keys."""


def redactor(key: str = "") -> Redact:
    """Return a function that replaces API keys in a text: any by its pattern, and this exact key.

    The key is also found as it is written in a URL, in HTML and in JSON. Only use the function for
    text that is shown: content that is compared must stay unchanged.
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
    """Return text without control characters, line breaks and keys, of at most ``length``.

    It is truncated after redaction: part of a truncated key would not be recognized as a key.
    """
    text = redact(CONTROL.sub(" ", clean(text)).strip())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"

"""Fingerprints of segments: one of what was sent, one of what Bunce's list shows.

They answer different questions and are never equal, so comparing one with the other fails at once.
Fingerprints are compared instead of texts because a database may consider "VIP" and "vip" equal.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

#: The fields that a create sends and Bunce's list returns, by which a create is recognised there.
LISTED_FIELDS = ("name", "description")

#: The most characters of a text that the database keeps, whichever way it got there.
MAX_TEXT_LENGTH = 50_000

SURROGATE = re.compile(r"[\ud800-\udfff]")
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def clean(text: str) -> str:
    """Return text that every database can store: without NUL and without lone surrogates."""
    text = text.replace("\0", "")
    return text if text.isascii() else SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def shorten(text: str) -> str:
    """Return text that the database can keep; the end of a longer one becomes an ellipsis.

    No segment of ours can have such a long text, so its fingerprint differs from all of ours.
    """
    return text if len(text) <= MAX_TEXT_LENGTH else f"{text[: MAX_TEXT_LENGTH - 1]}\u2026"


def normalize(text: str) -> str:
    """Return text without the differences that can arise on the way to Bunce and back.

    These are NUL, the kind of line break, the Unicode form of an accent, and whitespace at the
    ends.
    """
    text = clean(text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text).strip()


def sent_fingerprint(fields: Mapping[str, Any]) -> str:
    """Return the fingerprint of the fields that an update sends; it detects edits.

    The order of the fields does not count, since databases do not keep it. Neither does a field
    that is null, blank or false, so the segments already sent keep their fingerprint when an
    optional field is added.

    Args:
        fields: the JSON value of each field. Text is normalized, except inside lists and objects.

    Raises:
        TypeError, ValueError: a value cannot be represented in JSON.
    """
    return _fingerprint("sent", fields)


def field_digest(value: Any) -> str:
    """Return a digest of the JSON value of one field, normalized as for ``sent_fingerprint``."""
    return _fingerprint("field", {"value": value})[:16]


def listed_fingerprint(name: str, description: str | None) -> str:
    """Return the fingerprint of what Bunce's list shows; it recognizes a create.

    Only fields that a create sends and the list returns belong here.
    """
    return _fingerprint("listed", {"name": name, "description": description})


def _fingerprint(label: str, fields: Mapping[str, Any]) -> str:
    present: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            value = normalize(value)
        # Compared by identity, since the number 0 equals False but is a value.
        if not (value is None or value is False or value == ""):
            present[name] = value
    return hashlib.sha256(_CANONICAL.encode([label, present]).encode()).hexdigest()

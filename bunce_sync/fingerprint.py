"""Fingerprints of a segment's content, by which the same content is recognised."""

from __future__ import annotations

import hashlib
import re
import unicodedata

SURROGATE = re.compile(r"[\ud800-\udfff]")


def clean(text: str) -> str:
    """Return text that every database can store: without NUL and without half characters."""
    return SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\0", ""))


def content_digest(name: str, description: str | None) -> str:
    """Return a fingerprint of a segment's content, the same wherever Bunce would show the same.

    What gets lost or changed on the way to Bunce and back does not count: NUL, the kind of line
    break, the Unicode form of an accent, whitespace at the ends; an empty description is no
    description. The digest is compared instead of the texts, since a database may find "VIP" and
    "vip" equal.
    """
    content = f"{_normal(name)}\0{_normal(description or '')}"
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def _normal(text: str) -> str:
    text = clean(text).replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text).strip()

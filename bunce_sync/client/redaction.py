"""Text from outside, made safe to store and to show: on one line and without API keys.

A key is found as it is, and with any of its characters escaped as in a URL, JSON, a string literal
or HTML, also twice. A key of at least ``LONG`` characters is found with line breaks in it, and in
Base64, too. Not found are a part of a key, and a key that is encrypted, compressed, reversed or
encoded in any other way. The texts of segments and their ids are content, and are not redacted.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from ..fingerprint import clean

Redact: TypeAlias = Callable[[str], str]
"""A function that replaces secrets in a text that is shown."""

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")

LONG: Final = 12
"""Characters of a key that no other text has in it by chance."""

#: A line break in a text on one line: as it was, or escaped.
_BREAK: Final = r"(?: |\\{1,4}[rnt]|%(?:25)?0[ad]){0,2}"
#: The escaped forms of letters, digits and the underscore.
_HEX: Final = "(?:3[0-9]|[46][1-9a-f]|[57][0-9a]|5f)"
_DECIMAL: Final = "(?:4[89]|5[0-7]|6[5-9]|[78][0-9]|9[05789]|1[01][0-9]|12[0-2])"
_WORD: Final = (
    rf"(?:\w|(?i:\\{{1,4}}(?:u00|x){_HEX}|%(?:25)?{_HEX}"
    rf"|&(?:amp;)?#(?:x0{{0,4}}{_HEX}|0{{0,5}}{_DECIMAL});?))+"
)


def _escaped(character: str) -> str:
    """Return a pattern for a character, as it is or escaped. Repetitions are bounded."""
    code = ord(character)
    forms = [
        rf"\\{{0,4}}{re.escape(character)}",
        rf"(?i:\\{{1,4}}(?:u00|x){code:02x})",
        f"(?i:%(?:25)?{code:02x})",
        f"(?i:&(?:amp;)?#(?:0{{0,5}}{code}|x0{{0,4}}{code:x});?)",
    ]
    if (entity := html.escape(character)) != character:
        forms.append(entity.replace("&", "&(?:amp;)?"))
    return f"(?:{'|'.join(forms)})"


def _any_key() -> str:
    """Return a pattern for anything that looks like one of Bunce's API keys."""
    live, test, prefix = ("".join(map(_escaped, text)) for text in ("live_", "test_", "sk_"))
    return rf"(?<![a-z]){prefix}(?:{live}|{test}){_WORD}"


_KEYS: Final = _any_key()


def _in_base64(key: str) -> Iterator[str]:
    """Yield what Base64 makes of the key, whatever is before and after it."""
    for offset in range(3):
        data = b"\0" * offset + key.encode()
        first = (0, 2, 3)[offset]  # the characters before also depend on what is before the key
        whole = len(data) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(data).decode()[first:whole]


def redactor(key: str = "") -> Redact:
    """Return a function that replaces API keys in a text: any by its pattern, and this exact key.

    Only use the function for text that is shown: content that is compared must stay unchanged.
    """
    known: list[str] = []
    if key:
        between = _BREAK if len(key) >= LONG else ""
        known.append(f"(?i:{between.join(map(_escaped, key))})")
    if len(key) >= LONG:
        known += map(re.escape, sorted(set(_in_base64(key))))
    secrets = re.compile("|".join([*known, _KEYS]))
    return lambda text: secrets.sub("[key]", text)


redact_keys: Final = redactor()


def one_line(text: str, length: int, redact: Redact = redact_keys) -> str:
    """Return text without control characters, line breaks and keys, of at most ``length``.

    It is truncated after redaction: part of a truncated key would not be recognized as a key.
    """
    text = redact(CONTROL.sub(" ", clean(text)).strip())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"

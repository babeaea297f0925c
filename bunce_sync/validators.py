"""The texts a segment may have: one set of rules for code, the admin's form and the REST API.

Django calls validators for forms, serializers and ``full_clean()``, not for ``save()`` and bulk
operations. What those may write is bounded by constraints of the table, at ``MAX_TEXT_LENGTH``.
"""

from __future__ import annotations

import re
from typing import Final

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from bunce_sync.conf import conf

#: The most characters of a name.
NAME_LENGTH: Final = 255

#: Control characters other than tab, line feed and carriage return, for a regular expression.
CONTROL: Final = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f"
#: Characters that leave no mark: white space, control and format characters, and others that
#: Unicode calls ignorable or that fonts draw as a blank, such as U+3164 and U+2800. Written with
#: escapes that both Python and JavaScript read, since the OpenAPI description uses them too.
INVISIBLE: Final = (
    r"\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    r"\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800"
    r"\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
#: More of these, which JavaScript's regular expressions would read as pairs of surrogates.
_INVISIBLE_ASTRAL: Final = (
    r"\ud800-\udfff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)

_VISIBLE: Final = re.compile(f"[^{INVISIBLE}{_INVISIBLE_ASTRAL}]")
REFUSED: Final = re.compile(rf"[{CONTROL}\ud800-\udfff]")


def validate_visible(value: str) -> None:
    """Refuse a name without a visible character: it could be neither seen nor clicked.

    Raises:
        ValidationError: the name has no visible character.
    """
    if not is_visible(value):
        raise ValidationError(_("Enter a name with at least one visible character."), "invisible")


def is_visible(text: str) -> bool:
    """Return whether a text has a visible character."""
    return _VISIBLE.search(text) is not None


def validate_characters(value: str) -> None:
    """Refuse characters that not every database or reader of the text accepts.

    Raises:
        ValidationError: the text has a control character or half of a surrogate pair.
    """
    if found := REFUSED.search(value):
        raise ValidationError(
            _("Remove the character %(character)s. Only text, tabs and line breaks are allowed."),
            "control_character",
            {"character": f"U+{ord(found[0]):04X}"},
        )


def validate_description_length(value: str) -> None:
    """Refuse a description longer than ``DESCRIPTION_MAX_LENGTH``.

    Raises:
        ValidationError: the description is too long.
    """
    limit, length = description_max_length(), len(value)
    if length > limit:
        raise ValidationError(
            _("Shorten the description to at most %(limit)d characters (it has %(length)d)."),
            "max_length",
            {"limit": limit, "length": length},
        )


def description_max_length() -> int:
    """Return the setting, or its default if its value is invalid."""
    limit: int = conf.usable("DESCRIPTION_MAX_LENGTH")
    return limit

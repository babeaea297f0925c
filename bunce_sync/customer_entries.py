"""Customers as code names them, in the form in which they are kept and compared."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bunce_sync.fingerprint import clean, normalize

#: The most characters of an identifier and of a profile field.
MAX_LENGTH: Final = 255
#: What Bunce stores about a customer beside the identifier.
PROFILE_FIELDS: Final = ("email", "first_name", "last_name", "phone_no")
FIELDS: Final = ("customer_id", *PROFILE_FIELDS)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


class InvalidCustomer(ValueError):
    """A customer cannot be used. The message names no value: it may be logged."""


@dataclass(frozen=True, slots=True)
class CustomerEntry:
    """One customer, as sent to Bunce.

    Attributes:
        identifier: the site's id of the customer, or an email address in lower case.
        is_email: whether the identifier is an email address.
        profile: the fields of ``PROFILE_FIELDS`` to send beside it.
    """

    identifier: str
    is_email: bool = False
    profile: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of the profile; empty if there is none."""
        if not self.profile:
            return ""
        text = _CANONICAL.encode(dict(self.profile))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def read_entry(value: Any) -> CustomerEntry:
    """Return a customer in its normal form.

    Args:
        value: an identifier (text with an ``@`` is an email address), or a mapping with
            ``customer_id``, ``email`` or both, and any of the other ``PROFILE_FIELDS``. Fields that
            are None or blank are left out: they would erase what Bunce has.

    Raises:
        InvalidCustomer: it has no identifier, an unknown field, or a value that cannot be used.
    """
    if not isinstance(value, Mapping):
        identifier = _text(value, "the identifier")
        if not identifier:
            raise InvalidCustomer("the identifier is empty")
        return by_identifier(identifier)
    if unknown := [name for name in value if name not in FIELDS]:
        raise InvalidCustomer(
            f"unknown fields ({len(unknown)}); the fields are {', '.join(FIELDS)}"
        )
    texts = {name: _text(value.get(name), name) for name in FIELDS}
    if texts["email"]:
        texts["email"] = texts["email"].lower()
    customer_id = texts.pop("customer_id")
    is_email = not customer_id
    identifier = customer_id or texts.pop("email")
    if not identifier:
        raise InvalidCustomer("customer_id and email are both empty")
    profile = {name: text for name, text in texts.items() if text}
    return CustomerEntry(identifier, is_email=is_email, profile=profile)


def read_entries(values: Iterable[Any]) -> list[CustomerEntry]:
    """Return customers in their normal form.

    Raises:
        InvalidCustomer: one cannot be used; the message gives its position, from 1.
    """
    if isinstance(values, str | bytes | Mapping):
        raise TypeError("customers must be a list, not a single one")
    entries = []
    for place, value in enumerate(values, 1):
        try:
            entries.append(read_entry(value))
        except InvalidCustomer as error:
            raise InvalidCustomer(f"Customer {place:,}: {error}.") from None
    return entries


def by_identifier(identifier: str) -> CustomerEntry:
    """Return the customer with an identifier that is usable text."""
    is_email = "@" in identifier
    return CustomerEntry(identifier.lower() if is_email else identifier, is_email=is_email)


def _text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | float | bytes | list | dict):
        raise InvalidCustomer(f"{name} must be text, not {type(value).__name__}")
    text = str(value)
    if not (text.isascii() and text.isprintable()):
        if text != clean(text) or _CONTROL.search(text.strip()):
            raise InvalidCustomer(f"{name} contains control characters")
        text = normalize(text)
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise InvalidCustomer(f"{name} has more than {MAX_LENGTH} characters")
    return text

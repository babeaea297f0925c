"""What Bunce accepts in a request body, and the words in which it refuses the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .messages import JSON, Request

MAX_NAME = 255


class InvalidError(Exception):
    """The request is refused; the message is what Bunce answers.

    Args:
        message: for the answer.
        status: 422 for a value that will not do, 400 for a request that cannot be read; other
            refusals have their own.
    """

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def read_object(request: Request) -> dict[str, object]:
    """Return the request's body; no body at all counts as an empty object.

    Raises:
        InvalidError: it is not JSON, not said to be JSON, or not an object.
    """
    if not request.body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise InvalidError("Content-Type must be application/json", 400)
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):
        raise InvalidError("The request body is not valid JSON", 400) from None
    if not isinstance(value, dict):
        raise InvalidError("The request body must be a JSON object", 400)
    return value


def required_name(body: Mapping[str, object]) -> str:
    """Return the name of a segment.

    Raises:
        InvalidError: it is missing, null, blank, too long or no string.
    """
    name = body.get("name")
    if name is None or name == "":
        raise InvalidError("name is required and must be present")
    if not isinstance(name, str):
        raise InvalidError("name must be a string")
    if not name.strip():
        raise InvalidError("name is required and must not be blank")
    if len(name) > MAX_NAME:
        raise InvalidError(f"name must not be longer than {MAX_NAME} characters")
    return name


def optional_text(body: Mapping[str, object], field: str) -> str | None:
    """Return a text or None.

    Raises:
        InvalidError: it is something else.
    """
    value = body.get(field)
    if value is not None and not isinstance(value, str):
        raise InvalidError(f"{field} must be a string")
    return value


def optional_flag(body: Mapping[str, object], field: str) -> bool:
    """Return a flag, where missing and null mean no.

    Raises:
        InvalidError: it is not a boolean; "true" in quotes is not one.
    """
    value = body.get(field)
    if value is not None and not isinstance(value, bool):
        raise InvalidError(f"{field} must be a boolean")
    return bool(value)


def customers_to_add(body: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the customers to put into a segment.

    Raises:
        InvalidError: there are none, or one has neither customer_id nor email, or a bad value.
    """
    entries = _customers(body)
    checked = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InvalidError(f"customers[{place}] must be an object")
        for field in ("customer_id", "email", "first_name", "last_name", "phone_no"):
            value = entry.get(field)
            if value is not None and not isinstance(value, str):
                raise InvalidError(f"customers[{place}].{field} must be a string")
        if not isinstance(entry.get("devices", []), list | None):
            raise InvalidError(f"customers[{place}].devices must be an array")
        if not entry.get("customer_id") and not entry.get("email"):
            raise InvalidError(f"customers[{place}] must have a customer_id or an email")
        checked.append(entry)
    return checked


def customers_to_remove(body: Mapping[str, object]) -> list[str]:
    """Return the customer_ids or emails to take out of a segment.

    Raises:
        InvalidError: there are none, or one is not a string.
    """
    keys = []
    for place, entry in enumerate(_customers(body)):
        if not isinstance(entry, str) or not entry:
            raise InvalidError(f"customers[{place}] must be a customer_id or an email")
        keys.append(entry)
    return keys


def _customers(body: Mapping[str, object]) -> list[object]:
    entries = body.get("customers")
    if entries is None:
        raise InvalidError("customers is required and must be present")
    if not isinstance(entries, list):
        raise InvalidError("customers must be an array")
    if not entries:
        raise InvalidError("customers must not be empty")
    return entries

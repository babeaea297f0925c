"""Serializer fields that take a value for what it is: ``"false"`` is no boolean, 5 is no name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers


class Text(serializers.CharField):
    """A string, as it was sent; REST framework's field makes one of a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        """Return the string.

        Raises:
            rest_framework.exceptions.ValidationError: it is something else.
        """
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class Truth(serializers.BooleanField):
    """``true`` or ``false``; REST framework's field also takes "yes" and 1."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the boolean.

        Raises:
            rest_framework.exceptions.ValidationError: it is something else.
        """
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Moment(serializers.DateTimeField):
    """A moment in UTC, whatever the site's time zone and date format."""

    def to_representation(self, value: datetime) -> str:
        """Return ISO 8601 with a Z."""
        return value.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"

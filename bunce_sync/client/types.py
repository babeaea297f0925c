"""Segments and customers as this app reads them from Bunce and sends them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class RemoteSegment:
    """A segment as Bunce describes it (developer pages and Node SDK).

    Attributes:
        id: Bunce's id, 1 to 255 printable characters; a UUID according to the documentation.
        name: the name; empty when a response about a single segment has no name that is text.
        description: the description, if any.
        type: ``"automatic"``, ``"manual"`` or a value not known yet, at most 64 characters.
        all_customers: whether every customer belongs to it; ``None`` when not stated.
        conditions: any JSON value.
        customers_count: how many customers belong to it, when stated.
        created_at: when it was created, aware, UTC. Bunce gives no zone; it is read as UTC.
        updated_at: when it was last changed, likewise.
        left_out: which of ``name``, ``description`` and ``conditions`` the response does not
            contain; an explicit null is not left out.
    """

    id: str
    name: str
    description: str | None = None
    type: str | None = None
    all_customers: bool | None = None
    conditions: Any = None
    customers_count: int | None = None
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer to add to a segment: Bunce creates it when unknown, and **updates** it otherwise.

    Attributes that are ``None`` are not sent.

    Raises:
        ValueError: neither ``customer_id`` nor ``email`` is given; Bunce needs one of them.
    """

    customer_id: str | None = None
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone_no: str | None = None
    devices: Sequence[Mapping[str, str]] | None = None

    def __post_init__(self) -> None:
        if not (self.customer_id or self.email):
            raise ValueError("a customer needs a customer_id or an email")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that is sent."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.devices is not None:
            values["devices"] = [dict(device) for device in self.devices]
        return {name: value for name, value in values.items() if value is not None}

"""The emulated data: segments and customers, in memory only."""

from __future__ import annotations

import uuid
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from .clock import now as current_time

CUSTOMER_FIELDS = ("customer_id", "email", "first_name", "last_name", "phone_no", "devices")


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """One segment as Bunce holds it; both times are aware, in UTC, in whole seconds."""

    id: str
    name: str
    description: str | None
    type: str
    all_customers: bool
    customers_count: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StoredCustomer:
    """One customer as Bunce holds them."""

    id: str
    customer_id: str | None = None
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone_no: str | None = None
    devices: tuple[object, ...] = ()


class NameTakenError(Exception):
    """Names must be unique and this one is in use."""


class Store:
    """Segments, customers and memberships. Not thread-safe: the caller holds a lock."""

    def __init__(self) -> None:
        self.segments: dict[str, StoredSegment] = {}
        self.customers: dict[str, StoredCustomer] = {}
        # Kept sorted, so that a page of 100,000 segments needs no sort.
        self.by_age: list[tuple[datetime, int, str]] = []
        self.by_id: list[str] = []
        self._members: dict[str, set[str]] = {}
        self._names: Counter[str] = Counter()
        self._contents: Counter[tuple[str, str]] = Counter()
        self._by_customer_id: dict[str, str] = {}
        self._by_email: dict[str, str] = {}

    def add_segment(
        self,
        name: str,
        description: str | None = None,
        *,
        all_customers: bool = False,
        type: str | None = None,  # noqa: A002 - Bunce's field name
        created_at: datetime | None = None,
        unique: bool = False,
    ) -> StoredSegment:
        """Store a segment.

        Args:
            type: if it is None, ``automatic`` with all customers, as in Bunce's own example of a
                create, or else ``manual``.
            created_at: an aware datetime; now if it is None.
            unique: whether to refuse a name that is in use.

        Raises:
            NameTakenError: ``unique`` is set and another segment has the name.
        """
        if unique and self._names[name]:
            raise NameTakenError(name)
        moment = (created_at or current_time()).astimezone(UTC).replace(microsecond=0)
        members = set(self.customers) if all_customers else set()
        segment = StoredSegment(
            id=str(uuid.uuid4()),
            name=name,
            description=description,
            type=type or ("automatic" if all_customers else "manual"),
            all_customers=all_customers,
            customers_count=len(members),
            created_at=moment,
            updated_at=moment,
        )
        insort(self.by_age, (moment, len(self.segments), segment.id))
        insort(self.by_id, segment.id)
        self.segments[segment.id] = segment
        self._members[segment.id] = members
        self._names[name] += 1
        self._contents[_content(segment)] += 1
        return segment

    def update_segment(
        self, segment_id: str, changes: Mapping[str, str | None], *, unique: bool = False
    ) -> StoredSegment:
        """Change name or description.

        Raises:
            NameTakenError: ``unique`` is set and another segment has the name.
        """
        segment = self.segments[segment_id]
        name = changes.get("name") or segment.name
        if unique and name != segment.name and self._names[name]:
            raise NameTakenError(name)
        self._names[segment.name] -= 1
        self._names[name] += 1
        description = changes.get("description", segment.description)
        changed = self._replace(segment, name=name, description=description)
        self._contents[_content(changed)] += 1
        self._contents[_content(segment)] -= 1
        if not self._contents[_content(segment)]:
            del self._contents[_content(segment)]
        return changed

    def add_customers(self, segment_id: str, entries: Iterable[Mapping[str, object]]) -> None:
        """Put customers into a segment; create unknown ones, update known ones."""
        members = self._members[segment_id]
        for entry in entries:
            members.add(self._keep_customer(entry))
        self._replace(self.segments[segment_id], customers_count=len(members))

    def add_all_customers(self, segment_id: str) -> None:
        """Put every current customer into a segment."""
        self._members[segment_id] = members = set(self.customers)
        self._replace(self.segments[segment_id], all_customers=True, customers_count=len(members))

    def remove_customers(self, segment_id: str, keys: Iterable[str]) -> None:
        """Remove customers, given by customer_id or email, from a segment; ignore unknown ones."""
        members = self._members[segment_id]
        for key in keys:
            found = self._by_customer_id.get(key) or self._by_email.get(key)
            if found is not None:
                members.discard(found)
        self._replace(self.segments[segment_id], customers_count=len(members))

    def members(self, segment_id: str) -> list[StoredCustomer]:
        """Return the customers in a segment, in no particular order."""
        return [self.customers[customer] for customer in self._members[segment_id]]

    def newest(self, count: int) -> list[StoredSegment]:
        """Return the segments created last, newest first."""
        return [self.segments[entry[2]] for entry in reversed(self.by_age[-count:])]

    @property
    def duplicate_count(self) -> int:
        """The number of surplus segments: all but the first of each content."""
        return len(self.segments) - len(self._contents)

    def duplicates(self) -> list[list[StoredSegment]]:
        """Return the groups of segments with the same content, each group oldest first.

        The content is the name and the description without surrounding whitespace; an empty
        and a missing description are the same.
        """
        groups: dict[tuple[str, str], list[StoredSegment]] = {}
        for _, _, segment_id in self.by_age:
            segment = self.segments[segment_id]
            groups.setdefault(_content(segment), []).append(segment)
        return [group for group in groups.values() if len(group) > 1]

    def _replace(self, segment: StoredSegment, **changes: object) -> StoredSegment:
        now = current_time().replace(microsecond=0)
        changed = replace(segment, updated_at=now, **changes)  # type: ignore[arg-type]  # own fields
        self.segments[segment.id] = changed
        return changed

    def _keep_customer(self, entry: Mapping[str, object]) -> str:
        known = {name: entry[name] for name in CUSTOMER_FIELDS if entry.get(name) not in (None, "")}
        if "devices" in known:
            known["devices"] = tuple(known["devices"])  # type: ignore[arg-type]  # validated list
        found = self._by_customer_id.get(str(known.get("customer_id", "")))
        found = found or self._by_email.get(str(known.get("email", "")))
        old = self.customers[found] if found else StoredCustomer(id=str(uuid.uuid4()))
        self._by_customer_id.pop(old.customer_id or "", None)
        self._by_email.pop(old.email or "", None)
        customer = replace(old, **known)  # type: ignore[arg-type]  # validated by the caller
        if customer.customer_id:
            self._by_customer_id[customer.customer_id] = customer.id
        if customer.email:
            self._by_email[customer.email] = customer.id
        self.customers[customer.id] = customer
        return customer.id


def _content(segment: StoredSegment) -> tuple[str, str]:
    return segment.name.strip(), (segment.description or "").strip()

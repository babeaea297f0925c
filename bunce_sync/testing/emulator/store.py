"""The emulated data: segments and customers, in memory only."""

from __future__ import annotations

import uuid
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from .clock import now as current_time

CUSTOMER_FIELDS = ("customer_id", "email", "first_name", "last_name", "phone_no", "devices")


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """One segment as Bunce holds it; both times are aware, in UTC, in whole seconds.

    Args:
        number: the place in the order of storing, from 1; never given to another segment.
    """

    number: int
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


@dataclass(frozen=True, slots=True)
class CustomerTotals:
    """The requests for a segment's customers that took effect, and the entries in them.

    Entries without an effect count too: customers who were in the segment already, or were not.
    """

    add_requests: int = 0
    add_entries: int = 0
    remove_requests: int = 0
    remove_entries: int = 0


class NameTakenError(Exception):
    """Names must be unique and this one is in use."""


class Store:
    """Segments, customers and memberships. Not thread-safe: the caller holds a lock."""

    def __init__(self) -> None:
        self.segments: dict[str, StoredSegment] = {}
        self.customers: dict[str, StoredCustomer] = {}
        # Kept sorted, so that a page of 100,000 segments needs no sort.
        self.by_age: list[tuple[datetime, int, str]] = []  # with the entries of ``age``
        self.by_id: list[str] = []
        self._stored = 0
        # Ordered, so that the page of a large segment needs no sort; smaller than sets.
        self._members: dict[str, dict[str, None]] = {}
        self.customer_totals: dict[str, CustomerTotals] = {}
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
        segment_id: str | None = None,
        unique: bool = False,
    ) -> StoredSegment:
        """Store a segment.

        Args:
            type: if it is None, ``automatic`` with all customers, as in Bunce's own example of a
                create, or else ``manual``.
            created_at: an aware datetime; now if it is None.
            segment_id: a UUID that is not in use; a random one if it is None.
            unique: whether to refuse a name that is in use.

        Raises:
            NameTakenError: ``unique`` is set and another segment has the name.
        """
        if unique and self._names[name]:
            raise NameTakenError(name)
        segment = self._keep_segment(
            name,
            description,
            type=type or ("automatic" if all_customers else "manual"),
            created_at=created_at or current_time(),
            segment_id=segment_id,
            members=dict.fromkeys(self.customers) if all_customers else None,
        )
        insort(self.by_age, age(segment))
        insort(self.by_id, segment.id)
        return segment

    def add_segments(
        self, names: Sequence[str], description: str | None = None
    ) -> list[StoredSegment]:
        """Store a segment for each name, created one second apart, the last one now."""
        first = current_time() - timedelta(seconds=len(names) - 1)
        added = [
            self._keep_segment(
                name, description, type="manual", created_at=first + timedelta(seconds=place)
            )
            for place, name in enumerate(names)
        ]
        # Sorting once takes a fraction of the time of inserting each id in its place.
        self.by_age.extend(map(age, added))
        self.by_age.sort()
        self.by_id.extend(segment.id for segment in added)
        self.by_id.sort()
        return added

    def update_segment(
        self, segment_id: str, changes: Mapping[str, str | None], *, unique: bool = False
    ) -> StoredSegment:
        """Change name or description.

        Raises:
            NameTakenError: ``unique`` is set and another segment has the name.
        """
        segment = self.segments[segment_id]
        changed = replace(segment, updated_at=_now(), **changes)  # type: ignore[arg-type]  # texts
        if unique and changed.name != segment.name and self._names[changed.name]:
            raise NameTakenError(changed.name)
        self._uncount(segment)
        self._count(changed)
        self.segments[segment_id] = changed
        return changed

    def remove_segment(self, segment_id: str) -> StoredSegment:
        """Remove a segment; its customers stay.

        Raises:
            KeyError: there is no such segment.
        """
        segment = self.segments.pop(segment_id)
        del self._members[segment_id]
        del self.customer_totals[segment_id]
        del self.by_age[bisect_left(self.by_age, age(segment))]
        del self.by_id[bisect_left(self.by_id, segment_id)]
        self._uncount(segment)
        return segment

    def add_customers(self, segment_id: str, entries: Iterable[Mapping[str, object]]) -> None:
        """Put customers into a segment; create unknown ones, update known ones."""
        members = self._members[segment_id]
        for entry in entries:
            members[self._keep_customer(entry)] = None
        self._replace(self.segments[segment_id], customers_count=len(members))

    def count_request(self, segment_id: str, *, added: int = 0, removed: int = 0) -> None:
        """Count a request that added or removed so many entries."""
        totals = self.customer_totals[segment_id]
        self.customer_totals[segment_id] = CustomerTotals(
            add_requests=totals.add_requests + bool(added),
            add_entries=totals.add_entries + added,
            remove_requests=totals.remove_requests + bool(removed),
            remove_entries=totals.remove_entries + removed,
        )

    def add_all_customers(self, segment_id: str) -> None:
        """Put every current customer into a segment."""
        self._members[segment_id] = members = dict.fromkeys(self.customers)
        self._replace(self.segments[segment_id], all_customers=True, customers_count=len(members))

    def add_members(self, segment_id: str, identifiers: Iterable[str]) -> None:
        """Put customers, given by customer_id or email, into a segment; create unknown ones.

        Of those, texts with an ``@`` are emails.
        """
        members = self._members[segment_id]
        for text in identifiers:
            found = self._find(text)
            if found is None:
                found = self._keep_customer({"email" if "@" in text else "customer_id": text})
            members[found] = None
        self._replace(self.segments[segment_id], customers_count=len(members))

    def remove_customers(self, segment_id: str, keys: Iterable[str]) -> None:
        """Remove customers, given by customer_id or email, from a segment; ignore unknown ones."""
        members = self._members[segment_id]
        for key in keys:
            found = self._find(key)
            if found is not None:
                members.pop(found, None)
        self._replace(self.segments[segment_id], customers_count=len(members))

    def members(self, segment_id: str) -> list[StoredCustomer]:
        """Return the customers in a segment, in the order in which they were added to it."""
        return [self.customers[customer] for customer in self._members[segment_id]]

    def newest_members(self, segment_id: str, count: int) -> list[StoredCustomer]:
        """Return the customers added to a segment last, newest first."""
        newest = islice(reversed(self._members[segment_id]), count)
        return [self.customers[customer] for customer in newest]

    def member_ids(self, segment_id: str) -> set[str]:
        """Return who is in a segment: the customer_id of each, or the email without one."""
        members = map(self.customers.__getitem__, self._members[segment_id])
        return {member.customer_id or member.email or "" for member in members}

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

    def _keep_segment(
        self,
        name: str,
        description: str | None,
        *,
        type: str,  # noqa: A002 - Bunce's field name
        created_at: datetime,
        segment_id: str | None = None,
        members: dict[str, None] | None = None,
    ) -> StoredSegment:
        """Store a segment, but do not sort it in.

        Args:
            members: the ids of its customers if it has all customers; None if it has none.
        """
        self._stored += 1
        moment = created_at.astimezone(UTC).replace(microsecond=0)
        segment = StoredSegment(
            number=self._stored,
            id=segment_id or str(uuid.uuid4()),
            name=name,
            description=description,
            type=type,
            all_customers=members is not None,
            customers_count=len(members or ()),
            created_at=moment,
            updated_at=moment,
        )
        self.segments[segment.id] = segment
        self._members[segment.id] = members or {}
        self.customer_totals[segment.id] = CustomerTotals()
        self._count(segment)
        return segment

    def _count(self, segment: StoredSegment) -> None:
        self._names[segment.name] += 1
        self._contents[_content(segment)] += 1

    def _uncount(self, segment: StoredSegment) -> None:
        self._names[segment.name] -= 1
        content = _content(segment)
        self._contents[content] -= 1
        if not self._contents[content]:
            del self._contents[content]  # ``duplicate_count`` counts the entries

    def _replace(self, segment: StoredSegment, **changes: object) -> None:
        self.segments[segment.id] = replace(segment, updated_at=_now(), **changes)  # type: ignore[arg-type]  # own fields

    def _find(self, identifier: str) -> str | None:
        return self._by_customer_id.get(identifier) or self._by_email.get(identifier)

    def _keep_customer(self, entry: Mapping[str, object]) -> str:
        known = {name: entry[name] for name in CUSTOMER_FIELDS if entry.get(name) not in (None, "")}
        if "devices" in known:
            known["devices"] = tuple(known["devices"])  # type: ignore[arg-type]  # validated list
        found = self._by_customer_id.get(str(known.get("customer_id", "")))
        found = found or self._by_email.get(str(known.get("email", "")))
        if found is None:
            customer = StoredCustomer(str(uuid.uuid4()), **known)  # type: ignore[arg-type]  # validated by the caller
        else:
            old = self.customers[found]
            if _has(old, known):
                return found
            self._by_customer_id.pop(old.customer_id or "", None)
            self._by_email.pop(old.email or "", None)
            customer = replace(old, **known)  # type: ignore[arg-type]  # validated by the caller
        if customer.customer_id:
            self._by_customer_id[customer.customer_id] = customer.id
        if customer.email:
            self._by_email[customer.email] = customer.id
        self.customers[customer.id] = customer
        return customer.id


def _has(customer: StoredCustomer, values: Mapping[str, object]) -> bool:
    return all(getattr(customer, name) == value for name, value in values.items())


def age(segment: StoredSegment) -> tuple[datetime, int, str]:
    """Return what segments are sorted by: the older, then the one that was stored first."""
    return (segment.created_at, segment.number, segment.id)


def _now() -> datetime:
    return current_time().replace(microsecond=0)


def _content(segment: StoredSegment) -> tuple[str, str]:
    return segment.name.strip(), (segment.description or "").strip()

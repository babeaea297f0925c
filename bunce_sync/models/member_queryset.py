"""Queries for members, and the bulk writes of what the site wants."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import connections, router, transaction
from django.db.models import Q, QuerySet

from bunce_sync import member_transitions
from bunce_sync.choices import MemberStatus
from bunce_sync.customer_entries import CustomerEntry
from bunce_sync.functions import DatabaseNow

if TYPE_CHECKING:
    from bunce_sync.models.member import Member

#: Members that are read and written at a time.
BATCH = 1_000
#: Members whose profiles one statement writes.
PROFILE_BATCH = 200
#: The fields by which it is decided whether a member changes.
COMPARED = (
    *("identifier", "is_email", "wanted", "in_bunce", "status", "late_until"),
    *("profile", "profile_digest"),
)


class MemberQuerySet(QuerySet["Member"]):
    model: type[Member]
    _db: str | None

    def due(self) -> MemberQuerySet:
        """Return the members of which Bunce has to be told now."""
        return self.filter(status=MemberStatus.PENDING, due_at__lte=DatabaseNow())

    def unsent(self) -> MemberQuerySet:
        """Return the members of which Bunce has to be told, now or later."""
        return self.filter(status__in=(MemberStatus.PENDING, MemberStatus.SENDING))

    def abandoned(self) -> MemberQuerySet:
        """Return the members whose lease ended before a worker recorded a result."""
        return self.filter(status=MemberStatus.SENDING, due_at__lte=DatabaseNow())

    def beginning_with(self, *texts: str) -> MemberQuerySet:
        """Return the members whose identifiers begin with one of the texts, by ranges of the index.

        ``startswith`` would look at all members of a segment.

        Raises:
            ValueError: no text can follow one of them.
        """
        found = Q()
        for text in texts:
            following = text[:-1] + chr(ord(text[-1]) + 1)
            found |= Q(identifier__gte=text, identifier__lt=following)
        return self.filter(found)

    def lock_available(self) -> MemberQuerySet:
        """Lock the members that no other transaction has locked, where the database locks rows."""
        if not connections[self.db].features.has_select_for_update_skip_locked:
            return self
        return self.select_for_update(skip_locked=True)

    def locked(self) -> MemberQuerySet:
        """Lock the members until the transaction ends, where the database locks rows."""
        if connections[self.db].features.has_select_for_update:
            return self.select_for_update()
        return self

    def lock_keys(self) -> list[int]:
        """Lock the members in the order of their keys, and return the keys.

        All that write several members do so first, or skip locked ones: in another order they and
        the site's changes could wait for each other.
        """
        keys = self.values_list("pk", flat=True)
        return list(self._in_order(keys).values_list("pk", flat=True))

    def update_statistics(self) -> None:
        """Have PostgreSQL count the members, after many were inserted.

        Until its autovacuum does, it takes a segment for small, and reads all of its members to
        look some up.
        """
        connection = connections[self.write_alias]
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"ANALYZE {connection.ops.quote_name(self.model._meta.db_table)}")

    def delete_keys(self, keys: Sequence[int]) -> None:
        """Delete members that this transaction has locked."""
        connection = connections[self.write_alias]
        if connection.vendor != "mysql":
            self._plain.filter(pk__in=keys).delete()
        elif keys:
            # In a small table it would read all rows, and wait for those that others have locked.
            table = connection.ops.quote_name(self.model._meta.db_table)
            places = ", ".join(["%s"] * len(keys))
            with connection.cursor() as cursor:
                cursor.execute(
                    f"DELETE m FROM {table} m FORCE INDEX (PRIMARY) WHERE m.id IN ({places})",
                    [*keys],
                )

    def _in_order(self, keys: Iterable[int]) -> MemberQuerySet:
        """Return members by their keys alone, locked in the order of the keys.

        By another condition MySQL would lock them in the order of its index.
        """
        every = self.model._default_manager.using(self.write_alias)
        return every.filter(pk__in=[*keys]).locked().order_by("pk")

    # What the site wants. Rows are locked in the order of their keys, so no two callers deadlock.

    def want(
        self, segment_id: int, entries: Iterable[CustomerEntry], *, retry: bool = False
    ) -> Counter[str]:
        """Have customers in a segment.

        Args:
            entries: of customers that are given twice, the last one counts.
            retry: also send those again that Bunce refused.

        Returns:
            How many were ``added``, ``changed`` or ``unchanged``.
        """
        members = self.filter(segment_id=segment_id)
        by_identifier = {entry.identifier: entry for entry in entries}
        identifiers = sorted(by_identifier)
        counts: Counter[str] = Counter()
        with transaction.atomic(using=self.write_alias):
            for start in range(0, len(identifiers), BATCH):
                some = identifiers[start : start + BATCH]
                counts += members.want_some(
                    segment_id, {one: by_identifier[one] for one in some}, retry
                )
        return counts

    def want_some(
        self, segment_id: int, entries: Mapping[str, CustomerEntry], retry: bool
    ) -> Counter[str]:
        """Do what ``want`` does for one batch of customers by identifier."""
        added: set[str] = set()
        changed: set[str] = set()
        left = dict(entries)
        while left:
            known = self._compared(left, lock=len(left) < len(entries))
            if missing := [entry for one, entry in left.items() if one not in known]:
                self.insert_missing(segment_id, missing)
                # Another process may have been quicker, so look at them as at the others.
                known |= self._compared([entry.identifier for entry in missing])
                added.update(entry.identifier for entry in missing)
            differing = {
                row.pk: one
                for one, row in known.items()
                if member_transitions.wanted(row, left[one], retry=retry)
            }
            changed.update(differing.values())
            rows = self._in_order(differing).only(*COMPARED)
            changes = {
                row.pk: member_transitions.wanted(row, left[row.identifier], retry=retry)
                for row in rows
            }
            self.write(changes)
            # A worker may have deleted a row since it was looked at, because Bunce confirmed the
            # removal.
            gone = {one for pk, one in differing.items() if pk not in changes}
            left = {one: each for one, each in left.items() if one in gone or one not in known}
        changed -= added
        return Counter(
            added=len(added),
            changed=len(changed),
            unchanged=len(entries) - len(added) - len(changed),
        )

    def unwant(self, segment_id: int, identifiers: Iterable[str]) -> Counter[str]:
        """Have customers out of a segment; those that are not in it are ignored.

        Returns:
            How many were ``removed`` or ``unchanged``.
        """
        members = self.filter(segment_id=segment_id)
        unique = sorted({*identifiers})
        counts: Counter[str] = Counter()
        with transaction.atomic(using=self.write_alias):
            for start in range(0, len(unique), BATCH):
                some = unique[start : start + BATCH]
                counts["removed"] += members.filter(identifier__in=some).unwant_all()
        counts["unchanged"] = len(unique) - counts["removed"]
        return counts

    def unwant_all(self) -> int:
        """Have all of these members out of their segments; return how many were in them.

        Call it in a transaction, for a limited number of members.
        """
        keys = self.filter(wanted=True).values_list("pk", flat=True)
        rows = list(self._in_order(keys).filter(wanted=True).only(*COMPARED))
        values = {row.pk: member_transitions.unwanted(row) for row in rows}
        if never_told := [pk for pk, each in values.items() if each is None]:
            self.delete_keys(never_told)
        self.write({pk: each for pk, each in values.items() if each})
        return len(rows)

    def insert_missing(self, segment_id: int, entries: Sequence[CustomerEntry]) -> None:
        """Insert members that wait to be sent; those that exist are left as they are.

        In SQL, and with the columns alone that differ from their defaults: ``bulk_create`` takes
        four times as long, which counts for a million members.
        """
        connection = connections[self.write_alias]
        quote = connection.ops.quote_name
        meta: Any = self.model._meta
        columns = ", ".join(quote(meta.get_field(name).column) for name in _INSERTED)
        on_mysql = connection.vendor == "mysql"
        verb = "INSERT IGNORE INTO" if on_mysql else "INSERT INTO"
        insert = f"{verb} {quote(meta.db_table)} ({columns})"
        ending = "" if on_mysql else " ON CONFLICT DO NOTHING"
        row = f"({', '.join(['%s'] * len(_INSERTED))})"
        for start in range(0, len(entries), BATCH):
            some = entries[start : start + BATCH]
            values: list[Any] = []
            for entry in some:
                profile = json.dumps(dict(entry.profile)) if entry.profile else None
                values += (segment_id, entry.identifier, entry.is_email, profile, entry.digest)
            rows = ", ".join([row] * len(some))
            with connection.cursor() as cursor:
                cursor.execute(f"{insert} VALUES {rows}{ending}", values)

    def write(self, changes: Mapping[int, Mapping[str, Any]]) -> None:
        """Write the values of each member, with one statement for those that get the same."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        profiles = []
        for pk, values in changes.items():
            if not values:
                continue
            same = {name: value for name, value in values.items() if name not in _PROFILE}
            groups.setdefault(tuple(sorted(same.items(), key=_by_name)), []).append(pk)
            if "profile" in values:
                own = {name: values[name] for name in _PROFILE}
                profiles.append(self.model(pk=pk, **own))
        for group, keys in groups.items():
            self._plain.filter(pk__in=keys).update(**dict(group))
        if profiles:
            self._plain.bulk_update(profiles, _PROFILE, batch_size=PROFILE_BATCH)

    def _compared(self, identifiers: Iterable[str], *, lock: bool = False) -> dict[str, Member]:
        rows = self.filter(identifier__in=[*identifiers]).only(*COMPARED)
        if lock:
            rows = self._in_order(rows.values_list("pk", flat=True)).only(*COMPARED)
        return {row.identifier: row for row in rows}

    @property
    def write_alias(self) -> str:
        """The database where these rows are written; ``db`` could be a replica."""
        return self._db or router.db_for_write(self.model)

    @property
    def _plain(self) -> QuerySet[Member]:
        return self.model._base_manager.using(self.write_alias)


_INSERTED = ("segment", "identifier", "is_email", "profile", "profile_digest")
_PROFILE = ("is_email", "profile", "profile_digest")


def _by_name(item: tuple[str, Any]) -> str:
    return item[0]


#: The condition for members that Bunce has in the segment, as far as is known.
TOLD = Q(in_bunce=True)

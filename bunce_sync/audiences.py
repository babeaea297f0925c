"""Audiences: segments whose customers come from a queryset of the site.

A site subclasses ``Audience`` in the ``audiences.py`` of one of its apps, which is found like
``admin.py``. See docs/audiences.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from django.core.exceptions import FieldError, ValidationError
from django.db import NotSupportedError
from django.db.models import F, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Lower

from bunce_sync.customer_entries import FIELDS, CustomerEntry, InvalidCustomer, read_entry

__all__ = ["Audience", "register"]

#: Rows of the queryset that are read at a time.
CHUNK = 2_000


class Audience:
    """A segment whose customers come from a queryset.

    A worker creates the segment, compares the queryset with the customers it has, and sends the
    differences to Bunce. The class owns the segment's name and description.

    Attributes:
        key: identifies the audience for good; by default made of the class's name. With another
            key it is another audience, with a segment of its own.
        name: the segment's name; it may change.
        description: the segment's description.
        interval: how often the queryset is compared; None for only on demand.
        customer_id: the field or expression of the queryset with the site's id of the customer.
        email: that with the email address. One of ``customer_id`` and ``email`` is needed; without
            ``customer_id`` the address identifies the customer.
        first_name: likewise. Bunce updates the customer with what is named here, so only fields
            that are named are sent.
        last_name: likewise.
        phone_no: likewise.
        max_removals: how many customers may be removed within 24 hours without a person's
            confirmation. More are held if they are also more than ``max_removal_share``.
        max_removal_share: the same as a share of the members, from 0 to 1.
    """

    key: ClassVar[str] = ""
    name: ClassVar[Any] = ""
    description: ClassVar[Any] = ""
    interval: ClassVar[timedelta | None] = None
    customer_id: ClassVar[str | Combinable] = ""
    email: ClassVar[str | Combinable] = ""
    first_name: ClassVar[str | Combinable] = ""
    last_name: ClassVar[str | Combinable] = ""
    phone_no: ClassVar[str | Combinable] = ""
    max_removals: ClassVar[int] = 100
    max_removal_share: ClassVar[float] = 0.3

    def get_queryset(self) -> QuerySet[Any]:
        """Return the rows of the customers who belong to the segment; one may occur repeatedly."""
        raise NotImplementedError(f"{type(self).__name__}.get_queryset() is not defined.")

    def is_suppressed(self, identifiers: Sequence[str]) -> Collection[str]:
        """Return those of the customers who must not be in the segment, whatever the queryset says.

        For opt-outs and missing consent.

        Args:
            identifiers: as they are sent: the site's ids as text, or addresses in lower case.
        """
        return ()

    @classmethod
    def get_key(cls) -> str:
        """Return the key: ``paying_customers`` for a class ``PayingCustomers`` without one."""
        return (
            cls.key
            or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", cls.__name__).lower()
        )

    @classmethod
    def get_path(cls) -> str:
        """Return where the class is defined."""
        return f"{cls.__module__}.{cls.__qualname__}"

    # For the sync

    def read(self, skipped: Counter[str] | None = None) -> Iterator[dict[str, CustomerEntry]]:
        """Yield the customers of the queryset by identifier, some thousands at a time.

        A customer may occur in several of the parts.

        Args:
            skipped: counts the rows without a usable identifier (``unusable``) and the
                customers who are ``suppressed``.
        """
        for rows in _parts(self.get_queryset(), [*self._columns.values()]):
            yield self._entries(rows, Counter() if skipped is None else skipped)

    def present(self, identifiers: Sequence[str]) -> list[CustomerEntry]:
        """Return those of some customers who are in the queryset now.

        A queryset that cannot be filtered by identifiers returns none.
        """
        column: Any = self.customer_id or self.email
        expression = F(column) if isinstance(column, str) else column
        if not self.customer_id:
            expression = Lower(expression)
        rows = self.get_queryset()  # what it raises must not look like an empty queryset
        try:
            rows = rows.annotate(bunce_identifier=expression)
            rows = rows.filter(bunce_identifier__in=[*identifiers])
        except (FieldError, ValidationError, ValueError, TypeError, NotSupportedError):
            return []
        found = [*rows.values_list("pk", *self._columns.values())]
        return [*self._entries(found, Counter()).values()]

    @property
    def _columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FIELDS if getattr(self, name)}

    def _entries(
        self, rows: Sequence[Sequence[Any]], skipped: Counter[str]
    ) -> dict[str, CustomerEntry]:
        names = [*self._columns]
        entries = {}
        for _pk, *values in rows:
            try:
                entry = read_entry(dict(zip(names, values, strict=True)))
            except InvalidCustomer:
                skipped["unusable"] += 1
            else:
                entries[entry.identifier] = entry
        for identifier in self.is_suppressed([*entries]):
            if entries.pop(identifier, None):
                skipped["suppressed"] += 1
        return entries


def _parts(rows: QuerySet[Any], columns: Sequence[Any]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a queryset as tuples, the primary key first, in bounded memory."""
    query = rows.query
    if query.is_sliced or query.combinator or query.distinct_fields:
        part = []
        for row in rows.values_list("pk", *columns).iterator(chunk_size=CHUNK):
            part.append(row)
            if len(part) == CHUNK:
                yield part
                part = []
        if part:
            yield part
        return
    # By ranges of the key: MySQL and some pools would load the whole result.
    ordered = rows.order_by("pk").values_list("pk", *columns)
    remaining, size = ordered, CHUNK
    while True:
        part = list(remaining[:size])
        if len(part) < size:
            if part:
                yield part
            return
        # Joins may give a key several rows, of which the last ones are still to come.
        last = part[-1][0]
        complete = [row for row in part if row[0] != last]
        if not complete:
            size *= 2
            continue
        yield complete
        remaining, size = ordered.filter(pk__gte=last), CHUNK


# The registry

A = TypeVar("A", bound=type[Audience])
_registered: dict[str, type[Audience]] = {}


def register(audience: A) -> A:
    """Register an audience, as a class decorator."""
    _registered[audience.get_path()] = audience
    return audience


def unregister(audience: type[Audience]) -> None:
    """Undo ``register``, for tests."""
    _registered.pop(audience.get_path(), None)


def registered() -> list[type[Audience]]:
    """Return all registered classes."""
    return [*_registered.values()]


def get(key: str | None) -> Audience | None:
    """Return the audience with a key; None if there is none, because its class is gone, say."""
    return next((cls() for cls in _registered.values() if cls.get_key() == key), None)


def all_audiences() -> list[Audience]:
    """Return all audiences, sorted by their keys."""
    by_key = {cls.get_key(): cls for cls in reversed(_registered.values())}
    return [by_key[key]() for key in sorted(by_key)]

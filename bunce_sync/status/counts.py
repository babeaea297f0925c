"""Counts that stay quick when the table holds a million rows: capped, or estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from django.db import connections
from django.db.models import IntegerField, Model, QuerySet, Subquery

#: Counted exactly up to here; beyond, nobody needs the last digit.
CAP = 10_000

Precision = Literal["exact", "at_least", "about"]


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows, and how far it is to be trusted.

    Attributes:
        value: the number.
        precision: ``exact``, ``at_least`` (counting stopped there), or ``about`` (an estimate).
    """

    value: int
    precision: Precision = "exact"


class CappedCount(Subquery):
    """How many rows a queryset has, at most ``CAP + 1``: one number inside another query."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) capped)"
    output_field = IntegerField()

    def __init__(self, rows: QuerySet[Any, Any], field: str, **extra: Any) -> None:
        """Take the rows; ``field`` is one of the index that finds them, so that it suffices."""
        super().__init__(rows.order_by().values(field)[: CAP + 1], **extra)


def capped(counted: int) -> Count:
    """What a count that was stopped at ``CAP + 1`` says."""
    return Count(counted) if counted <= CAP else Count(CAP, "at_least")


def estimated_rows(model: type[Model], using: str) -> int | None:
    """About how many rows the table has, as the database's planner believes.

    Returns:
        None where the database keeps no such figure (SQLite), or has not looked yet.
    """
    connection = connections[using]
    table = model._meta.db_table
    if connection.vendor == "postgresql":
        sql = "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)"
        table = connection.ops.quote_name(table)
    elif connection.vendor == "mysql":
        sql = (
            "SELECT table_rows FROM information_schema.tables"
            " WHERE table_schema = DATABASE() AND table_name = %s"
        )
    else:
        return None
    with connection.cursor() as cursor:
        cursor.execute(sql, [table])
        row = cursor.fetchone()
    return int(row[0]) if row and row[0] is not None and row[0] >= 0 else None

"""Rows in any number, made by the database itself."""

from __future__ import annotations

from django.db import connections


def add_segments(alias: str, count: int, *, table: str = "bunce_sync_segment") -> None:
    """Insert rows that wait, as raw SQL elsewhere might.

    Args:
        table: one whose columns have database defaults, ``name`` apart.
    """
    numbers = _numbers(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} (name) SELECT 'Segment ' || n {numbers}", [count])


def _numbers(alias: str) -> str:
    if connections[alias].vendor == "postgresql":
        return "FROM generate_series(1, %s) AS n"
    return (
        "FROM (WITH RECURSIVE counted(n) AS"
        " (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < %s) SELECT n FROM counted)"
    )

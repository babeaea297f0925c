"""A clock that a test controls, instead of those of the database and the process."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from django.db.models.expressions import Func

from bunce_sync.functions import DatabaseNow
from bunce_sync.sync import clock

#: Not on a full second: SQLite compares times as text, and Django leaves out a fraction of zero.
START = datetime(2026, 3, 1, 12, microsecond=1, tzinfo=UTC)


#: How far the clock moves each time the database is asked: two statements never see one time.
TICK = timedelta(microseconds=1)


class VirtualTime:
    """The time in a test. Both clocks move together, so the app detects no jump."""

    def __init__(self) -> None:
        self.now = START

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        """Return what ``time.monotonic`` would."""
        return (self.now - START).total_seconds()

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Make the database and the app use this clock."""

        def literal(cast: str) -> Any:
            def compile_now(
                expression: Func, compiler: Any, connection: Any, **extra: Any
            ) -> tuple[str, list[str]]:
                self.now += TICK
                return cast, [f"{self.now:%Y-%m-%d %H:%M:%S.%f}"]

            return compile_now

        with (
            patch.object(DatabaseNow, "as_sqlite", literal("%s")),
            patch.object(DatabaseNow, "as_mysql", literal("CAST(%s AS DATETIME(6))")),
            patch.object(DatabaseNow, "as_postgresql", literal("(%s || '+00')::timestamptz")),
            patch.object(clock, "clocks", self),
        ):
            yield

"""Something that happens between two statements of a process: its death, or what another does."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from django.db import connection

from bunce_sync.models import SegmentQuerySet


@contextmanager
def interrupted(*, at: int, by: Callable[[], object], depth: float = math.inf) -> Iterator[None]:
    """Call a function before the database executes a statement of the block.

    Args:
        at: the number of the statement, from 1. If there are fewer, nothing happens.
        by: what happens; it may raise.
        depth: in how many of the block's transactions and savepoints it can happen. What another
            process does would be undone with them: the test has one connection.
    """
    outside = len(connection.savepoint_ids)
    statements = 0
    happened = False

    def execute_one(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal statements, happened
        level = len(connection.savepoint_ids) - outside
        if sql.startswith("ROLLBACK"):
            level += 1  # Django has left the savepoint, but what happens now would be undone
        if not happened and level <= depth:
            statements += 1
            if statements >= at:
                happened = True
                with another_process():
                    by()
        return execute(sql, params, many, context)

    try:
        with connection.execute_wrapper(execute_one):
            yield
    finally:
        # Django takes the test's transaction for broken if an update outside the block's own
        # transactions ends with an exception; the statement was not executed.
        if happened and connection.in_atomic_block:
            connection.set_rollback(False)


@contextmanager
def another_process() -> Iterator[None]:
    """Permit durable transactions, as in a process that has no transaction under way."""
    under_way = connection.atomic_blocks[-1]
    with patch.object(under_way, "_from_testcase", True):
        yield


class Locks:
    """The rows that a block has locked, which SQLite does not do; others cannot write them.

    Attributes:
        keys: their keys.
    """

    def __init__(self) -> None:
        self.keys: set[int] = set()

    def __enter__(self) -> Self:
        def locking(lock: Callable[[SegmentQuerySet], SegmentQuerySet]) -> Any:
            def lock_and_note(rows: SegmentQuerySet) -> SegmentQuerySet:
                self.keys |= {*rows.values_list("pk", flat=True)}
                return lock(rows)

            return lock_and_note

        self._patches = [
            patch.object(SegmentQuerySet, name, locking(getattr(SegmentQuerySet, name)))
            for name in ("locked", "lock_available")
        ]
        for one in self._patches:
            one.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for one in self._patches:
            one.stop()
        self.keys.clear()

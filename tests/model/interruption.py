"""Something that happens between two statements of a process: its death, or what another does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection


@contextmanager
def interrupted(*, at: int, by: Callable[[], object], in_transactions: bool) -> Iterator[None]:
    """Call a function before the database executes a statement of the block.

    Args:
        at: the number of the statement, from 1. If there are fewer, nothing happens.
        by: what happens; it may raise.
        in_transactions: also inside the transactions of the block. What another process does can
            happen only outside of them: the test has one connection.
    """
    outside = len(connection.savepoint_ids)
    statements = 0
    happened = False

    def execute_one(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal statements, happened
        if not happened and (in_transactions or len(connection.savepoint_ids) == outside):
            statements += 1
            if statements >= at:
                happened = True
                by()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(execute_one):
        yield

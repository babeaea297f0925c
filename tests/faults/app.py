"""The sample site's Celery app, in which a worker fails at a point that a test names.

    celery -A tests.faults.app worker

A row named "kill@claimed" kills the process that has just claimed it, with SIGKILL. This happens
once; afterwards the row is like any other. The action is before the @, the point after it:

    kill   SIGKILL to this process                claiming    the claim is not yet committed
    stop   SIGSTOP: the test continues it         claimed     committed, nothing is sent
    term   SIGTERM to the worker and its          sent        the request has left
           processes, as systemd does             answered    the result is not yet recorded
    cut    the database connection is cut         recording   the record is not yet committed
                                                  recorded    committed

For each row whose fault has occurred, FAULT_FOLDER contains a file with the name of the row and the
process id. FAULT_COPIES is the number of times that every message is sent.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any

import django
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from project.celery import app as app

django.setup()

from bunce_sync import tasks  # noqa: E402 - the models have to be ready
from bunce_sync.client import connection as wire  # noqa: E402
from bunce_sync.models import Segment  # noqa: E402
from bunce_sync.results import Result  # noqa: E402
from bunce_sync.sync.budget import Budget  # noqa: E402
from bunce_sync.sync.push import Push  # noqa: E402

_folder = Path(os.environ.get("FAULT_FOLDER", "/nonexistent"))
_row: Segment | None = None
#: The points before and after the commit of a push's open transaction.
_transaction: list[tuple[str, str]] = []


def reach(point: str) -> str:
    """Fail here if the name of the row that is being pushed says so; return what happened."""
    if _row is None or not _row.name.endswith(f"@{point}"):
        return ""
    marker = _folder / _row.name
    if marker.exists():
        return ""
    what = _row.name.partition("@")[0]
    if what == "cut":
        cut_connection()  # before the file is written: the cut may fail
    marker.write_text(str(os.getpid()))
    match what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "term":
            os.killpg(os.getpgrp(), signal.SIGTERM)
            time.sleep(60)  # until it arrives
    return what


def cut_connection() -> None:
    """Have the server terminate this process's database connection, as an administrator would."""
    own: Any = connection.connection
    with closing(connection.copy()) as other, other.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [own.info.backend_pid])
        else:
            cursor.execute(f"KILL CONNECTION {int(own.thread_id())}")


def around(owner: Any, name: str, before: str = "", after: str = "") -> None:
    """Wrap a method so that it reaches a point before or after it runs."""
    function: Callable[..., Any] = getattr(owner, name)

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            reach(before)
        result = function(*args, **kwargs)
        if after:
            reach(after)
        return result

    setattr(owner, name, wrapped)


def remember_row() -> None:
    """Note which row is being pushed."""
    run = Push.run

    def wrapped(self: Push, budget: Budget) -> Result | None:
        global _row
        _row = self.row
        try:
            return run(self, budget)
        finally:
            _row = None

    setattr(Push, run.__name__, wrapped)


def reach_at_commits() -> None:
    """Reach the points before and after a commit.

    A connection that is cut after the commit breaks before this process learns of the commit.
    """
    commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]

    def wrapped(self: BaseDatabaseWrapper) -> Any:
        before, after = _transaction[-1] if _transaction else ("", "")
        if before:
            reach(before)
        result = commit(self)
        if after and reach(after) == "cut":
            raise OperationalError("the connection broke during the commit")
        return result

    BaseDatabaseWrapper._commit = wrapped  # type: ignore[attr-defined]


def within(name: str, *, before: str, after: str) -> None:
    """Let commits reach these points while a method of ``Push`` runs."""
    method: Callable[..., Any] = getattr(Push, name)

    @wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _transaction.append((before, after))
        try:
            return method(*args, **kwargs)
        finally:
            _transaction.pop()

    setattr(Push, name, wrapped)


def send_copies(count: int) -> None:
    """Send every message several times."""
    apply_async = tasks.BunceTask.apply_async

    def wrapped(self: Any, *args: Any, **options: Any) -> Any:
        for _ in range(count - 1):
            apply_async(self, *args, **options)
        return apply_async(self, *args, **options)

    tasks.BunceTask.apply_async = wrapped  # type: ignore[method-assign]


remember_row()
within("reserve", before="claiming", after="claimed")
around(wire.PlainConnection, "getresponse", before="sent")
around(Push, "perform", after="answered")
within("record", before="recording", after="recorded")
reach_at_commits()
if copies := int(os.environ.get("FAULT_COPIES", "1")):
    send_copies(copies)

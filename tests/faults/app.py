"""The sample site's Celery app, in which a worker comes to grief at a point that a test names.

    celery -A tests.faults.app worker

A row named "kill@claimed" kills, by SIGKILL, the process that has just claimed it; once, then it is
a row like any other. In front of the @ stands what happens, behind it where:

    kill   SIGKILL to this process                claiming    the claim is not yet committed
    stop   SIGSTOP: it is for the test to wake    claimed     committed, nothing is sent
    term   SIGTERM to the worker and its          sent        the request has left
           processes, as systemd does             answered    the answer is here, not recorded
    cut    the database connection is cut         recording   the record is not yet committed
                                                  recorded    committed

FAULT_FOLDER gets a file with the name of each row that has had its turn, holding the process's id.
With FAULT_COPIES every message is sent so many times.
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
from bunce_sync.sync import ledger, push  # noqa: E402

POINTS = ("claiming", "claimed", "sent", "answered", "recording", "recorded")
#: Of these a connection can be cut: the commits, of which it is then not known whether they were.
COMMITS = ("claiming", "claimed", "recording", "recorded")

_folder = Path(os.environ.get("FAULT_FOLDER", "/nonexistent"))
_row: Segment | None = None
#: Where in a push this process is, for commits: the points that they reach.
_stage: list[str] = []


def reach(point: str) -> str:
    """Come to grief here, if the row at work says so; what happened, if that can be told."""
    if _row is None or not _row.name.endswith(f"@{point}"):
        return ""
    marker = _folder / _row.name
    if marker.exists():
        return ""
    what = _row.name.partition("@")[0]
    if what == "cut":
        cut_connection()  # before the mark: a cut that failed has not happened
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
    """Have the server end this process's database connection, as an administrator would."""
    own: Any = connection.connection
    with closing(connection.copy()) as other, other.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [own.info.backend_pid])
        else:
            cursor.execute(f"KILL CONNECTION {int(own.thread_id())}")


def around(module: Any, name: str, before: str = "", after: str = "") -> None:
    """Reach a point before a function, or after it."""
    function: Callable[..., Any] = getattr(module, name)

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            reach(before)
        result = function(*args, **kwargs)
        if after:
            reach(after)
        return result

    setattr(module, name, wrapped)


def remember_row() -> None:
    """Note which row is at work, for the points to know."""
    push_row: Callable[..., bool] = push._push_row

    def wrapped(row: Segment, *args: Any, **options: Any) -> bool:
        global _row
        _row = row
        try:
            return push_row(row, *args, **options)
        finally:
            _row = None

    setattr(push, push_row.__name__, wrapped)


def reach_at_commits() -> None:
    """Reach the points where the server has committed; cut there, this side does not learn it."""
    commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]

    def wrapped(self: BaseDatabaseWrapper) -> Any:
        result = commit(self)
        if _stage and reach(_stage[-1]) == "cut":
            raise OperationalError("the connection broke while waiting for the commit's answer")
        return result

    BaseDatabaseWrapper._commit = wrapped  # type: ignore[attr-defined]


def within(name: str, point: str) -> None:
    """While this function of ``push`` runs, a commit means that the point is reached."""
    function: Callable[..., Any] = getattr(push, name)

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _stage.append(point)
        try:
            return function(*args, **kwargs)
        finally:
            _stage.pop()

    setattr(push, name, wrapped)


def send_copies(count: int) -> None:
    """Let every message be sent several times."""
    apply_async = tasks.BunceTask.apply_async

    def wrapped(self: Any, *args: Any, **options: Any) -> Any:
        for _ in range(count - 1):
            apply_async(self, *args, **options)
        return apply_async(self, *args, **options)

    tasks.BunceTask.apply_async = wrapped  # type: ignore[method-assign]


remember_row()
around(ledger, "begin", after="claiming")
within("claim", "claimed")
around(wire.PlainConnection, "getresponse", before="sent")
around(push, "send", after="answered")
around(ledger, "finish", after="recording")
within("record", "recorded")
reach_at_commits()
if copies := int(os.environ.get("FAULT_COPIES", "1")):
    send_copies(copies)

"""What an audience costs: its first sync, the next ones, and one request for each customer.

    python -m benchmarks customers [--customers 1000000] [--database postgresql sqlite]

Each step is a new process that compares the audience and sends to an emulator in another one,
without a rate limit: first all customers, then again after one percent were replaced, then again
without a change. Memory is the peak of the process. Before that, a backlog of segments and one of
customers share a rate limit.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
from collections.abc import Callable
from datetime import timedelta
from threading import Thread
from time import perf_counter
from typing import Any

from django.core.management import call_command
from django.db import connection

from benchmarks.emulator import serving
from benchmarks.machine import Goal, print_table
from benchmarks.scale import DATABASES, database
from benchmarks.stack import call_in_process

SECONDS, AIM_SECONDS, MEGABYTES = 600.0, 300.0, 200.0
DIFFERENCE_SECONDS, AIM_DIFFERENCE = 60.0, 30.0
FEWER = 90.0
#: How a limit is shared: requests in a window of seconds, and for how long it is watched.
SHARE_LIMIT, SHARE_WINDOW, SHARE_SECONDS = 100, 10, 45
SHARED = ("create", "add")
WRITE = re.compile(r'(INSERT INTO|UPDATE|DELETE FROM) [`"]?bunce_sync_member\b')
INSERT = (
    "INSERT INTO auth_user (username, password, first_name, last_name, email, is_superuser,"
    " is_staff, is_active, date_joined) SELECT 'c-' || n, '', '', '', 'c-' || n || '@example.com',"
    " (1 = 0), (1 = 0), (1 = 1), CURRENT_TIMESTAMP FROM "
)
NUMBERS = {
    "postgresql": "generate_series(%s, %s) AS numbers(n)",
    "sqlite": (
        "(WITH RECURSIVE numbers(n) AS (SELECT %s UNION ALL SELECT n + 1 FROM numbers WHERE n < %s)"
        " SELECT n FROM numbers)"
    ),
}


def migrate() -> None:
    """Create the tables. Runs in a process of its own."""
    call_command("migrate", verbosity=0)


def add_users(first: int, last: int) -> None:
    """Add users with these numbers. Runs in a process of its own."""
    with connection.cursor() as cursor:
        cursor.execute(INSERT + NUMBERS[connection.vendor], [first, last])


def remove_users(first: int, last: int) -> None:
    """Deactivate users with these numbers. Runs in a process of its own."""
    from django.contrib.auth.models import User

    names = [f"c-{number}" for number in range(first, last + 1)]
    User.objects.filter(username__in=names).update(is_active=False)


def sync() -> dict[str, Any]:
    """Compare the audience and send everything; return what that took. In a process of its own."""
    from django.contrib.auth.models import User

    from bunce_sync.audiences import Audience
    from bunce_sync.models import ApiCall, CustomerSync, Member
    from bunce_sync.sync import audience_runs, customers, push, refresh
    from bunce_sync.sync.budget import Budget

    class Everybody(Audience):
        name = "Everybody"
        interval = timedelta(hours=1)
        customer_id = "username"

        def get_queryset(self) -> Any:
            return User.objects.filter(is_active=True)

    writes: list[str] = []

    def watch(execute: Any, sql: str, *arguments: Any) -> Any:
        if WRITE.match(sql):
            writes.append(sql[:40])
        return execute(sql, *arguments)

    before = ApiCall.objects.exclude(operation="create").count()
    began = perf_counter()
    with connection.execute_wrapper(watch):
        audience_runs.compare(Everybody())
        compared = perf_counter()
        segment_id = CustomerSync.objects.get().pk
        push.push(segment_id)
        while Member.objects.unsent().exists():
            customers.run(Budget(60))
        refresh.run(Budget(60))
    return {
        "seconds": perf_counter() - began,
        "difference": compared - began,
        "requests": ApiCall.objects.exclude(operation="create").count() - before,
        "writes": len(writes),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "members": Member.objects.filter(status="in_bunce").count(),
    }


def share(seconds: float) -> dict[str, int]:
    """Send a backlog of segments and one of customers at once; in a process of its own.

    Returns:
        How many requests of each were made, after the first window.
    """
    from django.db import connections

    from bunce_sync.models import ApiCall, Segment
    from bunce_sync.sync import customers, push, shared_state
    from bunce_sync.sync.budget import Budget

    segment = Segment.objects.create(name="With customers")
    push.push(segment.pk)
    segment.add_customers(f"c-{number}" for number in range(50_000))
    Segment.objects.bulk_create(Segment(name=f"Segment {number}") for number in range(2_000))
    ends = perf_counter() + seconds

    def work(run: Callable[[Budget], object]) -> None:
        while perf_counter() < ends:
            run(Budget(1))
        connections.close_all()

    began = shared_state.now()
    threads = [Thread(target=work, args=[run]) for run in (customers.run, push.run) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    later = ApiCall.objects.filter(started_at__gt=began + timedelta(seconds=SHARE_WINDOW + 2))
    counts = {operation: later.filter(operation=operation).count() for operation in SHARED}
    return {**counts, "refused": ApiCall.objects.filter(http_status=429).count()}


def measure_share() -> None:
    """Measure how customers and segments share the limit, and print."""
    with (
        database("postgresql") as url,
        serving(rate_limit=SHARE_LIMIT, window=SHARE_WINDOW) as (
            port,
            _pipe,
        ),
    ):
        env = {
            **os.environ,
            "DATABASE_URL": url,
            "BUNCE_API_KEY": "sk_test_benchmark",
            "BUNCE_RATE_LIMIT": str(SHARE_LIMIT),
            "BUNCE_RATE_WINDOW": str(SHARE_WINDOW),
            "BUNCE_BASE_URL": f"http://127.0.0.1:{port}/v1",
        }
        call_in_process(env, migrate)
        counts = call_in_process(env, share, SHARE_SECONDS)
    made = counts["create"] + counts["add"]
    print_table(
        f"A backlog of segments beside one of customers, {SHARE_LIMIT} requests in"
        f" {SHARE_WINDOW} s, for {SHARE_SECONDS} s",
        ("creates of segments", "batches of customers", "responses 429"),
        [[counts["create"], counts["add"], counts["refused"]]],
        Goal("share of the segments", counts["create"] / made, must=0.5, least=True),
        Goal("responses 429", counts["refused"], must=0, form="{:.0f}"),
    )


def measure(kind: str, number: int) -> tuple[list[list[object]], list[Goal]]:
    """Measure on one kind of database; return rows of the table, and the goals."""
    changed = number // 200  # so many leave and so many come: one percent in all
    with database(kind) as url, serving() as (port, _pipe):
        env = {
            **os.environ,
            "DATABASE_URL": url,
            "BUNCE_API_KEY": "sk_test_benchmark",
            "BUNCE_RATE_LIMIT": "none",
            "BUNCE_BASE_URL": f"http://127.0.0.1:{port}/v1",
        }
        call_in_process(env, migrate)
        call_in_process(env, add_users, 1, number)
        first = call_in_process(env, sync)
        call_in_process(env, remove_users, 1, changed)
        call_in_process(env, add_users, number + 1, number + changed)
        second = call_in_process(env, sync)
        third = call_in_process(env, sync)
    if not first["members"] == second["members"] == third["members"] == number:
        raise AssertionError(json.dumps([first, second, third]))
    rows: list[list[object]] = [
        [
            *(kind, step, f"{took['requests']:,}", f"{took['difference']:.1f}"),
            *(f"{took['seconds']:.1f}", f"{took['megabytes']:.0f}", f"{took['writes']:,}"),
        ]
        for step, took in (("first", first), ("1 % changed", second), ("no change", third))
    ]
    goals = [
        Goal(f"{kind}: requests", first["requests"], must=number / 100 + 1, form="{:.0f}"),
        Goal(f"{kind}: seconds", first["seconds"], SECONDS, AIM_SECONDS, form="{:.0f}"),
        Goal(f"{kind}: MB", first["megabytes"], must=MEGABYTES, form="{:.0f}"),
        Goal(
            f"{kind}: requests after a change of 1 %", second["requests"],
            must=number / 5_000 + 1, form="{:.0f}",
        ),
        Goal(
            f"{kind}: seconds of that comparison", second["difference"],
            DIFFERENCE_SECONDS, AIM_DIFFERENCE, form="{:.1f}",
        ),
        Goal(f"{kind}: requests without a change", third["requests"], must=1, form="{:.0f}"),
        Goal(f"{kind}: writes to members then", third["writes"], must=0, form="{:.0f}"),
        Goal(
            f"{kind}: times fewer requests than customers", number / first["requests"],
            must=FEWER, least=True, form="{:.1f}",
        ),
    ]  # fmt: skip
    return rows, goals


def main(arguments: list[str]) -> None:
    """Measure each kind of database, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks customers")
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--database", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--only-share", action="store_true", help="only measure who uses the limit")
    options = parser.parse_args(arguments)
    measure_share()
    if options.only_share:
        return
    measured = [measure(kind, options.customers) for kind in options.database]
    print_table(
        f"An audience of {options.customers:,} customers, 100 a request",
        (
            *("database", "sync", "requests", "s of the comparison", "s in all", "MB"),
            "writes to members",
        ),
        [row for rows, _goals in measured for row in rows],
        *(goal for _rows, goals in measured for goal in goals),
    )

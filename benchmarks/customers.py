"""What an audience costs: its first sync, the next ones, and one request for each customer.

    python -m benchmarks customers [--customers 1000000] [--database postgresql sqlite]

Each step is a new process that compares the audience and sends to an emulator in another one,
without a rate limit: first with an audience of ten, then all customers, then again after one
percent were replaced, then again without a change. Memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
from datetime import timedelta
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
    options = parser.parse_args(arguments)
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

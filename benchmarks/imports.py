"""What an import of a large account costs, without a rate limit.

    python -m benchmarks imports [--segments 100000] [--database postgresql sqlite]

Each run is a new process that imports from an emulator in another one: first from an empty account,
then all segments, then all of them again. Memory is the peak of the process above that of the
first run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
from time import perf_counter
from typing import Any

from django.core.management import call_command
from django.db import connection

from benchmarks.emulator import serving
from benchmarks.machine import Goal, print_table
from benchmarks.scale import DATABASES, database
from benchmarks.stack import call_in_process

PAGE_SIZE = 100
SECONDS, MEGABYTES = 60.0, 60.0
WRITE = re.compile(r'(INSERT INTO|UPDATE) [`"]?bunce_sync_segment\b')


def migrate() -> None:
    """Create the tables. Runs in a process of its own."""
    call_command("migrate", verbosity=0)


def import_all() -> dict[str, Any]:
    """Import everything, and return what that took. Runs in a process of its own."""
    from bunce_sync import services
    from bunce_sync.models import ApiCall, ImportRun
    from bunce_sync.sync import importer
    from bunce_sync.sync.budget import Budget

    writes: list[str] = []

    def watch(execute: Any, sql: str, *arguments: Any) -> Any:
        if WRITE.match(sql):
            writes.append(sql[:40])
        return execute(sql, *arguments)

    before = ApiCall.objects.count()
    services.request_import()
    began = perf_counter()
    with connection.execute_wrapper(watch):
        while importer.open_run() is not None:
            importer.run(Budget(60))
    return {
        "seconds": perf_counter() - began,
        "requests": ApiCall.objects.count() - before,
        "writes": len(writes),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "counts": ImportRun.objects.latest("pk").counts,
    }


def measure(kind: str, segments: int) -> tuple[list[object], list[Goal]]:
    """Measure on one kind of database; return a row of the table, and the goals."""
    with database(kind) as url, serving() as (empty, _), serving(segments) as (full, _pipe):
        env = {
            **os.environ,
            "DATABASE_URL": url,
            "BUNCE_API_KEY": "sk_test_benchmark",
            "BUNCE_RATE_LIMIT": "none",
            "BUNCE_PAGE_SIZE": str(PAGE_SIZE),
        }
        addresses = [f"http://127.0.0.1:{port}/v1" for port in (empty, full, full)]
        call_in_process(env, migrate)
        nothing, first, second = (
            call_in_process({**env, "BUNCE_BASE_URL": one}, import_all) for one in addresses
        )
    if not first["counts"]["imported"] == second["counts"]["unchanged"] == segments:
        raise AssertionError(json.dumps([first, second]))
    memory = first["megabytes"] - nothing["megabytes"]
    row = [
        kind,
        f"{first['requests']:,}",
        f"{first['seconds']:.1f}",
        f"{memory:.0f}",
        f"{second['seconds']:.1f}",
        second["writes"],
    ]
    pages = math.ceil(segments / PAGE_SIZE) + 2
    goals = [
        Goal(f"{kind}: requests", first["requests"], must=pages, form="{:.0f}"),
        Goal(f"{kind}: seconds", first["seconds"], must=SECONDS, form="{:.1f}"),
        Goal(f"{kind}: MB above an empty run", memory, must=MEGABYTES, form="{:.0f}"),
        Goal(f"{kind}: writes by a second import", second["writes"], must=0, form="{:.0f}"),
    ]
    return row, goals


def main(arguments: list[str]) -> None:
    """Measure each kind of database, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks imports")
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--database", nargs="+", choices=DATABASES, default=DATABASES)
    options = parser.parse_args(arguments)
    measured = [measure(kind, options.segments) for kind in options.database]
    print_table(
        f"Import of {options.segments:,} segments, {PAGE_SIZE} a page",
        ("database", "requests", "seconds", "MB", "seconds of a second import", "its writes"),
        [row for row, _goals in measured],
        *(goal for _row, goals in measured for goal in goals),
    )

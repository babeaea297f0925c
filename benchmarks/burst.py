"""Segments saved into an idle rate_limiter: how long until all of them are in Bunce.

    python -m benchmarks burst [--count 200]

Once saved one by one, as an import through the API would, once in a single transaction. Two
workers of four processes each, on PostgreSQL and Redis, with Bunce's true limit.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.machine import Goal, print_table
from benchmarks.stack import Stack, stack, wait_until
from benchmarks.sustained import PROCESSES, WORKERS

ONE_BY_ONE = "for n in range({count}): Segment.objects.create(name=f'Segment {{n}}')"
AT_ONCE = (
    "from django.db import transaction\n"
    "with transaction.atomic():\n"
    "    for n in range({count}): Segment.objects.create(name=f'Segment {{n}}')"
)


def run(name: str, code: str, count: int) -> tuple[object, ...]:
    """Save them and wait; one row of the table."""
    with stack(limit=500) as here:
        for _ in range(WORKERS):
            here.worker(processes=PROCESSES)
        here.site.start_beat()
        here.site.shell("Segment.objects.count()")  # its start is not measured cold
        saver = here.site.start(
            "saver", "manage.py", "shell", "-v", "0", "-c",
            f"from bunce_sync.models import Segment\n{code.format(count=count)}",
        )  # fmt: skip
        rows = here.site.segments
        wait_until(rows.exists, "the first is saved", seconds=60)
        begun = time.monotonic()
        wait_until(lambda: rows.count() == count, "all are saved", seconds=60)
        saved = time.monotonic() - begun
        synced = rows.filter(status="synced")
        wait_until(lambda: synced.count() == count, "all are synced", seconds=120)
        seconds = time.monotonic() - begun
        saver.popen.wait(60)
        return (name, count, f"{saved:.1f}", f"{seconds:.1f}", *_server(here))


def _server(here: Stack) -> tuple[object, ...]:
    state = here.bunce.state()
    return state["limited"], state["duplicate_count"], state["worst_window"]


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks burst")
    parser.add_argument("--count", type=int, default=200, help="segments (200)")
    count = parser.parse_args(arguments).count
    rows = [
        run("one by one", ONE_BY_ONE, count),
        run("in one transaction", AT_ONCE, count),
    ]
    print_table(
        f"burst: {count} segments saved into an idle rate_limiter",
        (
            "saved", "segments", "seconds to save", "seconds until all synced", "429s",
            "duplicates", "most in a window",
        ),
        rows,
        "counted from the first row's commit",
        *(
            Goal(f"seconds until all are synced, saved {row[0]}", float(str(row[3])), 15, 8,
                 form="{:.1f}")
            for row in rows
        ),
    )  # fmt: skip

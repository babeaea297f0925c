"""Segments saved into an idle rate limiter: how long until all of them are in Bunce.

    python -m benchmarks burst [--count 200]

Once saved one by one, as an import through the API would, and once in a single transaction.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.machine import Goal, print_table
from benchmarks.stack import stack, wait_until

ONE_BY_ONE = "for n in range({count}): Segment.objects.create(name=f'Segment {{n}}')"
AT_ONCE = (
    "from django.db import transaction\n"
    "with transaction.atomic():\n"
    "    for n in range({count}): Segment.objects.create(name=f'Segment {{n}}')"
)


def run(name: str, code: str, count: int) -> tuple[object, ...]:
    """Save the segments, wait for them, and return a row of the table."""
    with stack() as here:
        here.start_workers()
        here.site.shell("Segment.objects.count()")  # warm the file cache
        process = here.site.start(
            "saver", "manage.py", "shell", "-v", "0", "-c",
            f"from bunce_sync.models import Segment\n{code.format(count=count)}",
        )  # fmt: skip
        rows = here.site.segments
        wait_until(rows.exists, "the first segment is saved", seconds=60)
        begun = time.monotonic()
        wait_until(lambda: rows.count() == count, "all are saved", seconds=60)
        saved = time.monotonic() - begun
        synced = rows.filter(status="synced")
        wait_until(lambda: synced.count() == count, "all are synced", seconds=120)
        seconds = time.monotonic() - begun
        process.popen.wait(60)
        state = here.bunce.state()
        counters = state["limited"], len(state["duplicates"]), state["worst_window"]
        return (name, count, f"{saved:.1f}", f"{seconds:.1f}", *counters)


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
        f"burst: {count} segments saved into an idle rate limiter",
        (
            "saved", "segments", "seconds to save", "seconds until all synced", "429s",
            "duplicates", "most in a window",
        ),
        rows,
        "times are counted from the first row's commit",
        *(
            Goal(f"seconds until all are synced, saved {row[0]}", float(str(row[3])), 15, 8,
                 form="{:.1f}")
            for row in rows
        ),
    )  # fmt: skip

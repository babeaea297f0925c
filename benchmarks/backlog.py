"""A backlog of 100,000 rows: how many messages it takes to send them at the limit's pace.

    python -m benchmarks backlog [--rows 100000] [--seconds 120]

All messages that ask for work are compared with the requests made.
"""

from __future__ import annotations

import argparse

from benchmarks.machine import Goal, print_table
from benchmarks.stack import LIMIT, WINDOW, add_segments, stack
from benchmarks.sustained import TASKS, Pace


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks backlog")
    parser.add_argument("--rows", type=int, default=100_000, help="pending rows (100000)")
    parser.add_argument("--seconds", type=float, default=120.0, help="duration (120)")
    options = parser.parse_args(arguments)
    with stack() as here:
        add_segments(here.site, options.rows)
        here.start_workers()
        pace = Pace(LIMIT, WINDOW)
        pace.watch(here.bunce, seconds=options.seconds)
        requests = here.bunce.state()["requests"]
        messages = here.count_received(*TASKS) + here.broker.waiting("bunce")
    share = pace.share(0, options.seconds)
    print_table(
        f"backlog: {options.rows:,} rows, for {options.seconds:g} s",
        ("requests", "share of the limit", "messages", "messages a request"),
        [(requests, f"{share:.1%}", messages, f"{messages / requests:.2f}")],
        Goal("messages a request", messages / requests, 1.1),
    )

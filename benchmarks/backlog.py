"""A backlog of 100,000 rows: how many messages it takes to send them at the limit's pace.

    python -m benchmarks backlog [--rows 100000] [--seconds 120]

Counted are all messages that ring for a push, whoever sent them, against the requests made.
"""

from __future__ import annotations

import argparse

import redis

from benchmarks.machine import Goal, print_table
from benchmarks.pace import Pace
from benchmarks.rows import add_segments
from benchmarks.stack import stack
from benchmarks.sustained import PROCESSES, WORKERS

LIMIT, WINDOW = 500, 60.0
TASK = "bunce_sync.push_segment"
QUEUE = "bunce"


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks backlog")
    parser.add_argument("--rows", type=int, default=100_000, help="rows that wait (100000)")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to look (120)")
    told = parser.parse_args(arguments)
    with stack(limit=LIMIT, window=WINDOW) as here:
        add_segments(here.site.alias, told.rows)
        for _ in range(WORKERS):
            here.worker(processes=PROCESSES)
        here.site.start_beat()
        pace = Pace(LIMIT, WINDOW)
        pace.watch(here.bunce, seconds=told.seconds)
        requests = here.bunce.state()["requests"]
        with redis.Redis.from_url(here.broker.url) as broker:
            left = broker.llen(QUEUE)
        messages = here.count_received(TASK) + int(left)
    print_table(
        f"backlog: {told.rows:,} rows, for {told.seconds:g} s",
        ("requests", "share of the limit", "messages", "messages a request"),
        [
            (
                requests,
                f"{pace.share(0, told.seconds):.1%}",
                messages,
                f"{messages / requests:.2f}",
            )
        ],
        Goal("messages a request", messages / requests, 1.1),
    )

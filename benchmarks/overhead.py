"""What a segment costs a worker: CPU time and segments a second, without a limit.

    python -m benchmarks overhead [--count 2000] [--rounds 3]

One worker with one process, on PostgreSQL and Redis. Ours and the plain task get rows that are
saved one by one; ours besides rows inserted by SQL, with one message for all. Beside them a bare
``requests.Session`` loop, which neither reads nor keeps anything. CPU is the user and system time
of the worker's processes, from when all rows are there until the last of them is done, the last
message has been taken, and the worker has come to rest.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from django.db.models import QuerySet

from benchmarks.machine import Goal, cpu_seconds, print_table
from benchmarks.plain.models import PlainSegment
from benchmarks.rows import add_segments
from benchmarks.stack import Stack, stack, wait_until
from bunce_sync.models import Segment

WARM_UP = 50
#: A worker that used so little CPU for so many seconds does nothing more.
IDLE, IDLE_CPU = 0.7, 0.03
#: Messages live as long as this many seconds, and beat does not run here.
SWEEP_INTERVAL = "600"


@dataclass(frozen=True)
class Cost:
    """Of all segments of one run, in seconds."""

    wall: float
    cpu: float


def run_bare(count: int) -> Cost:
    with stack(limit=None) as here:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.bare",
                f"{here.bunce.base_url}/segments",
                str(count),
            ],
            capture_output=True,
            check=True,
        )
    return Cost(*json.loads(done.stdout))


def run_plain(count: int) -> Cost:
    with stack(limit=None) as here:
        worker = here.worker("plain", processes=1, loglevel="WARNING").popen.pid
        waiting = PlainSegment.objects.using(here.site.alias).filter(bunce_id=None)

        def save(number: int) -> None:
            here.site.shell(
                "from benchmarks.plain.models import PlainSegment\n"
                "from benchmarks.plain.tasks import push_plainly\n"
                f"for n in range({number}):\n"
                "    push_plainly.delay(PlainSegment.objects.create(name=f'Segment {n}').pk)"
            )

        return _cost(here, worker, "plain", waiting, save, count)


def run_ours(count: int, *, saved: bool) -> Cost:
    with stack(limit=None, env={"BUNCE_SWEEP_INTERVAL": SWEEP_INTERVAL}) as here:
        worker = here.worker(processes=1, loglevel="WARNING").popen.pid
        waiting = here.site.segments.filter(bunce_id=None)

        def save(number: int) -> None:
            here.site.shell(
                f"for n in range({number}): Segment.objects.create(name=f'Segment {{n}}')"
            )

        def insert(number: int) -> None:
            add_segments(here.site.alias, number)
            here.site.shell("from bunce_sync.tasks import push_segment\npush_segment.delay(None)")

        return _cost(here, worker, "bunce", waiting, save if saved else insert, count)


def _cost(
    here: Stack,
    worker: int,
    queue: str,
    waiting: QuerySet[Segment] | QuerySet[PlainSegment],
    add: Callable[[int], None],
    count: int,
) -> Cost:
    """Warm up; then halt the worker until all is there, and let it work."""
    add(WARM_UP)
    wait_until(lambda: not waiting.exists(), "the warm-up is done", seconds=60)
    _wait_for_rest(here, worker, queue)
    os.killpg(worker, signal.SIGSTOP)
    add(count)
    cpu, begun = cpu_seconds(worker), time.monotonic()
    os.killpg(worker, signal.SIGCONT)
    wait_until(lambda: not waiting.exists(), "all are done", seconds=300)
    ended = _wait_for_rest(here, worker, queue)
    return Cost(ended - begun, cpu_seconds(worker) - cpu)


def _wait_for_rest(here: Stack, worker: int, queue: str) -> float:
    """Wait until no message is left and the worker does nothing more; when that began."""
    with redis.Redis.from_url(here.broker.url) as broker:
        wait_until(lambda: not broker.llen(queue), "all messages are taken", seconds=300)
    seen: list[tuple[float, float]] = [(time.monotonic(), cpu_seconds(worker))]

    def rests() -> bool:
        now, used = time.monotonic(), cpu_seconds(worker)
        if used > seen[0][1] + IDLE_CPU:
            seen[0] = (now, used)
        return now - seen[0][0] > IDLE

    wait_until(rests, "the worker rests", seconds=300)
    return seen[0][0]


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks overhead")
    parser.add_argument("--count", type=int, default=2000, help="segments (2000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; medians count (3)")
    told = parser.parse_args(arguments)
    ways: dict[str, Callable[[], Cost]] = {
        "requests.Session loop": lambda: run_bare(told.count),
        "plain task": lambda: run_plain(told.count),
        "bunce_sync": lambda: run_ours(told.count, saved=True),
        "bunce_sync, found by the sweep": lambda: run_ours(told.count, saved=False),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(told.rounds):  # taking turns, so that the machine's moods meet all alike
        for name, run in ways.items():
            costs[name].append(run())
    cpu = {
        name: statistics.median(cost.cpu for cost in one) * 1000 / told.count
        for name, one in costs.items()
    }
    pace = {
        name: told.count / statistics.median(cost.wall for cost in one)
        for name, one in costs.items()
    }
    print_table(
        f"overhead: {told.count} segments, one process, no limit, median of {told.rounds} runs",
        ("way", "segments a second", "CPU ms a segment", "against the plain task"),
        [
            (name, f"{pace[name]:.0f}", f"{cpu[name]:.2f}", f"{cpu[name] / cpu['plain task']:.2f}")
            for name in ways
        ],
        *(
            Goal(f"CPU of {name} against the plain task", cpu[name] / cpu["plain task"], 1.5, 1.0)
            for name in ways
            if name.startswith("bunce_sync")
        ),
    )

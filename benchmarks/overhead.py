"""What a segment costs a worker: CPU time and segments a second, without a rate limit.

    python -m benchmarks overhead [--count 2000] [--rounds 3]

One worker with one process. The app and the plain task get rows saved one by one; the app also gets
rows inserted by SQL, with one message for all. For comparison, a bare ``requests.Session`` loop
makes the requests alone. CPU is the user and system time of the worker's processes, from when all
rows exist until the last one is sent, the last message is taken, and the worker is idle.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import time
from collections.abc import Callable

import requests
from django.db.models import QuerySet

from benchmarks.machine import Goal, cpu_seconds, print_table
from benchmarks.plain.models import PlainSegment
from benchmarks.stack import Stack, add_segments, call_in_process, stack, wait_until
from bunce_sync.models import Segment

WARM_UP = 50
#: A worker that uses less than this CPU time for so long, both in seconds, is idle.
IDLE, IDLE_CPU = 0.7, 0.03
#: Messages expire after this many seconds, and beat does not run here.
SWEEP_INTERVAL = "600"

#: Wall and CPU time of all segments of a run, in seconds.
Cost = tuple[float, float]


def run_bare(count: int) -> Cost:
    with stack(limit=None) as here:
        url = f"{here.bunce.base_url}/segments"
        wall, cpu = call_in_process(os.environ, post_segments, url, count)
        return wall, cpu


def post_segments(url: str, count: int) -> Cost:
    """Post segments one after the other with a bare session."""
    with requests.Session() as session:
        session.headers["X-Authorization"] = "sk_test_bare"
        session.post(url, json={"name": "Warm"}, timeout=20).raise_for_status()
        begun, cpu = time.perf_counter(), time.process_time()
        for number in range(count):
            body = {"name": f"Bare {number}", "description": None, "add_all_customers": False}
            response = session.post(url, json=body, timeout=20)
            response.raise_for_status()
            response.json()["data"]["id"]
        return time.perf_counter() - begun, time.process_time() - cpu


def run_plain(count: int) -> Cost:
    with stack(limit=None) as here:
        rows = PlainSegment.objects.using(here.site.alias).filter(bunce_id=None)

        def save(number: int) -> None:
            here.site.shell(
                "from benchmarks.plain.models import PlainSegment\n"
                "from benchmarks.plain.tasks import push_plainly\n"
                f"for n in range({number}):\n"
                "    push_plainly.delay(PlainSegment.objects.create(name=f'Segment {n}').pk)"
            )

        return _cost(here, "plain", rows, save, count)


def run_saved(count: int) -> Cost:
    with stack(limit=None, env={"BUNCE_SWEEP_INTERVAL": SWEEP_INTERVAL}) as here:

        def save(number: int) -> None:
            here.site.shell(
                f"for n in range({number}): Segment.objects.create(name=f'Segment {{n}}')"
            )

        return _cost(here, "bunce", here.site.segments.filter(bunce_id=None), save, count)


def run_found(count: int) -> Cost:
    with stack(limit=None, env={"BUNCE_SWEEP_INTERVAL": SWEEP_INTERVAL}) as here:

        def insert(number: int) -> None:
            add_segments(here.site, number)
            here.site.shell("from bunce_sync.tasks import push_segment\npush_segment.delay(None)")

        return _cost(here, "bunce", here.site.segments.filter(bunce_id=None), insert, count)


def _cost(
    here: Stack,
    queue: str,
    unsent: QuerySet[Segment] | QuerySet[PlainSegment],
    add: Callable[[int], None],
    count: int,
) -> Cost:
    """Warm a worker up, halt it until all rows exist, and measure how it sends them."""
    queues = ["plain"] if queue == "plain" else []
    worker = here.start_worker(*queues, processes=1, loglevel="WARNING").popen.pid
    add(WARM_UP)
    wait_until(lambda: not unsent.exists(), "the warm-up is done", seconds=60)
    _wait_until_idle(here, worker, queue)
    os.killpg(worker, signal.SIGSTOP)
    add(count)
    cpu, begun = cpu_seconds(worker), time.monotonic()
    os.killpg(worker, signal.SIGCONT)
    wait_until(lambda: not unsent.exists(), "all are sent", seconds=300)
    ended = _wait_until_idle(here, worker, queue)
    return ended - begun, cpu_seconds(worker) - cpu


def _wait_until_idle(here: Stack, worker: int, queue: str) -> float:
    """Wait until the queue is empty and the worker idle, and return when that was."""
    wait_until(lambda: not here.broker.waiting(queue), "all messages are taken", seconds=300)
    since, used = time.monotonic(), cpu_seconds(worker)

    def idle() -> bool:
        nonlocal since, used
        now, cpu = time.monotonic(), cpu_seconds(worker)
        if cpu > used + IDLE_CPU:
            since, used = now, cpu
        return now - since > IDLE

    wait_until(idle, "the worker is idle", seconds=300)
    return since


WAYS: dict[str, Callable[[int], Cost]] = {
    "requests.Session loop": run_bare,
    "plain task": run_plain,
    "bunce_sync": run_saved,
    "bunce_sync, found by the sweep": run_found,
}


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks overhead")
    parser.add_argument("--count", type=int, default=2000, help="segments (2000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way (3)")
    options = parser.parse_args(arguments)
    costs: dict[str, list[Cost]] = {name: [] for name in WAYS}
    for _ in range(options.rounds):  # in turns, so that a slow minute affects all ways alike
        for name, run in WAYS.items():
            costs[name].append(run(options.count))
    wall = {name: statistics.median(wall for wall, _ in runs) for name, runs in costs.items()}
    cpu = {name: statistics.median(cpu for _, cpu in runs) for name, runs in costs.items()}
    ratio = {name: cpu[name] / cpu["plain task"] for name in WAYS}
    print_table(
        f"overhead: {options.count} segments, one process, no limit, median of {options.rounds}"
        " runs",
        ("way", "segments a second", "CPU ms a segment", "against the plain task"),
        [
            (
                name,
                f"{options.count / wall[name]:.0f}",
                f"{cpu[name] * 1000 / options.count:.2f}",
                f"{ratio[name]:.2f}",
            )
            for name in WAYS
        ],
        *(
            Goal(f"CPU of {name} against the plain task", ratio[name], 1.5, 1.0)
            for name in WAYS
            if name.startswith("bunce_sync")
        ),
    )

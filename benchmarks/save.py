"""What saving a segment costs the one who saves, whatever state the broker is in.

    python -m benchmarks save [--count 1000]

Beside saving the same model with the app's signal disconnected, and beside a plain model. The
broker is up; refuses (nobody listens); is frozen (halted after a connection to it stood). On
PostgreSQL and Redis, without a worker.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics

from benchmarks.machine import Goal, percentile, print_table
from benchmarks.stack import Stack, free_port, stack

Times = dict[str, list[float]]


def measure(here: Stack, count: int, *, broker: str = "", freeze: int | None = None) -> Times:
    """Save in a process of the site.

    Args:
        broker: its address; that of the stack when empty.
        freeze: the broker's process id, to halt it.
    """
    arguments = [str(count), *([str(freeze)] if freeze else [])]
    env = {"CELERY_BROKER_URL": broker} if broker else {}
    process = here.site.start("saving", "-m", "benchmarks.saving", *arguments, env=env)
    code = process.popen.wait(600)
    if code:
        raise SystemExit(f"saving ended with {code}:\n{process.output}")
    times: Times = json.loads(process.output.splitlines()[-1])
    return times


def _row(name: str, times: Times) -> tuple[object, ...]:
    ours, silent, plain = times["ours"], times["silent"], times["plain"]
    return (
        name,
        *(_two(way) for way in (ours, silent, plain)),
        f"{_added(times):+.1f}",
        f"{ours[0] * 1000:.0f}",
        f"{max(ours[1:]) * 1000:.0f}",
    )


def _added(times: Times) -> float:
    """What the app adds to the 99th percentile, in ms."""
    return (percentile(times["ours"], 0.99) - percentile(times["silent"], 0.99)) * 1000


def _two(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:.1f} / {percentile(times, 0.99) * 1000:.1f}"


def _goals(broker: str, times: Times) -> list[Goal]:
    first, others = times["ours"][0], percentile(times["ours"][1:], 0.99)
    return [
        Goal(f"first save, broker {broker}, ms", first * 1000, 1000, form="{:.0f}"),
        Goal(f"p99 of the others, broker {broker}, ms", others * 1000, 50, form="{:.1f}"),
    ]


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks save")
    parser.add_argument("--count", type=int, default=1000, help="saves of each kind (1000)")
    count = parser.parse_args(arguments).count
    with stack(limit=None) as here:
        up = measure(here, count)
        refused = measure(here, count, broker=f"redis://127.0.0.1:{free_port()}/0")
        try:
            frozen = measure(here, count, freeze=here.broker.process.popen.pid)
        finally:
            here.broker.process.signal(signal.SIGCONT)
    print_table(
        f"save: {count} saves each, p50 / p99 in ms",
        (
            "broker", "segment", "segment, signal off", "plain model",
            "added p99", "first save", "slowest of the others",
        ),
        [_row("up", up), _row("refused", refused), _row("frozen", frozen)],
        Goal("added p99 with the broker up, ms", _added(up), 10, 3, form="{:.1f}"),
        *_goals("refused", refused),
        *_goals("frozen", frozen),
    )  # fmt: skip

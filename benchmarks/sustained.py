"""A backlog against Bunce's limit: how much of it is used, and whether it is ever passed.

    python -m benchmarks sustained [--limit 500] [--window 60] [--seconds 180]

Two workers of four processes each, on PostgreSQL and Redis. Ours beside the plain task, and beside
the plain task with Celery's ``rate_limit``, which each worker keeps for itself and which is
therefore set to half of the limit.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from benchmarks.machine import Goal, print_table
from benchmarks.pace import Pace
from benchmarks.plain.models import PlainSegment
from benchmarks.rows import add_segments
from benchmarks.stack import Stack, stack
from bunce_sync.sync.rate_limiter import PERMIT_SECONDS, TRANSIT_SECONDS

WORKERS = 2
PROCESSES = 4
#: Spans of our own, slightly longer window that ours is watched for, and from which of them on it
#: counts as steady: the burst into an idle rate_limiter is over by then.
SPANS, STEADY_FROM = 4, 2


@dataclass(frozen=True)
class Measured:
    """What one way of sending came to."""

    name: str
    pace: Pace
    limited: int
    worst: int
    duplicates: int
    requests: int
    rung: int | None = None

    def row(self, seconds: float) -> tuple[object, ...]:
        return (
            self.name,
            f"{self.pace.accepted(0, seconds) * 60 / seconds:.0f}",
            f"{self.pace.share(0, seconds):.1%}",
            self.limited,
            self.worst,
            " ".join(map(str, self.pace.by_window(seconds))),
            "" if self.rung is None else f"{self.rung / self.requests:.2f}",
        )


def run_ours(limit: int, window: float, seconds: float) -> Measured:
    """A backlog of rows, found by the sweep."""
    with stack(limit=limit, window=window) as here:
        add_segments(here.site.alias, _backlog(limit, window, seconds + SPANS * window))
        for _ in range(WORKERS):
            here.worker(processes=PROCESSES)
        here.site.start_beat()
        longer = max(seconds, SPANS * _span(window) + 1)
        return _watch("bunce_sync", here, limit, window, longer, task="bunce_sync.push_segment")


def run_plain(limit: int, window: float, seconds: float) -> Measured:
    """The plain task, a message for each row."""
    return _run_plain("plain task, autoretry", "push_plainly", "", limit, window, seconds)


def run_paced(limit: int, window: float, seconds: float) -> Measured:
    """The plain task with Celery's rate limit, the limit divided between the workers."""
    rate = f"{limit * 60 / window / WORKERS:.0f}/m"
    name = f"plain task, rate_limit {rate} a worker"
    return _run_plain(name, "push_plainly_paced", rate, limit, window, seconds)


def _run_plain(
    name: str, task: str, rate: str, limit: int, window: float, seconds: float
) -> Measured:
    with stack(limit=limit, window=window, env={"PLAIN_RATE_LIMIT": rate}) as here:
        rows = PlainSegment.objects.using(here.site.alias).bulk_create(
            PlainSegment(name=f"Segment {number}")
            for number in range(_backlog(limit, window, seconds))
        )
        first, last = rows[0].pk, rows[-1].pk
        here.site.shell(
            f"from benchmarks.plain.tasks import {task} as task\n"
            "from project.celery import app\n"
            "with app.producer_pool.acquire(block=True) as producer:\n"
            f"    for pk in range({first}, {last} + 1): task.apply_async([pk], producer=producer)"
        )
        for _ in range(WORKERS):
            here.worker("plain", processes=PROCESSES, loglevel="WARNING")
        return _watch(name, here, limit, window, seconds)


def _watch(
    name: str, here: Stack, limit: int, window: float, seconds: float, task: str = ""
) -> Measured:
    pace = Pace(limit, window)
    pace.watch(here.bunce, seconds=seconds)
    state = here.bunce.state()
    return Measured(
        name,
        pace,
        limited=state["limited"],
        worst=state["worst_window"],
        duplicates=state["duplicate_count"],
        requests=state["requests"],
        rung=here.count_received(task) if task else None,
    )


def _span(window: float) -> float:
    """The time over which the rate limiter counts."""
    return window + PERMIT_SECONDS + TRANSIT_SECONDS


def _backlog(limit: int, window: float, seconds: float) -> int:
    return int(limit * (seconds / window + 2))


def _steady(pace: Pace, window: float) -> str:
    """How much of the limit ours uses in the long run, beside what its longer window allows."""
    span = _span(window)
    share = pace.share(STEADY_FROM * span, SPANS * span)
    spans = [round(pace.accepted(n * span, (n + 1) * span)) for n in range(SPANS)]
    return (
        f"bunce_sync in the long run: {share:.1%} of the limit; its own window of {span:g} s allows"
        f" {window / span:.1%}. Accepted in each of these: {', '.join(map(str, spans))}"
    )


def _goals(ours: Measured, limit: int, seconds: float) -> list[Goal]:
    return [
        Goal(
            "share of the limit, %", ours.pace.share(0, seconds) * 100, 95, 97, least=True,
            form="{:.1f}",
        ),
        Goal("answers of 429", ours.limited, 0, form="{:.0f}"),
        Goal("most in any window at the server", ours.worst, limit, form="{:.0f}"),
    ]  # fmt: skip


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sustained")
    parser.add_argument("--limit", type=int, default=500, help="requests in a window (500)")
    parser.add_argument("--window", type=float, default=60.0, help="its seconds (60)")
    parser.add_argument("--seconds", type=float, default=180.0, help="how long to look (180)")
    parser.add_argument("--only", choices=["ours", "plain", "paced"], help="leave out the others")
    told = parser.parse_args(arguments)
    ways = {"ours": run_ours, "plain": run_plain, "paced": run_paced}
    results = [
        run(told.limit, told.window, told.seconds)
        for name, run in ways.items()
        if told.only in (None, name)
    ]
    print_table(
        f"sustained: {told.limit} requests in {told.window:g} s, for {told.seconds:g} s",
        (
            "way", "accepted a minute", "share of the limit", "429s", "most in a window",
            "accepted in each window", "messages a request",
        ),
        [result.row(told.seconds) for result in results],
        *(_goals(results[0], told.limit, told.seconds) if told.only in (None, "ours") else []),
        f"duplicates in Bunce: {', '.join(f'{one.name} {one.duplicates}' for one in results)}",
        *([_steady(results[0].pace, told.window)] if told.only in (None, "ours") else []),
    )  # fmt: skip

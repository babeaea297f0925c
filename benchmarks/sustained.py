"""A backlog against Bunce's limit: how much of the limit is used, and whether it is exceeded.

    python -m benchmarks sustained [--limit 500] [--window 60] [--seconds 180]

The app is compared with a plain Celery task, and with the same task under Celery's ``rate_limit``.
Each worker applies that limit on its own, so it is set to the limit divided by the workers.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks.machine import Goal, print_table
from benchmarks.stack import (
    LIMIT,
    PROCESSES,
    WINDOW,
    WORKERS,
    Bunce,
    Stack,
    add_segments,
    stack,
    wait_until,
)  # fmt: skip
from bunce_sync.sync.rate_limiter import PERMIT_SECONDS, TRANSIT_SECONDS

#: How many of the app's own, slightly longer windows are watched, and the first of them that
#: counts as steady: by then the burst into an idle rate limiter is over.
SPANS, STEADY_FROM = 4, 2
#: The app's tasks that make requests.
TASKS = ("bunce_sync.push_segment", "bunce_sync.work")


@dataclass
class Pace:
    """The number of segments in Bunce over time, from the first request on.

    Args:
        limit: requests in a window.
        window: in seconds.
    """

    limit: int
    window: float
    seen: list[tuple[float, int]] = field(default_factory=list)

    def watch(self, bunce: Bunce, *, seconds: float) -> None:
        """Record the number of segments for some seconds after the first request."""
        wait_until(lambda: bool(bunce.state()["requests"]), "the first request", seconds=30)
        begun = time.monotonic()
        while not self.seen or self.seen[-1][0] < seconds:
            self.seen.append((time.monotonic() - begun, bunce.state()["segments"]))
            time.sleep(0.5)

    def accepted(self, since: float, until: float) -> float:
        """Return how many creates were accepted between two times, in seconds."""
        return self._at(until) - self._at(since)

    def share(self, since: float, until: float) -> float:
        """Return the accepted creates as a share of what the limit allows in that time."""
        return self.accepted(since, until) / (self.limit * (until - since) / self.window)

    def by_span(self, span: float, count: int) -> list[int]:
        """Return how many creates were accepted in each of the first spans, in seconds."""
        return [round(self.accepted(n * span, (n + 1) * span)) for n in range(count)]

    def _at(self, moment: float) -> float:
        """Return the number of segments at a time, interpolated between two records."""
        if moment <= 0:
            return 0.0
        for (earlier, before), (later, after) in pairwise(self.seen):
            if earlier <= moment <= later:
                return before + (after - before) * (moment - earlier) / (later - earlier)
        return float(self.seen[0 if moment < self.seen[0][0] else -1][1])


@dataclass(frozen=True)
class Result:
    """The figures of one way to send; ``messages`` is None where they are not counted."""

    name: str
    pace: Pace
    limited: int
    worst: int
    duplicates: int
    requests: int
    messages: int | None = None

    def row(self, seconds: float) -> tuple[object, ...]:
        """Return the row of the table."""
        window = self.pace.window
        return (
            self.name,
            f"{self.pace.accepted(0, seconds) * 60 / seconds:.0f}",
            f"{self.pace.share(0, seconds):.1%}",
            self.limited,
            self.worst,
            " ".join(map(str, self.pace.by_span(window, int(seconds // window)))),
            "" if self.messages is None else f"{self.messages / self.requests:.2f}",
        )


def run_app(limit: int, window: float, seconds: float) -> Result:
    """Send a backlog of rows that the sweep finds."""
    with stack(limit=limit, window=window) as here:
        add_segments(here.site, _backlog(limit, window, seconds + SPANS * window))
        here.start_workers()
        longer = max(seconds, SPANS * _span(window) + 1)
        return _watch("bunce_sync", here, limit, window, longer, tasks=TASKS)


def run_plain(limit: int, window: float, seconds: float) -> Result:
    """Send with the plain task, one message per row."""
    return _run_plain("plain task, autoretry", "push_plainly", "", limit, window, seconds)


def run_rate_limited(limit: int, window: float, seconds: float) -> Result:
    """Send with the plain task under Celery's rate limit."""
    rate = f"{limit * 60 / window / WORKERS:.0f}/m"
    name = f"plain task, rate_limit {rate} a worker"
    return _run_plain(name, "push_plainly_rate_limited", rate, limit, window, seconds)


def _run_plain(
    name: str, task: str, rate: str, limit: int, window: float, seconds: float
) -> Result:
    with stack(limit=limit, window=window, env={"PLAIN_RATE_LIMIT": rate}) as here:
        here.site.shell(
            "from benchmarks.plain.models import PlainSegment\n"
            f"from benchmarks.plain.tasks import {task} as task\n"
            "from project.celery import app\n"
            "rows = PlainSegment.objects.bulk_create(PlainSegment(name=f'Segment {n}')"
            f" for n in range({_backlog(limit, window, seconds)}))\n"
            "with app.producer_pool.acquire(block=True) as producer:\n"
            "    for row in rows: task.apply_async([row.pk], producer=producer)"
        )
        for _ in range(WORKERS):
            here.start_worker("plain", processes=PROCESSES, loglevel="WARNING")
        return _watch(name, here, limit, window, seconds)


def _watch(
    name: str,
    here: Stack,
    limit: int,
    window: float,
    seconds: float,
    tasks: tuple[str, ...] = (),
) -> Result:
    pace = Pace(limit, window)
    pace.watch(here.bunce, seconds=seconds)
    state = here.bunce.state()
    return Result(
        name,
        pace,
        limited=state["limited"],
        worst=state["worst_window"],
        duplicates=len(state["duplicates"]),
        requests=state["requests"],
        messages=here.count_received(*tasks) if tasks else None,
    )


def _span(window: float) -> float:
    """Return the seconds over which the rate limiter counts."""
    return window + PERMIT_SECONDS + TRANSIT_SECONDS


def _backlog(limit: int, window: float, seconds: float) -> int:
    return int(limit * (seconds / window + 2))


def _describe_long_run(pace: Pace, window: float) -> str:
    span = _span(window)
    share = pace.share(STEADY_FROM * span, SPANS * span)
    return (
        f"bunce_sync in the long run: {share:.1%} of the limit; its own window of {span:g} s allows"
        f" {window / span:.1%}. Accepted in each of these:"
        f" {', '.join(map(str, pace.by_span(span, SPANS)))}"
    )


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sustained")
    parser.add_argument("--limit", type=int, default=LIMIT, help="requests in a window (500)")
    parser.add_argument("--window", type=float, default=WINDOW, help="its seconds (60)")
    parser.add_argument("--seconds", type=float, default=180.0, help="duration (180)")
    options = parser.parse_args(arguments)
    limit, window, seconds = options.limit, options.window, options.seconds
    app, *others = [run(limit, window, seconds) for run in (run_app, run_plain, run_rate_limited)]
    print_table(
        f"sustained: {limit} requests in {window:g} s, for {seconds:g} s",
        (
            "way", "accepted a minute", "share of the limit", "429s", "most in a window",
            "accepted in each window", "messages a request",
        ),
        [result.row(seconds) for result in (app, *others)],
        Goal(
            "share of the limit, %", app.pace.share(0, seconds) * 100, 95, 97, least=True,
            form="{:.1f}",
        ),
        Goal("429 responses", app.limited, 0, form="{:.0f}"),
        Goal("most requests in any window", app.worst, limit, form="{:.0f}"),
        "duplicates in Bunce: "
        + ", ".join(f"{one.name} {one.duplicates}" for one in (app, *others)),
        _describe_long_run(app.pace, window),
    )  # fmt: skip

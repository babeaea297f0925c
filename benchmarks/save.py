"""What it costs to save a segment, in each state of the broker.

    python -m benchmarks save [--count 1000]

Compared with saving the same model without the app's signal, and with saving a plain model. The
broker is up, refuses connections, or is frozen after a connection to it was made. No worker runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db.models.signals import post_save

from benchmarks.machine import Goal, percentile, print_table
from benchmarks.plain.models import PlainSegment
from benchmarks.stack import call_in_process, stack, timed
from bunce_sync.models import Segment
from tests.site import free_port

WARM_UP = 20

#: Seconds of each save, in order, by kind of save.
Times = dict[str, list[float]]


def save_rows(count: int, freeze: int | None) -> Times:
    """Save in a process of the site, in turns, so that a slow moment affects all kinds alike.

    Args:
        freeze: process id of the broker, to halt it after the warm-up.
    """
    from bunce_sync.publisher import publisher

    def save(model: type[Segment | PlainSegment]) -> Callable[[], object]:
        return lambda: model.objects.create(name="Saved", description="by a benchmark")

    times: Times = {"segment": [], "no signal": [], "plain": []}
    for number in range(WARM_UP + count):
        if number == WARM_UP:
            for one in times.values():
                one.clear()
            if freeze:
                time.sleep(0.2)  # after the warm-up, until the throttle allows a message again
                os.kill(freeze, signal.SIGSTOP)
            else:  # so that the first measured save is the first that the broker refuses
                publisher.reset()
        times["segment"].append(timed(save(Segment)))
        with _without_signal():
            times["no signal"].append(timed(save(Segment)))
        times["plain"].append(timed(save(PlainSegment)))
    return times


@contextmanager
def _without_signal() -> Iterator[None]:
    from bunce_sync.receivers import publish_on_commit

    uid = "bunce_sync.publish_on_commit"
    if not post_save.disconnect(dispatch_uid=uid):
        raise AssertionError("The signal is not connected.")
    yield
    post_save.connect(publish_on_commit, dispatch_uid=uid)


def _row(name: str, times: Times) -> tuple[object, ...]:
    first, *others = times["segment"]
    return (
        name,
        *(
            f"{statistics.median(one) * 1000:.1f} / {percentile(one, 0.99) * 1000:.1f}"
            for one in times.values()
        ),
        f"{_added(times):+.1f}",
        f"{first * 1000:.0f}",
        f"{max(others) * 1000:.0f}",
    )


def _added(times: Times) -> float:
    """Return what the app adds to the 99th percentile, in ms."""
    return (percentile(times["segment"], 0.99) - percentile(times["no signal"], 0.99)) * 1000


def _goals(broker: str, times: Times) -> list[Goal]:
    first, others = times["segment"][0], percentile(times["segment"][1:], 0.99)
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
        env = here.site.env
        refusing = {**env, "CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
        up = call_in_process(env, save_rows, count, None)
        refused = call_in_process(refusing, save_rows, count, None)
        try:
            frozen = call_in_process(env, save_rows, count, here.broker.process.popen.pid)
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

"""Inside a site: saves segments and says how long each took. Started by ``save.py``.

    python -m benchmarks.saving COUNT [PID]

With a process id, that process (the broker) is halted once a connection to it stands. Prints JSON:
for each way of saving the seconds of each save, in order.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager

import django
from django.db.models.signals import post_save

WARM_UP = 20


def main(count: int, freeze: int | None) -> None:
    """Save in turns, so that a busy moment of the machine meets all ways alike."""
    django.setup()

    from benchmarks.plain.models import PlainSegment
    from bunce_sync.models import Segment
    from bunce_sync.publisher import publisher
    from bunce_sync.signals import publish_on_commit

    @contextmanager
    def without_signal():  # type: ignore[no-untyped-def]  # a helper of this function alone
        uid = "bunce_sync.publish_on_commit"
        if not post_save.disconnect(dispatch_uid=uid):
            raise AssertionError("there was no signal to disconnect")
        yield
        post_save.connect(publish_on_commit, dispatch_uid=uid)

    def ours() -> object:
        return Segment.objects.create(name="Saved", description="by a benchmark")

    def plain() -> object:
        return PlainSegment.objects.create(name="Saved", description="by a benchmark")

    took: dict[str, list[float]] = {"ours": [], "silent": [], "plain": []}
    for number in range(WARM_UP + count):
        if number == WARM_UP:
            for times in took.values():
                times.clear()
            # One that refuses was met while warming up: the first save is to meet it anew.
            if not freeze:
                publisher.reset()
            if freeze:
                os.kill(freeze, signal.SIGSTOP)
        took["ours"].append(_timed(ours))
        with without_signal():
            took["silent"].append(_timed(ours))
        took["plain"].append(_timed(plain))
    print(json.dumps(took))


def _timed(save: Callable[[], object]) -> float:
    begun = time.perf_counter()
    save()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else None)

"""How an accepted request count grows, seen from the server."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from benchmarks.stack import Bunce

#: Seconds between two looks.
LOOK = 0.5


@dataclass
class Pace:
    """The number of segments in Bunce over time, from the first one on.

    Args:
        limit: requests that may be made in a window.
        window: its seconds.
    """

    limit: int
    window: float
    seen: list[tuple[float, int]] = field(default_factory=list)

    def watch(self, bunce: Bunce, *, seconds: float, patience: float = 30.0) -> None:
        """Look on for some seconds after the first request arrived.

        Raises:
            TimeoutError: none arrived within ``patience``.
        """
        begun = time.monotonic()
        while not (state := bunce.state())["requests"]:
            if time.monotonic() - begun > patience:
                raise TimeoutError("no request arrived")
            time.sleep(0.01)
        start = time.monotonic()
        while not self.seen or self.seen[-1][0] < seconds:
            self.seen.append((time.monotonic() - start, state["segments"]))
            time.sleep(LOOK)
            state = bunce.state()
        self.seen.append((time.monotonic() - start, state["segments"]))

    def accepted(self, since: float, until: float) -> float:
        """How many were accepted between two moments."""
        return self._at(until) - self._at(since)

    def share(self, since: float, until: float) -> float:
        """The same as a share of what the limit allows in that time."""
        return self.accepted(since, until) / (self.limit * (until - since) / self.window)

    def by_window(self, seconds: float) -> list[int]:
        """How many were accepted in each whole window of the first seconds."""
        count = int(seconds // self.window)
        return [
            round(self.accepted(number * self.window, (number + 1) * self.window))
            for number in range(count)
        ]

    def _at(self, moment: float) -> float:
        before, after = self.seen[0], self.seen[-1]
        if moment <= 0:
            return 0.0
        for earlier, later in zip(self.seen, self.seen[1:], strict=False):
            if earlier[0] <= moment <= later[0]:
                before, after = earlier, later
                break
        span = after[0] - before[0]
        part = (moment - before[0]) / span if span else 0.0
        return before[1] + (after[1] - before[1]) * min(max(part, 0.0), 1.0)

"""The rate limit: a number of requests per window and address, and a block beyond it."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from .clock import monotonic

_KEPT_ARRIVALS = 1_000_000


class RateLimiter:
    """A sliding window per address, as described on Bunce's page about rate limiting.

    An address that exceeds the limit is blocked; requests during the block are refused and do
    not prolong it. Not thread-safe: the caller holds a lock.

    Args:
        clock: returns the time in seconds; only differences matter.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._admitted: defaultdict[str, deque[float]] = defaultdict(deque)
        self._blocked_until: dict[str, float] = {}
        self._arrivals: defaultdict[str, deque[float]] = defaultdict(
            lambda: deque(maxlen=_KEPT_ARRIVALS)
        )
        self.limited = 0

    def admit(
        self, address: str, *, limit: int | None, window: float, block_seconds: float
    ) -> float | None:
        """Count a request and decide whether it is admitted.

        Args:
            limit: requests per window; None for no limit.
            window: the length of the window in seconds.
            block_seconds: how long the address is blocked if it exceeds the limit.

        Returns:
            None if the request is admitted, else the seconds to wait before the next one.
        """
        now = self._clock()
        self._arrivals[address].append(now)
        if limit is None:
            return None
        wait = self._blocked_until.get(address, now) - now
        if wait > 0:
            self.limited += 1
            return wait
        admitted = self._admitted[address]
        while admitted and admitted[0] <= now - window:
            admitted.popleft()
        if len(admitted) < limit:
            admitted.append(now)
            return None
        self.limited += 1
        self._blocked_until[address] = now + block_seconds
        free = admitted[0] + window - now if admitted else window
        return max(block_seconds, free)

    def worst_window(self, seconds: float) -> int:
        """Return the most requests of one address in any ``seconds``, including refused ones."""
        return max((_worst(times, seconds) for times in self._arrivals.values()), default=0)

    def recent(self, seconds: float) -> int:
        """Return the number of requests from all addresses in the last ``seconds``."""
        start = self._clock() - seconds
        count = 0
        for times in self._arrivals.values():
            for at in reversed(times):
                if at <= start:
                    break
                count += 1
        return count

    def blocked(self) -> dict[str, int]:
        """Return the blocked addresses with the remaining seconds, rounded up."""
        now = self._clock()
        return {
            address: math.ceil(until - now)
            for address, until in self._blocked_until.items()
            if until > now
        }


def _worst(times: Iterable[float], seconds: float) -> int:
    worst = 0
    window: deque[float] = deque()
    for at in times:
        window.append(at)
        while window[0] <= at - seconds:
            window.popleft()
        worst = max(worst, len(window))
    return worst

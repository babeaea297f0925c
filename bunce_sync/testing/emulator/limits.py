"""The rate limit: so many requests in a window for each address, and a block past it."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from time import monotonic

_KEPT_ARRIVALS = 1_000_000


class RateLimiter:
    """Counts arrivals by address in a sliding window, as Bunce's rate limiting page tells it.

    Past the limit an address is blocked; what arrives during the block is refused as well but
    does not prolong it. Not thread-safe: the caller has a lock.

    Args:
        clock: gives the time in seconds; only differences matter.
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
        """Note an arrival and say whether it may pass.

        Args:
            limit: requests a window may hold; None for no limit.
            window: its length in seconds.
            block_seconds: how long the address is shut out once it has gone past the limit.

        Returns:
            None when it may pass, else the seconds to wait before the next try.
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
        """Return the most arrivals from one address within any ``seconds``, refused ones too."""
        return max((_worst(times, seconds) for times in self._arrivals.values()), default=0)

    def recent(self, seconds: float) -> int:
        """Return the number of arrivals from all addresses in the last ``seconds``."""
        start = self._clock() - seconds
        count = 0
        for times in self._arrivals.values():
            for at in reversed(times):
                if at <= start:
                    break
                count += 1
        return count

    def blocked(self) -> dict[str, int]:
        """Return the addresses that are shut out, with the seconds that remain, rounded up."""
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

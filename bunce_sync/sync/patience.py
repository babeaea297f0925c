"""How long a worker may wait for its turns: its slot is dear, and the rows keep their place."""

from __future__ import annotations

import time

from bunce_sync.sync import rate_limiter
from bunce_sync.sync.outcome import PERMIT_EXPIRED, Outcome, Result

#: Seconds a worker slot may sleep in all while it waits for the rate_limiter.
PATIENCE = 1.0


class WaitBudget:
    """What is left of it in one shift of work.

    Args:
        seconds: how long to sleep in all; 0 to take a permit only if it is good at once.
    """

    def __init__(self, seconds: float = PATIENCE) -> None:
        self.left = seconds

    def wait(self, permit: rate_limiter.Permit, using: str) -> Result | None:
        """Sleep until the permit is good.

        Returns:
            What the request came to if the limiter was closed meanwhile, for it must not be made.
        """
        if not permit.wait:
            return None
        self.left -= permit.wait
        time.sleep(permit.wait)
        if rate_limiter.is_closed(using):
            return Result(Outcome.NOT_SENT, code=PERMIT_EXPIRED)
        return None

    @staticmethod
    def ended_by(closed: rate_limiter.NoPermit) -> bool:
        """Whether somebody fresh could wait where this one no longer can, and nobody does."""
        return not closed.reason and not closed.queue_full and closed.wait <= PATIENCE

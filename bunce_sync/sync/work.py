"""One shift of all that beat and workers do, in this process and without Celery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bunce_sync.sync.push import drain
from bunce_sync.sync.reconcile import reconcile
from bunce_sync.sync.refresh import refresh_requested
from bunce_sync.sync.sweep import sweep


@dataclass(frozen=True, slots=True)
class Work:
    """What was done.

    Attributes:
        pushes: creates and updates made or tried.
        pages: pages read of Bunce's list, for rows in doubt.
        reads: segments read because somebody asked.
        freed: rows taken from workers that died.
    """

    pushes: int = 0
    pages: int = 0
    reads: int = 0
    freed: int = 0

    def __add__(self, other: Self) -> Work:
        return Work(
            pushes=self.pushes + other.pushes,
            pages=self.pages + other.pages,
            reads=self.reads + other.reads,
            freed=self.freed + other.freed,
        )

    @property
    def requests(self) -> int:
        """All requests to Bunce. None at all means that there is nothing more to do now."""
        return self.pushes + self.pages + self.reads


def work(*, seconds: float, using: str | None = None) -> Work:
    """Sweep, then push what is due, look for rows in doubt, and read what was asked for.

    Any number of processes may do this at once, beside workers too.

    Args:
        seconds: how long each of the three kinds of work may go on before the next has its turn.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used; nothing was sent.
    """
    found = sweep(using=using)
    return Work(
        pushes=drain(seconds=seconds, using=using),
        pages=reconcile(seconds=seconds, using=using) if found.in_doubt else 0,
        reads=refresh_requested(seconds=seconds, using=using) if found.asked else 0,
        freed=found.freed,
    )

"""The budget of one run of work, and what a run reports."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from bunce_sync import clocks
from bunce_sync.choices import Outcome
from bunce_sync.sync.circuit_breaker import OperationPaused, OperationRows
from bunce_sync.sync.rate_limiter import NoPermit

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

T = TypeVar("T")

#: Seconds that a worker may spend waiting for slots of the rate limiter in one run. Worker slots
#: are limited, and the rows keep their place.
WAIT_SECONDS = 1.0


class Budget:
    """How long one run of work may take, and how much of that it may wait for slots.

    Args:
        seconds: after which no new attempt begins.
        wait_seconds: how long to wait for slots in all; 0 takes only permits valid at once.

    Attributes:
        outcomes: how the requests ended, for reports.
    """

    def __init__(self, seconds: float, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._ends = clocks.monotonic() + seconds
        self.wait_left = wait_seconds
        self.outcomes: Counter[Outcome] = Counter()

    @property
    def out_of_time(self) -> bool:
        return clocks.monotonic() >= self._ends

    def wait(self, seconds: float) -> None:
        """Sleep until a slot."""
        self.wait_left -= seconds
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run of work did.

    Attributes:
        requests: how many requests were made. Failed reads are not counted: they would be repeated
            as they are, so a run that counts none should not be repeated at once.
        more: there is more to do, and the next run should follow at once.
        waiting_id: the row the run should begin with, if it is still waiting.
    """

    requests: int = 0
    more: bool = False
    waiting_id: int | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of work. ``work.KINDS`` lists all of them.

    Attributes:
        name: one word.
        label: what is done with a segment, as an infinitive for people.
        workers_needed: returns for how many workers there is work, given how many permits can be
            expected until the next sweep.
        run: does some of it within a budget.
        operations: the segments for which its requests are made.
        report: a sentence's part about confirmed requests, with %s for their number and noun.
        noun: what one request is about, in the singular.
        count_due: returns how much of it could be worked on now: segments, imports or customers.
        counted: how far ``count_due`` counts; None for to the end.
    """

    name: str
    label: StrPromise
    workers_needed: Callable[[int], int]
    run: Callable[[Budget], Progress]
    operations: tuple[OperationRows, ...]
    report: str
    noun: str
    count_due: Callable[[], int]
    counted: int | None = None

    def plus(self, count: int) -> str:
        """Return a plus sign if there may be more than were counted."""
        return "+" if count == self.counted else ""


def count_waiting(*operations: OperationRows) -> int:
    """Return how many segments wait for any of the operations and could be worked on now."""
    return sum(rows.waiting().order_by().count() for rows in operations)


@dataclass(frozen=True, slots=True)
class Stop:
    """Where ``attempt_each`` stopped early.

    Attributes:
        more: another worker should continue at once.
        index: of the item that was not attempted.
    """

    more: bool
    index: int


def attempt_each(
    items: Iterable[T], attempt: Callable[[T], int], budget: Budget
) -> tuple[int, Stop | None]:
    """Attempt each item until the budget is used up or no permit is given.

    Args:
        attempt: returns how many requests to count, see ``Progress``; raises ``NoPermit``.

    Returns:
        How many requests were counted, and where it stopped; None if all were attempted.
    """
    requests = 0
    for index, item in enumerate(items):
        if budget.out_of_time:
            return requests, Stop(more=True, index=index)
        try:
            requests += attempt(item)
        except OperationPaused:
            continue  # items of other operations can be attempted
        except NoPermit as denied:
            # A worker with a fresh budget could wait for the slot, unless others already do.
            slot_is_near = denied.wait <= WAIT_SECONDS
            more = slot_is_near and not denied.reason and not denied.queue_full
            return requests, Stop(more=more, index=index)
    return requests, None

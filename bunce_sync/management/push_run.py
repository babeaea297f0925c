"""One push in the foreground: of everything that waits, or of some segments until they are at rest.

Workers may send the same segments meanwhile; what they did counts as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from django.db.models import Q

from bunce_sync import database, services
from bunce_sync.choices import Operation, Outcome, Status
from bunce_sync.functions import DatabaseNow
from bunce_sync.management.console import SHOWN
from bunce_sync.management.foreground import Turn
from bunce_sync.models import Segment, SegmentQuerySet
from bunce_sync.sync import push
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.sweep import free_leases

#: Keys that one query names.
BATCH: Final = 500
#: Segments whose content is loaded at a time.
AT_ONCE: Final = 10
PUSHES: Final = (Operation.CREATE, Operation.UPDATE)
#: The columns that a report shows.
SHOWN_COLUMNS: Final = (
    *("name", "status", "last_code", "last_error", "due_at", "hold_id", "bunce_id"),
)


@dataclass
class Group:
    """Some segments: how many, and the first of them."""

    count: int = 0
    rows: list[Segment] = field(default_factory=list)

    def add(self, rows: SegmentQuerySet) -> None:
        """Count rows, and keep the first."""
        self.count += rows.order_by().count()
        if room := SHOWN - len(self.rows):
            self.rows += rows.only(*SHOWN_COLUMNS).order_by("pk")[:room]


@dataclass
class Result:
    """What became of the segments.

    Attributes:
        synced: how many Bunce has as they are here.
        refused: that Bunce refused.
        in_doubt: whose create has an unknown outcome.
        waiting: that could not be sent, and are sent later.
        held: by ``no_push()`` blocks.
    """

    synced: int = 0
    refused: Group = field(default_factory=Group)
    in_doubt: Group = field(default_factory=Group)
    waiting: Group = field(default_factory=Group)
    held: Group = field(default_factory=Group)


class PushRun:
    """One push in the foreground.

    Args:
        keys: of the segments; None for everything that waits.
        with_rejected: also retry all segments that were refused.
    """

    def __init__(self, keys: list[int] | None, *, with_rejected: bool = False) -> None:
        self.keys = keys
        self.started = services.database_time()
        self.done = False
        self._with_rejected = with_rejected
        self._total = 0

    def prepare(self) -> None:
        """Make the segments due now, and free those that a dead worker left."""
        free_leases()
        here = database.segments().here()
        if self._with_rejected:
            refused = here.filter(status=Status.REJECTED).order_by("pk")
            retried = [*refused.values_list("pk", flat=True)]
            _in_batches(retried, services.retry)
            if self.keys is not None:
                self.keys = [*dict.fromkeys([*self.keys, *retried])]
        if self.keys is None:
            later = here.filter(status=Status.PENDING, due_at__gt=DatabaseNow()).order_by("pk")
            _in_batches([*later.values_list("pk", flat=True)], services.push_now)
        else:
            _in_batches(self.keys, services.retry)
            _in_batches(self.keys, services.push_now)
        self._total = self.left()

    def turn(self, budget: Budget) -> Turn:
        """Push for a while."""
        if self.keys is None:
            if push.run(budget).requests:
                return Turn.MORE
        elif due := self._some_due():
            if push.run_only(due, budget).requests:
                return Turn.MORE
        else:
            free_leases()  # a segment that a dead worker left would be waited for
        if self.left():
            return Turn.WAIT
        self.done = True
        return Turn.DONE

    def figures(self) -> tuple[int, int]:
        """Return how many segments are done, and how many there are."""
        left = self.left()
        self._total = max(self._total, left)
        return self._total - left, self._total

    def left(self) -> int:
        """Return how many segments are not at rest yet, nor postponed."""
        unfinished = Q(status=Status.PENDING, due_at__lte=DatabaseNow(), hold=None)
        if self.keys is not None:
            unfinished |= Q(status=Status.SENDING)  # of another process; wait for it
        return sum(rows.filter(unfinished).order_by().count() for rows in self._parts())

    def operations(self) -> set[Operation]:
        """Return the operations that segments still wait for."""
        unlinked = any(
            rows.filter(status=Status.PENDING, bunce_id=None, hold=None).exists()
            for rows in self._parts()
        )
        return {*PUSHES} if unlinked else {Operation.UPDATE}

    def result(self) -> Result:
        """Return what became of the segments."""
        result = Result()
        for rows in self._parts():
            ended = rows if self.keys is not None else rows.filter(updated_at__gte=self.started)
            result.refused.add(ended.filter(status=Status.REJECTED))
            result.in_doubt.add(ended.filter(status=Status.IN_DOUBT))
            waiting = rows.filter(status=Status.PENDING, hold=None)
            if self.keys is not None:
                waiting |= rows.filter(status=Status.SENDING)
            if self.done:  # those that are due were added since
                waiting = waiting.filter(due_at__gt=DatabaseNow())
            result.waiting.add(waiting)
            result.held.add(rows.filter(status=Status.PENDING, hold__isnull=False))
            if self.keys is not None:
                result.synced += rows.filter(status=Status.SYNCED).count()
        if self.keys is None:
            result.synced = self._confirmed()
        return result

    def _confirmed(self) -> int:
        """Return how many segments Bunce confirmed since the beginning."""
        calls = database.calls_here().filter(
            started_at__gte=self.started,
            operation__in=PUSHES,
            outcome__in=(Outcome.CONFIRMED, Outcome.DUPLICATE),
        )
        return calls.order_by().values("segment_id").distinct().count()

    def _some_due(self) -> list[int]:
        for rows in self._parts():
            if due := [*rows.due().order_by("due_at").values_list("pk", flat=True)[:AT_ONCE]]:
                return due
        return []

    def _parts(self) -> Iterator[SegmentQuerySet]:
        """Yield the segments, in querysets that name a few keys each."""
        rows = database.segments().here()
        if self.keys is None:
            yield rows
        else:
            for some in batches(self.keys):
                yield rows.filter(pk__in=some)


def batches(keys: list[int]) -> Iterator[list[int]]:
    """Yield some keys at a time."""
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]


def _in_batches(keys: list[int], action: Callable[[SegmentQuerySet], int]) -> None:
    for some in batches(keys):
        action(database.segments().filter(pk__in=some))

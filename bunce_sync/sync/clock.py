"""Notices when the database's clock jumps.

The limiter counts its window by the database's time. A clock that is set forward would empty the
window at once, one that is set back would fill it for hours. Each process therefore compares the
steps of that clock with its own monotonic one, which nobody sets.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F

from bunce_sync.models import ApiCall, OperationState, Segment, SyncState
from bunce_sync.models.segment_queryset import SegmentQuerySet

#: Seconds by which the two clocks may differ between two readings.
TOLERANCE = 1.0
#: Seconds a second by which they may drift apart besides: two quartz clocks that nobody
#: disciplines are a second apart after some hours, and that is no jump.
DRIFT = 0.0002


@dataclass(frozen=True, slots=True)
class _Seen:
    """The database's time as read between two monotonic moments."""

    now: datetime
    before: float
    after: float
    epoch: int


_seen: dict[str, _Seen] = {}


class Reading:
    """One reading of the database's clock; made just before the query."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.before = time.monotonic()

    def jump(self, now: datetime, epoch: int) -> float:
        """Seconds by which the clock jumped since this process last read it; 0 when it did not.

        Args:
            now: what the query returned.
            epoch: the number of jumps healed so far; another one means the last reading is void.
        """
        last = _seen.get(self.using)
        current = _Seen(now, self.before, time.monotonic(), epoch)
        _seen[self.using] = current
        if last is None or last.epoch != epoch:
            return 0.0
        passed = (now - last.now).total_seconds()
        longest, shortest = current.after - last.before, current.before - last.after
        tolerance = TOLERANCE + DRIFT * longest
        if passed > longest + tolerance:
            return passed - longest
        if passed < shortest - tolerance:
            return passed - shortest
        return 0.0


def draw_back(using: str, *, now: datetime, by: timedelta) -> None:
    """After the clock went back, take the same step with every time that lies ahead of it."""
    # In the order in which a push takes its locks.
    for model, field in (
        (Segment, "due_at"),
        (Segment, "lease_until"),
        (OperationState, "blocked_until"),
        (OperationState, "probe_until"),
        (ApiCall, "started_at"),
        (SyncState, "swept_at"),
        (SyncState, "scan_lease_until"),
    ):
        rows = model._base_manager.using(using).filter(**{f"{field}__gt": now})
        changes = {field: F(field) - by}
        if isinstance(rows, SegmentQuerySet):
            rows.update_sync_fields(**changes)
        else:
            rows.update(**changes)

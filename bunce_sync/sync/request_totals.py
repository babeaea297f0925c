"""Totals of all requests by operation and outcome, for metrics.

Counters must never fall, but the call log is pruned. So each sweep adds the requests that have
ended since the last one to totals in the shared row, which all hosts and processes have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db.models import Count, Max, Min, Q, Sum
from django.db.models.functions import Coalesce

from bunce_sync import database
from bunce_sync.choices import Outcome
from bunce_sync.sync import shared_state

#: The upper bounds of the durations that are counted, in seconds. Slower ones are in the total.
BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Seconds for which a request is left to the next sweep: a transaction that has an older id may
#: not have ended yet.
SETTLING: Final = 5.0


@dataclass(frozen=True, slots=True)
class Totals:
    """The requests of one operation with one outcome, since they are counted.

    Attributes:
        operation: an ``Operation`` value.
        outcome: an ``Outcome`` value.
        count: how many.
        timed: how many of them have a duration; those that never began have none.
        seconds: the sum of the durations.
        within: how many took at most each of ``BOUNDS``.
    """

    operation: str
    outcome: str
    count: int = 0
    timed: int = 0
    seconds: float = 0.0
    within: tuple[int, ...] = (0,) * len(BOUNDS)

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.operation,
            self.outcome,
            self.count + other.count,
            self.timed + other.timed,
            self.seconds + other.seconds,
            tuple(one + more for one, more in zip(self.within, other.within, strict=True)),
        )


def read(stored: Mapping[str, Any] | None) -> list[Totals]:
    """Return the totals in ``SyncState.request_totals``.

    Those that another version has stored with other bounds begin again, as after a restart of what
    is measured, which Prometheus recognizes.
    """
    found = [
        Totals(operation, outcome, count, timed, seconds, tuple(within))
        for operation, outcomes in (stored or {}).items()
        for outcome, (count, timed, seconds, *within) in outcomes.items()
    ]
    return [] if any(len(one.within) != len(BOUNDS) for one in found) else found


def update() -> None:
    """Add the requests that have ended to the totals. A sweep at the same time adds none twice."""
    state, now = shared_state.read()
    calls = database.calls_here()
    if state.counted_to is None:
        # Only what comes from now on: the call log may have millions of rows.
        newest = calls.aggregate(newest=Coalesce(Max("pk"), 0))["newest"]
        database.sync_state().filter(counted_to=None).update(counted_to=newest)
        return
    new = calls.filter(pk__gt=state.counted_to)
    unfinished = Q(outcome=Outcome.UNDER_WAY)
    unfinished |= Q(started_at__gt=now - timedelta(seconds=SETTLING))
    edges = new.aggregate(first=Min("pk", filter=unfinished), last=Max("pk"))
    if edges["last"] is None:
        return
    upto = edges["last"] if edges["first"] is None else edges["first"] - 1
    if upto <= state.counted_to:
        return
    totals = {(one.operation, one.outcome): one for one in read(state.request_totals)}
    for one in _count(new.filter(pk__lte=upto)):
        key = one.operation, one.outcome
        totals[key] = totals[key] + one if key in totals else one
    database.sync_state().filter(counted_to=state.counted_to).update(
        counted_to=upto, request_totals=_stored(totals.values())
    )


def _count(calls: Any) -> Iterator[Totals]:
    """Yield the totals of some rows of the call log, in one query."""
    bounds = {
        f"within_{number}": Count("pk", filter=Q(duration_ms__lte=round(1000 * bound)))
        for number, bound in enumerate(BOUNDS)
    }
    rows = calls.order_by().values("operation", "outcome")
    for row in rows.annotate(
        count=Count("pk"), timed=Count("duration_ms"), milliseconds=Sum("duration_ms"), **bounds
    ):
        yield Totals(
            row["operation"],
            row["outcome"],
            row["count"],
            row["timed"],
            (row["milliseconds"] or 0) / 1000,
            tuple(row[name] for name in bounds),
        )


def _stored(totals: Any) -> dict[str, dict[str, list[float]]]:
    stored: dict[str, dict[str, list[float]]] = {}
    for one in totals:
        numbers = [one.count, one.timed, round(one.seconds, 3), *one.within]
        stored.setdefault(one.operation, {})[one.outcome] = numbers
    return stored

"""Counts: segments by status, and requests over time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db.models import Case, Count, Q, Value, When

from bunce_sync import database
from bunce_sync.choices import Operation, Outcome, Status
from bunce_sync.conf import conf

#: The chart of the last hour has this many buckets, each this many seconds wide.
BUCKETS: Final = 12
BUCKET_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Bucket:
    """The finished requests of ``BUCKET_SECONDS``: accepted, rejected and failed."""

    start: datetime
    accepted: int = 0
    rejected: int = 0
    failed: int = 0


def count_segments() -> dict[str, int]:
    """Return the number of segments by ``Status`` value, zeros included, in one query."""
    counted = database.segments().order_by().values_list("status").annotate(count=Count("status"))
    return dict.fromkeys(Status.values, 0) | dict(counted)


def elsewhere() -> Q:
    """Return the condition for segments of other environments, in a form that an index serves."""
    here = conf.environment
    return Q(environment__gt="", environment__lt=here) | Q(environment__gt=here)


def count_elsewhere() -> dict[str, int]:
    """Return the number of segments that belong to other environments, by environment.

    Usually there are none, which the index shows without a count.
    """
    rows = database.segments().filter(elsewhere()).order_by()
    if not rows.exists():
        return {}
    return dict(rows.values_list("environment").annotate(count=Count("pk")))


def count_changed_in_bunce() -> int:
    """Return the number of segments that were changed in Bunce and not settled since."""
    return database.segments().filter(last_code="drift", status=Status.SYNCED).count()


def count_requests(now: datetime) -> tuple[Bucket, ...]:
    """Return the requests of the sync in the last hour, oldest first, in one query.

    Args:
        now: the database's time.
    """
    newest = datetime.fromtimestamp(now.timestamp() // BUCKET_SECONDS * BUCKET_SECONDS, UTC)
    starts = [newest - timedelta(seconds=n * BUCKET_SECONDS) for n in range(BUCKETS)]
    rows = (
        database.calls()
        .filter(started_at__gte=starts[-1])
        .exclude(outcome=Outcome.UNDER_WAY)
        .exclude(operation=Operation.SITE)
        .order_by()
        .annotate(
            bucket=Case(
                *(When(started_at__gte=start, then=Value(n)) for n, start in enumerate(starts))
            )
        )
        .values_list("bucket", "outcome")
        .annotate(count=Count("pk"))
    )
    counts: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for bucket, outcome, count in rows:
        counts[bucket][_kind(outcome)] += count
    return tuple(Bucket(start, **counts[n]) for n, start in reversed([*enumerate(starts)]))


def _kind(outcome: str) -> str:
    match outcome:
        case Outcome.CONFIRMED | Outcome.DUPLICATE:
            return "accepted"
        case Outcome.REJECTED:
            return "rejected"
        case _:
            return "failed"

"""The window: how many requests Bunce's limit has room for, and when the next one may start.

The ledger is the schedule as well: a request that waits for its turn stands in it already, with a
start that lies ahead, so the next one lines up behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Max, Min, Q, QuerySet

from bunce_sync.models import ApiCall
from bunce_sync.sync.outcome import Outcome

#: The share of the window that may be used as fast as it comes; the rest is spread over the time
#: until the window frees itself, so that a backlog flows evenly and nobody waits long for a turn.
BURST_SHARE = 0.5
#: The share of the window that reads may use: a scan of a large account must not starve pushes.
READ_SHARE = 0.5

#: Seconds between two requests of that rest at most: no worker waits longer for its turn.
LONGEST_SPACING = 1.0

READS = (ApiCall.Operation.READ, ApiCall.Operation.LIST)


@dataclass(frozen=True, slots=True)
class Usage:
    """The requests of the window: how many, how many of them reads, the first and the last."""

    used: int
    reads: int
    oldest: datetime | None
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Turn:
    """When the next request may start.

    Attributes:
        wait: seconds from now.
        line: seconds until the turn of the last who waits already; 0 when nobody does.
    """

    wait: float
    line: float


def counted(using: str, *, since: datetime) -> QuerySet[ApiCall]:
    """The ledger's requests after a moment; those that never left do not count."""
    return (
        ApiCall.objects.using(using).filter(started_at__gt=since).exclude(outcome=Outcome.NOT_SENT)
    )


def usage(using: str, *, since: datetime) -> Usage:
    """Count the requests after a moment."""
    return Usage(
        **counted(using, since=since).aggregate(
            used=Count("id"),
            reads=Count("id", filter=Q(operation__in=READS)),
            oldest=Min("started_at"),
            newest=Max("started_at"),
        )
    )


def next_slot(
    operation: ApiCall.Operation,
    *,
    limit: int,
    span: timedelta,
    now: datetime,
    resumed_at: datetime | None,
    using: str,
) -> Turn:
    """When one more request may start, behind those that wait already.

    Args:
        limit: requests that may start within any ``span``.
        now: the database's time.
        resumed_at: when Bunce's last pause ended.
    """
    current = usage(using, since=now - span)
    if current.oldest is None or current.newest is None:
        return Turn(0.0, line=0.0)
    if current.used >= limit:
        at = _nth_start(current.used - limit, span, now, using) + span
    else:
        at = current.newest + _spacing(current, limit, span, now, resumed_at)
    reads_allowed = max(1, int(limit * READ_SHARE))
    if operation in READS and current.reads >= reads_allowed:
        at = max(at, _nth_start(current.reads - reads_allowed, span, now, using, READS) + span)
    at = max(at, current.newest)
    return Turn(_seconds(at - now), line=_seconds(current.newest - now))


def _seconds(ahead: timedelta) -> float:
    return max(0.0, ahead.total_seconds())


def _nth_start(
    number: int,
    span: timedelta,
    now: datetime,
    using: str,
    operations: tuple[ApiCall.Operation, ...] | None = None,
) -> datetime:
    """The start of the oldest request but ``number`` of the window."""
    calls = counted(using, since=now - span)
    if operations:
        calls = calls.filter(operation__in=operations)
    return calls.order_by("started_at").values_list("started_at", flat=True)[number]


def _spacing(
    current: Usage, limit: int, span: timedelta, now: datetime, resumed_at: datetime | None
) -> timedelta:
    """How long after the newest request the next may start."""
    spacing = timedelta(0)
    if current.oldest and current.used >= limit * BURST_SHARE:
        spacing = (current.oldest + span - now) / (limit - current.used)
        spacing = min(spacing, timedelta(seconds=LONGEST_SPACING))
    if resumed_at and now - resumed_at < span:
        # Bunce has just locked us out: somebody else uses the same address. Half the even pace
        # at first, the full pace after a window.
        spacing = max(spacing, span / limit * (2 - (now - resumed_at) / span))
    return spacing


def room(*, limit: int, span: timedelta, now: datetime, within: timedelta, using: str) -> int:
    """About how many requests may start within some time, which is at most the span."""
    current = usage(using, since=now - span)
    freed = current.used - usage(using, since=now - span + within).used
    burst = max(0, math.ceil(limit * BURST_SHARE) - current.used)
    until_free = current.oldest + span - now if current.oldest else within
    paced = (limit - current.used - burst) * min(1.0, within / max(until_free, within))
    # With a limit that was lowered more may be used than is allowed.
    return max(0, min(limit, burst + freed + math.ceil(paced)))

"""Refreshes: read segments from Bunce for which this was requested."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.db import InterfaceError, OperationalError, ProgrammingError
from django.db.models import Case, Q, When
from django.utils.translation import gettext_lazy as _

from bunce_sync import database, transitions
from bunce_sync.choices import Operation, Outcome
from bunce_sync.client import RemoteSegment, RequestRecord
from bunce_sync.exceptions import ConfigurationError, NotFound
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import OperationState, Segment
from bunce_sync.results import Result
from bunce_sync.sync import account, circuit_breaker, events
from bunce_sync.sync.attempt import Attempt, client
from bunce_sync.sync.budget import Budget, Kind, Progress, attempt_each, count_waiting
from bunce_sync.sync.circuit_breaker import OperationRows
from bunce_sync.sync.rate_limiter import NoPermit

logger = logging.getLogger(__name__)

#: Segments read by one run at most; the sweep wakes a worker for the others.
BATCH = 100
#: The fields that are read to look a segment up, and to compare it with Bunce's. No times, as for
#: a claim.
LOOKED_UP = ("bunce_id", "bunce_duplicate_id")
COMPARED = (
    *Segment.UPDATE_FIELDS,
    *("status", "last_code", "sent_digest", "listed_digest", "shown_digest", "settled"),
    *("bunce_id", "bunce_name", "bunce_description", "bunce_duplicate_id"),
)


class Read(Attempt[RemoteSegment]):
    """One read of a single segment.

    Args:
        bunce_id: of the segment to read.
        segment_id: the row it belongs to.
    """

    # One worker reads, and pushes would crowd it out.
    must_wait = True

    def __init__(self, bunce_id: str, *, segment_id: int) -> None:
        self.rows = READS
        self.bunce_id = bunce_id
        super().__init__(f"/segments/{bunce_id}", segment_id=segment_id)

    def send(self, record: RequestRecord) -> RemoteSegment:
        return client().get_segment(self.bunce_id, record=record)


class ReadDuplicate(Read):
    """One read of a row's second segment, which says nothing about reads as a whole."""

    reports_operation = False


def run(budget: Budget) -> Progress:
    """Read the segments for which that was requested, until the budget is used up.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    if not account.is_known(budget):
        return Progress()
    requested = circuit_breaker.without_paused(database.segments().refresh_requested(), READS)
    rows = requested.order_by("refresh_requested_at").only(*LOOKED_UP)[:BATCH]
    requests, stop = attempt_each(rows, partial(_refresh_alone, budget), budget)
    return Progress(requests, more=stop is not None and stop.more)


def workers_needed(permits: int) -> int:
    """Return 1 if a refresh was requested; one worker does all."""
    return int(bool(permits) and database.segments().refresh_requested().exists())


def refresh(row: Segment, budget: Budget) -> bool:
    """Read one segment and record what Bunce has, and whether a second one is still there.

    Returns:
        Whether it was read.

    Raises:
        ConfigurationError, NoPermit: no request was made.
    """
    if row.bunce_id is None:
        # There is nothing to read by id; reconciliation looks for rows in doubt.
        rows = database.segments().filter(pk=row.pk)
        rows.update_sync_fields(**transitions.refresh_impossible())
        return False
    attempt = Read(row.bunce_id, segment_id=row.pk)
    result = attempt.run(budget)
    if result is None:
        return False
    remote = attempt.value if result.succeeded else None
    duplicate_gone = False
    if remote is not None and row.bunce_duplicate_id is not None:
        # Only where reads work: with a wrong key or address it would look removed.
        second = ReadDuplicate(row.bunce_duplicate_id, segment_id=row.pk).run(budget)
        duplicate_gone = second is not None and second.code == NotFound.code
    asked_at = attempt.call.started_at
    saved = _save(row, result, remote, asked_at=asked_at, duplicate_gone=duplicate_gone)
    return saved and remote is not None


def _save(
    row: Segment,
    result: Result,
    remote: RemoteSegment | None,
    *,
    asked_at: datetime,
    duplicate_gone: bool,
) -> bool:
    """Write what the read showed; return False if it says nothing (any more) about the row."""
    reads_work = result.code != NotFound.code or _reads_work()
    with database.atomic():
        rows = database.segments().locked().filter(pk=row.pk).only(*COMPARED)
        unread = Case(When(synced_at__isnull=True, then=True), default=False)
        rows = rows.annotate(outdated=changed_since(asked_at), unread=unread)
        current: Any = next(iter(rows), None)
        if current is None or current.bunce_id != row.bunce_id:
            return False
        values = transitions.after_refresh(
            current,
            result,
            remote,
            now=DatabaseNow(),
            reads_work=reads_work,
            outdated=current.outdated,
            unread=current.unread,
        )
        if duplicate_gone and current.bunce_duplicate_id == row.bunce_duplicate_id:
            values |= transitions.without_duplicate()
        if values:
            database.segments().filter(pk=row.pk).update_sync_fields(**values)
            events.announce(current, values)
    return bool(values)


def changed_since(asked_at: datetime) -> Case:
    """Return whether a row was written since a read of its segment was requested.

    Then a push, or a later read, may have recorded what is newer than the response.
    """
    return Case(When(updated_at__gte=asked_at, then=True), default=False)


def _reads_work() -> bool:
    """Return whether a single segment was ever read: Bunce's pages do not document that call."""
    reads = database.calls_here().filter(operation=Operation.READ)
    return reads.filter(outcome=Outcome.CONFIRMED).exists()


def _refresh_alone(budget: Budget, row: Segment) -> bool:
    """Refresh one segment; an internal error is shown with it and stops no other."""
    try:
        return refresh(row, budget)
    except (ConfigurationError, NoPermit, OperationalError, InterfaceError, ProgrammingError):
        raise
    except Exception as error:
        logger.exception(
            "Refreshing segment %s failed by an internal error",
            row.pk,
            extra=event(LogEvent.INTERNAL_ERROR, segment_id=row.pk, error=type(error).__name__),
        )
        rows = database.segments().filter(pk=row.pk)
        rows.update_sync_fields(**transitions.after_failed_refresh(error))
        return False


def _requeue(state: OperationState) -> int:
    """Request the refresh again of segments whose response turned out to be the operation's."""
    rows = database.segments().filter(pk__in=state.segment_ids, refresh_requested_at__isnull=True)
    keys = list(rows.values_list("pk", flat=True))
    if not keys:
        return 0
    with database.atomic():
        return (
            rows.filter(pk__in=keys)
            .lock_available()
            .update_sync_fields(**transitions.refresh_requested(now=DatabaseNow()))
        )


READS: Final = OperationRows(
    Operation.READ,
    condition=Q(refresh_requested_at__isnull=False),
    waiting=lambda: database.segments().refresh_requested(),
    is_expected=lambda: database.segments().refresh_requested().exists(),
    requeue=_requeue,
)
REFRESH: Final = Kind(
    name="refresh",
    label=_("to refresh"),
    workers_needed=workers_needed,
    run=run,
    operations=(READS,),
    report="refreshed %s",
    noun="segment",
    count_due=partial(count_waiting, READS),
)

"""Reads from Bunce what it has of a row, for somebody who asked to see it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.db import InterfaceError, OperationalError, ProgrammingError, transaction

from bunce_sync.client import RemoteSegment
from bunce_sync.exceptions import ConfigurationError, NotFound
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, Segment
from bunce_sync.sync import circuit_breaker, rate_limiter
from bunce_sync.sync.outcome import Result, checked
from bunce_sync.sync.patience import WaitBudget
from bunce_sync.sync.push import client, database_of
from bunce_sync.sync.read import read

logger = logging.getLogger(__name__)

#: Rows read by one call at most; the sweep rings for the rest.
BATCH = 100
NOT_FOUND = NotFound.code
#: Errors that concern all rows: the database is gone, or has no tables.
EVERYBODYS = (OperationalError, InterfaceError, ProgrammingError)
#: What has to be known of a row to look it up, and to compare what Bunce has. No times, as for a
#: claim.
LOOKED_UP = ("bunce_id", "bunce_duplicate_id")
COMPARED = (
    *("name", "description", "status", "last_code", "sent_digest", "shown_digest"),
    *("bunce_id", "bunce_name", "bunce_description", "bunce_duplicate_id"),
)


def refresh_requested(
    *, seconds: float, on_more_work: Callable[[], object] | None = None, using: str | None = None
) -> int:
    """Read every segment that somebody asked for, until time is up or the rate limiter closes.

    Args:
        seconds: when to stop beginning new reads.
        on_more_work: called at the end when somebody else should go on with the rest at once.

    Returns:
        How many were read.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    alias = database_of(using)
    client()
    ends = time.monotonic() + seconds
    count = 0
    asked = circuit_breaker.passable_reads(Segment.objects.using(alias).refresh_requested(), alias)
    asked = asked.order_by("refresh_requested_at").only(*LOOKED_UP)
    patience = WaitBudget()
    for row in asked[:BATCH]:
        tired = time.monotonic() >= ends
        if not tired:
            try:
                count += _pull_alone(row, patience, alias)
            except circuit_breaker.OperationPaused:
                continue  # another row may probe
            except rate_limiter.NoPermit as closed:
                tired = patience.ended_by(closed)
                if not tired:
                    break
        if tired:
            if on_more_work:
                on_more_work()
            break
    return count


def _pull_alone(row: Segment, patience: WaitBudget, alias: str) -> bool:
    """Read one segment; an error of ours is told with that row and stops no other."""
    try:
        return pull(row, patience, alias)
    except (ConfigurationError, rate_limiter.NoPermit, *EVERYBODYS):
        raise
    except Exception as error:
        logger.exception("Looking up segment %s failed by an error of ours", row.pk)
        Segment.objects.using(alias).filter(pk=row.pk).update_sync_fields(
            refresh_requested_at=None, last_code="internal", last_error=type(error).__name__
        )
        return False


def pull(row: Segment, patience: WaitBudget, alias: str) -> bool:
    """Read one segment and note what Bunce has, and whether a second one is still there.

    Args:
        patience: how long to wait for a turn at the rate_limiter.

    Returns:
        Whether it was read.

    Raises:
        NoPermit: no request may be made now.
    """
    bunce_id = row.bunce_id
    if bunce_id is None:
        # Nothing to read by id; rows in doubt are looked for in the list.
        Segment.objects.using(alias).filter(pk=row.pk).update_sync_fields(refresh_requested_at=None)
        return False

    duplicate = row.bunce_duplicate_id
    remote, result = _fetch(row, bunce_id, patience, alias)
    removed = False
    if remote is not None and duplicate is not None:
        # Only where reads work: else a wrong key or address would make it look removed.
        removed = _fetch(row, duplicate, patience, alias, beside=True)[1].code == NOT_FOUND
    reads_work = result.code != NOT_FOUND or _reads_work(alias)
    with transaction.atomic(using=alias, durable=True):
        rows = Segment.objects.using(alias).locked().filter(pk=row.pk).only(*COMPARED)
        current = next(iter(rows), None)
        if current is None or current.bunce_id != bunce_id:
            return False
        changes = checked(current, result, remote, now=DatabaseNow(), reads_work=reads_work)
        if removed and current.bunce_duplicate_id == duplicate:
            changes |= {"bunce_duplicate_id": None}
        if changes:
            Segment.objects.using(alias).filter(pk=row.pk).update_sync_fields(**changes)
    return remote is not None


def _reads_work(alias: str) -> bool:
    """Whether a single segment was ever read: Bunce's pages do not document that call."""
    reads = ApiCall.objects.using(alias).filter(operation=ApiCall.Operation.READ)
    return reads.filter(outcome=ApiCall.Outcome.CONFIRMED).exists()


def _fetch(
    row: Segment, bunce_id: str, patience: WaitBudget, alias: str, *, beside: bool = False
) -> tuple[RemoteSegment | None, Result]:
    return read(
        lambda record: client().get_segment(bunce_id, record=record),
        operation=ApiCall.Operation.READ,
        path=f"/segments/{bunce_id}",
        patience=patience,
        using=alias,
        segment_id=row.pk,
        beside=beside,
    )

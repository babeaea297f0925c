"""Reads from Bunce what it has of a row, for somebody who asked to see it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.db import IntegrityError, transaction

from bunce_sync.client import RemoteSegment
from bunce_sync.exceptions import NotFound
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, Segment
from bunce_sync.sync import gate
from bunce_sync.sync.outcome import Result, checked
from bunce_sync.sync.patience import Patience
from bunce_sync.sync.push import client, database_of
from bunce_sync.sync.read import read

logger = logging.getLogger(__name__)

#: Rows read by one call at most; the sweep rings for the rest.
BATCH = 100
NOT_FOUND = NotFound.code


def pull_asked(
    *, seconds: float, hand_on: Callable[[], object] | None = None, using: str | None = None
) -> int:
    """Read every segment that somebody asked for, until time is up or the gate closes.

    Args:
        seconds: when to stop beginning new reads.
        hand_on: called at the end when somebody else should go on with the rest at once.

    Returns:
        How many were read.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    alias = database_of(using)
    client()
    ends = time.monotonic() + seconds
    count = 0
    asked = Segment.objects.using(alias).asked().order_by("check_asked_at")
    patience = Patience()
    for row in asked[:BATCH]:
        tired = time.monotonic() >= ends
        if not tired:
            try:
                count += pull(row, patience, alias)
            except gate.GateClosed as closed:
                tired = patience.ended_by(closed)
                if not tired:
                    break
        if tired:
            if hand_on:
                hand_on()
            break
    return count


def pull(row: Segment, patience: Patience, alias: str) -> bool:
    """Read one segment and note what Bunce has, and whether a second one is still there.

    Args:
        patience: how long to wait for a turn at the gate.

    Returns:
        Whether it was read.

    Raises:
        GateClosed: no request may be made now.
    """
    bunce_id = row.bunce_id
    if bunce_id is None:
        # Nothing to read by id; rows in doubt are looked for in the list.
        Segment.objects.using(alias).filter(pk=row.pk).update_sync_fields(check_asked_at=None)
        return False

    duplicate = row.bunce_duplicate_id
    removed = duplicate is not None and _fetch(row, duplicate, patience, alias)[1].code == NOT_FOUND
    remote, result = _fetch(row, bunce_id, patience, alias)
    try:
        with transaction.atomic(using=alias, durable=True):
            current = Segment.objects.using(alias).locked().filter(pk=row.pk).first()
            if current is None or current.bunce_id != bunce_id:
                return False
            changes = checked(current, result, remote, now=DatabaseNow())
            if removed and current.bunce_duplicate_id == duplicate:
                changes |= {"bunce_duplicate_id": None}
            if changes:
                Segment.objects.using(alias).filter(pk=row.pk).update_sync_fields(**changes)
    except IntegrityError:
        logger.exception("What Bunce has of segment %s cannot be stored", row.pk)
        Segment.objects.using(alias).filter(pk=row.pk).update_sync_fields(check_asked_at=None)
    return remote is not None


def _fetch(
    row: Segment, bunce_id: str, patience: Patience, alias: str
) -> tuple[RemoteSegment | None, Result]:
    return read(
        lambda exchange: client().get_segment(bunce_id, exchange=exchange),
        operation=ApiCall.Operation.READ,
        path=f"/segments/{bunce_id}",
        patience=patience,
        using=alias,
        segment_id=row.pk,
    )

"""Sends the signals of ``bunce_sync.signals`` when a transaction that changes a segment commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction
from django.dispatch import Signal

from bunce_sync import database, signals
from bunce_sync.choices import Status
from bunce_sync.fingerprint import LISTED_FIELDS, normalize
from bunce_sync.models import Segment

#: The fields that ``announce`` reads.
WATCHED: Final = ("status",)


def announce(row: Segment, values: Mapping[str, Any]) -> None:
    """Send the signals that a change of a row calls for, after the commit.

    Args:
        row: before the change, with the fields in ``WATCHED``, and those with Bunce's content if
            the change may be a difference.
        values: the new values of its fields, as returned by ``transitions``.
    """
    status = values.get("status", row.status)
    if status == Status.SYNCED and row.status != Status.SYNCED:
        send_after_commit(signals.segment_synced, row.pk)
    if status == Status.REJECTED and row.status != Status.REJECTED:
        send_after_commit(signals.segment_rejected, row.pk)
    if _shows_other_content(row, values):
        send_after_commit(signals.segment_changed_in_bunce, row.pk)
    if values.get("bunce_duplicate_id"):
        send_after_commit(signals.segment_duplicated, row.pk)


def _shows_other_content(row: Segment, values: Mapping[str, Any]) -> bool:
    """Return whether Bunce shows a difference that it did not show before."""
    read = [name for name in LISTED_FIELDS if f"bunce_{name}" in values]
    # An import that finds another difference than the one before does not change the code.
    if not read or values.get("last_code", "drift") != "drift":
        return False
    if "last_code" not in values and row.last_code != "drift":
        return False
    for name in read:
        before, shown = getattr(row, f"bunce_{name}"), values[f"bunce_{name}"]
        if shown != before and normalize(shown) != normalize(getattr(row, name) or ""):
            return True
    return False


def send_after_commit(signal: Signal, pk: int) -> None:
    """Send a signal about a segment, as it is stored then."""
    if not signal.has_listeners(Segment):
        return

    def send() -> None:
        segment = database.segments().filter(pk=pk).first()
        if segment is not None:
            signal.send_robust(sender=Segment, segment=segment)  # Django logs what receivers raise

    transaction.on_commit(send, using=database.alias(), robust=True)

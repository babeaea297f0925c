"""Rings when a segment that waits has been committed."""

from __future__ import annotations

from typing import Any

from django.db import connections, transaction

from bunce_sync.doorbell import doorbell
from bunce_sync.models import Segment
from bunce_sync.tasks import push_segment

#: Rows of one transaction that are rung for one by one; one more ring is for all the others. A
#: worker that is awake works off whatever is due, and an import must not send a message for each.
ENOUGH = 20
OTHERS = "others"


def ring_on_commit(
    sender: type[Segment], instance: Segment, using: str, raw: bool, created: bool, **kwargs: Any
) -> None:
    """After the commit of a saved row that waits, ring for it, once a transaction.

    Args:
        using: the alias it was saved to; the bell hangs on that connection's commit.
        raw: a fixture is being loaded; the sweep will find its rows.
        created: the row is new, so it waits unless it was made otherwise.
    """
    if raw or (created and instance.status != Segment.Status.PENDING):
        return
    # Callbacks of earlier saves stand here unless their savepoint was rolled back.
    hung = {getattr(entry[1], "bell", None) for entry in connections[using].run_on_commit} - {None}
    bell = instance.pk if len(hung) < ENOUGH else OTHERS
    if instance.pk in hung or bell in hung:
        return

    def ring() -> None:
        # Whether an edit lets a row wait is decided after this signal, and by the row as it is.
        due = Segment.objects.using(using).due()
        if bell == OTHERS:
            if due.exists():
                doorbell.ring(push_segment, None, using)
        elif created or due.filter(pk=bell).exists():
            doorbell.ring_now_and_then(push_segment, bell, using)

    ring.bell = bell  # type: ignore[attr-defined]  # found again by the next save
    # Robust: an error here would reach the one who saved, and skip other apps' callbacks.
    transaction.on_commit(ring, using=using, robust=True)

"""Wakes a worker when a segment that waits has been committed."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction

from bunce_sync.models import Segment
from bunce_sync.publisher import publisher
from bunce_sync.tasks import push_segment


def publish_on_commit(
    sender: type[models.Model], instance: models.Model, using: str, raw: bool, **kwargs: Any
) -> None:
    """After the commit of a saved segment that is due, ring for it.

    Receives ``post_save`` of every model, since the sender of a proxy's or a subclass's save is
    that class. How often the bell is rung is for the bell to decide: what other saves of the same
    transaction have registered cannot be known (a ``TestCase`` never forgets it).

    Args:
        using: the alias it was saved to; the bell hangs on that connection's commit.
        raw: a serialized row is being loaded. A subclass's comes without the segment's own fields,
            which are loaded before it.
    """
    if not isinstance(instance, Segment) or (raw and instance._meta.concrete_model is not Segment):
        return
    # Both times are the database's, loaded by this save: a row that backs off is due later.
    if instance.status != Segment.Status.PENDING or instance.due_at > instance.updated_at:
        return
    pk = instance.id

    def ring() -> None:
        publisher.publish_throttled(push_segment, pk, using)

    # Robust: an error here would reach the one who saved, and skip other apps' callbacks.
    transaction.on_commit(ring, using=using, robust=True)

"""What this app does when others save and delete segments, or change their customers."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction

from bunce_sync import database
from bunce_sync.models import Segment
from bunce_sync.publisher import publisher
from bunce_sync.sync import linking
from bunce_sync.sync.customers import CUSTOMERS
from bunce_sync.tasks import push_segment, work


def publish_on_commit(
    sender: type[models.Model], instance: models.Model, using: str, raw: bool, **kwargs: Any
) -> None:
    """Wake a worker after the commit of a saved segment that is due.

    Receives ``post_save`` of every model, since the sender of a proxy's or a subclass's save is
    that class. The publisher limits how many messages many saves cause.

    Args:
        using: the database it was saved to; saves to another one than the app's are ignored.
        raw: a serialized row is being loaded. A subclass's comes without the segment's own fields,
            which are loaded before it.
    """
    if not isinstance(instance, Segment) or (raw and instance._meta.concrete_model is not Segment):
        return
    if using != database.alias():
        return
    # Both times are the database's and were loaded by this save; a backoff makes due_at later.
    if instance.status != Segment.Status.PENDING or instance.due_at > instance.updated_at:
        return
    if instance.hold_id is not None:
        return  # the end of the no_push() block wakes workers
    pk = instance.id

    def publish() -> None:
        publisher.publish_throttled(push_segment, pk)

    # Robust: otherwise an error would reach the caller of save() and skip other apps' callbacks.
    transaction.on_commit(publish, using=using, robust=True)


def publish_customers(**kwargs: Any) -> None:
    """Wake a worker after customers were added to or removed from a segment."""
    publisher.publish(work, CUSTOMERS.name)


def bury_on_delete(
    sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any
) -> None:
    """Remember that a segment is deleted here, so that no import brings it back.

    Receives ``pre_delete`` of the model and its proxies; deleting a row of a subclass deletes the
    segment below it as well.

    Args:
        using: the database it is deleted from.
    """
    if not isinstance(instance, Segment) or using != database.alias() or instance.given_away:
        return
    # The instance may have been loaded before a worker recorded the id.
    rows = database.segments().filter(pk=instance.id).locked()
    for environment, *ids in rows.values_list("environment", "bunce_id", "bunce_duplicate_id"):
        if known := [one for one in ids if one is not None]:
            linking.bury(dict.fromkeys(known), environment=environment)

"""Writes stale rows back, as apps that are unaware of the sync do.

Run by ``manage.py shell`` in a site under test, while its workers are busy.
"""

import time

from django.db import models

from bunce_sync.models import Segment

FIELDS = [field.name for field in Segment._meta.concrete_fields if not field.primary_key]
SECONDS = 60


def synced() -> int:
    """Return how many rows Bunce has confirmed."""
    return Segment.objects.filter(status=Segment.Status.SYNCED).count()


def wait_for_more(before: int) -> None:
    """Wait until more rows are synced than before, or all of them."""
    deadline = time.monotonic() + SECONDS
    while synced() <= before < Segment.objects.count():
        if time.monotonic() > deadline:
            raise TimeoutError("the workers make no progress")
        time.sleep(0.05)


def save_raw(rows: list[Segment]) -> None:
    """Save as ``loaddata`` and versioning apps do."""
    for row in rows:
        models.Model.save_base(row, raw=True)


def save_each(rows: list[Segment]) -> None:
    """Save as most code does."""
    for row in rows:
        row.save()


def save_in_bulk(rows: list[Segment]) -> None:
    """Save as import tools do."""
    Segment.objects.bulk_update(rows, FIELDS, batch_size=100)


for write in (save_raw, save_each, save_in_bulk):
    read = list(Segment.objects.order_by("pk"))
    wait_for_more(synced())
    for one in read:
        one.description = "written back"
    write(read)

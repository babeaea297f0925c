"""Rows that somebody else's transaction holds: a worker goes round them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction

from bunce_sync.models import Segment
from bunce_sync.sync.sweep import sweep
from bunce_sync.testing.emulator import Emulator

from .core import Status, ago, doubtful, drain, fresh, in_threads, make, run_reconcile

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="a file locks no rows"),
]

#: Seconds that a worker must not wait for; the rows are held for as long as it takes.
SOON = 5.0


@contextmanager
def held(*rows: Segment) -> Iterator[None]:
    """Somebody's transaction has written to these rows and goes on."""
    written, over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            for row in rows:
                Segment.objects.filter(pk=row.pk).update(description="Being imported")
            written.set()
            over.wait(60)

    other = threading.Thread(target=in_threads, args=[[hold]])
    other.start()
    try:
        assert written.wait(30)
        yield
    finally:
        over.set()
        other.join()


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_a_row_held_by_an_import_does_not_hold_up_the_others(bunce: Emulator) -> None:
    rows = [make("Held", due_at=ago(60)), make("Free")]
    with held(rows[0]):
        assert timed(lambda: drain(seconds=60)) < SOON
        assert [fresh(row).status for row in rows] == [Status.PENDING, Status.SYNCED]
    drain(seconds=60)
    assert fresh(rows[0]).status == Status.SYNCED


def test_leases_are_freed_though_one_of_the_rows_is_held(bunce: Emulator) -> None:
    rows = [make(name, status=Status.SENDING, lease_until=ago(1)) for name in ("Held", "Free")]
    with held(rows[0]):
        assert timed(sweep) < SOON
        assert [fresh(row).status for row in rows] == [Status.SENDING, Status.IN_DOUBT]
    sweep()
    assert fresh(rows[0]).status == Status.IN_DOUBT


def test_a_row_in_doubt_that_is_held_is_settled_by_the_next_scan(bunce: Emulator) -> None:
    rows = [doubtful("Held"), doubtful("Free")]
    with held(rows[0]):
        assert timed(lambda: run_reconcile(seconds=60)) < SOON
        assert [fresh(row).status for row in rows] == [Status.IN_DOUBT, Status.PENDING]
    run_reconcile(seconds=60)
    assert fresh(rows[0]).status == Status.PENDING

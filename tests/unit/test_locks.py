"""Workers skip rows that another transaction has locked, and see what others commit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import DatabaseError, connection, transaction

from bunce_sync import database, services
from bunce_sync.models import Member, Segment
from bunce_sync.sync import customers, shared_state
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.sweep import sweep
from bunce_sync.testing.emulator import Emulator

from .core import Status, ago, doubtful, drain, fresh, in_threads, make, run_reconcile
from .test_customers import in_bunce

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no row locks"),
]

#: Of psycopg, see tests/integration/isolation_settings.py.
SERIALIZABLE = 4
#: Seconds within which a worker has to finish; the rows stay held until then.
SOON = 5.0


@contextmanager
def held(*rows: Segment) -> Iterator[None]:
    """Hold the rows in another transaction, which has written to them and is still open."""
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
    """Do some work and return how many seconds it took."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_a_row_held_by_an_import_does_not_delay_the_others(bunce: Emulator) -> None:
    rows = [make("Held", due_at=ago(60)), make("Free")]
    with held(rows[0]):
        assert timed(lambda: drain(seconds=60)) < SOON
        assert [fresh(row).status for row in rows] == [Status.PENDING, Status.SYNCED]
    drain(seconds=60)
    assert fresh(rows[0]).status == Status.SYNCED


def test_expired_leases_are_freed_although_one_of_the_rows_is_held(bunce: Emulator) -> None:
    rows = [make(name, status=Status.SENDING, lease_until=ago(1)) for name in ("Held", "Free")]
    with held(rows[0]):
        assert timed(sweep) < SOON
        assert [fresh(row).status for row in rows] == [Status.SENDING, Status.IN_DOUBT]
    sweep()
    assert fresh(rows[0]).status == Status.IN_DOUBT


def test_a_row_in_doubt_that_is_held_is_resolved_by_the_next_scan(bunce: Emulator) -> None:
    rows = [doubtful("Held"), doubtful("Free")]
    with held(rows[0]):
        assert timed(lambda: run_reconcile(seconds=60)) < SOON
        assert [fresh(row).status for row in rows] == [Status.IN_DOUBT, Status.PENDING]
    run_reconcile(seconds=60)
    assert fresh(rows[0]).status == Status.PENDING


def test_a_transaction_of_the_sync_sees_what_others_commit_meanwhile(db: None) -> None:
    rows = [make("Read"), make("Written")]

    def names() -> set[str]:
        return set(database.segments().values_list("name", flat=True))

    with database.atomic():
        before = names()
        in_threads([lambda: Segment.objects.filter(pk=rows[1].pk).update(name="Changed")])
        assert (before, names()) == ({"Read", "Written"}, {"Read", "Changed"})
        Segment.objects.filter(pk=rows[1].pk).update(description="And can be written")


def test_a_segment_can_be_deleted_while_its_last_batch_is_recorded(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.settings_dict["OPTIONS"].get("isolation_level") == SERIALIZABLE:
        pytest.skip("the deletion is a transaction of the site, which has to expect conflicts")
    segment = in_bunce(bunce)
    segment.add_customers(["c-1", "c-2"])
    recording, deleting = threading.Event(), threading.Event()
    note_if_all_sent = customers.note_if_all_sent

    def note_later(segment_id: int) -> bool:
        recording.set()
        assert deleting.wait(30)
        time.sleep(0.5)  # until the deletion waits for the rows that are locked here
        return note_if_all_sent(segment_id)

    def delete() -> None:
        assert recording.wait(30)
        deleting.set()
        services.delete_segments(Segment.objects.filter(pk=segment.pk))

    monkeypatch.setattr(customers, "note_if_all_sent", note_later)
    in_threads([lambda: customers.run(Budget(30)), delete])
    assert not Segment.objects.exists()
    assert not Member.objects.exists()


def idle_limit() -> str:
    """Return how long PostgreSQL keeps a transaction whose process is silent."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        return str(cursor.fetchone()[0])


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL can be told that")
def test_a_lost_host_keeps_the_locks_of_a_transaction_for_half_a_minute_or_as_the_site_says() -> (
    None
):
    with database.atomic():
        assert idle_limit() == "30s"
    assert idle_limit() == "0", "transactions of the site are left alone"
    with transaction.atomic():
        assert idle_limit() == "0"
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = '5s'")
    try:
        with database.atomic():
            assert idle_limit() == "5s"
    finally:
        connection.close()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL can be told that")
def test_others_continue_when_a_process_is_lost_in_a_transaction(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SECONDS", 1)
    row = make()
    locked, over = threading.Event(), threading.Event()

    def hold() -> None:
        with database.atomic():
            shared_state.lock()
            locked.set()
            assert over.wait(30)

    def lose() -> None:
        with pytest.raises(DatabaseError):
            hold()

    lost = threading.Thread(target=in_threads, args=[[lose]])
    lost.start()
    try:
        assert locked.wait(30)
        drain()
        assert fresh(row).status == Status.SYNCED
    finally:
        over.set()
        lost.join()

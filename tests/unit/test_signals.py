"""When saving a segment wakes a worker: at the commit, and only for rows that are due."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core import serializers
from django.db import transaction
from pytest_django import Settings

from bunce_sync import database
from bunce_sync.models import Segment
from bunce_sync.publisher import Publisher
from bunce_sync.tasks import push_segment
from bunce_sync.testing.emulator import Emulator

from .broker_queue import BrokerQueue
from .core import Status, ago, fresh, make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue(bunce: Emulator, settings: Settings) -> BrokerQueue:
    return BrokerQueue(settings)


def push_messages(*rows: Segment) -> list[tuple[str, list[object]]]:
    return [("push_segment", [row.pk]) for row in rows]


def test_a_new_segment_wakes_a_worker(queue: BrokerQueue) -> None:
    row = Segment.objects.create(name="VIP")
    assert queue.sent() == push_messages(row)


@pytest.mark.parametrize("status", [Status.SYNCED, Status.REJECTED])
def test_an_edit_of_a_row_at_rest_wakes_a_worker(queue: BrokerQueue, status: Status) -> None:
    row = make(status=status)
    row.name = "New"
    row.save()
    assert queue.sent() == push_messages(row)


def test_saving_without_a_change_sends_no_message(queue: BrokerQueue) -> None:
    make(status=Status.SYNCED).save()
    assert queue.sent() == []


def test_an_edit_through_a_stale_instance_wakes_a_worker(queue: BrokerQueue) -> None:
    stale = make(status=Status.SENDING)
    Segment.objects.filter(pk=stale.pk).update_sync_fields(
        status=Status.SYNCED, bunce_id="abc", lease_token=None, lease_until=None
    )
    stale.name = "New"
    stale.save()
    assert queue.sent() == push_messages(stale)


@pytest.mark.parametrize("status", [Status.SENDING, Status.IN_DOUBT])
def test_an_edit_of_a_row_in_progress_sends_no_message(queue: BrokerQueue, status: Status) -> None:
    row = make(status=status)
    row.name = "New"
    row.save()
    assert queue.sent() == []


def test_an_edit_of_a_row_that_backs_off_does_not_cut_its_wait_short(queue: BrokerQueue) -> None:
    row = make(due_at=ago(-60))
    row.name = "New"
    row.save()
    assert queue.sent() == []


def test_no_message_is_sent_before_the_commit(queue: BrokerQueue) -> None:
    with transaction.atomic():
        row = Segment.objects.create(name="VIP")
        with transaction.atomic():
            other = Segment.objects.create(name="Other")
        assert queue.sent() == []
    assert queue.sent() == push_messages(row, other)


def test_each_save_in_a_transaction_sends_a_message(queue: BrokerQueue) -> None:
    """Callbacks of earlier saves cannot be inspected; a duplicate message is harmless."""
    with transaction.atomic():
        row = Segment.objects.create(name="VIP")
        row.name = "Better"
        row.save()
    assert queue.sent() == push_messages(row, row)


def test_an_edit_after_a_save_without_a_change_wakes_a_worker(queue: BrokerQueue) -> None:
    row = make(status=Status.SYNCED)
    with transaction.atomic():
        fresh(row).save()
        again = fresh(row)
        again.name = "New"
        again.save()
    assert queue.sent() == push_messages(row)


def test_a_rollback_sends_no_message(queue: BrokerQueue) -> None:
    with transaction.atomic():
        Segment.objects.create(name="VIP")
        transaction.set_rollback(True)
    assert queue.sent() == []


def test_a_save_after_a_rolled_back_savepoint_wakes_a_worker(queue: BrokerQueue) -> None:
    row = make(status=Status.SYNCED)
    with transaction.atomic():
        row.name = "Given up"
        with transaction.atomic():
            row.save()
            transaction.set_rollback(True)
        row.name = "Kept"
        row.save()
    assert queue.sent() == push_messages(row)


def test_a_message_for_a_row_deleted_before_the_commit_is_harmless(
    queue: BrokerQueue, bunce: Emulator
) -> None:
    row = make(status=Status.SYNCED)
    with transaction.atomic():
        row.name = "New"
        row.save()
        Segment.objects.filter(pk=row.pk).delete()
    [(_, arguments)] = queue.sent()
    push_segment(*arguments)
    assert bunce.served == 0


@pytest.mark.parametrize(
    "write",
    [
        lambda: Segment.objects.bulk_create([Segment(name="VIP")]),
        lambda: Segment.objects.update(name="New"),
    ],
)
def test_rows_written_in_bulk_are_left_to_the_sweep(
    queue: BrokerQueue, write: Callable[[], object]
) -> None:
    make(status=Status.SYNCED)
    write()
    assert queue.sent() == []
    assert Segment.objects.due().exists()


def test_loading_a_fixture_wakes_a_worker_for_its_due_rows(queue: BrokerQueue) -> None:
    row, waiting = make(status=Status.SYNCED, description="The best"), make("Waiting")
    text = serializers.serialize("json", [row, waiting])
    Segment.objects.all().delete()
    for loaded in serializers.deserialize("json", text):
        loaded.save()
    assert (fresh(row).status, fresh(row).bunce_id) == (Status.SYNCED, row.bunce_id)
    assert queue.sent() == push_messages(waiting)


def test_an_error_while_publishing_affects_neither_the_save_nor_other_callbacks(
    queue: BrokerQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(Publisher, "publish_throttled", fail)
    called: list[bool] = []
    with transaction.atomic():
        row = Segment.objects.create(name="VIP")
        transaction.on_commit(lambda: called.append(True))
    assert fresh(row).status == Status.PENDING
    assert called == [True]
    assert "out of order" in caplog.text


def test_a_row_saved_to_another_database_wakes_no_worker(
    queue: BrokerQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "alias", lambda: "elsewhere")
    Segment.objects.create(name="VIP")
    assert queue.sent() == []

"""When the publisher rings: at the commit, once, and only for rows that wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core import serializers
from django.db import transaction
from pytest_django import Settings

from bunce_sync.models import Segment
from bunce_sync.publisher import Publisher
from bunce_sync.tasks import push_segment
from bunce_sync.testing.emulator import Emulator

from .broker_queue import BrokerQueue
from .core import Status, ago, fresh, make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bell(bunce: Emulator, settings: Settings) -> BrokerQueue:
    return BrokerQueue(settings)


def ring_for(*rows: Segment) -> list[tuple[str, list[object]]]:
    return [("push_segment", [row.pk]) for row in rows]


def test_a_new_segment_rings(bell: BrokerQueue) -> None:
    row = Segment.objects.create(name="VIP")
    assert bell.rung() == ring_for(row)


@pytest.mark.parametrize("status", [Status.SYNCED, Status.REJECTED])
def test_an_edit_of_a_row_at_rest_rings(bell: BrokerQueue, status: Status) -> None:
    row = make(status=status)
    row.name = "New"
    row.save()
    assert bell.rung() == ring_for(row)


def test_saving_without_a_change_rings_for_nobody(bell: BrokerQueue) -> None:
    make(status=Status.SYNCED).save()
    assert bell.rung() == []


def test_an_edit_through_a_stale_instance_rings(bell: BrokerQueue) -> None:
    stale = make(status=Status.SENDING)
    Segment.objects.filter(pk=stale.pk).update_sync_fields(
        status=Status.SYNCED, bunce_id="abc", lease_token=None, lease_until=None
    )
    stale.name = "New"
    stale.save()
    assert bell.rung() == ring_for(stale)


@pytest.mark.parametrize("status", [Status.SENDING, Status.IN_DOUBT])
def test_an_edit_of_a_row_under_way_rings_for_nobody(bell: BrokerQueue, status: Status) -> None:
    row = make(status=status)
    row.name = "New"
    row.save()
    assert bell.rung() == []


def test_an_edit_of_a_row_that_backs_off_does_not_cut_its_wait_short(bell: BrokerQueue) -> None:
    row = make(due_at=ago(-60))
    row.name = "New"
    row.save()
    assert bell.rung() == []


def test_nothing_rings_before_the_commit(bell: BrokerQueue) -> None:
    with transaction.atomic():
        row = Segment.objects.create(name="VIP")
        with transaction.atomic():
            other = Segment.objects.create(name="Other")
        assert bell.rung() == []
    assert bell.rung() == ring_for(row, other)


def test_each_save_of_one_transaction_rings_for_a_row_that_waits(bell: BrokerQueue) -> None:
    """What earlier saves have registered cannot be known; a doubled message changes nothing."""
    with transaction.atomic():
        row = Segment.objects.create(name="VIP")
        row.name = "Better"
        row.save()
    assert bell.rung() == ring_for(row, row)


def test_an_edit_after_a_save_without_a_change_rings(bell: BrokerQueue) -> None:
    row = make(status=Status.SYNCED)
    with transaction.atomic():
        fresh(row).save()
        again = fresh(row)
        again.name = "New"
        again.save()
    assert bell.rung() == ring_for(row)


def test_a_rollback_rings_for_nobody(bell: BrokerQueue) -> None:
    with transaction.atomic():
        Segment.objects.create(name="VIP")
        transaction.set_rollback(True)
    assert bell.rung() == []


def test_a_save_after_a_rolled_back_savepoint_rings(bell: BrokerQueue) -> None:
    row = make(status=Status.SYNCED)
    with transaction.atomic():
        row.name = "Given up"
        with transaction.atomic():
            row.save()
            transaction.set_rollback(True)
        row.name = "Kept"
        row.save()
    assert bell.rung() == ring_for(row)


def test_a_ring_for_a_row_that_is_gone_by_the_commit_disturbs_nobody(
    bell: BrokerQueue, bunce: Emulator
) -> None:
    row = make(status=Status.SYNCED)
    with transaction.atomic():
        row.name = "New"
        row.save()
        Segment.objects.filter(pk=row.pk).delete()
    [(_, arguments)] = bell.rung()
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
    bell: BrokerQueue, write: Callable[[], object]
) -> None:
    make(status=Status.SYNCED)
    write()
    assert bell.rung() == []
    assert Segment.objects.due().exists()


def test_a_fixture_rings_for_its_rows_that_wait(bell: BrokerQueue) -> None:
    row, waiting = make(status=Status.SYNCED, description="The best"), make("Waiting")
    text = serializers.serialize("json", [row, waiting])
    Segment.objects.all().delete()
    for loaded in serializers.deserialize("json", text):
        loaded.save()
    assert (fresh(row).status, fresh(row).bunce_id) == (Status.SYNCED, row.bunce_id)
    assert bell.rung() == ring_for(waiting)


def test_whatever_goes_wrong_with_the_bell_the_save_succeeds_and_others_are_called(
    bell: BrokerQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
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

"""Services mark the right rows, and make no request to Bunce themselves."""

from __future__ import annotations

import pytest
from django.db import transaction
from pytest_django import Settings
from pytest_django.fixtures import DjangoCaptureOnCommitCallbacks

from bunce_sync.models import Segment
from bunce_sync.models.segment_queryset import SegmentQuerySet
from bunce_sync.services import push_now, push_ours, refresh, retry
from bunce_sync.testing.emulator import Emulator

from .broker_queue import BrokerQueue
from .core import Status, ago, due, fresh, make

pytestmark = pytest.mark.django_db


@pytest.fixture
def broker_queue(bunce: Emulator, settings: Settings) -> BrokerQueue:
    return BrokerQueue(settings)


def everything() -> SegmentQuerySet:
    return Segment.objects.all()


def one_in_each_state() -> dict[str, Segment]:
    return {
        status.value: make(str(status.label), status=status, due_at=ago(-60)) for status in Status
    }


def changed(rows: dict[str, Segment]) -> set[str]:
    """Return the states whose rows have changed."""
    return {
        status
        for status, row in rows.items()
        if Segment.objects.filter(pk=row.pk).values().get()
        != {field.attname: getattr(row, field.attname) for field in Segment._meta.concrete_fields}
    }


def test_push_now_ends_the_backoff_of_rows_that_wait(
    broker_queue: BrokerQueue,
    bunce: Emulator,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    rows = one_in_each_state()
    with django_capture_on_commit_callbacks(execute=True):
        assert push_now(everything()) == 1
    assert changed(rows) == {"pending"}
    assert due(rows["pending"])
    assert broker_queue.sent() == [("push_segment", [rows["pending"].pk])]
    assert bunce.served == 0


def test_push_ours_sends_the_whole_content_of_rows_that_drifted(broker_queue: BrokerQueue) -> None:
    drifted = make(status=Status.SYNCED, last_code="drift")
    settled = drifted.field_digests(drifted.UPDATE_FIELDS)
    Segment.objects.update_sync_fields(settled=settled)
    make(status=Status.SYNCED, settled=settled)
    assert push_now(everything()) == 0
    assert push_ours(everything()) == 1
    assert (fresh(drifted).status, due(drifted)) == (Status.PENDING, True)
    assert fresh(drifted).unsettled_fields == Segment.UPDATE_FIELDS


def test_retry_sends_rejected_rows_and_resets_their_attempts(
    broker_queue: BrokerQueue, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    rows = one_in_each_state()
    Segment.objects.filter(status=Status.REJECTED).update_sync_fields(
        attempts=9, last_code="conflict"
    )
    with django_capture_on_commit_callbacks(execute=True):
        assert retry(everything()) == 1
    row = fresh(rows["rejected"])
    assert (row.status, row.attempts, row.last_code) == (Status.PENDING, 0, "")
    assert changed(rows) == {"rejected"}
    assert broker_queue.sent() == [("push_segment", [row.pk])]


def test_refresh_is_requested_for_every_row_that_is_in_bunce(
    broker_queue: BrokerQueue,
    bunce: Emulator,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    synced = make(status=Status.SYNCED)
    gone = make(status=Status.REJECTED, bunce_id="abc", last_code="not_found")
    edited = make(status=Status.PENDING, bunce_id="def")
    new = make(status=Status.PENDING)
    with django_capture_on_commit_callbacks(execute=True):
        assert refresh(everything()) == 3
    assert all(fresh(row).refresh_requested_at for row in (synced, gone, edited))
    assert fresh(new).refresh_requested_at is None
    assert broker_queue.sent() == [("work", ["refresh"])]
    assert bunce.served == 0


def test_refresh_of_rows_in_doubt_publishes_a_scan_and_does_not_shorten_the_grace_period(
    broker_queue: BrokerQueue, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    row = make(status=Status.IN_DOUBT, due_at=ago(-60))
    with django_capture_on_commit_callbacks(execute=True):
        assert refresh(everything()) == 0
    assert fresh(row).due_at == row.due_at
    assert broker_queue.sent() == [("work", ["reconcile"])]


@pytest.mark.parametrize("ask", [push_now, retry, refresh])
def test_nothing_to_do_publishes_nothing(
    broker_queue: BrokerQueue,
    ask: object,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        assert callable(ask)
        assert ask(Segment.objects.none()) == 0
    assert callbacks == []


def test_only_the_selected_rows_are_marked(broker_queue: BrokerQueue) -> None:
    meant, other = make(status=Status.REJECTED), make(status=Status.REJECTED)
    assert retry(Segment.objects.filter(pk=meant.pk)) == 1
    assert fresh(other).status == Status.REJECTED


def test_many_rows_publish_one_message(
    broker_queue: BrokerQueue, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    for _ in range(5):
        make(status=Status.REJECTED)
    with django_capture_on_commit_callbacks(execute=True):
        assert retry(everything()) == 5
    assert len(broker_queue.sent()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_rollback_marks_nothing_and_publishes_nothing(broker_queue: BrokerQueue) -> None:
    row = make(status=Status.REJECTED)
    with transaction.atomic():
        retry(everything())
        transaction.set_rollback(True)
    assert fresh(row).status == Status.REJECTED
    assert broker_queue.sent() == []

"""Every way in which rows are created and deleted ends with the right segments in Bunce."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from pytest_django import Settings

from bunce_sync import tasks
from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.sync import push
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.sweep import run_once
from bunce_sync.testing.emulator import Emulator

from .broker_queue import BrokerQueue
from .core import Operation, Outcome, Status, calls, configure, fresh, let_time_pass, make

ELSEWHERE = "elsewhere"


@pytest.fixture
def broker_queue(bunce: Emulator, settings: Settings) -> BrokerQueue:
    configure(settings, RATE_LIMIT=None)
    return BrokerQueue(settings)


def names(bunce: Emulator) -> list[str]:
    return sorted(segment.name for segment in bunce.segments)


# Created rows


@pytest.mark.django_db(transaction=True)
def test_rows_inserted_by_raw_sql_are_found_by_the_sweep(
    broker_queue: BrokerQueue, bunce: Emulator
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bunce_sync_segment (name) VALUES ('By SQL'), ('By SQL too')")
    assert broker_queue.sent() == []
    tasks.sweep()
    sent = broker_queue.sent()
    assert sent == [("work", ["push"]), ("work", ["push"])]
    tasks.work("push")
    assert names(bunce) == ["By SQL", "By SQL too"]


@pytest.mark.django_db(transaction=True)
def test_rows_made_in_bulk_are_found_by_the_sweep(
    broker_queue: BrokerQueue, bunce: Emulator
) -> None:
    Segment.objects.bulk_create(Segment(name=f"Bulk {number}") for number in range(3))
    assert broker_queue.sent() == []
    run_once(seconds=5)
    assert names(bunce) == ["Bulk 0", "Bulk 1", "Bulk 2"]


@pytest.mark.django_db(transaction=True)
def test_only_the_committed_rows_of_nested_transactions_are_sent(
    broker_queue: BrokerQueue, bunce: Emulator
) -> None:
    with transaction.atomic():
        kept = Segment.objects.create(name="Outer")
        with transaction.atomic():
            inner = Segment.objects.create(name="Inner")
            with transaction.atomic():
                Segment.objects.create(name="Rolled back")
                transaction.set_rollback(True)
        assert broker_queue.sent() == [], "not before the outermost commit"
    assert [arguments[0] for _, arguments in broker_queue.sent()] == [kept.pk, inner.pk]
    run_once(seconds=5)
    assert names(bunce) == ["Inner", "Outer"]


@pytest.mark.django_db(transaction=True)
def test_a_row_created_and_edited_in_one_transaction_is_sent_once_with_its_final_content(
    broker_queue: BrokerQueue, bunce: Emulator
) -> None:
    with transaction.atomic():
        row = Segment.objects.create(name="Draft")
        row.name = "Final"
        row.save()
    run_once(seconds=5)
    assert names(bunce) == ["Final"]
    assert [segment.name for segment in bunce.segments] == ["Final"]
    assert calls() == [(Operation.CREATE, Outcome.CONFIRMED)]


@pytest.mark.django_db
def test_a_message_that_arrives_before_the_commit_sends_nothing(
    bunce: Emulator,
) -> None:
    tasks.push_segment(12345)
    assert bunce.served == 0


# Deleted rows


@pytest.mark.django_db
def test_a_row_deleted_while_in_doubt_leaves_its_calls_and_an_unlinked_segment(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, RATE_LIMIT=None)
    row = make("VIP")
    bunce.script(["lost_answer"])
    push.push(row.pk)
    Segment.objects.all().delete()
    let_time_pass(500)
    run_once(seconds=5)
    [call] = ApiCall.objects.filter(operation=Operation.CREATE)
    assert (call.segment_id, call.outcome) == (row.pk, Outcome.UNKNOWN)
    assert call.body is not None
    assert call.body["name"] == "VIP"
    assert len(bunce.segments) == 1


@pytest.mark.django_db
def test_a_new_row_with_the_content_of_a_deleted_one_in_doubt_gets_its_own_segment(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, RATE_LIMIT=None)
    bunce.script(["lost_answer"])
    push.push(make("VIP").pk)
    Segment.objects.all().delete()
    again = make("VIP")
    run_once(seconds=5)
    assert fresh(again).status == Status.SYNCED
    assert fresh(again).bunce_id == bunce.segments[1].id


@pytest.mark.django_db
def test_a_row_deleted_between_claim_and_sending_is_sent_and_logged(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    row = make("VIP")
    attempt = push.Push(row)
    assert attempt.reserve(Budget(30))
    Segment.objects.all().delete()
    attempt.record(attempt.perform(Budget(30)))
    assert "was deleted while it was being sent" in caplog.text
    assert ApiCall.objects.get().bunce_id == bunce.segments[0].id


# Another database


class RouterToElsewhere:
    """A router that keeps all tables in the second database."""

    def db_for_read(self, model: object, **hints: object) -> str:
        return ELSEWHERE

    def db_for_write(self, model: object, **hints: object) -> str:
        return ELSEWHERE


@pytest.fixture
def elsewhere(tmp_path: Path, database_access: None, settings: Settings) -> Iterator[str]:
    """Create and migrate a second database, which the router uses for all tables."""
    connections.settings[ELSEWHERE] = connections.configure_settings(
        {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(tmp_path / "elsewhere.sqlite3"),
                "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 30},
            }
        }
    )["default"]
    try:
        call_command("migrate", database=ELSEWHERE, verbosity=0)
        settings.DATABASE_ROUTERS = [RouterToElsewhere()]
        yield ELSEWHERE
    finally:
        settings.DATABASE_ROUTERS = []
        connections[ELSEWHERE].close()
        del connections[ELSEWHERE]
        del connections.settings[ELSEWHERE]


def test_a_row_in_doubt_is_resolved_in_the_database_that_the_router_names(
    elsewhere: str, broker_queue: BrokerQueue, bunce: Emulator, settings: Settings
) -> None:
    configure(settings, GRACE=0.001)
    row = Segment.objects.create(name="VIP")
    bunce.script(["lost_answer"])
    tasks.push_segment(row.pk)
    assert Segment.objects.using(elsewhere).get().status == Status.IN_DOUBT
    tasks.sweep()
    assert ("work", ["reconcile"]) in broker_queue.sent()
    tasks.work("reconcile")
    row = Segment.objects.using(elsewhere).get()
    assert (row.status, row.bunce_id) == (Status.SYNCED, bunce.segments[0].id)
    assert SyncState.objects.using(elsewhere).get().swept_at is not None

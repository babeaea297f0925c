"""The sweep: what it finds, frees and deletes, and how many queries it takes."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from pytest_django import Settings
from pytest_django.fixtures import DjangoAssertNumQueries

from bunce_sync.exceptions import ConfigurationError
from bunce_sync.models import ApiCall, IdempotencyKey, Segment
from bunce_sync.sync.push import PERMITS_PER_WORKER
from bunce_sync.sync.sweep import PRUNE_BATCH, sweep
from bunce_sync.testing.emulator import Emulator

from .core import (
    Operation,
    Outcome,
    Reason,
    Status,
    ago,
    configure,
    fresh,
    make,
    now,
    record_calls,
    seconds_until,
    set_state,
    state,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("bunce")]


# What it finds


def test_it_publishes_while_a_row_is_due() -> None:
    make("Backing off", due_at=ago(-60))
    for status in (Status.SYNCED, Status.REJECTED, Status.SENDING, Status.IN_DOUBT):
        make(status=status)
    assert sweep().workers["push"] == 0
    make()
    assert sweep().workers["push"] == 1


def test_it_publishes_for_as_many_workers_as_the_rate_limiter_has_permits_for(
    settings: Settings,
) -> None:
    configure(settings, RATE_LIMIT=100)
    for number in range(100):
        make(f"Segment {number}")
    assert 1 < sweep().workers["push"] <= 100 / PERMITS_PER_WORKER


def test_it_publishes_nothing_while_the_rate_limiter_is_paused() -> None:
    make()
    make(status=Status.IN_DOUBT)
    make(status=Status.SYNCED, refresh_requested_at=now())
    set_state(blocked_until=ago(-30), blocked_reason=Reason.RATE_LIMITED)
    found = sweep()
    assert not any(found.workers.values())


def test_it_publishes_once_when_the_rate_limiter_is_to_be_probed() -> None:
    make()
    make()
    set_state(blocked_until=ago(1), blocked_reason=Reason.UNREACHABLE)
    assert sweep().workers["push"] == 1


def test_a_full_window_publishes_nothing(settings: Settings) -> None:
    configure(settings, RATE_LIMIT=10)
    record_calls(*[20] * 10)
    make()
    assert sweep().workers["push"] == 0


def test_a_limit_that_was_lowered_is_not_an_error(settings: Settings) -> None:
    record_calls(*[20] * 50)
    configure(settings, RATE_LIMIT=10)
    make()
    assert sweep().workers["push"] == 0


def test_rows_in_doubt_are_looked_up_once_their_grace_period_is_over() -> None:
    row = make(status=Status.IN_DOUBT, due_at=ago(-30))
    assert not sweep().workers["reconcile"]
    Segment.objects.filter(pk=row.pk).update_sync_fields(due_at=ago(0))
    assert sweep().workers["reconcile"]


def test_a_scan_in_progress_is_continued() -> None:
    set_state(scan={"started_at": "any"})
    assert sweep().workers["reconcile"]


def test_a_requested_refresh_is_found() -> None:
    row = make(status=Status.SYNCED)
    assert not sweep().workers["refresh"]
    Segment.objects.filter(pk=row.pk).update_sync_fields(refresh_requested_at=ago(0))
    assert sweep().workers["refresh"]


def test_it_records_when_it_ran() -> None:
    sweep()
    assert -5 < seconds_until(state().swept_at) <= 0


# What it frees and deletes


def test_it_frees_rows_of_workers_that_died(caplog: pytest.LogCaptureFixture) -> None:
    create = make(status=Status.SENDING, lease_until=ago(1))
    update = make(status=Status.SENDING, lease_until=ago(1), bunce_id="abc")
    working = make(status=Status.SENDING, lease_until=ago(-1))
    with caplog.at_level(logging.WARNING, "bunce_sync"):
        assert sweep().freed == 2
    assert "2 segments were left by a worker that died or hangs" in caplog.text
    assert [fresh(row).status for row in (create, update, working)] == [
        Status.IN_DOUBT,
        Status.PENDING,
        Status.SENDING,
    ]
    assert 110 < seconds_until(fresh(create).due_at) <= 120
    assert sweep().freed == 0


@pytest.mark.parametrize("operation", Operation)
def test_requests_of_workers_that_died_do_not_stay_under_way_forever(operation: str) -> None:
    for age in (89.0, 91.0, 10 * 86400.0):
        record_calls(age, operation=operation, outcome=Outcome.UNDER_WAY)
    record_calls(91, outcome=Outcome.UNKNOWN)
    sweep()
    assert [call.outcome for call in ApiCall.objects.order_by("pk")] == [
        Outcome.UNDER_WAY,
        Outcome.ABANDONED,
        Outcome.ABANDONED,
        Outcome.UNKNOWN,
    ]


def test_it_deletes_calls_that_are_older_than_ledger_days(settings: Settings) -> None:
    configure(settings, LEDGER_DAYS=7)
    day = 86400
    old, recent = record_calls(7 * day + 60, 7 * day - 60)
    sweep()
    assert list(ApiCall.objects.all()) == [recent]
    assert old.pk is not None


def test_it_deletes_old_calls_in_batches() -> None:
    record_calls(*[40 * 86400.0 + number for number in range(PRUNE_BATCH + 5)])
    sweep()
    assert ApiCall.objects.count() == 5
    sweep()
    assert ApiCall.objects.count() == 0


def test_it_deletes_expired_idempotency_keys() -> None:
    kept = IdempotencyKey.KEPT_FOR + timedelta(minutes=1), timedelta(hours=1)
    for number, age in enumerate(kept):
        IdempotencyKey.objects.create(
            digest=str(number),
            body_digest="",
            started_at=now() - age,
        )
    sweep()
    assert [key.digest for key in IdempotencyKey.objects.all()] == ["1"]


# Without a key, and on a new database


def test_leases_are_freed_even_without_a_key(bunce: Emulator, settings: Settings) -> None:
    row = make(status=Status.SENDING, lease_until=ago(1))
    configure(settings, API_KEY="")
    with pytest.raises(ConfigurationError):
        sweep()
    assert fresh(row).status == Status.IN_DOUBT
    assert state().swept_at is not None
    assert bunce.served == 0


def test_it_runs_on_an_empty_database() -> None:
    found = sweep()
    assert not any(found.workers.values())
    assert found.freed == 0


@pytest.mark.parametrize("rows", [0, 300])
def test_with_nothing_due_it_costs_a_few_queries_whatever_the_number_of_rows(
    rows: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    set_state(counted_to=0)
    for _ in range(rows):
        make(status=Status.SYNCED)
    # The shared row twice and its mark; four impossible times; leases, in a transaction, and their
    # calls; paused operations three times; the shared row and new calls; the shared row, old calls
    # and keys; the window twice; due rows, rows in doubt, a scan in progress, requested refreshes;
    # and of customers leases, removed ones, segments with another id, and due ones.
    with django_assert_num_queries(31):
        found = sweep()
    assert not any(found.workers.values())

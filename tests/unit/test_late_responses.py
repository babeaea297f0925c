"""Events between claiming a row and recording the result: edits, expired leases, late responses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError

from bunce_sync import services
from bunce_sync.client.responses import read_segment
from bunce_sync.models import ApiCall, Segment
from bunce_sync.results import Result
from bunce_sync.sync import attempt
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.push import Push, push
from bunce_sync.sync.sweep import free_leases
from bunce_sync.testing.emulator import Emulator
from bunce_sync.transitions import Claim

from .core import (
    Operation,
    Outcome,
    Status,
    calls,
    doubtful,
    due,
    fresh,
    judge_absent,
    let_time_pass,
    make,
    run_reconcile,
    run_refresh,
    seconds_until,
    state,
)

pytestmark = pytest.mark.django_db


@dataclass
class Worker:
    """A worker that can be stopped between its steps."""

    attempt: Push
    result: Result | None = None

    @property
    def taken(self) -> Claim:
        return self.attempt.claim

    @classmethod
    def claims(cls, row: Segment) -> Worker:
        return cls.claims_as_read(fresh(row))

    @classmethod
    def claims_as_read(cls, row: Segment) -> Worker:
        attempt = Push(row)
        assert attempt.reserve(Budget(30))
        return cls(attempt)

    def sends(self) -> Worker:
        self.result = self.attempt.perform(Budget(30))
        return self

    def records(self) -> Segment:
        assert self.result is not None
        self.attempt.record(self.result)
        return Segment.objects.get(pk=self.taken.segment_id)


def lose(worker: Worker) -> Segment:
    """Let the worker's lease expire, and free it."""
    let_time_pass(91)
    assert free_leases() == 1
    return Segment.objects.get(pk=worker.taken.segment_id)


def as_if_absent(row: Segment) -> None:
    """Change the row as reconciliation does if it is not in Bunce."""
    judge_absent(row)


# Edits in flight


@pytest.mark.parametrize("update", [False, True])
def test_an_edit_between_claim_and_record_is_sent_afterwards(bunce: Emulator, update: bool) -> None:
    row = make("First", bunce_id=bunce.add_segment("Before").id if update else None)
    worker = Worker.claims(row).sends()
    edited = fresh(row)
    edited.name = "Second"
    edited.save()
    assert fresh(row).status == Status.SENDING
    assert worker.records().status == Status.PENDING
    assert due(row)
    assert push(row.pk)
    assert fresh(row).status == Status.SYNCED
    assert [segment.name for segment in bunce.segments] == ["Second"]


def test_an_edit_that_is_reverted_in_flight_sends_nothing_more(bunce: Emulator) -> None:
    row = make("First")
    worker = Worker.claims(row).sends()
    Segment.objects.update(name="Second")
    Segment.objects.update(name="First")
    assert worker.records().status == Status.SYNCED


def test_an_edit_between_reading_and_claiming_is_sent_afterwards(bunce: Emulator) -> None:
    row = make("First")
    Segment.objects.update(name="Second")
    assert Worker.claims_as_read(row).sends().records().status == Status.PENDING
    assert push(row.pk)
    assert [segment.name for segment in bunce.segments] == ["Second"]


@pytest.mark.parametrize("fault", ["lost_answer", "error_before"])
def test_an_edit_of_a_create_that_ends_in_doubt_keeps_what_was_sent(
    bunce: Emulator, fault: str
) -> None:
    bunce.script([fault])
    worker = Worker.claims(make("First")).sends()
    Segment.objects.update(name="Second")
    row = worker.records()
    assert (row.status, row.sent_digest) == (Status.IN_DOUBT, worker.taken.sent_digest)


def test_a_row_deleted_during_its_request_keeps_its_calls_in_the_log(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    row = make()
    worker = Worker.claims(row).sends()
    Segment.objects.all().delete()
    assert worker.result is not None
    worker.attempt.record(worker.result)
    [call] = ApiCall.objects.all()
    assert (call.outcome, call.code) == (Outcome.CONFIRMED, "row_deleted")
    assert call.bunce_id == bunce.segments[0].id
    assert f"Segment {row.pk} was deleted while it was being sent" in caplog.text


# Expired leases


def test_a_create_whose_worker_died_is_in_doubt(bunce: Emulator) -> None:
    row = lose(Worker.claims(make()))
    assert (row.status, row.last_code, row.lease_token) == (Status.IN_DOUBT, "worker_lost", None)
    assert 100 < seconds_until(row.due_at) <= 120, "it waits for the grace period"
    assert calls(row) == [(Operation.CREATE, Outcome.ABANDONED)]


def test_an_update_whose_worker_died_is_repeated(bunce: Emulator) -> None:
    row = lose(Worker.claims(make(bunce_id=bunce.add_segment("Before").id)))
    assert (row.status, due(row)) == (Status.PENDING, True)
    assert calls(row) == [(Operation.UPDATE, Outcome.ABANDONED)]
    assert push(row.pk)
    assert fresh(row).status == Status.SYNCED


def test_an_active_lease_is_not_freed(bunce: Emulator) -> None:
    row = make()
    Worker.claims(row)
    let_time_pass(80)
    assert free_leases() == 0
    assert (fresh(row).status, calls(row)) == (
        Status.SENDING,
        [(Operation.CREATE, Outcome.UNDER_WAY)],
    )


def test_a_worker_is_given_another_token_for_each_claim(bunce: Emulator) -> None:
    row = make(bunce_id=bunce.add_segment("Before").id)
    first = Worker.claims(row)
    lose(first)
    assert Worker.claims(row).taken.token != first.taken.token


# Late responses


def test_a_late_success_resolves_a_row_in_doubt(bunce: Emulator) -> None:
    worker = Worker.claims(make()).sends()
    lose(worker)
    row = worker.records()
    assert (row.status, row.bunce_id) == (Status.SYNCED, bunce.segments[0].id)
    assert calls(row) == [(Operation.CREATE, Outcome.CONFIRMED)]


def test_a_late_success_is_adopted_by_a_row_that_was_to_be_sent_again(bunce: Emulator) -> None:
    worker = Worker.claims(make()).sends()
    as_if_absent(lose(worker))
    row = worker.records()
    assert (row.status, row.bunce_id) == (Status.SYNCED, bunce.segments[0].id)
    assert not push(row.pk)
    assert len(bunce.segments) == 1


def test_a_late_failure_does_not_change_a_row_whose_lease_has_expired(bunce: Emulator) -> None:
    bunce.script(["error_after"])
    worker = Worker.claims(make()).sends()
    before = lose(worker)
    after = worker.records()
    assert (after.status, after.last_code, after.due_at) == (
        before.status,
        before.last_code,
        before.due_at,
    )
    assert calls(after) == [(Operation.CREATE, Outcome.UNKNOWN)]


def test_a_duplicate_is_reported_and_overwrites_nothing(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Worker.claims(make()).sends()
    as_if_absent(lose(slow))
    quick = Worker.claims(Segment.objects.get()).sends()
    row = quick.records()
    kept = row.bunce_id
    with caplog.at_level(logging.ERROR, "bunce_sync"):
        row = slow.records()
    duplicate = next(segment.id for segment in bunce.segments if segment.id != kept)
    assert (row.status, row.bunce_id) == (Status.SYNCED, kept)
    assert row.bunce_duplicate_id == duplicate
    assert f"exists twice in Bunce, also as {duplicate}" in caplog.text
    assert (Operation.CREATE, Outcome.DUPLICATE) in calls(row)


def test_a_late_success_during_the_second_create_is_kept_and_the_second_reported(
    bunce: Emulator,
) -> None:
    slow = Worker.claims(make()).sends()
    as_if_absent(lose(slow))
    quick = Worker.claims(Segment.objects.get()).sends()
    row = slow.records()
    assert (row.status, row.bunce_id) == (Status.SENDING, bunce.segments[0].id)
    row = quick.records()
    assert row.status == Status.SYNCED
    first, second = bunce.segments
    assert (row.bunce_id, row.bunce_duplicate_id) == (first.id, second.id)


def twice(bunce: Emulator) -> Segment:
    """Return a row with two segments in Bunce, as a late response has shown."""
    slow = Worker.claims(make()).sends()
    as_if_absent(lose(slow))
    Worker.claims(Segment.objects.get()).sends().records()
    row = slow.records()
    assert row.bunce_duplicate_id
    return row


def test_a_duplicate_stays_reported_after_edits_and_refreshes(bunce: Emulator) -> None:
    row = twice(bunce)
    other = row.bunce_duplicate_id
    row.name = "Edited"
    row.save()
    assert push(row.pk)
    assert (fresh(row).status, fresh(row).bunce_duplicate_id) == (Status.SYNCED, other)
    services.refresh(Segment.objects.all())
    assert run_refresh(seconds=30) == 1
    assert fresh(row).bunce_duplicate_id == other


def test_a_refresh_detects_that_a_duplicate_was_removed(
    bunce: Emulator,
) -> None:
    row = twice(bunce)
    removed = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    Segment.objects.filter(pk=row.pk).update_sync_fields(bunce_duplicate_id=removed)
    services.refresh(Segment.objects.all())
    assert run_refresh(seconds=30) == 1
    row = fresh(row)
    assert (row.status, row.bunce_duplicate_id, row.refresh_requested_at) == (
        Status.SYNCED,
        None,
        None,
    )


def rows_that_took_each_others_segments(bunce: Emulator) -> tuple[Segment, Worker]:
    """Return a row that adopted another row's segment, and the other row's late worker."""
    first = doubtful()
    slow = Worker.claims(make()).sends()
    lose(slow)
    run_reconcile(seconds=30)
    first = fresh(first)
    assert first.bunce_id == bunce.segments[0].id
    return first, slow


def test_a_segment_that_belongs_to_another_row_is_no_duplicate(bunce: Emulator) -> None:
    first, slow = rows_that_took_each_others_segments(bunce)
    let_time_pass(130)
    run_reconcile(seconds=30)
    assert push(slow.taken.segment_id)
    row = slow.records()
    assert (row.status, row.bunce_duplicate_id) == (Status.SYNCED, None)
    assert {first.bunce_id, row.bunce_id} == {segment.id for segment in bunce.segments}


def test_a_duplicate_that_another_row_adopts_is_no_longer_reported(bunce: Emulator) -> None:
    row = twice(bunce)
    other = doubtful()
    run_reconcile(seconds=30)
    assert fresh(other).bunce_id == row.bunce_duplicate_id
    assert fresh(row).bunce_duplicate_id is None


def test_a_second_create_refused_as_a_duplicate_becomes_an_update_of_the_first(
    bunce: Emulator,
) -> None:
    bunce.set(unique_names=True)
    slow = Worker.claims(make()).sends()
    as_if_absent(lose(slow))
    quick = Worker.claims(Segment.objects.get()).sends()
    slow.records()
    row = quick.records()
    assert (row.status, row.bunce_id) == (Status.PENDING, bunce.segments[0].id)
    assert push(row.pk)
    assert fresh(row).status == Status.SYNCED
    assert len(bunce.segments) == 1


def test_a_create_whose_segment_was_linked_to_another_row_is_in_doubt(
    bunce: Emulator,
) -> None:
    worker = Worker.claims(make()).sends()
    segment = bunce.segments[0]
    make(status=Status.SYNCED, bunce_id=segment.id)
    row = worker.records()
    assert (row.status, row.last_code, row.last_error) == (
        Status.IN_DOUBT,
        "linked_elsewhere",
        segment.id,
    )
    assert calls(row) == [(Operation.CREATE, Outcome.UNKNOWN)]
    assert state().failures == 0, "it is not a failure of Bunce"


# Database errors while recording


def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, *, failures: int = 1
) -> Callable[[], int]:
    """Let a method of ``Push`` fail the first times; return a counter of its calls."""
    original = getattr(Push, name)
    times = 0

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        nonlocal times
        times += 1
        if times <= failures:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(Push, name, stand_in)
    return lambda: times


@pytest.mark.django_db(transaction=True)
def test_a_result_is_recorded_on_a_new_connection_when_the_first_broke(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = make()
    worker = Worker.claims(row).sends()
    times = failing(monkeypatch, "_record", OperationalError("the server closed it"))
    assert worker.records().status == Status.SYNCED
    assert times() == 2


@pytest.mark.django_db(transaction=True)
def test_a_result_is_recorded_when_the_database_works_again_after_some_seconds(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "RECORD_PAUSES", (0.0,) * len(attempt.RECORD_PAUSES))
    worker = Worker.claims(make()).sends()
    timeout = OperationalError("canceling statement due to lock timeout")
    failing(monkeypatch, "_record", timeout, failures=len(attempt.RECORD_PAUSES))
    assert worker.records().status == Status.SYNCED


def test_recording_twice_changes_nothing(bunce: Emulator) -> None:
    worker = Worker.claims(make()).sends()
    once = worker.records()
    twice = worker.records()
    assert (twice.status, twice.synced_at) == (Status.SYNCED, once.synced_at)
    assert calls() == [(Operation.CREATE, Outcome.CONFIRMED)]


def test_a_result_that_the_database_refuses_for_another_reason_is_an_error(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker.claims(make()).sends()
    failing(monkeypatch, "_record", IntegrityError("some constraint"))
    with pytest.raises(IntegrityError):
        worker.records()
    assert Segment.objects.get().status == Status.SENDING, "in doubt when its lease expires"


def test_responses_with_any_content_can_be_stored(bunce: Emulator) -> None:
    """MariaDB refuses JSON that is nested more than 31 levels deep."""
    conditions: list[Any] = []
    for _ in range(60):
        conditions = [conditions]
    content = {"data": {"id": "abc", "name": "VIP", "conditions": conditions}}
    worker = Worker.claims(make())
    worker.result = Result(Outcome.CONFIRMED, segment=read_segment(content, http_status=201))
    assert worker.records().status == Status.SYNCED

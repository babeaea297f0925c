"""The push of one segment to the local Bunce over real HTTP."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from pytest_django import Settings

from bunce_sync.client import RemoteSegment, RequestRecord
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.models import ApiCall, Segment
from bunce_sync.results import Result
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.push import Push, push
from bunce_sync.sync.rate_limiter import NoPermit
from bunce_sync.testing.emulator import Emulator, Faults

from .core import (
    Operation,
    Outcome,
    Status,
    calls,
    configure,
    drain,
    due,
    fresh,
    in_threads,
    judge_absent,
    make,
    now,
    state,
)

pytestmark = pytest.mark.django_db

NOT_FOUND_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@pytest.fixture
def impatient(bunce: Emulator, settings: Settings) -> None:
    """Set timeouts that are short enough for a test to wait for."""
    configure(settings, CONNECT_TIMEOUT=1, READ_TIMEOUT=0.2)


def pushed(row: Segment) -> Segment:
    assert push(row.pk)
    return fresh(row)


def linked(bunce: Emulator, name: str = "VIP", **fields: Any) -> Segment:
    """Create a row whose segment is in Bunce and that waits to be updated after an edit."""
    stored = bunce.add_segment("Before")
    return make(name, bunce_id=stored.id, bunce_name="Before", **fields)


def test_a_new_segment_is_created_and_what_bunce_returned_is_stored(bunce: Emulator) -> None:
    row = pushed(make("VIP", "The best", add_all_customers=True))
    [stored] = bunce.segments
    assert (stored.name, stored.description, stored.all_customers) == ("VIP", "The best", True)
    assert (row.status, row.bunce_id) == (Status.SYNCED, stored.id)
    assert (row.bunce_type, row.bunce_name) == (stored.type, "VIP")
    assert (row.bunce_created_at, row.bunce_all_customers) == (stored.created_at, True)
    assert (row.attempts, row.last_code, row.lease_token) == (0, "", None)
    assert row.synced_at is not None
    assert abs((now() - row.synced_at).total_seconds()) < 5
    assert calls(row) == [(Operation.CREATE, Outcome.CONFIRMED)]


def test_bunces_time_without_a_zone_is_stored_as_that_moment_in_utc(bunce: Emulator) -> None:
    moment = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
    stored = bunce.add_segment("VIP", created_at=moment)
    key = {"X-Authorization": "sk_test_x"}
    answer = requests.get(f"{bunce.base_url}/segments/{stored.id}", headers=key, timeout=10)
    assert answer.json()["data"]["created_at"] == "2024-12-05 08:30:16"
    assert pushed(make(bunce_id=stored.id)).bunce_created_at == moment


def test_request_and_response_are_in_the_call_log_without_the_key(bunce: Emulator) -> None:
    row = pushed(make("VIP", "The best"))
    [call] = ApiCall.objects.all()
    assert call.body == {"name": "VIP", "description": "The best", "add_all_customers": False}
    assert (call.path, call.http_status, call.bunce_id) == ("/segments", 201, row.bunce_id)
    assert call.duration_ms is not None
    assert "sk_test" not in str(vars(call))


def test_the_call_log_row_is_written_before_the_request(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []
    send = Push.send

    def read_calls_and_send(attempt: Push, record: RequestRecord) -> RemoteSegment:
        seen.extend(calls())
        assert bunce.requests == []
        return send(attempt, record)

    monkeypatch.setattr(Push, "send", read_calls_and_send)
    pushed(make())
    assert seen == [(Operation.CREATE, Outcome.UNDER_WAY)]


def test_an_edited_segment_is_updated_in_bunce(bunce: Emulator) -> None:
    row = pushed(linked(bunce, "After", description="New"))
    [stored] = bunce.segments
    assert (stored.name, stored.description) == ("After", "New")
    assert (row.status, row.bunce_name) == (Status.SYNCED, "After")
    assert calls(row) == [(Operation.UPDATE, Outcome.CONFIRMED)]
    assert bunce.requests[-1].method == "PATCH"


def test_an_emptied_description_is_emptied_in_bunce(bunce: Emulator) -> None:
    stored = bunce.add_segment("VIP", "Old words")
    pushed(make("VIP", None, bunce_id=stored.id))
    assert bunce.segments[0].description is None


def test_two_rows_with_the_same_content_are_two_segments(bunce: Emulator) -> None:
    first, second = pushed(make("VIP")), pushed(make("VIP"))
    assert len({first.bunce_id, second.bunce_id}) == 2
    assert len(bunce.segments) == 2


@pytest.mark.parametrize("status", [s for s in Status if s != Status.PENDING])
def test_only_a_pending_row_is_sent(bunce: Emulator, status: Status) -> None:
    row = make(status=status)
    assert not push(row.pk)
    assert (bunce.served, fresh(row).status) == (0, status)


def test_a_row_that_waits_for_its_backoff_is_not_sent(bunce: Emulator) -> None:
    row = make()
    Segment.objects.filter(pk=row.pk).update_sync_fields(due_at=datetime(9000, 1, 1, tzinfo=UTC))
    assert not push(row.pk)
    assert bunce.served == 0


def test_a_row_that_does_not_exist_is_logged_in_one_line(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "bunce_sync"):
        assert not push(4711)
    assert [record.getMessage() for record in caplog.records] == [
        "Segment 4711 does not exist (any more); nothing to push."
    ]


def test_without_a_key_nothing_is_sent_and_the_row_waits(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, API_KEY="")
    row = make()
    with pytest.raises(ConfigurationError):
        push(row.pk)
    row = fresh(row)
    assert (row.status, row.attempts, bunce.served, calls()) == (Status.PENDING, 0, 0, [])


# Outcomes of creates


CREATES_IN_DOUBT = [
    ("lost_answer", "closed", True),
    ("hold_after", "read_timeout", True),
    ("hold_before", "read_timeout", False),
    ("reset_before", "reset", False),
    ("error_after", "server_error", True),
    ("error_before", "server_error", False),
    ("html_502", "server_error", False),
    ("cut_json", "cut", True),
    ("late_store", "closed", False),
    ("redirect", "redirect", False),
    ("trickle", "deadline", True),
    ("too_large", "too_large", True),
]


@pytest.mark.parametrize(("fault", "code", "arrived"), CREATES_IN_DOUBT)
@pytest.mark.usefixtures("impatient")
def test_a_create_whose_outcome_is_unknown_is_in_doubt(
    bunce: Emulator, fault: str, code: str, arrived: bool
) -> None:
    bunce.set_faults(Faults(trickle_seconds=0.05), script=[fault])
    row = pushed(make())
    assert (row.status, row.last_code, row.attempts) == (Status.IN_DOUBT, code, 1)
    assert row.bunce_id is None
    assert not due(row)
    assert len(bunce.segments) == arrived
    assert calls(row) == [(Operation.CREATE, Outcome.UNKNOWN)]
    assert not push(row.pk), "a create in doubt is never repeated blindly"


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ("list", "wrong_shape"),
        ("no_data", "no_content"),
        ("null_data", "no_content"),
        ("no_id", "no_id"),
        ("empty_id", "no_id"),
        ("not_object", "wrong_shape"),
        ("failed", "says_failed"),
        ("empty", "no_content"),
        ("not_json", "not_json"),
    ],
)
def test_a_create_with_an_unusable_response_is_in_doubt(
    bunce: Emulator, shape: str, code: str
) -> None:
    bunce.set_faults(Faults.from_mapping({"wrong_shape": 1.0, "shape": shape}))
    row = pushed(make())
    assert (row.status, row.last_code) == (Status.IN_DOUBT, code)


@pytest.mark.usefixtures("impatient")
def test_a_create_that_was_not_sent_waits_for_its_backoff(bunce: Emulator) -> None:
    bunce.set(outage="refuse")
    row = pushed(make())
    assert (row.status, row.last_code, row.attempts) == (Status.PENDING, "refused", 1)
    assert not due(row)
    assert calls(row) == [(Operation.CREATE, Outcome.NOT_SENT)]


def test_a_refused_create_needs_attention_and_keeps_bunces_message(bunce: Emulator) -> None:
    bunce.add_segment("VIP")
    bunce.set(unique_names=True)
    row = pushed(make())
    assert (row.status, row.last_code) == (Status.REJECTED, "conflict")
    assert "name" in row.last_error
    assert calls(row) == [(Operation.CREATE, Outcome.REJECTED)]


def test_a_refused_create_after_doubt_is_looked_up(bunce: Emulator) -> None:
    bunce.set(unique_names=True)
    bunce.script(["lost_answer"])
    row = pushed(make())
    judge_absent(row)
    row = pushed(row)
    assert (row.status, row.last_code) == (Status.IN_DOUBT, "conflict")
    assert Segment.objects.checkable().filter(pk=row.pk).exists(), "without a grace period"


def test_after_a_429_the_row_stays_due_and_keeps_its_attempts(bunce: Emulator) -> None:
    bunce.set_faults(Faults(limit_429=1.0, retry_seconds=30))
    row = pushed(make())
    assert (row.status, row.attempts, due(row)) == (Status.PENDING, 0, True)
    assert state().blocked_reason == "rate_limited"
    with pytest.raises(NoPermit):
        push(row.pk)
    assert bunce.served == 1


def test_a_refused_key_closes_the_rate_limiter_and_costs_the_row_no_attempt(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, API_KEY="sk_live_wrong")
    row = pushed(make())
    assert (row.status, row.attempts, row.last_code) == (Status.PENDING, 0, "key_refused")
    assert state().blocked_reason == "key_refused"


# Outcomes of updates


@pytest.mark.parametrize("fault", ["lost_answer", "reset_before", "error_after", "cut_json"])
def test_an_update_whose_outcome_is_unknown_is_repeated(bunce: Emulator, fault: str) -> None:
    bunce.set_faults(Faults.from_mapping({fault: 1.0, "methods": ["PATCH"]}))
    row = pushed(linked(bunce))
    assert (row.status, due(row)) == (Status.PENDING, False)
    assert calls(row) == [(Operation.UPDATE, Outcome.UNKNOWN)]
    bunce.set_faults(None)
    Segment.objects.filter(pk=row.pk).update_sync_fields(due_at=now())
    assert pushed(row).status == Status.SYNCED
    assert [segment.name for segment in bunce.segments] == ["VIP"]


def test_an_update_of_a_segment_that_is_gone_needs_attention(bunce: Emulator) -> None:
    row = pushed(make(bunce_id=NOT_FOUND_ID))
    assert (row.status, row.last_code) == (Status.REJECTED, "not_found")
    assert row.bunce_id == NOT_FOUND_ID


# The permit


def test_a_permit_that_expired_while_connecting_is_not_used_and_retried_at_once(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunce_sync.sync.rate_limiter.PERMIT_SECONDS", -1.0)
    perform = Push.perform

    def perform_and_restore(attempt: Push, budget: Budget) -> Result:
        result = perform(attempt, budget)
        monkeypatch.setattr("bunce_sync.sync.rate_limiter.PERMIT_SECONDS", 5.0)
        return result

    monkeypatch.setattr(Push, "perform", perform_and_restore)
    row = pushed(make())
    assert row.status == Status.SYNCED
    assert calls(row) == [
        (Operation.CREATE, Outcome.NOT_SENT),
        (Operation.CREATE, Outcome.CONFIRMED),
    ]
    assert bunce.served == 1


def test_a_permit_that_always_expires_is_retried_once_and_the_row_stays_due(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunce_sync.sync.rate_limiter.PERMIT_SECONDS", -1.0)
    row = pushed(make())
    assert (row.status, row.last_code, due(row)) == (Status.PENDING, "permit_expired", True)
    assert calls(row) == [(Operation.CREATE, Outcome.NOT_SENT)] * 2
    assert (bunce.served, state().failures) == (0, 0)
    assert row.attempts == 0, "Bunce did not fail"


def test_every_field_of_a_row_that_was_never_sent_can_be_changed(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, BASE_URL="http://127.0.0.1:1/v1")
    row = pushed(make())
    assert calls(row) == [(Operation.CREATE, Outcome.NOT_SENT)]
    row.add_all_customers = True
    row.full_clean()
    row.save()
    configure(settings, BASE_URL=bunce.base_url)
    Segment.objects.update_sync_fields(due_at=now())
    assert pushed(row).bunce_all_customers is True


@pytest.mark.parametrize("values", [{"GRACE": "two minutes"}, {"LEDGER_DAYS": 0}])
def test_an_invalid_setting_is_detected_before_anything_is_sent(
    bunce: Emulator, settings: Settings, values: dict[str, Any]
) -> None:
    row = make()
    configure(settings, **values)
    with pytest.raises(ConfigurationError):
        push(row.pk)
    assert (fresh(row).status, bunce.served) == (Status.PENDING, 0)


# Draining the queue


def test_draining_sends_all_that_is_due_and_leaves_the_rest(bunce: Emulator) -> None:
    rows = [make(f"Segment {number}") for number in range(25)]
    later = make("Later", due_at=datetime(9000, 1, 1, tzinfo=UTC))
    assert drain(seconds=30) == 25
    assert {fresh(row).status for row in rows} == {Status.SYNCED}
    assert fresh(later).status == Status.PENDING
    assert len(bunce.segments) == 25


def test_draining_ends_when_the_rate_limiter_closes_for_long(bunce: Emulator) -> None:
    for number in range(3):
        make(f"Segment {number}")
    bunce.set_faults(Faults(limit_429=1.0, retry_seconds=30))
    assert drain(seconds=30) == 1
    assert bunce.served == 1


def test_a_worker_woken_for_a_row_that_another_has_claimed_stops(bunce: Emulator) -> None:
    taken, other = make(status=Status.SENDING), make("Other")
    assert drain(seconds=30, first=taken.pk) == 0
    assert fresh(other).status == Status.PENDING, "left to the worker that claimed the first"
    assert drain(seconds=30) == 1


def test_draining_sends_nothing_when_its_time_is_up(bunce: Emulator) -> None:
    make()
    assert drain(seconds=0) == 0
    assert bunce.served == 0


@pytest.mark.django_db(transaction=True)
def test_a_row_that_many_workers_push_at_once_is_sent_once(
    bunce: Emulator,
) -> None:
    row = make()
    barrier = threading.Barrier(8)

    def work() -> bool:
        barrier.wait(10)
        return push(row.pk)

    assert sorted(in_threads([work] * 8)) == [False] * 7 + [True]
    assert len(bunce.segments) == 1
    assert fresh(row).status == Status.SYNCED

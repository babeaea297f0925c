"""What a response means and how it changes a row, without database, network or clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from bunce_sync import exceptions, transitions
from bunce_sync.client import RemoteSegment
from bunce_sync.fingerprint import field_digest, listed_fingerprint
from bunce_sync.models import ApiCall, Segment
from bunce_sync.results import Result, result_of
from bunce_sync.transitions import (
    BACKOFF_CAP,
    REFRESH_FIRST,
    Claim,
    after_adoption,
    after_push,
    after_refresh,
    backoff,
)
from tests.unit.core import digests_of

Status = Segment.Status
Outcome = ApiCall.Outcome
Operation = ApiCall.Operation

NOW = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
GRACE = timedelta(seconds=120)
TOKEN = uuid4()
BUNCE_ID = "9da67caa-b803-4691-a2b6-bdcd58008aaf"
OTHER_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
REMOTE = RemoteSegment(id=BUNCE_ID, name="VIP", created_at=NOW)


def claim(**changes: Any) -> Claim:
    values: dict[str, Any] = {
        "segment_id": 7,
        "token": TOKEN,
        "bunce_id": None,
        "attempts": 3,
    }
    content = {"name": "VIP", "description": None, "add_all_customers": False}
    content |= {name: changes.pop(name) for name in [*content] if name in changes}
    return Claim(**values | changes | {"content": content} | Segment.digests_of(content))


def row(**changes: Any) -> Segment:
    """Return the row of the claim, under its lease."""
    values: dict[str, Any] = {
        "pk": 7,
        "name": "VIP",
        "status": Status.SENDING,
        "lease_token": TOKEN,
        "lease_until": NOW + timedelta(seconds=60),
        **digests_of("VIP", None),
        "shown_digest": listed_fingerprint("VIP", None),
    }
    return Segment(**values | changes)


def seen(of: Segment, result: Result, remote: RemoteSegment | None) -> dict[str, Any]:
    return after_refresh(of, result, remote, now=NOW)


def after(
    outcome: Outcome = Outcome.UNKNOWN,
    *,
    of: Segment | None = None,
    under: Claim | None = None,
    **result: Any,
) -> dict[str, Any]:
    return after_push(
        of or row(), under or claim(), Result(outcome, **result), now=NOW, grace=GRACE
    )


def test_not_sent_is_judged_by_the_connection_and_not_by_the_error() -> None:
    reset = exceptions.NoResponse("reset", code="reset")
    assert result_of(reset, sent=False, operation=Operation.CREATE).outcome == Outcome.NOT_SENT
    assert result_of(reset, sent=True, operation=Operation.CREATE).outcome == Outcome.UNKNOWN


SAYS_FAILED = exceptions.UnusableResponse("taken", code="says_failed", http_status=200)


@pytest.mark.parametrize(
    ("error", "create", "update"),
    [
        (exceptions.RateLimited(retry_after=7.0), Outcome.RATE_LIMITED, Outcome.RATE_LIMITED),
        (exceptions.KeyRefused(http_status=401), Outcome.KEY_REFUSED, Outcome.KEY_REFUSED),
        (exceptions.Rejected(http_status=400), Outcome.REJECTED, Outcome.REJECTED),
        (exceptions.Forbidden(http_status=403), Outcome.REJECTED, Outcome.REJECTED),
        (exceptions.NotFound(http_status=404), Outcome.REJECTED, Outcome.REJECTED),
        (exceptions.Conflict(http_status=422), Outcome.REJECTED, Outcome.REJECTED),
        (exceptions.ServerError(http_status=500), Outcome.UNKNOWN, Outcome.UNKNOWN),
        (exceptions.Unavailable(retry_after=9.0), Outcome.UNKNOWN, Outcome.UNKNOWN),
        (exceptions.UnusableResponse(http_status=200), Outcome.UNKNOWN, Outcome.UNKNOWN),
        (exceptions.NoContent(http_status=204), Outcome.UNKNOWN, Outcome.CONFIRMED),
        (SAYS_FAILED, Outcome.UNKNOWN, Outcome.REJECTED),
        (exceptions.NoResponse(), Outcome.UNKNOWN, Outcome.UNKNOWN),
        (RuntimeError("an internal error"), Outcome.UNKNOWN, Outcome.UNKNOWN),
    ],
)
def test_each_error_of_a_sent_request_has_its_outcome(
    error: Exception, create: Outcome, update: Outcome
) -> None:
    assert result_of(error, sent=True, operation=Operation.CREATE).outcome == create
    assert result_of(error, sent=True, operation=Operation.UPDATE).outcome == update


def test_a_404_for_a_path_without_an_id_means_that_the_address_is_wrong() -> None:
    found = {
        operation: result_of(
            exceptions.NotFound(http_status=404), sent=True, operation=operation
        ).code
        for operation in Operation
        if operation != Operation.SITE  # the site's own code gets that response
    }
    assert found == {
        Operation.CREATE: "no_such_address",
        Operation.LIST: "no_such_address",
        Operation.UPDATE: "not_found",
        Operation.READ: "not_found",
        Operation.ADD: "not_found",
        Operation.REMOVE: "not_found",
    }


def test_an_internal_error_is_recorded_without_its_text() -> None:
    result = result_of(RuntimeError("sk_live_secret"), sent=False, operation=Operation.CREATE)
    assert (result.outcome, result.code, result.detail) == (
        Outcome.NOT_SENT,
        "internal",
        "RuntimeError",
    )


def test_fields_that_a_response_leaves_out_keep_their_known_values() -> None:
    under = claim(bunce_id=BUNCE_ID)
    linked = row(bunce_id=BUNCE_ID, bunce_name="VIP", bunce_type="manual", bunce_created_at=NOW)
    partial = RemoteSegment(id=BUNCE_ID, name="", left_out=frozenset({"name", "description"}))
    changes = after(Outcome.CONFIRMED, of=linked, under=under, segment=partial)
    assert changes["status"] == Status.SYNCED
    assert changes["bunce_name"] == "VIP", "what was sent and confirmed"
    assert not {"bunce_type", "bunce_created_at"} & changes.keys()


def test_a_confirmed_create_is_synced_with_all_that_bunce_returned() -> None:
    changes = after(Outcome.CONFIRMED, segment=REMOTE)
    assert changes["status"] == Status.SYNCED
    assert (changes["bunce_id"], changes["bunce_created_at"]) == (BUNCE_ID, NOW)
    assert (changes["lease_token"], changes["lease_until"]) == (None, None)
    assert (changes["attempts"], changes["synced_at"]) == (0, NOW)


def test_a_confirmed_row_that_was_edited_meanwhile_is_pending_again() -> None:
    changes = after(Outcome.CONFIRMED, segment=REMOTE, of=row(name="VIP gold"))
    assert (changes["status"], changes["bunce_id"]) == (Status.PENDING, BUNCE_ID)
    assert changes["sent_digest"] == digests_of("VIP", None)["sent_digest"]


@pytest.mark.parametrize("bunce_id", [None, BUNCE_ID])
def test_what_was_not_sent_waits_for_its_backoff(bunce_id: str | None) -> None:
    changes = after(
        Outcome.NOT_SENT, of=row(bunce_id=bunce_id), under=claim(bunce_id=bunce_id), code="refused"
    )
    assert (changes["status"], changes["last_code"]) == (Status.PENDING, "refused")
    assert timedelta(seconds=4) <= changes["due_at"] - NOW <= timedelta(seconds=8)


def test_an_expired_permit_causes_no_backoff() -> None:
    assert after(Outcome.NOT_SENT, code="permit_expired")["due_at"] == NOW


@pytest.mark.parametrize("outcome", [Outcome.RATE_LIMITED, Outcome.KEY_REFUSED])
def test_a_refusal_that_is_not_the_rows_fault_counts_no_attempt(outcome: Outcome) -> None:
    changes = after(outcome)
    assert (changes["status"], changes["attempts"], changes["due_at"]) == (Status.PENDING, 2, NOW)


def test_a_create_of_unknown_outcome_is_in_doubt_until_the_grace_period_is_over() -> None:
    changes = after(Outcome.UNKNOWN, code="read_timeout")
    assert (changes["status"], changes["due_at"]) == (Status.IN_DOUBT, NOW + GRACE)


def test_an_update_of_unknown_outcome_is_repeated() -> None:
    changes = after(Outcome.UNKNOWN, of=row(bunce_id=BUNCE_ID), under=claim(bunce_id=BUNCE_ID))
    assert changes["status"] == Status.PENDING
    assert changes["due_at"] > NOW


def test_a_create_of_unknown_outcome_becomes_an_update_if_the_row_is_linked_by_now() -> None:
    changes = after(Outcome.UNKNOWN, of=row(bunce_id=BUNCE_ID))
    assert changes["status"] == Status.PENDING


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_a_refusal_rejects_the_row(status: int) -> None:
    changes = after(Outcome.REJECTED, http_status=status, code="rejected", detail="No such thing")
    assert (changes["status"], changes["last_error"]) == (Status.REJECTED, "No such thing")


@pytest.mark.parametrize("code", ["rejected", "conflict"])
@pytest.mark.parametrize("name", ["VIP", "edited since"])
def test_a_refusal_after_doubt_is_looked_up_since_our_own_segment_may_cause_it(
    code: str, name: str
) -> None:
    changes = after(
        Outcome.REJECTED, of=row(name=name), under=claim(has_unresolved_create=True), code=code
    )
    assert (changes["status"], changes["due_at"]) == (Status.IN_DOUBT, NOW)


@pytest.mark.parametrize("code", ["forbidden", "no_such_address", "says_failed"])
def test_a_refusal_that_no_earlier_create_can_have_caused_rejects_after_doubt_too(
    code: str,
) -> None:
    changes = after(Outcome.REJECTED, under=claim(has_unresolved_create=True), code=code)
    assert changes["status"] == Status.REJECTED


@pytest.mark.parametrize("bunce_id", [None, BUNCE_ID])
def test_a_refusal_that_other_rows_share_costs_the_row_no_attempt(
    bunce_id: str | None,
) -> None:
    changes = after(
        Outcome.REJECTED,
        of=row(bunce_id=bunce_id),
        under=claim(bunce_id=bunce_id),
        code="forbidden",
        detail="The limit of your plan",
        shared=True,
    )
    assert (changes["status"], changes["due_at"], changes["attempts"]) == (Status.PENDING, NOW, 2)
    assert (changes["last_code"], changes["last_error"]) == ("forbidden", "The limit of your plan")


def test_an_update_confirmed_without_content_is_synced_and_refreshed() -> None:
    changes = after(
        Outcome.CONFIRMED,
        of=row(bunce_id=BUNCE_ID),
        under=claim(bunce_id=BUNCE_ID),
        code="no_content",
    )
    assert (changes["status"], changes["last_code"]) == (Status.SYNCED, "")
    assert changes["refresh_requested_at"] == NOW


def test_an_update_with_an_unreadable_response_is_refreshed_before_it_is_sent_again() -> None:
    changes = after(
        of=row(bunce_id=BUNCE_ID), under=claim(bunce_id=BUNCE_ID, attempts=1), code="not_json"
    )
    assert (changes["status"], changes["refresh_requested_at"]) == (Status.PENDING, NOW)
    assert changes["due_at"] - NOW >= REFRESH_FIRST


def test_what_bunce_stored_differently_is_shown() -> None:
    other = RemoteSegment(id=BUNCE_ID, name="Vip")
    changes = after(Outcome.CONFIRMED, segment=other)
    assert (changes["status"], changes["last_code"]) == (Status.SYNCED, "stored_differently")
    assert changes["shown_digest"] == listed_fingerprint("Vip", None)


def test_fields_that_a_response_leaves_out_are_not_a_difference() -> None:
    described = claim(description="The best")
    partial = RemoteSegment(id=BUNCE_ID, name="VIP", left_out=frozenset({"description"}))
    changes = after(
        Outcome.CONFIRMED, of=row(description="The best"), under=described, segment=partial
    )
    assert changes["last_code"] == ""


def test_a_response_without_all_customers_confirms_what_was_sent() -> None:
    changes = after(Outcome.CONFIRMED, under=claim(add_all_customers=True), segment=REMOTE)
    assert changes["bunce_all_customers"] is True


def test_a_refused_row_that_was_edited_meanwhile_is_retried_with_its_new_content() -> None:
    changes = after(Outcome.REJECTED, of=row(name="Better"), http_status=400)
    assert (changes["status"], changes["due_at"], changes["attempts"]) == (Status.PENDING, NOW, 0)


@pytest.mark.parametrize("doubted", [True, False])
def test_a_refused_create_of_a_row_that_a_late_response_linked_becomes_an_update(
    doubted: bool,
) -> None:
    changes = after(
        Outcome.REJECTED,
        of=row(bunce_id=BUNCE_ID),
        under=claim(has_unresolved_create=doubted),
        http_status=422,
    )
    assert changes["status"] == Status.PENDING


# Late responses: the lease expired while the request was in flight.


@pytest.mark.parametrize("status", [Status.PENDING, Status.IN_DOUBT, Status.REJECTED])
def test_a_late_success_is_adopted_by_a_row_without_segment(status: Status) -> None:
    late = row(status=status, lease_token=None, lease_until=None)
    changes = after(Outcome.CONFIRMED, segment=REMOTE, of=late)
    assert (changes["status"], changes["bunce_id"]) == (Status.SYNCED, BUNCE_ID)


def test_a_late_success_during_another_workers_create_keeps_the_status() -> None:
    changes = after(Outcome.CONFIRMED, segment=REMOTE, of=row(lease_token=uuid4()))
    assert changes["bunce_id"] == BUNCE_ID
    assert "status" not in changes
    assert "lease_token" not in changes


def test_a_late_failure_changes_nothing() -> None:
    for outcome in (Outcome.UNKNOWN, Outcome.REJECTED, Outcome.NOT_SENT, Outcome.RATE_LIMITED):
        assert after(outcome, of=row(lease_token=uuid4())) == {}


def test_a_late_success_with_another_id_is_reported_as_a_duplicate_and_overwrites_nothing() -> None:
    held = row(status=Status.SYNCED, lease_token=None, lease_until=None, bunce_id=OTHER_ID)
    assert after(Outcome.CONFIRMED, segment=REMOTE, of=held) == {
        "bunce_duplicate_id": BUNCE_ID,
    }


def test_a_create_confirmed_under_its_lease_with_another_id_ends_at_rest_and_is_reported() -> None:
    linked = row(bunce_id=OTHER_ID, bunce_name="VIP")
    changes = after(Outcome.CONFIRMED, segment=REMOTE, of=linked)
    assert (changes["status"], changes["bunce_duplicate_id"]) == (Status.SYNCED, BUNCE_ID)
    assert "bunce_id" not in changes
    assert changes["lease_token"] is None


def test_what_the_list_does_not_show_confirms_no_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "LISTED_FIELDS", ("name",))
    linked = row(bunce_id=OTHER_ID, bunce_name="VIP")
    changes = after(Outcome.CONFIRMED, segment=REMOTE, of=linked)
    assert (changes["status"], changes["bunce_duplicate_id"]) == (Status.PENDING, BUNCE_ID)
    waiting = row(status=Status.PENDING, lease_token=None, lease_until=None, bunce_id=BUNCE_ID)
    assert "status" not in seen(waiting, Result(Outcome.CONFIRMED), REMOTE)


def test_a_late_update_that_may_have_overwritten_a_newer_one_is_sent_again() -> None:
    newer = row(
        status=Status.SYNCED,
        name="Newer",
        bunce_id=BUNCE_ID,
        **digests_of("Newer", None),
        settled={"name": field_digest("Newer"), "description": field_digest(None)},
        lease_token=None,
        lease_until=None,
    )
    changes = after(Outcome.CONFIRMED, segment=REMOTE, of=newer, under=claim(bunce_id=BUNCE_ID))
    assert changes == {
        "status": Status.PENDING,
        "due_at": NOW,
        "settled": {"description": field_digest(None)},
    }, "the description was the same in both"


def test_a_late_response_for_a_synced_row_changes_nothing() -> None:
    same = row(status=Status.SYNCED, bunce_id=BUNCE_ID, lease_token=None, lease_until=None)
    assert after(Outcome.CONFIRMED, segment=REMOTE, of=same) == {}


# Adoption and refreshes


def test_an_adopted_row_is_synced_unless_it_was_edited_while_in_doubt() -> None:
    doubtful = {"status": Status.IN_DOUBT, "lease_token": None, "lease_until": None}
    found = after_adoption(row(**doubtful), REMOTE, environment="here", now=NOW)
    assert (found["status"], found["environment"]) == (Status.SYNCED, "here")
    edited = after_adoption(row(**doubtful, name="Edited"), REMOTE, environment="here", now=NOW)
    assert (edited["status"], edited["bunce_id"]) == (Status.PENDING, BUNCE_ID)


def test_a_type_longer_than_its_column_is_truncated() -> None:
    remote = RemoteSegment(id=BUNCE_ID, name="VIP", type="x" * 300)
    assert len(after(Outcome.CONFIRMED, segment=remote)["bunce_type"]) == 100


def test_drift_is_shown_and_not_undone() -> None:
    at_rest = row(status=Status.SYNCED, bunce_id=BUNCE_ID)
    remote = RemoteSegment(id=BUNCE_ID, name="Renamed in the dashboard")
    changes = seen(at_rest, Result(Outcome.CONFIRMED), remote)
    assert (changes["status"], changes["last_code"]) == (Status.SYNCED, "drift")
    assert changes["bunce_name"] == "Renamed in the dashboard"
    assert seen(at_rest, Result(Outcome.CONFIRMED), REMOTE)["last_code"] == ""


def test_a_refresh_of_a_waiting_row_keeps_its_status() -> None:
    edited = row(status=Status.PENDING, bunce_id=BUNCE_ID, name="Edited")
    changes = seen(edited, Result(Outcome.CONFIRMED), REMOTE)
    assert "status" not in changes
    assert changes["refresh_requested_at"] is None


def test_a_refresh_says_nothing_about_a_row_being_sent_and_is_repeated() -> None:
    under_way = row(bunce_id=BUNCE_ID, name="Edited")
    assert seen(under_way, Result(Outcome.CONFIRMED), REMOTE) == {}


def test_a_segment_found_again_is_no_longer_rejected_for_being_gone() -> None:
    gone = row(status=Status.REJECTED, bunce_id=BUNCE_ID, last_code="not_found")
    assert seen(gone, Result(Outcome.CONFIRMED), REMOTE)["status"] == Status.SYNCED
    refused = row(status=Status.REJECTED, bunce_id=BUNCE_ID, last_code="conflict")
    assert "status" not in seen(refused, Result(Outcome.CONFIRMED), REMOTE)


def test_a_row_whose_segment_is_gone_needs_attention() -> None:
    gone = Result(Outcome.REJECTED, code="not_found", http_status=404)
    changes = seen(row(status=Status.SYNCED, bunce_id=BUNCE_ID), gone, None)
    assert (changes["status"], changes["last_code"]) == (Status.REJECTED, "not_found")


@pytest.mark.parametrize(
    "result",
    [
        Result(Outcome.NOT_SENT, code="refused"),
        Result(Outcome.UNKNOWN, code="read_timeout"),
        Result(Outcome.RATE_LIMITED, code="rate_limited", http_status=429),
        Result(Outcome.KEY_REFUSED, code="key_refused", http_status=401),
    ],
)
def test_a_refresh_without_a_result_stays_requested(result: Result) -> None:
    assert seen(row(status=Status.SYNCED, bunce_id=BUNCE_ID), result, None) == {}


def test_a_refresh_that_bunce_refused_is_shown_and_not_repeated_forever() -> None:
    broken = Result(Outcome.UNKNOWN, code="server_error", detail="Oops", http_status=500)
    changes = seen(row(status=Status.SYNCED, bunce_id=BUNCE_ID), broken, None)
    assert changes == {
        "refresh_requested_at": None,
        "last_code": "server_error",
        "last_error": "Oops",
    }


def test_a_refresh_that_fails_for_other_rows_too_stays_requested() -> None:
    gone = Result(Outcome.REJECTED, code="not_found", http_status=404, shared=True)
    assert seen(row(status=Status.SYNCED, bunce_id=BUNCE_ID), gone, None) == {}


def test_an_internal_error_of_a_refresh_is_shown_and_not_repeated_forever() -> None:
    slip = Result(Outcome.NOT_SENT, code="internal", detail="ValueError")
    changes = seen(row(status=Status.SYNCED, bunce_id=BUNCE_ID), slip, None)
    assert (changes["refresh_requested_at"], changes["last_code"]) == (None, "internal")


def test_what_bunce_showed_after_the_push_is_not_drift() -> None:
    stored = listed_fingerprint("Vip", None)
    at_rest = row(status=Status.SYNCED, bunce_id=BUNCE_ID, shown_digest=stored)
    remote = RemoteSegment(id=BUNCE_ID, name="Vip")
    for _ in range(2):  # the same at each refresh
        changes = seen(at_rest, Result(Outcome.CONFIRMED), remote)
        assert changes["last_code"] == "stored_differently"
        for name, value in changes.items():
            setattr(at_rest, name, value)
    changed = RemoteSegment(id=BUNCE_ID, name="Renamed in the dashboard")
    for _ in range(2):
        changes = seen(at_rest, Result(Outcome.CONFIRMED), changed)
        assert changes["last_code"] == "drift"
        for name, value in changes.items():
            setattr(at_rest, name, value)
    assert seen(at_rest, Result(Outcome.CONFIRMED), REMOTE)["last_code"] == ""


def test_a_refresh_shows_that_an_update_of_unknown_outcome_took_effect() -> None:
    waiting = row(
        status=Status.PENDING, lease_token=None, lease_until=None, bunce_id=BUNCE_ID, attempts=3
    )
    changes = seen(waiting, Result(Outcome.CONFIRMED), REMOTE)
    assert (changes["status"], changes["attempts"]) == (Status.SYNCED, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Edited"},
        {**digests_of("Sent since", None)},
        {**digests_of("Sent since", None), "name": "Sent since"},
    ],
)
def test_a_refresh_confirms_no_update_while_other_content_may_be_in_flight(
    changes: dict[str, Any],
) -> None:
    waiting = row(
        status=Status.PENDING, lease_token=None, lease_until=None, bunce_id=BUNCE_ID, **changes
    )
    assert "status" not in seen(waiting, Result(Outcome.CONFIRMED), REMOTE)


def test_backoff_doubles_with_jitter_up_to_an_hour() -> None:
    for attempts in (0, 1, 5, 12, 1000):
        longest = min(2.0**attempts if attempts < 20 else BACKOFF_CAP, BACKOFF_CAP)
        waits = {backoff(attempts).total_seconds() for _ in range(50)}
        assert longest / 2 <= min(waits) <= max(waits) <= longest
        assert len(waits) > 1

"""Refreshes: what Bunce has of a segment is stored, drift is shown and nothing is undone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import Settings

from bunce_sync.exceptions import ConfigurationError
from bunce_sync.models import Segment
from bunce_sync.sync import rate_limiter, refresh
from bunce_sync.sync.attempt import Attempt
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.push import push
from bunce_sync.testing.emulator import Emulator, Faults

from .core import (
    Operation,
    Outcome,
    Reason,
    Status,
    ago,
    calls,
    configure,
    fresh,
    make,
    now,
    record_calls,
    run_refresh,
    set_state,
    state,
)

pytestmark = pytest.mark.django_db


def requested(bunce: Emulator | None = None, name: str = "VIP", **fields: Any) -> Segment:
    """Create a synced row with a requested refresh; it is in Bunce if ``bunce`` is given."""
    if bunce is not None:
        fields.setdefault("bunce_id", bunce.add_segment(name).id)
    fields.setdefault("status", Status.SYNCED)
    return make(name, None, refresh_requested_at=ago(1), **fields)


def after_read(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Make a change between the response and the recording of what it showed."""
    save = refresh._save

    def change_and_save(*args: Any, **kwargs: Any) -> bool:
        change()
        return save(*args, **kwargs)

    monkeypatch.setattr(refresh, "_save", change_and_save)


def test_what_bunce_has_is_stored(bunce: Emulator) -> None:
    moment = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
    stored = bunce.add_segment("VIP", "The best", type="automatic", created_at=moment)
    row = make(
        "VIP", "The best", status=Status.SYNCED, bunce_id=stored.id, refresh_requested_at=now()
    )
    assert run_refresh() == 1
    row = fresh(row)
    assert (row.bunce_name, row.bunce_description) == ("VIP", "The best")
    assert (row.bunce_type, row.bunce_created_at) == ("automatic", moment)
    assert (row.status, row.last_code, row.refresh_requested_at) == (Status.SYNCED, "", None)
    assert calls(row) == [(Operation.READ, Outcome.CONFIRMED)]


def test_only_requested_rows_are_read(bunce: Emulator) -> None:
    make(status=Status.SYNCED, bunce_id=bunce.add_segment("VIP").id)
    assert run_refresh() == 0
    assert bunce.served == 0


def test_drift_is_shown_and_undone_only_on_request(bunce: Emulator) -> None:
    stored = bunce.add_segment("Renamed in the dashboard")
    row = requested(bunce_id=stored.id)
    run_refresh()
    row = fresh(row)
    assert (row.status, row.last_code, row.name) == (Status.SYNCED, "drift", "VIP")
    assert row.bunce_name == "Renamed in the dashboard"
    assert not push(row.pk)
    assert bunce.segments[0].name == "Renamed in the dashboard"


def test_drift_that_is_gone_is_no_longer_shown(bunce: Emulator) -> None:
    row = requested(bunce, last_code="drift")
    run_refresh()
    assert fresh(row).last_code == ""


def test_a_segment_that_is_gone_needs_attention(bunce: Emulator) -> None:
    record_calls(10, operation=Operation.READ)  # another segment was read before
    row = requested(bunce_id="7c9e6679-7425-40de-944b-e07fc1f90ae7")
    run_refresh()
    row = fresh(row)
    assert (row.status, row.last_code) == (Status.REJECTED, "not_found")
    assert row.refresh_requested_at is None
    assert calls(row) == [(Operation.READ, Outcome.REJECTED)]


def test_a_segment_that_reappears_is_synced_again(bunce: Emulator) -> None:
    row = requested(bunce, status=Status.REJECTED, last_code="not_found", last_error="Gone")
    run_refresh()
    row = fresh(row)
    assert (row.status, row.last_code, row.last_error) == (Status.SYNCED, "", "")


def test_a_waiting_row_keeps_waiting(bunce: Emulator) -> None:
    row = requested(bunce, status=Status.PENDING, last_code="read_timeout", attempts=3)
    run_refresh()
    row = fresh(row)
    assert (row.status, row.attempts, row.last_code) == (Status.PENDING, 3, "read_timeout")
    assert (row.bunce_name, row.refresh_requested_at) == ("VIP", None)


def test_the_refresh_of_a_row_that_is_not_in_bunce_is_dropped(bunce: Emulator) -> None:
    row = requested(status=Status.PENDING)
    assert run_refresh() == 0
    assert (fresh(row).refresh_requested_at, bunce.served) == (None, 0)


def test_a_row_linked_to_another_segment_meanwhile_is_not_changed(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = requested(bunce)

    after_read(
        monkeypatch,
        lambda: Segment.objects.filter(pk=row.pk).update_sync_fields(bunce_id="another"),
    )
    run_refresh()
    assert (fresh(row).bunce_id, fresh(row).bunce_name) == ("another", "")
    assert fresh(row).refresh_requested_at is not None


def test_a_row_deleted_meanwhile_is_not_an_error(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = requested(bunce)

    after_read(monkeypatch, lambda: Segment.objects.filter(pk=row.pk).delete())
    assert run_refresh() == 0


# Failures


@pytest.mark.parametrize("fault", ["reset_before", "lost_answer", "hold_before"])
def test_without_a_response_the_refresh_stays_requested(
    bunce: Emulator, settings: Settings, fault: str
) -> None:
    configure(settings, READ_TIMEOUT=0.2)
    row = requested(bunce)
    bunce.set_faults(Faults.from_mapping({fault: 1.0, "methods": ["GET"]}))
    assert run_refresh() == 0
    assert (fresh(row).status, fresh(row).last_code) == (Status.SYNCED, "")
    assert fresh(row).refresh_requested_at is not None
    bunce.set_faults(None)
    assert run_refresh() == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [("error_after", "server_error"), ("html_502", "server_error"), ("redirect", "redirect")],
)
def test_an_error_response_is_shown_and_not_repeated_forever(
    bunce: Emulator, fault: str, code: str
) -> None:
    row = requested(bunce)
    bunce.set_faults(Faults.from_mapping({fault: 1.0, "methods": ["GET"]}))
    run_refresh()
    row = fresh(row)
    assert (row.status, row.last_code, row.refresh_requested_at) == (Status.SYNCED, code, None)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("limit_429", Reason.RATE_LIMITED), ("unauthorized", Reason.KEY_REFUSED)],
)
def test_a_refusal_unrelated_to_the_segment_pauses_all_requests_and_keeps_the_refresh(
    bunce: Emulator, fault: str, reason: str
) -> None:
    rows = [requested(bunce, f"Segment {number}") for number in range(3)]
    bunce.set_faults(Faults.from_mapping({fault: 1.0, "methods": ["GET"]}))
    assert run_refresh() == 0
    assert all(fresh(row).refresh_requested_at for row in rows)
    assert (bunce.served, state().blocked_reason) == (1, reason)


def test_nothing_is_read_during_a_pause(bunce: Emulator) -> None:
    row = requested(bunce)
    set_state(blocked_until=ago(-30), blocked_reason=Reason.RATE_LIMITED)
    assert run_refresh() == 0
    assert (bunce.served, fresh(row).refresh_requested_at is not None) == (0, True)


def test_reads_leave_a_share_of_the_window_to_pushes(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=10)
    record_calls(*[20] * 5, operation=Operation.READ)
    requested(bunce)
    assert run_refresh() == 0
    assert bunce.served == 0


def test_a_used_up_budget_leaves_the_rest_to_the_next_run(bunce: Emulator) -> None:
    requested(bunce)
    progress = refresh.run(Budget(0))
    assert (progress.requests, progress.more, bunce.served) == (0, True, 0)


def test_without_a_key_nothing_is_read(bunce: Emulator, settings: Settings) -> None:
    requested(bunce)
    configure(settings, API_KEY="")
    with pytest.raises(ConfigurationError):
        run_refresh()
    assert bunce.served == 0


def test_when_connecting_outlasts_the_permit_the_second_try_uses_the_connection(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = requested(bunce)
    monkeypatch.setattr(rate_limiter, "PERMIT_SECONDS", -1.0)
    perform = Attempt.perform

    def perform_with_longer_permits(*args: Any) -> Any:
        result = perform(*args)
        monkeypatch.setattr(rate_limiter, "PERMIT_SECONDS", 5.0)
        return result

    monkeypatch.setattr(Attempt, "perform", perform_with_longer_permits)
    assert run_refresh() == 1
    assert calls(row) == [(Operation.READ, Outcome.NOT_SENT), (Operation.READ, Outcome.CONFIRMED)]
    assert bunce.served == 1

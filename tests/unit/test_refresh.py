"""A look at a segment in Bunce, for somebody who asked: drift is told, nothing is undone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bunce_sync.sync.read import read
from pytest_django import Settings

from bunce_sync.exceptions import ConfigurationError
from bunce_sync.models import Segment
from bunce_sync.sync import rate_limiter
from bunce_sync.sync import read as read_module
from bunce_sync.sync import refresh as pull_module
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


def asked(bunce: Emulator | None = None, name: str = "VIP", **fields: Any) -> Segment:
    """A synced row that somebody asked to see; it is in Bunce if there is one."""
    if bunce is not None:
        fields.setdefault("bunce_id", bunce.add_segment(name).id)
    fields.setdefault("status", Status.SYNCED)
    return make(name, None, refresh_requested_at=ago(1), **fields)


def pull() -> int:
    return run_refresh(seconds=30)


def test_what_bunce_has_is_stored(bunce: Emulator) -> None:
    moment = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
    stored = bunce.add_segment("VIP", "The best", type="automatic", created_at=moment)
    row = make(
        "VIP", "The best", status=Status.SYNCED, bunce_id=stored.id, refresh_requested_at=now()
    )
    assert pull() == 1
    row = fresh(row)
    assert (row.bunce_name, row.bunce_description) == ("VIP", "The best")
    assert (row.bunce_type, row.bunce_created_at) == ("automatic", moment)
    assert (row.status, row.last_code, row.refresh_requested_at) == (Status.SYNCED, "", None)
    assert calls(row) == [(Operation.READ, Outcome.CONFIRMED)]


def test_only_rows_that_were_asked_for_are_read(bunce: Emulator) -> None:
    make(status=Status.SYNCED, bunce_id=bunce.add_segment("VIP").id)
    assert pull() == 0
    assert bunce.served == 0


def test_drift_is_told_and_sent_back_only_when_somebody_says_so(bunce: Emulator) -> None:
    stored = bunce.add_segment("Renamed in the dashboard")
    row = asked(bunce_id=stored.id)
    pull()
    row = fresh(row)
    assert (row.status, row.last_code, row.name) == (Status.SYNCED, "drift", "VIP")
    assert row.bunce_name == "Renamed in the dashboard"
    assert not push(row.pk)
    assert bunce.segments[0].name == "Renamed in the dashboard"


def test_drift_that_is_gone_is_no_longer_told(bunce: Emulator) -> None:
    row = asked(bunce, last_code="drift")
    pull()
    assert fresh(row).last_code == ""


def test_a_segment_that_is_gone_needs_attention(bunce: Emulator) -> None:
    record_calls(10, operation=Operation.READ)  # another segment was read before
    row = asked(bunce_id="7c9e6679-7425-40de-944b-e07fc1f90ae7")
    pull()
    row = fresh(row)
    assert (row.status, row.last_code) == (Status.REJECTED, "not_found")
    assert row.refresh_requested_at is None
    assert calls(row) == [(Operation.READ, Outcome.REJECTED)]


def test_a_segment_that_is_there_again_is_synced_again(bunce: Emulator) -> None:
    row = asked(bunce, status=Status.REJECTED, last_code="not_found", last_error="Gone")
    pull()
    row = fresh(row)
    assert (row.status, row.last_code, row.last_error) == (Status.SYNCED, "", "")


def test_a_row_that_waits_to_be_sent_goes_on_waiting(bunce: Emulator) -> None:
    row = asked(bunce, status=Status.PENDING, last_code="read_timeout", attempts=3)
    pull()
    row = fresh(row)
    assert (row.status, row.attempts, row.last_code) == (Status.PENDING, 3, "read_timeout")
    assert (row.bunce_name, row.refresh_requested_at) == ("VIP", None)


def test_a_row_that_is_not_in_bunce_has_nothing_to_be_read(bunce: Emulator) -> None:
    row = asked(status=Status.PENDING)
    assert pull() == 0
    assert (fresh(row).refresh_requested_at, bunce.served) == (None, 0)


def test_a_row_linked_to_another_segment_meanwhile_is_left_alone(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = asked(bunce)

    def read_and_relink(*args: Any, **kwargs: Any) -> Any:
        answer = read(*args, **kwargs)
        Segment.objects.filter(pk=row.pk).update_sync_fields(bunce_id="another")
        return answer

    monkeypatch.setattr(pull_module, "read", read_and_relink)
    pull()
    assert (fresh(row).bunce_id, fresh(row).bunce_name) == ("another", "")
    assert fresh(row).refresh_requested_at is not None


def test_a_row_deleted_meanwhile_is_no_error(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = asked(bunce)

    def read_and_delete(*args: Any, **kwargs: Any) -> Any:
        answer = read(*args, **kwargs)
        Segment.objects.filter(pk=row.pk).delete()
        return answer

    monkeypatch.setattr(pull_module, "read", read_and_delete)
    assert pull() == 0


# What goes wrong


@pytest.mark.parametrize("fault", ["reset_before", "lost_answer", "hold_before"])
def test_without_an_answer_the_row_stays_asked_for(
    bunce: Emulator, settings: Settings, fault: str
) -> None:
    configure(settings, READ_TIMEOUT=0.2)
    row = asked(bunce)
    bunce.set_faults(Faults.from_mapping({fault: 1.0, "methods": ["GET"]}))
    assert pull() == 0
    assert (fresh(row).status, fresh(row).last_code) == (Status.SYNCED, "")
    assert fresh(row).refresh_requested_at is not None
    bunce.set_faults(None)
    assert pull() == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [("error_after", "server_error"), ("html_502", "server_error"), ("redirect", "redirect")],
)
def test_an_answer_that_is_an_error_is_told_and_not_asked_for_for_ever(
    bunce: Emulator, fault: str, code: str
) -> None:
    row = asked(bunce)
    bunce.set_faults(Faults.from_mapping({fault: 1.0, "methods": ["GET"]}))
    pull()
    row = fresh(row)
    assert (row.status, row.last_code, row.refresh_requested_at) == (Status.SYNCED, code, None)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("limit_429", Reason.RATE_LIMITED), ("unauthorized", Reason.KEY_REFUSED)],
)
def test_a_refusal_that_is_not_about_the_segment_closes_the_rate_limiter_and_keeps_the_wish(
    bunce: Emulator, fault: str, reason: str
) -> None:
    rows = [asked(bunce, f"Segment {number}") for number in range(3)]
    bunce.set_faults(Faults.from_mapping({fault: 1.0, "methods": ["GET"]}))
    assert pull() == 0
    assert all(fresh(row).refresh_requested_at for row in rows)
    assert (bunce.served, state().blocked_reason) == (1, reason)


def test_with_the_rate_limiter_closed_nothing_is_read(bunce: Emulator) -> None:
    row = asked(bunce)
    set_state(blocked_until=ago(-30), blocked_reason=Reason.RATE_LIMITED)
    assert pull() == 0
    assert (bunce.served, fresh(row).refresh_requested_at is not None) == (0, True)


def test_reads_leave_a_share_of_the_window_to_pushes(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=10)
    record_calls(*[20] * 5, operation=Operation.READ)
    asked(bunce)
    assert pull() == 0
    assert bunce.served == 0


def test_time_that_is_up_hands_the_rest_on(bunce: Emulator) -> None:
    asked(bunce)
    handed: list[bool] = []
    assert run_refresh(seconds=0, on_more_work=lambda: handed.append(True)) == 0
    assert (handed, bunce.served) == ([True], 0)


def test_without_a_key_nothing_is_read(bunce: Emulator, settings: Settings) -> None:
    asked(bunce)
    configure(settings, API_KEY="")
    with pytest.raises(ConfigurationError):
        pull()
    assert bunce.served == 0


def test_where_connecting_outlasts_the_permit_the_connection_is_used_at_the_second_try(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = asked(bunce)
    monkeypatch.setattr(rate_limiter, "PERMIT_SECONDS", -1.0)
    fetched = read_module._fetched

    def fetch_and_mend(*args: Any) -> Any:
        answer = fetched(*args)
        monkeypatch.setattr(rate_limiter, "PERMIT_SECONDS", 5.0)
        return answer

    monkeypatch.setattr(read_module, "_fetched", fetch_and_mend)
    assert pull() == 1
    assert calls(row) == [(Operation.READ, Outcome.NOT_SENT), (Operation.READ, Outcome.CONFIRMED)]
    assert bunce.served == 1

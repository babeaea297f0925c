"""`manage.py bunce_sweep`: all work in one process, and its output."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from pytest_django import Settings

from bunce_sync.functions import DatabaseNow
from bunce_sync.management.commands import bunce_sweep
from bunce_sync.models import OperationState, Segment
from bunce_sync.sync import rate_limiter, shared_state
from bunce_sync.sync.sweep import RunResult
from bunce_sync.sync.sweep import run_once as really_run_once
from bunce_sync.testing.emulator import Emulator
from tests.unit.core import make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(settings: Settings, bunce: Emulator) -> None:
    """Use the local Bunce, and a broker without workers."""
    settings.BUNCE_SYNC = {**settings.BUNCE_SYNC, "SWEEP_INTERVAL": 0.1}


def sweep(*arguments: Any, fails: str = "", **options: Any) -> str:
    """Run the command and return its output.

    Args:
        fails: what it says when it exits with 1; empty if it exits with 0.
    """
    output = StringIO()
    try:
        call_command("bunce_sweep", *arguments, stdout=output, stderr=output, **options)
    except CommandError as error:
        if not fails:
            raise
        assert fails in str(error)
        assert error.returncode == 1
    else:
        assert not fails
    return output.getvalue()


def add(*names: str) -> None:
    Segment.objects.bulk_create(Segment(name=name) for name in names)


def test_it_sends_due_segments_and_reports_the_result(bunce: Emulator) -> None:
    add("A", "B")
    output = sweep()
    assert sorted(stored.name for stored in bunce.segments) == ["A", "B"]
    assert "Sent 2 segments.\n" in output
    assert "Segments: 2 synced." in output


def test_it_reports_that_nothing_is_due(bunce: Emulator) -> None:
    assert "Nothing was sent: no segment is waiting." in sweep()
    assert bunce.served == 0


def test_a_closed_rate_limiter_is_given_as_the_reason(bunce: Emulator) -> None:
    bunce.set(key="sk_test_another")
    add("A")
    output = sweep(fails="1 request to Bunce failed")
    assert "Other requests: key refused: 1. The admin shows the reasons." in output
    assert "Sent" not in output
    output = sweep(fails="Requests to Bunce are paused: Bunce refused the API key.")
    assert "Nothing was sent: Bunce refused the API key (Unauthorized" in output
    assert "next retry at" in output
    assert "Segments: 0 synced, 1 waiting." in output
    assert bunce.served == 1


@pytest.mark.parametrize(
    ("operation", "values", "what"),
    [
        ("create", {}, "Creating segments in Bunce is paused"),
        ("update", {"bunce_id": "a1"}, "Updating segments in Bunce is paused"),
        (
            "list",
            {"status": "in_doubt", "last_code": "read_timeout"},
            "Bunce's list of segments cannot be read, so segments being checked with Bunce wait",
        ),
        (
            "read",
            {"status": "synced", "bunce_id": "a1", "refresh_requested_at": DatabaseNow()},
            "Refreshing segments from Bunce is paused",
        ),
    ],
)
def test_a_paused_operation_is_given_as_the_reason_if_a_segment_waits_for_it(
    bunce: Emulator, operation: str, values: dict[str, Any], what: str
) -> None:
    now = shared_state.now()
    OperationState.objects.create(
        operation=operation,
        code="forbidden",
        http_status=403,
        detail="Not allowed",
        since=now,
        blocked_until=now + timedelta(seconds=45),
    )
    make("A", **values)
    until = f"{now + timedelta(seconds=45):%H:%M:%S} UTC"
    output = sweep(fails="paused, see above")
    assert f"Nothing was sent: {what} (Not allowed); next retry at {until}." in output
    assert bunce.served == 0


def test_a_paused_operation_is_no_reason_for_segments_that_are_not_due(bunce: Emulator) -> None:
    now = shared_state.now()
    later = now + timedelta(seconds=45)
    OperationState.objects.create(
        operation="create", code="forbidden", since=now, blocked_until=later
    )
    make("A", due_at=later)
    assert "Nothing was sent: no segment is due yet." in sweep()


def test_a_full_window_is_given_as_the_reason(bunce: Emulator, settings: Settings) -> None:
    settings.BUNCE_SYNC = {**settings.BUNCE_SYNC, "RATE_LIMIT": 2}
    add("A", "B", "C")
    sweep("--max-seconds", "3")
    assert "the limit of 2 requests in 60 s is used up" in sweep()
    assert len(bunce.segments) == 2


def test_a_row_in_doubt_is_searched_for_once_its_grace_period_is_over(
    bunce: Emulator, settings: Settings
) -> None:
    settings.BUNCE_SYNC = {**settings.BUNCE_SYNC, "GRACE": 600}
    add("A")
    bunce.script(["lost_answer"])
    assert "1 being checked with Bunce" in sweep(fails="1 request to Bunce failed")
    Segment.objects.update_sync_fields(due_at=DatabaseNow())  # ten minutes later
    output = sweep()
    assert "Read 1 page of Bunce's list" in output
    assert Segment.objects.get().bunce_id == bunce.segments[0].id


def test_a_requested_refresh_is_done(bunce: Emulator) -> None:
    add("A")
    sweep()
    Segment.objects.update_sync_fields(refresh_requested_at=DatabaseNow())
    assert "Refreshed 1 segment." in sweep()


def test_a_refresh_that_fails_is_not_reported_as_idle(bunce: Emulator) -> None:
    add("A")
    sweep()
    Segment.objects.update_sync_fields(refresh_requested_at=DatabaseNow())
    bunce.script(["lost_answer"], method="GET")
    output = sweep(fails="1 request to Bunce failed")
    assert "Other requests: outcome unknown: 1." in output
    assert "Refreshed" not in output


def test_a_refused_connection_sends_nothing(bunce: Emulator, settings: Settings) -> None:
    settings.BUNCE_SYNC = {**settings.BUNCE_SYNC, "BASE_URL": "http://127.0.0.1:9/v1"}
    add("A")
    output = sweep(fails="1 request to Bunce failed. The admin shows the reasons.")
    assert "Other requests: not sent: 1." in output
    assert "Sent" not in output
    assert "1 waiting" in output


def test_a_pause_that_bunce_asks_for_is_no_failure(bunce: Emulator) -> None:
    add("A")
    bunce.script(["limit_429"])
    assert "Other requests: pause requested: 1." in sweep()
    assert "Nothing was sent: Bunce asked for a pause" in sweep()


def test_refused_segments_are_counted_as_needing_attention(bunce: Emulator) -> None:
    bunce.set(unique_names=True)
    bunce.add_segment("A")
    add("A")
    assert "1 need attention" in sweep()


def test_a_loop_runs_until_its_time_is_up(bunce: Emulator) -> None:
    add("A")
    output = sweep("--loop", "--max-seconds", "2.5")
    assert "Sweeping every 0.1 s. Press Ctrl-C to stop." in output
    assert "Sent 1 segment" in output
    assert output.count("Nothing was sent: no segment is waiting.") == 1, (
        "an unchanged report is not repeated"
    )


def test_without_a_key_it_fails_and_says_what_to_do(bunce: Emulator, settings: Settings) -> None:
    settings.BUNCE_SYNC = {**settings.BUNCE_SYNC, "API_KEY": ""}
    add("A")
    for options in ([], ["--loop"]):
        with pytest.raises(CommandError, match=r"Nothing is sent to Bunce: .*key.*manage.py check"):
            sweep(*options)
    assert bunce.served == 0


def test_a_database_without_tables_is_an_error_with_a_hint(bunce: Emulator) -> None:
    call_command("migrate", "bunce_sync", "zero", verbosity=0)
    try:
        sweep(fails="Run `python manage.py migrate`")
    finally:
        call_command("migrate", verbosity=0)


@pytest.mark.parametrize("words", ["database or disk is full", "disk I/O error"])
def test_another_database_error_does_not_ask_for_a_migration(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    def work(**arguments: Any) -> RunResult:
        raise OperationalError(words)

    monkeypatch.setattr(bunce_sweep, "run_once", work)
    sweep(fails=f"The database cannot be used: {words}. Segments keep waiting.")


def test_a_loop_survives_database_errors(bunce: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    add("A")
    broken = iter([True, False])

    def work(**arguments: Any) -> RunResult:
        if next(broken, False):
            with connection.cursor() as cursor:
                cursor.execute("SELECT nothing FROM nowhere")
        return really_run_once(**arguments)

    monkeypatch.setattr(bunce_sweep, "run_once", work)
    output = sweep("--loop", "--max-seconds", "1")
    assert "The database cannot be used" in output
    assert [stored.name for stored in bunce.segments] == ["A"]


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan"])
def test_invalid_seconds_are_refused(value: str) -> None:
    with pytest.raises(CommandError, match="greater than zero"):
        sweep("--max-seconds", value)


def test_with_verbosity_zero_it_is_silent(bunce: Emulator) -> None:
    add("A")
    assert sweep(verbosity=0) == ""
    assert len(bunce.segments) == 1


def test_a_backlog_is_sent_as_the_limit_allows_within_one_run(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limiter, "PERMIT_SECONDS", 0.2)
    settings.BUNCE_SYNC = {**settings.BUNCE_SYNC, "RATE_LIMIT": 20, "RATE_WINDOW": 1.0}
    add(*(f"Segment {n}" for n in range(30)))
    sweep("--max-seconds", "20")
    assert len(bunce.segments) == 30
    assert bunce.worst_window(1.0) <= 20

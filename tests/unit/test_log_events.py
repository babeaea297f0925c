"""The log records of the app: stable event names and fields, and nothing that must stay secret."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import bunce_sync
from bunce_sync.log_events import FIELDS, LogEvent, event
from bunce_sync.testing.emulator import Emulator, Faults

from .core import Reason, ago, drain, let_pauses_pass, make, set_state

ROOT = Path(bunce_sync.__file__).parent
LEVELS = ("debug", "info", "warning", "error", "exception", "critical", "log")


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls of loggers in the app, and where they are."""
    for path in sorted(ROOT.rglob("*.py")):
        if "testing" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=attribute)):
                    if attribute in LEVELS:
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def named_event(call: ast.Call) -> str:
    """Return the event a call of a logger names; empty if it names none."""
    for keyword in call.keywords:
        match keyword:
            case ast.keyword(
                arg="extra",
                value=ast.Call(
                    func=ast.Name(id="event"),
                    args=[ast.Attribute(value=ast.Name(id="LogEvent"), attr=name)],
                ),
            ):
                return name
    return ""


def test_every_record_has_an_event_and_every_event_a_record() -> None:
    found = list(log_calls())
    assert len(found) > 30
    assert [where for where, call in found if not named_event(call)] == []
    assert {named_event(call) for _, call in found} == {one.name for one in LogEvent}


def test_every_event_is_in_the_docs() -> None:
    text = (ROOT.parent / "docs" / "observability.md").read_text()
    assert [one for one in LogEvent if f"`{one}`" not in text] == []
    assert [name for name in FIELDS if f"`{name}`" not in text] == []


def test_fields_do_not_collide_with_those_of_logging() -> None:
    record = logging.makeLogRecord({})
    assert not FIELDS & vars(record).keys()
    assert not {"event", "message", "asctime"} & FIELDS


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="api_key"):
        event(LogEvent.REQUEST, api_key="sk_live_1")


def records(caplog: pytest.LogCaptureFixture, name: LogEvent) -> list[dict[str, object]]:
    """Return the fields of the records of an event."""
    return [
        {key: value for key, value in vars(record).items() if key in FIELDS}
        for record in caplog.records
        if vars(record).get("event") == name
    ]


@pytest.mark.django_db
def test_a_push_says_what_became_of_the_segment(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "bunce_sync")
    row = make("VIP")
    drain()
    [segment] = bunce.segments
    about = {"operation": "create", "segment_id": row.pk}
    assert records(caplog, LogEvent.SEGMENT_SYNCED) == [about | {"bunce_id": segment.id}]
    [result] = records(caplog, LogEvent.RESULT)
    duration = result.pop("duration_ms")
    assert isinstance(duration, int)
    assert result == about | {"outcome": "confirmed", "http_status": 201}
    [request] = records(caplog, LogEvent.REQUEST)
    assert (request["method"], request["path"]) == ("POST", "/segments")


@pytest.mark.django_db
def test_a_refusal_is_a_warning_without_bunces_words(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bunce_sync")
    bunce.set(taken_names=["secret name"])
    row = make("secret name")
    drain()
    [rejected] = records(caplog, LogEvent.SEGMENT_REJECTED)
    assert rejected == {
        "segment_id": row.pk,
        "operation": "create",
        "code": "rejected",
        "http_status": 400,
    }
    [result] = records(caplog, LogEvent.RESULT)
    assert (result["outcome"], result["code"]) == ("rejected", "rejected")
    assert "secret" not in caplog.text


@pytest.mark.django_db
def test_an_unknown_outcome_is_told(bunce: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bunce_sync")
    bunce.script(["lost_answer"])
    row = make()
    drain()
    [doubt] = records(caplog, LogEvent.SEGMENT_IN_DOUBT)
    assert doubt["segment_id"] == row.pk


@pytest.mark.django_db
def test_a_pause_and_its_end_are_told_once(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bunce_sync")
    bunce.set_faults(Faults(retry_seconds=7))
    bunce.script(["limit_429"])
    for number in range(3):
        make(f"Segment {number}")
    drain()
    [paused] = records(caplog, LogEvent.REQUESTS_PAUSED)
    assert paused == {"reason": "rate_limited", "seconds": 7.5}
    let_pauses_pass(10)
    drain()
    assert records(caplog, LogEvent.REQUESTS_RESUMED) == [{}]


@pytest.mark.django_db
def test_a_failure_that_was_no_pause_ends_without_a_record(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bunce_sync")
    set_state(failures=2)
    make()
    drain()
    assert records(caplog, LogEvent.REQUESTS_RESUMED) == []


@pytest.mark.django_db
def test_the_level_of_a_confirmed_request_is_debug(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bunce_sync")
    set_state(blocked_until=ago(1), blocked_reason=Reason.UNREACHABLE)
    make()
    drain()
    assert records(caplog, LogEvent.RESULT) == []

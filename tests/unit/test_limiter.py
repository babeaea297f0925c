"""``limiter.permit()``: the site's own requests to Bunce share the one limit of its address."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import requests
from django.db import OperationalError, connection, transaction
from pytest_django import Settings

from bunce_sync import clocks, limiter
from bunce_sync.choices import Operation, Outcome, Reason
from bunce_sync.client import RequestRecord
from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.limiter import NoPermit
from bunce_sync.log_events import LogEvent
from bunce_sync.models import ApiCall
from bunce_sync.sync.budget import Budget
from bunce_sync.testing.emulator import Emulator

from .core import (
    ago,
    calls,
    configure,
    drain,
    fresh,
    make,
    record_calls,
    seconds_until,
    set_state,
    state,
)

pytestmark = pytest.mark.django_db


def ask_bunce(**options: float) -> requests.Response:
    """Make a request as the site's own code does, with a permit."""
    with limiter.permit(label="/events", **options) as permit:
        response = requests.get(
            f"{conf.base_url}/segments", headers={"X-Authorization": conf.API_KEY}, timeout=5
        )
        permit.report(response)
    return response


def answer(status: int, **headers: str) -> SimpleNamespace:
    return SimpleNamespace(status_code=status, headers=headers)


def test_the_request_counts_and_is_in_the_call_log(bunce: Emulator) -> None:
    assert ask_bunce().status_code == 200
    [call] = ApiCall.objects.all()
    assert (call.operation, call.outcome, call.http_status) == ("site", "confirmed", 200)
    assert (call.path, call.segment_id, call.body) == ("/events", None, None)
    assert call.duration_ms is not None


def test_sync_and_site_share_the_limit(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=4, RATE_WINDOW=60)
    make("A")
    make("B")
    drain()
    for _ in range(2):
        ask_bunce(wait=5)
    assert bunce.served == 4
    assert bunce.limited == 0
    with pytest.raises(NoPermit) as caught:
        ask_bunce()
    assert 50 < caught.value.wait < 65
    assert bunce.served == 4


def test_while_segments_wait_the_site_may_use_half_of_the_limit(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, RATE_LIMIT=10, RATE_WINDOW=60)
    record_calls(*[20] * 5, operation=Operation.SITE)
    row = make()
    with pytest.raises(NoPermit):
        ask_bunce(wait=0.1)
    drain()
    assert fresh(row).status == "synced"
    ask_bunce(wait=2)  # nothing waits any more


def test_it_waits_for_its_slot(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=10, RATE_WINDOW=1)
    record_calls(*[0] * 10, operation=Operation.SITE)
    began = clocks.monotonic()
    ask_bunce(wait=10)
    assert 0.5 < clocks.monotonic() - began < 8


def test_a_429_pauses_the_sync_as_well(bunce: Emulator) -> None:
    with limiter.permit() as permit:
        permit.report(answer(429, **{"Retry-After": "30"}))
    assert state().blocked_reason == Reason.RATE_LIMITED
    row = make()
    drain()
    assert fresh(row).status == "pending"
    with pytest.raises(NoPermit) as caught, limiter.permit(wait=1):
        pass
    assert caught.value.reason == Reason.RATE_LIMITED
    assert 25 < caught.value.wait < 31


@pytest.mark.parametrize(
    ("response", "outcome", "code"),
    [
        (answer(204), Outcome.CONFIRMED, ""),
        (answer(401), Outcome.REJECTED, "rejected"),
        (answer(404), Outcome.REJECTED, "rejected"),
        (answer(302), Outcome.UNKNOWN, "unexpected_status"),
        (answer(503, **{"Retry-After": "9"}), Outcome.UNKNOWN, "server_error"),
        (SimpleNamespace(status_code=None, headers=None), Outcome.UNKNOWN, "unexpected_status"),
        (SimpleNamespace(), Outcome.UNKNOWN, "unexpected_status"),
    ],
)
def test_other_responses_concern_no_request_of_the_sync(
    response: SimpleNamespace, outcome: str, code: str, bunce: Emulator
) -> None:
    with limiter.permit() as permit:
        permit.report(response)
    assert calls() == [("site", outcome)]
    assert ApiCall.objects.get().code == code
    assert not state().blocked_reason
    assert not state().failures


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "7"},
        {"RETRY-AFTER": 7},
        {"Retry-After": b"7", "retry-after": "7"},
    ],
)
def test_the_pause_is_found_in_headers_of_any_case_and_type(
    headers: dict[str, object], bunce: Emulator
) -> None:
    with limiter.permit() as permit:
        permit.report(SimpleNamespace(status_code="429", headers=headers))
        permit.report(answer(200))  # of a repetition, which the block should not make
    assert state().blocked_reason == Reason.RATE_LIMITED
    assert 5 < seconds_until(state().blocked_until) < 8


@pytest.mark.parametrize("headers", [None, [], {"Retry-After": None}, {"Retry-After": "7, 7"}])
def test_a_429_without_a_readable_time_pauses_for_a_window(
    headers: object, bunce: Emulator
) -> None:
    with limiter.permit() as permit:
        permit.report(SimpleNamespace(status_code=429, headers=headers))
    assert 50 < seconds_until(state().blocked_until) < 61


def test_the_response_of_an_exception_is_reported(bunce: Emulator) -> None:
    response = requests.Response()
    response.status_code = 429
    response.headers["Retry-After"] = "7"
    with pytest.raises(requests.HTTPError), limiter.permit():
        response.raise_for_status()
    assert state().blocked_reason == Reason.RATE_LIMITED
    assert ApiCall.objects.get().http_status == 429


@pytest.mark.parametrize("reason", [Reason.UNREACHABLE, Reason.KEY_REFUSED])
def test_no_request_of_the_site_ends_a_pause(reason: Reason, bunce: Emulator) -> None:
    """It may have gone to another address, or with another key."""
    set_state(blocked_until=ago(1), blocked_reason=reason, failures=5)
    with limiter.permit():
        pass
    assert ApiCall.objects.get().code == "not_reported"
    assert state().blocked_reason == reason
    assert state().probe_until is None  # another request may probe at once
    with limiter.permit() as permit:
        permit.report(answer(200))
    assert state().blocked_reason == reason
    assert state().probe_until is None


@pytest.mark.django_db(transaction=True)
def test_a_failure_to_record_is_no_error_of_the_request(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The request was made: an exception would make the site send it again."""

    def refuse(*_args: object) -> None:
        raise OperationalError("the server closed the connection")

    with limiter.permit() as permit:
        permit.report(answer(200))
        connection.execute_wrappers.append(refuse)
    connection.execute_wrappers.remove(refuse)
    [record] = [one for one in caplog.records if one.levelname == "ERROR"]
    assert vars(record)["event"] == LogEvent.INTERNAL_ERROR
    assert calls() == [("site", Outcome.UNDER_WAY)]


def test_an_interrupted_wait_gives_the_permit_back(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_state(blocked_until=ago(1), blocked_reason=Reason.UNREACHABLE)

    def interrupt(budget: Budget, seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Budget, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt), limiter.permit(wait=5):
        pass
    assert calls() == [("site", Outcome.NOT_SENT)]
    assert state().probe_until is None


def test_a_permit_that_expired_while_it_was_taken_is_not_handed_out(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = iter([True, False])
    monkeypatch.setattr(RequestRecord, "too_late", property(lambda record: next(expired)))
    with limiter.permit(wait=5) as permit:
        permit.report(answer(200))
    assert calls() == [("site", Outcome.NOT_SENT), ("site", Outcome.CONFIRMED)]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("a\nb\r\nFAKE", "a b FAKE"),
        ("x" * 5000, "x" * 299 + "…"),
        ("a lone \ud800 and NUL \0", None),
        (None, "None"),
        ("sk_live_12345", "[key]"),
    ],
)
def test_any_label_is_stored_on_one_line(
    label: str, shown: str | None, bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "bunce_sync")
    with limiter.permit(label=label) as permit:
        permit.report(answer(200))
    path = ApiCall.objects.get().path
    assert shown in (None, path)
    assert path.isprintable()
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert "12345" not in caplog.text


def test_what_is_raised_says_how_long_to_wait(bunce: Emulator) -> None:
    set_state(blocked_until=ago(-30), blocked_reason=Reason.UNREACHABLE)
    with pytest.raises(NoPermit, match=r"for the next (29|30)\.\d s \(unreachable\)"):
        ask_bunce()


def test_an_exception_of_the_block_is_recorded_and_passed_on(bunce: Emulator) -> None:
    with pytest.raises(ZeroDivisionError), limiter.permit():
        1 / 0  # noqa: B018
    call = ApiCall.objects.get()
    assert (call.outcome, call.code, call.message) == (
        Outcome.UNKNOWN,
        "not_reported",
        "ZeroDivisionError",
    )


def test_without_a_key_there_is_no_permit(settings: Settings) -> None:
    configure(settings, API_KEY="")
    with pytest.raises(ConfigurationError), limiter.permit():
        pass


@pytest.mark.django_db(transaction=True)
def test_it_is_refused_inside_a_transaction(bunce: Emulator) -> None:
    with pytest.raises(RuntimeError), transaction.atomic(), limiter.permit():
        pass
    assert not ApiCall.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_pause_that_begins_while_it_waits_is_kept(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=100, RATE_WINDOW=60)
    record_calls(-0.8, operation=Operation.SITE)
    paused = threading.Timer(
        0.2, lambda: set_state(blocked_until=ago(-30), blocked_reason=Reason.RATE_LIMITED)
    )
    paused.start()
    try:
        with pytest.raises(NoPermit), limiter.permit(wait=2):
            pass
    finally:
        paused.join()
    assert calls()[1:] == [("site", Outcome.NOT_SENT)]

"""Hosts whose clocks differ from the database's: how they are found, stored and forgotten."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bunce_sync import clocks
from bunce_sync.status.status import get_status
from bunce_sync.sync import host_clocks
from bunce_sync.sync.host_clocks import REMEMBERED, Comparison, HostClock, Sender
from bunce_sync.sync.sweep import run_once, sweep

from .core import ago, now, set_state, state

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("bunce")]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_clocks, "host_name", lambda: "here")


def turn(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set this host's clock ahead."""
    wall = clocks._CLOCKS[1]
    monkeypatch.setattr(clocks, "wall", lambda: wall() + seconds)


def stored() -> dict[str, float]:
    """Return by how many seconds each stored host is ahead."""
    return {host: entry["ahead"] for host, entry in (state().clocks or {}).items()}


def shown() -> dict[str, float]:
    """Return by how many seconds each host is ahead that the status shows."""
    return {one.host: one.ahead for one in get_status().clocks}


@pytest.mark.parametrize(
    ("before", "after", "ahead"),
    [(0.0, 0.1, 0.0), (-5.0, 60.0, 0.0), (8.0, 60.0, 8.0), (-60.0, -8.0, -8.0)],
)
def test_a_slow_query_makes_no_clock_look_wrong(
    before: float, after: float, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = now()
    readings = iter([moment.timestamp() + before, moment.timestamp() + after])
    monkeypatch.setattr(clocks, "wall", lambda: next(readings))
    with Comparison() as comparison:
        pass
    assert comparison.ahead(moment) == pytest.approx(ahead)


@pytest.mark.parametrize("seconds", [240.0, -240.0])
@pytest.mark.parametrize("work", [sweep, lambda: run_once(seconds=1)])
def test_a_sweep_stores_that_the_clock_of_its_host_is_wrong_and_that_it_is_right_again(
    seconds: float, work: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(work)
    with monkeypatch.context() as wrong:
        turn(wrong, seconds)
        work()
    assert stored() == {"here": pytest.approx(seconds, abs=1)}
    work()
    assert state().clocks is None


def test_a_clock_that_is_right_costs_nothing() -> None:
    sweep()
    with CaptureQueriesContext(connection) as queries:
        sweep()
    assert not any("clocks" in query["sql"] for query in queries if "UPDATE" in query["sql"])


def report(sender: Sender | None = None, *, ahead: float = 0.0) -> None:
    host_clocks.report(state(), now(), ahead=ahead, sender=sender)


def test_a_message_from_the_future_proves_that_its_sender_is_ahead() -> None:
    report(Sender("beat", clocks.wall() + 100))
    assert stored() == {"beat": pytest.approx(100, abs=1)}
    report(Sender("beat", clocks.wall()))
    assert stored() == {}


def test_an_old_message_proves_nothing() -> None:
    report(Sender("beat", clocks.wall() - 3600))
    assert stored() == {}


@pytest.mark.parametrize("measured", [-100.0, 100.0])
def test_what_a_host_has_measured_itself_outranks_an_old_message(measured: float) -> None:
    entry = {"ahead": measured, "seen_at": now().isoformat(), "by_itself": True}
    set_state(clocks={"other": entry})
    report(Sender("other", clocks.wall() - 200))
    assert stored() == {"other": measured}


def test_hosts_do_not_overwrite_each_other() -> None:
    report(Sender("beat", clocks.wall() + 100))
    report(ahead=50.0)
    assert [*stored()] == ["beat", "here"]


def test_a_host_that_was_not_heard_of_for_long_is_forgotten() -> None:
    late = REMEMBERED + timedelta(seconds=1)
    entry = {"ahead": 60.0, "seen_at": (now() - late).isoformat(), "by_itself": True}
    set_state(clocks={"gone": entry, "there": {**entry, "seen_at": ago(60).isoformat()}})
    assert shown() == {"there": 60.0}
    sweep()
    assert stored() == {"there": 60.0}


def test_the_status_compares_the_clock_of_its_own_host(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"ahead": 60.0, "seen_at": ago(60).isoformat(), "by_itself": True}
    set_state(clocks={"here": entry})
    assert get_status().clocks == (), "it has been corrected since"
    turn(monkeypatch, -30)
    assert shown() == {"here": pytest.approx(-30, abs=1)}


def test_the_status_shows_the_hosts_by_name() -> None:
    entry = {"ahead": -60.0, "seen_at": ago(60).isoformat(), "by_itself": True}
    set_state(clocks={"b": entry, "a": entry})
    assert [one.host for one in get_status().clocks] == ["a", "b"]
    assert isinstance(get_status().clocks[0], HostClock)

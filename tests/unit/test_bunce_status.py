"""`manage.py bunce_status`: the admin's panel in text and for machines."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.management.commands import bunce_status
from bunce_sync.models import Segment
from bunce_sync.status.status import SyncStatus, get_status
from bunce_sync.sync import sweep
from bunce_sync.testing.emulator import Emulator
from tests.unit.api_client import client_for, get
from tests.unit.commands import Ran, run
from tests.unit.core import Status, ago, configure, drain, make, set_state

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(bunce: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the local Bunce, and refresh often."""
    monkeypatch.setattr(bunce_status, "INTERVAL", 0.05)


def watch(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object], **options: Any) -> Ran:
    """Run the command with --watch, do a step after each look, then press Ctrl-C."""
    left = [*steps]

    def look_and_step() -> SyncStatus:
        status = get_status()
        if left:
            left.pop(0)()
        else:
            signal.raise_signal(signal.SIGINT)
        return status

    monkeypatch.setattr(bunce_status, "get_status", look_and_step)
    return run("bunce_status", "--watch", **options)


def test_it_shows_how_the_sync_stands(bunce: Emulator) -> None:
    bunce.set(taken_names=["B"])
    make("A")
    make("B")
    sweep.sweep()
    drain()
    make("C")
    services.request_import(by="ada")
    ran = run("bunce_status")
    assert ran.code == 0
    first, *lines = ran.out.splitlines()
    assert first.startswith("Sync with Bunce, sandbox (127.0.0.1:")
    assert first.endswith(" (UTC)")
    assert "Segments   1 waiting, 1 in need of attention, 1 synced" in lines
    assert "Due now    1 to send, 1 import to run" in lines
    assert "Requests   2 in the last 60 s, limit 500" in lines
    assert "           last hour: 1 accepted, 1 rejected, 0 failed" in lines
    assert any(re.fullmatch(r"Sweep {6}\d+ s ago by a worker", line) for line in lines)
    [imported] = [line for line in lines if line.startswith("Import")]
    assert "open, requested at" in imported
    assert "by ada; 0 pages: no segment yet" in imported
    run("bunce_import")
    assert "; 3 pages: 1 unchanged" in run("bunce_status").out
    assert bunce.served == 2 + 3, "it makes no request itself"


def test_the_exit_code_says_that_a_person_has_to_act(bunce: Emulator) -> None:
    sweep.sweep()
    assert run("bunce_status", verbosity=0).code == 0
    bunce.set(key="sk_test_another")
    make("A")
    drain()
    ran = run("bunce_status")
    assert ran.code == 1
    assert "Bunce refused the API key.\n  Bunce has not accepted" in ran.out
    assert "\n  → Set a valid key" in ran.out


def test_a_missing_worker_is_told(bunce: Emulator) -> None:
    ran = run("bunce_status")
    assert ran.code == 1
    assert "No worker has run yet." in ran.out
    assert "Sweep      none yet" in ran.out


def test_it_works_with_unusable_settings(settings: Settings) -> None:
    configure(settings, RATE_LIMIT="many")
    ran = run("bunce_status")
    assert ran.code == 1
    assert "BUNCE_SYNC['RATE_LIMIT'] must be a whole number" in ran.out


def test_for_machines_it_has_the_shape_of_the_rest_api(bunce: Emulator) -> None:
    make("A")
    sweep.sweep()
    drain()
    services.pause(reason="moving house", by="ada")
    services.request_import()
    make(status=Status.SYNCED, environment="https://api.bunce.so:443 live")
    printed = run("bunce_status", "--json").json
    client = client_for(User.objects.create_superuser("ada", password="x"))
    answered = get(client, "status/").json()

    def shape(value: object) -> object:
        if isinstance(value, dict):
            return {name: shape(each) for name, each in value.items()}
        return [shape(each) for each in value] if isinstance(value, list) else type(value)

    assert {name: shape(printed[name]) for name in ("counts", "due", "usage", "hour")} == {
        name: shape(answered[name]) for name in ("counts", "due", "usage", "hour")
    }
    for name in ("counts", "due", "usage", "rate_limiter", "operations"):
        assert printed[name] == answered[name]
    assert answered.keys() <= printed.keys()
    assert printed["pause"]["reason"] == "moving house"
    assert printed["elsewhere"] == {"https://api.bunce.so:443 live": 1}
    assert printed["now"].endswith("Z")


def test_where_there_is_no_terminal_a_line_is_printed_for_each_change(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.sweep()
    make("A")
    ran = watch(monkeypatch, lambda: None, lambda: drain(), lambda: None)
    assert ran.code == 130
    first, second = ran.out.splitlines()
    assert first.endswith("  1 waiting, 0 synced.")
    assert second.endswith("  1 synced.")


def test_with_json_a_line_is_an_object(bunce: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    make("A")
    ran = watch(monkeypatch, lambda: drain(), lambda: None, json=True)
    values = [json.loads(line)["counts"] for line in ran.out.splitlines()]
    assert [value["synced"] for value in values] == [0, 1, 1]


def test_on_a_terminal_the_status_is_refreshed_in_place(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    make("\x1b[31mA [red]")
    ran = watch(monkeypatch, lambda: drain(), terminal=True)
    assert ran.code == 130
    assert "Segments   1 waiting, 0 synced" in ran.out
    assert "Segments   1 synced" in ran.out
    assert "\x1b[" in ran.out, "the cursor is moved"


def test_a_database_that_is_unavailable_for_a_while_is_told(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.sweep()

    def fail() -> None:
        raise OperationalError("server closed the connection")

    ran = watch(monkeypatch, fail, lambda: None)
    assert ran.out.splitlines() == [
        "The database cannot be used: server closed the connection. Segments keep waiting.",
        ran.out.splitlines()[1],
    ]
    assert ran.out.splitlines()[1].endswith("0 synced.")


def test_the_status_is_that_of_the_panel(bunce: Emulator) -> None:
    Segment.objects.bulk_create(Segment(name=f"Segment {n}") for n in range(1204))
    assert get_status().counts[Status.PENDING] == 1204
    assert "Segments   1,204 waiting, 0 synced" in run("bunce_status").out


def test_a_host_whose_clock_is_wrong_is_named_and_is_no_failure(bunce: Emulator) -> None:
    sweep.sweep()
    entry = {"ahead": -90.0, "seen_at": ago(60).isoformat(), "by_itself": True}
    set_state(clocks={"worker-2": entry})
    ran = run("bunce_status")
    assert "“worker-2” is at least 90 s behind the database's." in ran.out
    assert ran.code == 0

"""Disturbed scans: failed responses, a pause, other processes that start a scan."""

from __future__ import annotations

import gc
import json
import threading
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import Settings

from bunce_sync.client import RemoteSegment
from bunce_sync.sync import list_scan
from bunce_sync.testing.emulator import Emulator, Faults

from .core import (
    Operation,
    Outcome,
    Reason,
    Status,
    ago,
    calls,
    configure,
    doubtful,
    during_the_first_page,
    fill,
    fresh,
    in_threads,
    let_time_pass,
    look_one_page,
    paused,
    run_reconcile,
    set_state,
    state,
)

pytestmark = pytest.mark.django_db

PAGE = 10


@pytest.fixture(autouse=True)
def unlimited(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=None, PAGE_SIZE=PAGE)


def look() -> int:
    return run_reconcile(seconds=30)


# Failures and pauses


@pytest.mark.parametrize(
    "fault", ["cut_json", "error_after", "html_502", "lost_answer", "reset_before", "hold_after"]
)
def test_a_page_that_failed_is_requested_again_later(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch, settings: Settings, fault: str
) -> None:
    configure(settings, READ_TIMEOUT=0.2)
    bunce.set(order="oldest")
    fill(bunce, 2 * PAGE, age=900)
    row = doubtful()
    look_one_page(monkeypatch)
    let_time_pass(40)
    bunce.set_faults(Faults.from_mapping({fault: 1.0, "methods": ["GET"]}))
    assert look() == 0
    assert fresh(row).status == Status.IN_DOUBT
    assert state().scan_lease_until is None
    bunce.set_faults(None)
    assert look() == 3, "it continues instead of restarting"
    assert fresh(row).status == Status.PENDING


@pytest.mark.parametrize("shape", ["no_data", "not_object", "failed", "not_json", "null_data"])
def test_a_response_without_a_list_resolves_nothing(bunce: Emulator, shape: str) -> None:
    row = doubtful()
    bunce.set_faults(Faults.from_mapping({"wrong_shape": 1.0, "shape": shape, "methods": ["GET"]}))
    look()
    assert fresh(row).status == Status.IN_DOUBT
    assert paused() == {Operation.LIST}


def test_a_closed_rate_limiter_stops_the_scan_and_keeps_its_position(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bunce.set(order="oldest")
    fill(bunce, 2 * PAGE, age=900)
    doubtful()
    look_one_page(monkeypatch)
    set_state(blocked_until=ago(-30), blocked_reason=Reason.RATE_LIMITED, scan_lease_until=None)
    assert look() == 0
    assert (bunce.served, (state().scan or {})["position"]["page"]) == (1, 2)


def test_a_429_for_a_page_closes_the_rate_limiter_for_all_requests(bunce: Emulator) -> None:
    bunce.set_faults(
        Faults.from_mapping({"limit_429": 1.0, "methods": ["GET"], "retry_seconds": 30})
    )
    doubtful()
    look()
    assert state().blocked_reason == Reason.RATE_LIMITED
    assert calls() == [
        (Operation.CREATE, Outcome.UNKNOWN),
        (Operation.LIST, Outcome.RATE_LIMITED),
    ]


# One at a time


def test_a_second_process_does_not_scan_at_the_same_time(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bunce, 2 * PAGE, age=900)
    doubtful()
    others: list[int] = []
    during_the_first_page(monkeypatch, lambda: others.append(look()))
    assert look() == 4
    assert others == [0]


def test_a_process_that_lost_the_lease_of_the_scan_decides_and_releases_nothing(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    thief = uuid4()
    for count in (0, 2 * PAGE):
        fill(bunce, count, age=900)
        row = doubtful()
        set_state(scan=None, scan_token=None, scan_lease_until=None)
        with monkeypatch.context() as patch:
            during_the_first_page(patch, lambda: set_state(scan_token=thief))
            look()
        assert fresh(row).status == Status.IN_DOUBT
        assert state().scan_token == thief


@pytest.mark.django_db(transaction=True)
def test_only_one_of_many_processes_scans(bunce: Emulator) -> None:
    fill(bunce, 2 * PAGE, age=900)
    row = doubtful()
    barrier = threading.Barrier(4)

    def work() -> int:
        barrier.wait(10)
        return look()

    assert sorted(in_threads([work] * 4)) == [0, 0, 0, 4]
    assert fresh(row).status == Status.PENDING


# Memory


def segments_in_memory() -> list[RemoteSegment]:
    """Return the segments that are still referenced."""
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is RemoteSegment]


def test_the_memory_in_use_does_not_grow_with_the_list(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bunce.set(order="oldest")
    fill(bunce, 5 * PAGE, age=900)
    doubtful()
    use_page = list_scan.Walk.use_page
    others = {id(one): one for one in segments_in_memory()}  # kept so that ids are not reused
    held: list[int] = []
    kept: list[int] = []

    def count_and_use(*args: Any, **kwargs: Any) -> Any:
        held.append(sum(id(one) not in others for one in segments_in_memory()))
        kept.append(len(json.dumps(state().scan)))
        return use_page(*args, **kwargs)

    monkeypatch.setattr(list_scan.Walk, "use_page", count_and_use)
    assert look() == 7
    assert 0 < max(held) <= 2 * PAGE
    assert max(kept) < 600

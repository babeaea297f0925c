"""The scan of Bunce's list: read to its end, resumable, and run by one process at a time."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from bunce_sync.exceptions import ConfigurationError
from bunce_sync.models import Segment, SyncState
from bunce_sync.sync import list_scan, reconcile
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.circuit_breaker import LONGEST_PAUSE
from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.emulator.options import Layout, Paging
from tests.emulator_client import LIST_STYLES

from .core import (
    Operation,
    Status,
    ago,
    blocked_until,
    configure,
    doubtful,
    during_the_first_page,
    fill,
    fresh,
    let_time_pass,
    look_one_page,
    make,
    paused,
    run_reconcile,
    seconds_until,
    set_state,
    state,
)

pytestmark = pytest.mark.django_db

PAGE = 10


@pytest.fixture(autouse=True)
def unlimited(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=None, PAGE_SIZE=PAGE)


def look(seconds: float = 30) -> int:
    return run_reconcile(seconds=seconds)


def requested_pages(bunce: Emulator) -> list[str]:
    return [request.query.split("&")[0] for request in bunce.requests]


# How far a scan reads


def test_with_nothing_in_doubt_nothing_is_read(bunce: Emulator) -> None:
    make(status=Status.SYNCED)
    assert look() == 0
    assert bunce.served == 0


def test_without_a_key_nothing_is_read(bunce: Emulator, settings: Settings) -> None:
    doubtful()
    configure(settings, API_KEY="")
    with pytest.raises(ConfigurationError):
        look()
    assert (bunce.served, state().scan_token) == (0, None)


@pytest.mark.parametrize(
    ("paging", "layout", "count"),
    [
        (paging, layout, count)
        for paging, layout in LIST_STYLES
        for count in (0, PAGE, 2 * PAGE - 1, 3 * PAGE + 5)
        if (paging, count) != ("clamp", 0)  # see below: the end cannot be found
    ],
)
def test_every_style_of_paging_is_followed_to_its_end(
    bunce: Emulator, paging: Paging, layout: Layout, count: int
) -> None:
    bunce.set(paging=paging, layout=layout, order="oldest")
    fill(bunce, count, age=900)
    found, absent = doubtful("Found"), doubtful("Absent")
    stored = bunce.add_segment("Found")  # the newest, so on the last page
    look()
    assert fresh(found).bunce_id == stored.id
    assert fresh(absent).status == Status.PENDING


@pytest.mark.parametrize(
    ("paging", "layout"), [(paging, layout) for paging, layout in LIST_STYLES if paging != "clamp"]
)
def test_a_list_that_fills_its_only_page_is_read_to_its_end(
    bunce: Emulator, paging: Paging, layout: Layout
) -> None:
    bunce.set(paging=paging, layout=layout)
    fill(bunce, PAGE)
    row = doubtful()
    look()
    assert fresh(row).status == Status.PENDING


@pytest.mark.parametrize("paging", ["clamp", "ignore_page"])
def test_a_second_page_that_repeats_the_first_resolves_nothing(
    bunce: Emulator, paging: Paging
) -> None:
    bunce.set(paging=paging)
    fill(bunce, PAGE)
    row = doubtful()
    look()
    assert fresh(row).status == Status.IN_DOUBT


def test_a_list_that_cannot_be_followed_resolves_nothing_and_pauses_scans(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    bunce.set(paging="ignore_page")
    fill(bunce, 3 * PAGE)
    row = doubtful()
    look()
    assert fresh(row).status == Status.IN_DOUBT
    assert "list of segments cannot be used: paging" in caplog.text
    assert (state().scan, state().scan_token) == (None, None)
    assert paused() == {Operation.LIST}
    assert LONGEST_PAUSE - 5 < seconds_until(blocked_until(Operation.LIST)) <= LONGEST_PAUSE
    served = bunce.served
    assert look() == 0
    assert bunce.served == served
    bunce.set(paging="page")
    let_time_pass(LONGEST_PAUSE + 1)
    look()
    assert fresh(row).status == Status.PENDING
    assert paused() == set()


def test_a_scan_ends_as_soon_as_every_row_has_its_match(bunce: Emulator) -> None:
    bunce.set(order="oldest")
    bunce.add_segment("VIP", created_at=ago(1000))
    fill(bunce, 5 * PAGE)
    row = doubtful()
    assert look() == 1
    assert fresh(row).status == Status.SYNCED
    assert state().scan is None


def test_a_scan_does_not_stop_at_segments_older_than_the_attempt(bunce: Emulator) -> None:
    """A list ordered by changes has an edited old segment before newer ones."""
    fill(bunce, PAGE + 1)
    fill(bunce, 2 * PAGE, age=30 * 86400)
    row = doubtful(sent=300)
    assert look() == 4 + 2
    assert fresh(row).status == Status.PENDING


@pytest.mark.parametrize("order", ["newest", "oldest", "random"])
def test_a_list_in_any_order_is_read_to_its_end(bunce: Emulator, order: Any) -> None:
    bunce.set(order=order)
    fill(bunce, 3 * PAGE, age=30 * 86400)
    doubtful()
    assert look() == 5, "two empty pages prove the end"


# The end has to be proven


def test_a_server_that_always_returns_ten_rows_is_read_to_its_end(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, PAGE_SIZE=100)
    bunce.set(page_cap=10, order="oldest")
    fill(bunce, 87, age=900)
    rows = [doubtful(f"Lost {number}") for number in range(3)]
    stored = {bunce.add_segment(f"Lost {number}").id for number in range(3)}
    look()
    assert {fresh(row).bunce_id for row in rows} == stored


@pytest.mark.parametrize("empty_page", [None, 1, 2, 4])
def test_a_server_that_filters_after_paging_is_read_to_its_end(
    bunce: Emulator, settings: Settings, empty_page: int | None
) -> None:
    configure(settings, PAGE_SIZE=20)
    bunce.set(hide_every=7, empty_page=empty_page, order="oldest")
    fill(bunce, 87, age=900)
    found, absent = doubtful("Found"), doubtful("Absent")
    stored = bunce.add_segment("Found")
    look()
    assert fresh(found).bunce_id == stored.id
    assert fresh(absent).status == Status.PENDING


def test_a_page_size_that_is_refused_is_halved_and_remembered(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, PAGE_SIZE=100)
    bunce.set(max_per_page=30, order="oldest")
    fill(bunce, 60, age=900)
    first = doubtful("First")
    look()
    assert fresh(first).status == Status.PENDING
    assert [request.status for request in bunce.requests][:3] == [422, 422, 200]
    assert (state().list_page or {})["size"] == 25
    assert paused() == set()
    served = bunce.served
    second = doubtful("Second")
    look()
    assert fresh(second).status == Status.PENDING
    assert bunce.requests[served].query.endswith("per_page=25")


def test_a_list_that_refuses_every_page_size_is_shown_and_no_size_is_remembered(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, PAGE_SIZE=35)
    bunce.script(["bad_request"] * 10, method="GET")
    row = doubtful()
    assert look() == 0
    assert fresh(row).status == Status.IN_DOUBT
    asked = [request.query.rpartition("=")[2] for request in bunce.requests]
    assert asked == ["35", "17", "10"], "smaller pages could be empty by chance"
    assert (state().list_page, paused()) == (None, {Operation.LIST})


def test_a_refusal_after_the_first_page_does_not_halve_the_page_size(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, PAGE_SIZE=20)
    fill(bunce, 60)
    bunce.script([None, "bad_request"], method="GET")
    doubtful()
    look()
    assert (bunce.served, state().list_page, paused()) == (2, None, {Operation.LIST})


def test_the_page_size_of_one_account_is_not_used_for_another(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, PAGE_SIZE=100)
    SyncState.objects.create(environment="https://elsewhere:443 live", list_page={"size": 25})
    doubtful()
    look()
    assert bunce.requests[0].query.endswith("per_page=100")


@pytest.mark.parametrize("size", [PAGE - 3, 2 * PAGE])
def test_a_scan_restarts_when_the_page_size_changes(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch, settings: Settings, size: int
) -> None:
    bunce.set(order="oldest")
    fill(bunce, 2 * PAGE, age=900)
    found = doubtful("Found")
    stored = bunce.add_segment("Found", created_at=ago(800))
    fill(bunce, 2 * PAGE, age=100)
    look_one_page(monkeypatch)
    let_time_pass(40)
    configure(settings, PAGE_SIZE=size)
    look()
    assert fresh(found).bunce_id == stored.id
    assert requested_pages(bunce)[:2] == ["page=1", "page=1"]


def test_a_scan_of_one_environment_does_not_continue_in_another(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    fill(bunce, 2 * PAGE, age=900)
    doubtful(environment="")  # else it would belong to the first one
    look_one_page(monkeypatch)
    let_time_pass(40)
    configure(settings, BASE_URL=bunce.base_url.replace("127.0.0.1", "localhost"))
    look()
    assert requested_pages(bunce)[:2] == ["page=1", "page=1"]


# Scans in several runs


def test_a_scan_continues_where_the_last_process_was_killed(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bunce.set(order="oldest")
    fill(bunce, 3 * PAGE, age=900)
    row = doubtful()
    look_one_page(monkeypatch)
    assert look() == 0, "the lease of the killed process has not expired"
    let_time_pass(40)
    look_one_page(monkeypatch)
    let_time_pass(40)
    look()
    assert requested_pages(bunce) == ["page=1", "page=2", "page=3", "page=4", "page=5"]
    assert fresh(row).status == Status.PENDING


@pytest.mark.parametrize(("paging", "layout"), LIST_STYLES)
def test_the_stored_position_suffices_for_every_style_of_paging(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch, paging: Paging, layout: Layout
) -> None:
    bunce.set(order="oldest", paging=paging, layout=layout)
    fill(bunce, 2 * PAGE, age=900)
    found, absent = doubtful("Found"), doubtful("Absent")
    stored = bunce.add_segment("Found")
    look_one_page(monkeypatch)
    let_time_pass(40)
    look()
    assert (fresh(found).bunce_id, fresh(absent).status) == (stored.id, Status.PENDING)


def test_the_order_seen_before_an_interruption_is_remembered(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bunce.set(order="oldest")
    fill(bunce, 3 * PAGE, age=30 * 86400)
    doubtful()
    look_one_page(monkeypatch)
    assert (state().scan or {})["order"] == "rising"
    let_time_pass(40)
    look()
    assert bunce.served == 5


def test_a_used_up_budget_leaves_the_rest_to_the_next_run(bunce: Emulator) -> None:
    doubtful()
    progress = reconcile.run(Budget(0))
    assert (progress.requests, progress.more, bunce.served) == (0, True, 0)
    assert state().scan_token is None


def test_a_scan_that_ended_leaves_nothing_to_the_next_run(bunce: Emulator) -> None:
    doubtful()
    assert not reconcile.run(Budget(30)).more


def test_rows_that_become_ready_during_a_scan_wait_for_the_next(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bunce.set(order="oldest")
    fill(bunce, 2 * PAGE, age=900)
    first = doubtful("First")
    look_one_page(monkeypatch)
    scanning_since = (state().scan or {})["started_at"]
    second = doubtful("Second")
    Segment.objects.filter(pk=second.pk).update_sync_fields(due_at=ago(0))
    SyncState.objects.update(scan_lease_until=ago(1))
    look()
    assert str(fresh(second).due_at.isoformat()) > scanning_since
    assert (fresh(first).status, fresh(second).status) == (Status.PENDING, Status.IN_DOUBT)
    look()
    assert fresh(second).status == Status.PENDING


def test_a_scan_that_made_no_progress_for_an_hour_restarts(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bunce.set(order="oldest")
    fill(bunce, 2 * PAGE, age=900)
    doubtful()
    look_one_page(monkeypatch)
    kept = state().scan or {}
    set_state(scan={**kept, "kept_at": ago(3700).isoformat()}, scan_lease_until=None)
    look()
    assert requested_pages(bunce) == ["page=1", "page=1", "page=2", "page=3", "page=4"]


def test_a_scan_that_takes_hours_but_advances_is_completed(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bunce.set(order="oldest")
    fill(bunce, 2 * PAGE, age=30_000)
    row = doubtful(sent=20_000)
    Segment.objects.filter(pk=row.pk).update_sync_fields(due_at=ago(10_000))
    look_one_page(monkeypatch)
    kept = state().scan or {}
    set_state(scan={**kept, "started_at": ago(9000).isoformat()}, scan_lease_until=None)
    look()
    assert requested_pages(bunce) == ["page=1", "page=2", "page=3", "page=4"]


@pytest.mark.parametrize("kept", [{}, {"started_at": "soon"}, [], "x", {"position": 7}])
def test_a_scan_stored_by_another_release_restarts(bunce: Emulator, kept: Any) -> None:
    row = doubtful()
    set_state(scan=kept)
    assert look() == 2
    assert fresh(row).status == Status.PENDING


# Changes during a scan


def test_nothing_is_missed_when_the_list_changes_during_a_scan(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bunce, 2 * PAGE, age=60)
    stored = bunce.add_segment("VIP", created_at=ago(3600))  # the last of the list
    row = doubtful()
    during_the_first_page(monkeypatch, lambda: fill(bunce, 7))
    look()
    assert fresh(row).bunce_id == stored.id


def test_progress_that_is_written_while_another_process_asks_for_the_lease_is_continued(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bunce, 30)
    doubtful()
    look_one_page(monkeypatch)
    kept = state().scan
    assert kept is not None

    class Late(reconcile.Reconciliation):
        """Another process writes the progress, and gives the lease back, at the last moment."""

        @property
        def store(self) -> Any:
            rows = super().store
            if not written:
                written.append(1)
                rows.update(
                    scan={**(kept or {}), "kept_at": ago(0).isoformat()}, scan_lease_until=None
                )
            return rows

    written: list[int] = []
    walk = list_scan.Walk(Late())
    walk.begin()
    assert walk.scan is not None
    assert walk.scan.pages == 1

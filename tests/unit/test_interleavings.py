"""Interleavings of equal content, late responses, edits and scans that could create duplicates."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pytest_django import Settings

from bunce_sync import tasks
from bunce_sync.client import Page, Position
from bunce_sync.client.paging import read_page
from bunce_sync.models import Segment
from bunce_sync.sync import clock, rate_limiter
from bunce_sync.sync import reconcile as reconcile_module
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.push import Push, push
from bunce_sync.sync.sweep import free_leases
from bunce_sync.testing.emulator import Emulator

from .core import (
    Operation,
    Status,
    ago,
    configure,
    doubtful,
    due,
    during_the_first_page,
    fresh,
    let_time_pass,
    make,
    record_calls,
    run_reconcile,
    seconds_until,
    set_state,
    state,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def unlimited(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=None, PAGE_SIZE=10)


def before_adoption(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Segment:
    """Create another row, and change it after the list was read, just before an adoption."""
    other = make("Other")
    adopt = reconcile_module._adopt
    pending = [changes]

    def change_and_adopt(*args: Any) -> Any:
        while pending:
            Segment.objects.filter(pk=other.pk).update_sync_fields(**pending.pop())
        return adopt(*args)

    monkeypatch.setattr(reconcile_module, "_adopt", change_and_adopt)
    return other


def test_a_row_whose_nearest_match_was_taken_gets_the_next_one(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = bunce.add_segment("VIP", created_at=ago(300))
    its_own = bunce.add_segment("VIP", created_at=ago(280))
    row = doubtful("VIP", sent=300)
    before_adoption(monkeypatch, status=Status.SYNCED, bunce_id=nearest.id)
    run_reconcile(seconds=5)
    assert (fresh(row).status, fresh(row).bunce_id) == (Status.SYNCED, its_own.id)


def test_a_segment_whose_nearest_row_was_resolved_otherwise_goes_to_the_next_row(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = bunce.add_segment("VIP", created_at=ago(300))
    nearest, other = doubtful("VIP", sent=300), doubtful("VIP", sent=320)
    adopt = reconcile_module._adopt

    def settle_and_adopt(row: Segment, *args: Any) -> Any:
        Segment.objects.filter(pk=nearest.pk).update_sync_fields(
            status=Status.SYNCED, bunce_id="late-answer"
        )
        return adopt(row, *args)

    monkeypatch.setattr(reconcile_module, "_adopt", settle_and_adopt)
    run_reconcile(seconds=5)
    assert fresh(nearest).bunce_id == "late-answer"
    assert (fresh(other).status, fresh(other).bunce_id) == (Status.SYNCED, stored.id)


def test_a_late_response_to_an_update_does_not_confirm_a_later_edit(bunce: Emulator) -> None:
    row = make("First", bunce_id=bunce.add_segment("Before").id)
    attempt = Push(row)
    assert attempt.reserve(Budget(30))
    late = attempt.perform(Budget(30))
    let_time_pass(91)
    free_leases()
    Segment.objects.update(name="Second")
    assert push(row.pk)
    Segment.objects.update(name="First")  # the same as the content of the unrecorded response
    attempt.record(late)
    assert fresh(row).status == Status.PENDING
    assert push(row.pk)
    assert [segment.name for segment in bunce.segments] == ["First"]


def test_all_customers_changed_between_reading_and_claiming_is_sent_as_changed(
    bunce: Emulator,
) -> None:
    row = make("VIP", add_all_customers=False)
    Segment.objects.update(add_all_customers=True)
    assert not Push(row).reserve(Budget(30))
    assert push(row.pk)
    assert bunce.segments[0].all_customers


# Scans


def test_a_list_whose_order_an_update_may_have_changed_is_read_once_more(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(settings, GRACE=60)
    bunce.set(order="random")
    for number in range(25):
        bunce.add_segment(f"Other {number}", created_at=ago(number * 60))
    row = doubtful("VIP")
    with monkeypatch.context() as patch:
        during_the_first_page(patch, lambda: record_calls(0, operation=Operation.UPDATE))
        run_reconcile(seconds=5)
    assert fresh(row).status == Status.IN_DOUBT
    assert state().scan is None
    assert 55 < seconds_until(state().scan_lease_until) <= 60
    let_time_pass(130)
    run_reconcile(seconds=5)
    assert fresh(row).status == Status.PENDING


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_an_update_does_not_disturb_a_list_in_order_of_creation(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    bunce.set(order=order)
    for number in range(25):
        bunce.add_segment(f"Other {number}", created_at=ago(number * 60))
    row = doubtful("VIP")
    during_the_first_page(monkeypatch, lambda: record_calls(0, operation=Operation.UPDATE))
    run_reconcile(seconds=5)
    assert fresh(row).status == Status.PENDING


def test_a_create_that_keeps_failing_causes_scans_at_growing_intervals(
    bunce: Emulator,
) -> None:
    first, tenth = doubtful("First", attempts=1), doubtful("Tenth", attempts=10)
    edited = doubtful("Before", attempts=10)
    Segment.objects.filter(pk=edited.pk).update(name="After")
    run_reconcile(seconds=5)
    assert due(first)
    assert 2**9 / 2 - 1 < seconds_until(fresh(tenth).due_at) <= 2**9
    assert due(edited), "its new content was never tried"


def test_a_row_the_scan_did_not_find_is_sent_without_waiting_for_a_sweep(bunce: Emulator) -> None:
    row = doubtful("VIP")
    tasks.work("reconcile")
    assert fresh(row).bunce_id == bunce.segments[0].id


def test_a_clock_jump_ends_the_scan_which_uses_the_old_time(bunce: Emulator) -> None:
    set_state(scan={"pages": 1}, scan_token="5f0c2f0e-0000-4000-8000-000000000000")
    jumped = clock.ClockJumped(-3600.0, state().clock_epoch)
    clock.recover_from_clock_jump(jumped, window=rate_limiter.counted_window())
    assert (state().scan, state().scan_token) == (None, None)


def test_a_page_that_new_segments_push_down_as_a_whole_is_not_the_end() -> None:
    rows = [f"segment-{number}" for number in range(60)]

    def page(position: Position) -> Page:
        begin = (position.page - 1) * 20
        data = [{"id": one, "name": one} for one in rows[begin : begin + 20]]
        return read_page({"data": data}, position, http_status=200)

    position: Position | None = Position()
    seen = set()
    while position is not None:
        if position.page == 3:
            rows[:0] = [f"new-{number}" for number in range(20)]
        current = page(position)
        seen |= {segment.id for segment in current.segments}
        position = current.next
    assert {f"segment-{number}" for number in range(60)} <= seen


def test_a_list_that_repeats_its_last_page_forever_ends() -> None:
    data = [{"id": f"{number}", "name": "x"} for number in range(20)]
    position = Position(page=7)
    for _ in range(4):
        current = read_page({"data": data}, position, http_status=200)
        if current.next is None:
            break
        position = current.next
    assert current.next is None
    assert position.page <= 9


def test_a_row_in_doubt_is_found_though_its_attempt_was_claimed_long_before_it_was_sent(
    bunce: Emulator,
) -> None:
    stored = bunce.add_segment("VIP", created_at=ago(0) - timedelta(hours=20))
    row = doubtful("VIP", sent=5)
    run_reconcile(seconds=5)
    assert fresh(row).bunce_id == stored.id

"""The limit: never over it, hardly under it, and fair between pushes and reads."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from bunce_sync.sync.window import BURST_SHARE, LONGEST_SPACING, READ_SHARE
from django.db import transaction
from pytest_django import Settings

from bunce_sync.models import ApiCall, Segment
from bunce_sync.sync import push as push_module
from bunce_sync.sync import rate_limiter
from bunce_sync.sync.rate_limiter import LINE_SECONDS, PERMIT_SECONDS, NoPermit, Permit
from bunce_sync.testing.emulator import Emulator

from .core import (
    USING,
    Operation,
    Outcome,
    Reason,
    Status,
    ago,
    configure,
    drain,
    in_threads,
    make,
    now,
    record_calls,
    set_state,
)

pytestmark = pytest.mark.django_db

LIMIT = 100
BURST = int(LIMIT * BURST_SHARE)
READS = int(LIMIT * READ_SHARE)


@pytest.fixture(autouse=True)
def limited(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=LIMIT, RATE_WINDOW=60)


def permit(operation: Operation = Operation.CREATE, *, patience: float = 0.0) -> Permit:
    with transaction.atomic():
        return rate_limiter.take_permit(operation, USING, max_wait=patience)


def wait_for(operation: Operation = Operation.CREATE, *, patience: float = 0.0) -> float:
    """Seconds until the rate limiter would open; the rate limiter has to be closed."""
    with pytest.raises(NoPermit) as closed:
        permit(operation, max_wait=patience)
    return closed.value.wait


def burst(age: float, count: int, **fields: object) -> None:
    """So many requests that began within a second, this long ago."""
    record_calls(*(age + 1 - number / count for number in range(count)), **fields)  # type: ignore[arg-type]  # fields of the model


def test_an_idle_rate_limiter_lets_a_burst_through_at_once() -> None:
    burst(1, BURST - 1)
    assert permit().wait == 0


def test_a_full_window_opens_when_its_first_request_falls_out() -> None:
    span = rate_limiter.window().total_seconds()
    burst(20, LIMIT - 1)
    record_calls(45)
    assert wait_for(max_wait=1) == pytest.approx(span - 45, abs=1)


def test_the_window_is_longer_than_bunces_by_what_a_permit_and_the_way_may_hold_back() -> None:
    assert rate_limiter.window() > timedelta(seconds=60 + PERMIT_SECONDS)
    burst(60, LIMIT)
    assert wait_for() > 0


def test_a_window_that_fell_out_counts_no_more() -> None:
    burst(rate_limiter.window().total_seconds(), LIMIT)
    assert permit().wait == 0


def test_what_was_never_sent_does_not_count_and_what_may_have_been_does() -> None:
    burst(20, LIMIT, outcome=Outcome.NOT_SENT)
    assert permit().wait == 0
    for outcome in (Outcome.UNDER_WAY, Outcome.UNKNOWN, Outcome.ABANDONED, Outcome.RATE_LIMITED):
        ApiCall.objects.all().delete()
        burst(20, LIMIT, outcome=outcome)
        assert wait_for() > 30, outcome


def test_requests_that_wait_for_their_turn_are_counted_too() -> None:
    burst(20, LIMIT - 1)
    record_calls(-0.2)
    assert wait_for(max_wait=1) > 30


def test_after_the_burst_the_rest_is_spread_until_the_window_frees_itself() -> None:
    burst(30, BURST)
    record_calls(0)
    left, frees_in = LIMIT - BURST - 1, rate_limiter.window().total_seconds() - 31
    assert wait_for() == pytest.approx(frees_in / left, abs=0.1)


def test_nobody_waits_long_for_a_turn_while_there_is_room() -> None:
    burst(1, LIMIT - 5)
    record_calls(0)
    assert 0 < wait_for() <= LONGEST_SPACING


def test_who_can_wait_gets_a_turn_that_lies_ahead() -> None:
    record_calls(*[30] * BURST, 0)
    given = permit(max_wait=2)
    assert 0 < given.wait <= LONGEST_SPACING
    assert (given.at - now()).total_seconds() == pytest.approx(given.wait, abs=0.2)


def test_turns_line_up_one_after_the_other_until_the_line_is_long_enough(
    settings: Settings,
) -> None:
    configure(settings, RATE_LIMIT=1000)
    record_calls(*[50] * 800, 0)
    turns: list[datetime] = []

    def line_up() -> None:
        while True:
            given = permit(max_wait=5)
            turns.append(given.at)
            record_calls(-(given.at - now()).total_seconds())

    with pytest.raises(NoPermit) as closed:
        line_up()
    assert closed.value.queue_full
    assert len(turns) > 2
    # 199 are left for the eleven seconds until the window frees itself.
    assert all(timedelta(seconds=0.04) < late - early for early, late in pairwise(turns))
    assert (turns[-1] - now()).total_seconds() < LINE_SECONDS


def test_reads_use_a_share_of_the_window_and_leave_the_rest_to_pushes() -> None:
    burst(20, READS, operation=Operation.LIST)
    span = rate_limiter.window().total_seconds()
    for operation in (Operation.LIST, Operation.READ):
        assert wait_for(operation, max_wait=1) == pytest.approx(span - 21, abs=1)
    assert permit(Operation.CREATE, max_wait=1).wait <= 1


def test_pushes_do_not_keep_reads_out() -> None:
    burst(20, BURST, operation=Operation.CREATE)
    assert permit(Operation.LIST, max_wait=1).wait <= 1


def test_a_limit_of_one_still_lets_a_read_through(settings: Settings) -> None:
    configure(settings, RATE_LIMIT=1)
    assert permit(Operation.LIST).wait == 0
    record_calls(30)
    assert wait_for(Operation.LIST) > 25


def test_after_bunces_pause_the_pace_begins_gently() -> None:
    even = rate_limiter.window().total_seconds() / LIMIT
    record_calls(0)
    assert permit().wait == 0
    set_state(resumed_at=ago(0))
    assert wait_for() == pytest.approx(2 * even, abs=0.2)
    set_state(resumed_at=ago(rate_limiter.window().total_seconds() / 2))
    assert wait_for() == pytest.approx(1.5 * even, abs=0.2)
    set_state(resumed_at=ago(rate_limiter.window().total_seconds()))
    assert permit().wait == 0


def test_without_a_limit_nothing_is_counted(settings: Settings) -> None:
    configure(settings, RATE_LIMIT=None)
    burst(1, 10 * LIMIT)
    assert permit().wait == 0
    assert rate_limiter.permits_expected(USING, within=10) > 0


# What the sweep may expect


def expected(within: float = 10) -> int:
    return rate_limiter.permits_expected(USING, within=within)


def test_an_idle_rate_limiter_promises_the_burst_and_some_of_the_rest() -> None:
    assert BURST <= expected() <= LIMIT


def test_a_full_window_promises_what_falls_out_in_time() -> None:
    span = rate_limiter.window().total_seconds()
    burst(span - 6, 30)
    burst(20, LIMIT - 30)
    assert expected(10) == 30
    assert expected(1) == 0


def test_a_closed_rate_limiter_promises_nothing_and_one_that_is_to_be_probed_a_single_permit() -> (
    None
):
    set_state(blocked_until=ago(-5), blocked_reason=Reason.UNREACHABLE)
    assert expected() == 0
    set_state(blocked_until=ago(1))
    assert expected() == 1
    set_state(probe_until=ago(-5))
    assert expected() == 0


def test_a_limit_that_was_lowered_promises_nothing_rather_than_less(settings: Settings) -> None:
    burst(20, LIMIT)
    configure(settings, RATE_LIMIT=10)
    assert expected() == 0
    assert wait_for() > 30


# With the real thing


@pytest.mark.django_db(transaction=True)
def test_many_workers_together_never_go_over_the_limit(bunce: Emulator, settings: Settings) -> None:
    limit, window = 20, 1.0
    configure(settings, RATE_LIMIT=limit, RATE_WINDOW=window)
    bunce.set(rate_limit=limit, rate_window=window, block_seconds=60)
    for number in range(35):
        make(f"Segment {number}")
    ends = time.monotonic() + 20

    def work() -> None:
        while time.monotonic() < ends and Segment.objects.filter(status=Status.PENDING).exists():
            drain(seconds=5)

    in_threads([work] * 6)
    assert Segment.objects.filter(status=Status.SYNCED).count() == 35
    assert bunce.limited == 0
    assert bunce.worst_window(window) <= limit


def test_a_row_that_rang_lines_up_where_a_worker_that_looks_for_work_goes_home() -> None:
    burst(age=30, count=BURST)
    record_calls(-LINE_SECONDS)
    with pytest.raises(NoPermit) as closed, transaction.atomic():
        rate_limiter.take_permit(Operation.CREATE, USING, max_wait=2)
    assert closed.value.queue_full
    with transaction.atomic():
        assert (
            rate_limiter.take_permit(Operation.CREATE, USING, max_wait=2, must_wait=True).wait > 0
        )


def test_an_edit_of_very_many_rows_does_not_hold_back_new_ones(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, RATE_LIMIT=None)
    held = [bunce.add_segment(f"Before {number}") for number in range(200)]
    for one in held:
        make(f"Edited {one.id}", bunce_id=one.id, due_at=ago(600))
    for number in range(3):
        make(f"New {number}")
    for _ in range(2):
        for row in push_module._due_rows():
            push_module.push(row.pk)
    made = [call.operation for call in ApiCall.objects.all()]
    assert made.count(Operation.CREATE) == 3
    assert made.count(Operation.UPDATE) == len(made) - 3 > 10

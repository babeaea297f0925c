"""The limit and its window, the pauses Bunce requests, and outages.

Requests never exceed the limit, use nearly all of it, and share it fairly between pushes and reads.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from django.db import transaction
from pytest_django import Settings

from bunce_sync import clocks, database
from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.results import LINKED_ELSEWHERE, PERMIT_EXPIRED, Result
from bunce_sync.sync import circuit_breaker, rate_limiter, shared_state
from bunce_sync.sync import push as push_module
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.circuit_breaker import OUTAGE_BASE, OUTAGE_CAP, OUTAGE_THRESHOLD
from bunce_sync.sync.push import Push, push
from bunce_sync.sync.rate_limiter import (
    BURST_SHARE,
    KEY_PAUSE,
    LONGEST_SPACING,
    PAUSE_MARGIN,
    PERMIT_SECONDS,
    QUEUE_SECONDS,
    READ_SHARE,
    NoPermit,
    Permit,
    counted_window,
)
from bunce_sync.testing.emulator import Emulator, Faults

from .core import (
    Operation,
    Outcome,
    Reason,
    Status,
    ago,
    configure,
    drain,
    fresh,
    in_threads,
    let_pauses_pass,
    make,
    now,
    record_calls,
    seconds_until,
    set_state,
    state,
)

pytestmark = pytest.mark.django_db

LIMIT = 100
BURST = int(LIMIT * BURST_SHARE)
READS = int(LIMIT * READ_SHARE)


@pytest.fixture(autouse=True)
def limited(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=LIMIT, RATE_WINDOW=60)


def permit(
    operation: Operation = Operation.CREATE, *, max_wait: float = 0.0, must_wait: bool = False
) -> Permit:
    with database.atomic():
        return rate_limiter.take_permit(operation, max_wait=max_wait, must_wait=must_wait)


def denied(operation: Operation = Operation.CREATE, *, max_wait: float = 0.0) -> NoPermit:
    """Ask for a permit that must be denied; return why and for how long."""
    with pytest.raises(NoPermit) as caught:
        permit(operation, max_wait=max_wait)
    return caught.value


def report(outcome: Outcome, given: Permit | None = None, **result: object) -> None:
    """Report a result as the second transaction of an attempt does."""
    given = given or permit()
    reported = Result(outcome, **result)  # type: ignore[arg-type]  # its fields
    with transaction.atomic():
        rate_limiter.report(given, reported)
        circuit_breaker.report_outage(given, reported, segment_id=None)


def fail(times: int = 1) -> None:
    for _ in range(times):
        report(Outcome.UNKNOWN, code="read_timeout", detail="no response in time")


def let_the_pause_pass() -> None:
    """Move the pause into the past, as if its time had passed."""
    let_pauses_pass(denied().wait)


def burst(age: float, count: int, **fields: object) -> None:
    """Record ``count`` requests that began within one second, ``age`` seconds ago."""
    record_calls(*(age + 1 - number / count for number in range(count)), **fields)  # type: ignore[arg-type]  # fields of the model


# The window


def test_a_burst_starts_at_once_when_the_window_is_empty() -> None:
    burst(1, BURST - 1)
    assert permit().wait == 0


def test_a_full_window_has_a_slot_when_its_first_request_leaves_it() -> None:
    burst(20, LIMIT - 1)
    record_calls(45)
    wait = denied(max_wait=1).wait
    assert wait == pytest.approx(counted_window().total_seconds() - 45, abs=1)


def test_the_counted_window_is_longer_than_bunces_by_the_possible_delays() -> None:
    assert counted_window() > timedelta(seconds=60 + PERMIT_SECONDS)
    record_calls(*[60] * LIMIT)
    assert denied().wait > 0


def test_requests_older_than_the_window_do_not_count() -> None:
    burst(counted_window().total_seconds(), LIMIT)
    assert permit().wait == 0


def test_requests_that_were_never_sent_do_not_count_but_those_that_may_have_been_do() -> None:
    burst(20, LIMIT, outcome=Outcome.NOT_SENT)
    assert permit().wait == 0
    for outcome in (Outcome.UNDER_WAY, Outcome.UNKNOWN, Outcome.ABANDONED, Outcome.RATE_LIMITED):
        ApiCall.objects.all().delete()
        burst(20, LIMIT, outcome=outcome)
        assert denied().wait > 30, outcome


def test_requests_that_wait_for_their_slot_count() -> None:
    burst(20, LIMIT - 1)
    record_calls(-0.2)
    assert denied(max_wait=1).wait > 30


def test_after_the_burst_the_other_slots_are_spread_until_the_window_frees_itself() -> None:
    burst(30, BURST)
    record_calls(0)
    left, frees_in = LIMIT - BURST - 1, counted_window().total_seconds() - 31
    assert denied().wait == pytest.approx(frees_in / left, abs=0.1)


def test_the_next_slot_is_near_while_the_window_has_slots_left() -> None:
    burst(1, LIMIT - 5)
    record_calls(0)
    assert 0 < denied().wait <= LONGEST_SPACING


def test_a_caller_that_can_wait_gets_a_slot_that_lies_ahead() -> None:
    record_calls(*[30] * BURST, 0)
    given = permit(max_wait=2)
    assert 0 < given.wait <= LONGEST_SPACING
    assert (given.slot - now()).total_seconds() == pytest.approx(given.wait, abs=0.2)


def test_slots_follow_one_another_until_the_queue_is_full(settings: Settings) -> None:
    configure(settings, RATE_LIMIT=1000)
    record_calls(*[50] * 800, 0)
    slots: list[datetime] = []

    def queue_up() -> None:
        while True:
            given = permit(max_wait=5)
            slots.append(given.slot)
            record_calls(-(given.slot - now()).total_seconds())

    with pytest.raises(NoPermit) as caught:
        queue_up()
    assert caught.value.queue_full
    assert len(slots) > 2
    # 199 are left for the eleven seconds until the window frees itself.
    assert all(timedelta(seconds=0.04) < late - early for early, late in pairwise(slots))
    assert (slots[-1] - now()).total_seconds() < QUEUE_SECONDS


def test_a_caller_that_must_wait_gets_a_slot_though_the_queue_is_full() -> None:
    burst(age=30, count=BURST)
    record_calls(-QUEUE_SECONDS)
    assert denied(max_wait=2).queue_full
    assert permit(max_wait=2, must_wait=True).wait > 0


def test_reads_use_their_share_of_the_window_and_leave_the_rest_to_pushes() -> None:
    burst(20, READS, operation=Operation.LIST)
    for operation in (Operation.LIST, Operation.READ):
        wait = denied(operation, max_wait=1).wait
        assert wait == pytest.approx(counted_window().total_seconds() - 21, abs=1)
    assert permit(Operation.CREATE, max_wait=1).wait <= 1


def test_pushes_do_not_crowd_out_reads() -> None:
    burst(20, BURST, operation=Operation.CREATE)
    assert permit(Operation.LIST, max_wait=1).wait <= 1


def test_a_limit_of_one_still_permits_a_read(settings: Settings) -> None:
    configure(settings, RATE_LIMIT=1)
    assert permit(Operation.LIST).wait == 0
    record_calls(30)
    assert denied(Operation.LIST).wait > 25


def test_after_a_pause_bunce_requested_the_pace_starts_at_half_and_grows() -> None:
    window = counted_window().total_seconds()
    record_calls(0)
    assert permit().wait == 0
    for passed, spacing in ((0, 2), (window / 2, 1.5)):
        set_state(resumed_at=ago(passed))
        record_calls(0)
        assert denied().wait == pytest.approx(spacing * window / LIMIT, abs=0.2)
    set_state(resumed_at=ago(window))
    assert permit().wait == 0


def test_without_a_limit_requests_are_not_counted(settings: Settings) -> None:
    configure(settings, RATE_LIMIT=None)
    burst(1, 10 * LIMIT)
    assert permit().wait == 0
    assert expected() > 0


# The permits a sweep can expect


def expected(within: float = 10) -> int:
    return rate_limiter.permits_expected(within=within)


def test_with_an_empty_window_the_burst_and_some_more_permits_are_expected() -> None:
    assert BURST <= expected() <= LIMIT


def test_with_a_full_window_as_many_permits_are_expected_as_requests_leave_it() -> None:
    burst(counted_window().total_seconds() - 6, 30)
    burst(20, LIMIT - 30)
    assert expected(10) == 30
    assert expected(1) == 0


def test_during_a_pause_no_permit_is_expected_and_after_it_one_for_the_probe() -> None:
    set_state(blocked_until=ago(-5), blocked_reason=Reason.UNREACHABLE)
    assert expected() == 0
    set_state(blocked_until=ago(1))
    assert expected() == 1
    set_state(probe_until=ago(-5))
    assert expected() == 0


def test_after_the_limit_was_lowered_no_permit_is_expected_rather_than_a_negative_number(
    settings: Settings,
) -> None:
    burst(20, LIMIT)
    configure(settings, RATE_LIMIT=10)
    assert expected() == 0
    assert denied().wait > 30


# Against the emulator


@pytest.mark.django_db(transaction=True)
def test_many_workers_together_never_exceed_the_limit(bunce: Emulator, settings: Settings) -> None:
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


def test_an_edit_of_very_many_rows_does_not_hold_back_new_ones(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, RATE_LIMIT=None)
    existing = [bunce.add_segment(f"Before {number}") for number in range(200)]
    for one in existing:
        make(f"Edited {one.id}", bunce_id=one.id, due_at=ago(600))
    for number in range(3):
        make(f"New {number}")
    for _ in range(2):
        for row in push_module._due_rows():
            push(row.pk)
    made = [call.operation for call in ApiCall.objects.all()]
    assert made.count(Operation.CREATE) == 3
    assert made.count(Operation.UPDATE) == len(made) - 3 > 10


# After a 429


@pytest.mark.parametrize(
    ("header", "pause"), [("seconds", 7), ("date", 7), ("none", 45), ("rubbish", 45)]
)
def test_a_429_pauses_all_requests_for_as_long_as_bunce_requests(
    bunce: Emulator, settings: Settings, header: str, pause: float
) -> None:
    configure(settings, RATE_WINDOW=45)
    bunce.set_faults(
        Faults.from_mapping({"limit_429": 1.0, "retry_after": header, "retry_seconds": 7})
    )
    assert push(make().pk)
    assert denied().reason == Reason.RATE_LIMITED
    assert pause - 2 < denied().wait <= pause + PAUSE_MARGIN


def test_a_429_costs_no_row_an_attempt_and_nothing_is_sent_during_the_pause(
    bunce: Emulator,
) -> None:
    bunce.set_faults(Faults(limit_429=1.0, retry_seconds=30))
    rows = [make(f"Segment {number}") for number in range(3)]
    assert push(rows[0].pk)
    for row in rows:
        with pytest.raises(NoPermit):
            push(row.pk)
        assert (fresh(row).status, fresh(row).attempts) == (Status.PENDING, 0)
    assert bunce.served == 1


def test_after_the_pause_one_request_probes_first_and_the_pace_is_reduced(bunce: Emulator) -> None:
    report(Outcome.RATE_LIMITED, retry_after=30.0, detail="Enough")
    let_the_pause_pass()
    probe = permit()
    assert denied().reason == Reason.RATE_LIMITED, "the others wait for the probe"
    report(Outcome.CONFIRMED, probe)
    resumed = state()
    assert (resumed.blocked_reason, resumed.blocked_until, resumed.failures) == ("", None, 0)
    assert resumed.resumed_at is not None
    record_calls(0)
    assert denied().reason == "", "the window is paced"


def test_the_pace_is_reduced_also_when_the_probe_after_the_pause_fails(bunce: Emulator) -> None:
    report(Outcome.RATE_LIMITED, retry_after=30.0)
    let_the_pause_pass()
    fail(OUTAGE_THRESHOLD)
    let_the_pause_pass()
    report(Outcome.CONFIRMED)
    record_calls(0)
    assert denied().reason == "", "the window is paced"


def test_a_success_of_an_earlier_request_does_not_end_the_pause_bunce_requested(
    bunce: Emulator,
) -> None:
    set_state(failures=1)
    unhealthy = permit()
    report(Outcome.RATE_LIMITED, retry_after=30.0)
    report(Outcome.CONFIRMED, unhealthy)
    assert denied().wait > 25


def test_a_shorter_pause_does_not_shorten_a_longer_one(bunce: Emulator) -> None:
    first, second = permit(), permit()
    report(Outcome.RATE_LIMITED, first, retry_after=60.0)
    report(Outcome.RATE_LIMITED, second, retry_after=1.0)
    assert denied().wait > 55


# After a refused key


def test_a_refused_key_pauses_all_requests_and_is_probed_once_a_minute(
    bunce: Emulator, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    good = settings.BUNCE_SYNC["API_KEY"]
    bunce.set(key=good)
    configure(settings, API_KEY="sk_test_of_another_account")
    row = make()
    for served in (1, 2, 3):
        assert push(row.pk)
        assert (denied().reason, bunce.served) == (Reason.KEY_REFUSED, served)
        assert KEY_PAUSE - 5 < denied().wait <= KEY_PAUSE
        assert (fresh(row).status, fresh(row).attempts) == (Status.PENDING, 0)
        let_the_pause_pass()
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1, "logged once"
    configure(settings, API_KEY=good)
    assert push(row.pk)
    assert (fresh(row).status, state().blocked_reason) == (Status.SYNCED, "")
    assert state().resumed_at is None, "no reduced pace: no other program used the limit"


def test_a_pause_records_since_when_and_why(bunce: Emulator) -> None:
    report(Outcome.KEY_REFUSED, detail="Unauthorized")
    since = state().blocked_since
    let_the_pause_pass()
    moved = state().blocked_since
    report(Outcome.KEY_REFUSED, detail="Unauthorized")
    assert (state().blocked_detail, state().blocked_since) == ("Unauthorized", moved)
    assert since is not None


# An outage


def test_consecutive_failures_pause_all_requests(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    fail(OUTAGE_THRESHOLD - 1)
    assert state().blocked_until is None
    with caplog.at_level(logging.WARNING, "bunce_sync"):
        fail()
    assert denied().reason == Reason.UNREACHABLE
    assert 0 < denied().wait <= OUTAGE_BASE
    assert "Requests to Bunce are paused for 2 s" in caplog.text


def test_a_success_resets_the_count_of_failures(bunce: Emulator) -> None:
    for _ in range(3):
        fail(OUTAGE_THRESHOLD - 1)
        report(Outcome.CONFIRMED)
    assert (state().failures, state().blocked_until) == (0, None)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.CONFIRMED, ""),
        (Outcome.DUPLICATE, "duplicate"),
        (Outcome.REJECTED, "conflict"),
        (Outcome.UNKNOWN, LINKED_ELSEWHERE),
    ],
)
def test_every_readable_response_resets_the_count_of_failures(
    bunce: Emulator, outcome: Outcome, code: str
) -> None:
    fail(OUTAGE_THRESHOLD - 1)
    report(outcome, code=code)
    assert state().failures == 0


def test_an_expired_permit_changes_nothing(bunce: Emulator) -> None:
    fail(OUTAGE_THRESHOLD - 1)
    report(Outcome.NOT_SENT, code=PERMIT_EXPIRED)
    assert (state().failures, state().blocked_until) == (OUTAGE_THRESHOLD - 1, None)


def test_the_pause_doubles_with_each_failed_probe_up_to_a_minute(bunce: Emulator) -> None:
    fail(OUTAGE_THRESHOLD)
    waits = []
    for _ in range(8):
        waits.append(denied().wait)
        let_the_pause_pass()
        fail()
    assert waits == pytest.approx(
        [min(OUTAGE_BASE * 2**doubled, OUTAGE_CAP) for doubled in range(8)], abs=0.9
    )


def test_no_other_request_is_permitted_while_a_probe_is_under_way(bunce: Emulator) -> None:
    fail(OUTAGE_THRESHOLD)
    let_the_pause_pass()
    probe = permit()
    assert (probe.is_probe, denied().reason) == (True, Reason.UNREACHABLE)
    report(Outcome.CONFIRMED, probe)
    assert permit().is_probe is False


def test_another_request_probes_after_the_worker_of_a_probe_died(bunce: Emulator) -> None:
    fail(OUTAGE_THRESHOLD)
    let_the_pause_pass()
    permit()
    let_the_pause_pass()
    assert permit().is_probe


def test_another_request_probes_after_the_permit_of_a_probe_expired(bunce: Emulator) -> None:
    fail(OUTAGE_THRESHOLD)
    let_the_pause_pass()
    report(Outcome.NOT_SENT, permit(), code=PERMIT_EXPIRED)
    assert permit().is_probe


def test_an_expired_permit_of_another_request_does_not_end_a_probe(bunce: Emulator) -> None:
    earlier = permit()
    fail(OUTAGE_THRESHOLD)
    let_the_pause_pass()
    permit()
    report(Outcome.NOT_SENT, earlier, code=PERMIT_EXPIRED)
    assert denied().reason == Reason.UNREACHABLE


def test_failures_of_requests_sent_before_the_pause_do_not_lengthen_it(bunce: Emulator) -> None:
    earlier = [permit() for _ in range(10)]
    fail(OUTAGE_THRESHOLD)
    before = state().blocked_until
    for given in earlier:
        report(Outcome.UNKNOWN, given, code="read_timeout")
    assert (state().blocked_until, state().failures) == (before, OUTAGE_THRESHOLD)


def test_a_response_to_a_request_sent_before_the_pause_ends_an_outage(bunce: Emulator) -> None:
    fail()
    unhealthy = permit()
    fail(OUTAGE_THRESHOLD - 1)
    report(Outcome.CONFIRMED, unhealthy)
    assert state().blocked_until is None


def test_an_outage_leaves_only_a_handful_of_rows_in_doubt(bunce: Emulator) -> None:
    bunce.set(outage="reset")
    rows = [make(f"Segment {number}") for number in range(30)]
    for row in rows:
        try:
            push(row.pk)
        except NoPermit:
            continue
    statuses = [fresh(row).status for row in rows]
    assert statuses.count(Status.IN_DOUBT) == OUTAGE_THRESHOLD
    assert statuses.count(Status.PENDING) == 30 - OUTAGE_THRESHOLD
    assert bunce.served == OUTAGE_THRESHOLD


# Permits


def test_a_permit_that_waits_for_its_slot_is_not_used_once_requests_are_paused(
    bunce: Emulator,
) -> None:
    record_calls(*[30] * BURST, 0)
    row = make()
    attempt = Push(row)
    assert attempt.reserve(Budget(30, wait_seconds=2))
    assert attempt.permit.wait > 0
    assert not shared_state.is_paused()
    set_state(blocked_until=ago(-5), blocked_reason=Reason.RATE_LIMITED)
    assert shared_state.is_paused()
    attempt.record(attempt.perform(Budget(30)))
    assert (bunce.served, fresh(row).status, fresh(row).attempts) == (0, Status.PENDING, 0)


@pytest.mark.parametrize("limit", [LIMIT, None])
def test_a_permit_does_not_expire_while_its_worker_waits_for_the_lock(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    configure(settings, RATE_LIMIT=limit)
    # Without a limit, only a probe needs the lock.
    set_state(blocked_until=ago(1), blocked_reason=Reason.UNREACHABLE)
    lock = shared_state.lock
    later = clocks.monotonic() + 5

    def lock_late() -> None:
        lock()
        monkeypatch.setattr("bunce_sync.clocks.monotonic", lambda: later)

    monkeypatch.setattr(shared_state, "lock", lock_late)
    given = permit()
    assert given.is_probe
    assert clocks.monotonic() == later, "the lock was taken"
    assert not given.record.too_late


def test_the_shared_row_is_created_when_it_is_missing(bunce: Emulator) -> None:
    SyncState.objects.all().delete()
    assert permit().wait == 0
    assert SyncState.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_exactly_one_probes(bunce: Emulator) -> None:
    set_state(blocked_until=ago(1), blocked_reason=Reason.UNREACHABLE, failures=9)
    barrier = threading.Barrier(6)

    def work() -> bool:
        barrier.wait(10)
        try:
            return permit().is_probe
        except NoPermit:
            return False

    assert in_threads([work] * 6).count(True) == 1
    assert seconds_until(state().probe_until) > 0

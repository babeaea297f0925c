"""Pauses: after a 429, a refused key, or too many failures; and how it opens again."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from django.db import transaction
from pytest_django import Settings

from bunce_sync.models import SyncState
from bunce_sync.results import LINKED_ELSEWHERE, PERMIT_EXPIRED, Result
from bunce_sync.sync import rate_limiter, shared_state
from bunce_sync.sync.push import push
from bunce_sync.sync.rate_limiter import (
    BREAKER_BASE,
    BREAKER_CAP,
    BREAKER_THRESHOLD,
    KEY_PAUSE,
    PAUSE_MARGIN,
    NoPermit,
    Permit,
)
from bunce_sync.testing.emulator import Emulator, Faults

from .core import (
    Operation,
    Outcome,
    Reason,
    Status,
    ago,
    configure,
    fresh,
    in_threads,
    let_pauses_pass,
    make,
    record_calls,
    seconds_until,
    set_state,
    state,
)

pytestmark = pytest.mark.django_db


def permit() -> Permit:
    with transaction.atomic():
        return rate_limiter.take_permit(Operation.CREATE)


def report(outcome: Outcome, given: Permit | None = None, **result: object) -> None:
    given = given or permit()
    with transaction.atomic():
        rate_limiter.report(given, Result(outcome, **result))  # type: ignore[arg-type]  # its fields


def fail(times: int = 1) -> None:
    for _ in range(times):
        report(Outcome.UNKNOWN, code="read_timeout", detail="no answer in time")


def closed() -> NoPermit:
    with pytest.raises(NoPermit) as caught:
        permit()
    return caught.value


def let_it_open() -> None:
    """As if the time of the closing had passed."""
    let_pauses_pass(closed().wait)


# After a 429


@pytest.mark.parametrize(
    ("told", "pause"), [("seconds", 7), ("date", 7), ("none", 60), ("rubbish", 60)]
)
def test_a_429_closes_the_rate_limiter_for_as_long_as_bunce_asks(
    bunce: Emulator, told: str, pause: float
) -> None:
    bunce.set_faults(
        Faults.from_mapping({"limit_429": 1.0, "retry_after": told, "retry_seconds": 7})
    )
    assert push(make().pk)
    assert closed().reason == Reason.RATE_LIMITED
    assert pause - 2 < closed().wait <= pause + PAUSE_MARGIN


def test_a_429_costs_no_row_an_attempt_and_nothing_is_sent_meanwhile(bunce: Emulator) -> None:
    bunce.set_faults(Faults(limit_429=1.0, retry_seconds=30))
    rows = [make(f"Segment {number}") for number in range(3)]
    assert push(rows[0].pk)
    for row in rows:
        with pytest.raises(NoPermit):
            push(row.pk)
        assert (fresh(row).status, fresh(row).attempts) == (Status.PENDING, 0)
    assert bunce.served == 1


def test_after_the_pause_one_probe_goes_first_and_the_pace_begins_gently(bunce: Emulator) -> None:
    report(Outcome.RATE_LIMITED, retry_after=30.0, detail="Enough")
    let_it_open()
    probe = permit()
    assert closed().reason == Reason.RATE_LIMITED, "the others wait for the probe"
    report(Outcome.CONFIRMED, probe)
    now_open = state()
    assert (now_open.blocked_reason, now_open.blocked_until, now_open.failures) == ("", None, 0)
    assert now_open.resumed_at is not None
    record_calls(0)
    assert closed().reason == "", "the window is paced"


def test_the_pace_begins_gently_also_when_the_probe_after_the_pause_fails(bunce: Emulator) -> None:
    report(Outcome.RATE_LIMITED, retry_after=30.0)
    let_it_open()
    fail(BREAKER_THRESHOLD)
    let_it_open()
    report(Outcome.CONFIRMED)
    record_calls(0)
    assert closed().reason == "", "the window is paced"


def test_a_success_on_its_way_does_not_end_the_pause_that_bunce_asked_for(bunce: Emulator) -> None:
    set_state(failures=1)
    unhealthy = permit()
    report(Outcome.RATE_LIMITED, retry_after=30.0)
    report(Outcome.CONFIRMED, unhealthy)
    assert closed().wait > 25


def test_a_shorter_pause_does_not_shorten_a_longer_one(bunce: Emulator) -> None:
    first, second = permit(), permit()
    report(Outcome.RATE_LIMITED, first, retry_after=60.0)
    report(Outcome.RATE_LIMITED, second, retry_after=1.0)
    assert closed().wait > 55


# After a refused key


def test_a_refused_key_closes_the_rate_limiter_and_is_probed_once_a_minute(
    bunce: Emulator, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    good = settings.BUNCE_SYNC["API_KEY"]
    configure(settings, API_KEY="sk_live_not_for_this_host")
    row = make()
    for served in (1, 2, 3):
        assert push(row.pk)
        assert (closed().reason, bunce.served) == (Reason.KEY_REFUSED, served)
        assert KEY_PAUSE - 5 < closed().wait <= KEY_PAUSE
        assert (fresh(row).status, fresh(row).attempts) == (Status.PENDING, 0)
        let_it_open()
    assert [record.levelname for record in caplog.records] == ["WARNING"], "told once"
    configure(settings, API_KEY=good)
    assert push(row.pk)
    assert (fresh(row).status, state().blocked_reason) == (Status.SYNCED, "")
    assert state().resumed_at is None, "no gentle pace: nobody else used the limit"


def test_the_closing_says_since_when_and_why(bunce: Emulator) -> None:
    report(Outcome.KEY_REFUSED, detail="Unauthorized")
    since = state().blocked_since
    let_it_open()
    moved = state().blocked_since
    report(Outcome.KEY_REFUSED, detail="Unauthorized")
    assert (state().blocked_detail, state().blocked_since) == ("Unauthorized", moved)
    assert since is not None


# The circuit breaker


def test_failures_in_a_row_close_the_rate_limiter(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    fail(BREAKER_THRESHOLD - 1)
    assert state().blocked_until is None
    with caplog.at_level(logging.WARNING, "bunce_sync"):
        fail()
    assert closed().reason == Reason.UNREACHABLE
    assert 0 < closed().wait <= BREAKER_BASE
    assert "No requests to Bunce for 2 s" in caplog.text


def test_a_success_in_between_begins_the_count_anew(bunce: Emulator) -> None:
    for _ in range(3):
        fail(BREAKER_THRESHOLD - 1)
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
def test_every_answer_that_can_be_understood_shows_that_bunce_is_well(
    bunce: Emulator, outcome: Outcome, code: str
) -> None:
    fail(BREAKER_THRESHOLD - 1)
    report(outcome, code=code)
    assert state().failures == 0


def test_a_permit_that_was_not_used_in_time_says_nothing_about_bunce(bunce: Emulator) -> None:
    fail(BREAKER_THRESHOLD - 1)
    report(Outcome.NOT_SENT, code=PERMIT_EXPIRED)
    assert (state().failures, state().blocked_until) == (BREAKER_THRESHOLD - 1, None)


def test_the_pause_grows_with_each_failed_probe_up_to_a_minute(bunce: Emulator) -> None:
    fail(BREAKER_THRESHOLD)
    waits = []
    for _ in range(8):
        waits.append(closed().wait)
        let_it_open()
        fail()
    assert waits == pytest.approx(
        [min(BREAKER_BASE * 2**doubled, BREAKER_CAP) for doubled in range(8)], abs=0.9
    )


def test_while_a_probe_is_under_way_nobody_else_passes(bunce: Emulator) -> None:
    fail(BREAKER_THRESHOLD)
    let_it_open()
    probe = permit()
    assert (probe.probe, closed().reason) == (True, Reason.UNREACHABLE)
    report(Outcome.CONFIRMED, probe)
    assert permit().probe is False


def test_a_probe_whose_worker_died_is_followed_by_another(bunce: Emulator) -> None:
    fail(BREAKER_THRESHOLD)
    let_it_open()
    permit()
    let_it_open()
    assert permit().probe


def test_a_probe_that_was_not_sent_in_time_makes_room_for_the_next(bunce: Emulator) -> None:
    fail(BREAKER_THRESHOLD)
    let_it_open()
    report(Outcome.NOT_SENT, permit(), code=PERMIT_EXPIRED)
    assert permit().probe


def test_anothers_unused_permit_does_not_end_the_wait_for_a_probe(bunce: Emulator) -> None:
    earlier = permit()
    fail(BREAKER_THRESHOLD)
    let_it_open()
    permit()
    report(Outcome.NOT_SENT, earlier, code=PERMIT_EXPIRED)
    assert closed().reason == Reason.UNREACHABLE


def test_stragglers_of_an_outage_do_not_lengthen_the_pause(bunce: Emulator) -> None:
    stragglers = [permit() for _ in range(10)]
    fail(BREAKER_THRESHOLD)
    before = state().blocked_until
    for straggler in stragglers:
        report(Outcome.UNKNOWN, straggler, code="read_timeout")
    assert (state().blocked_until, state().failures) == (before, BREAKER_THRESHOLD)


def test_an_answer_to_a_request_of_before_reopens_a_rate_limiter_closed_by_failures(
    bunce: Emulator,
) -> None:
    fail()
    unhealthy = permit()
    fail(BREAKER_THRESHOLD - 1)
    report(Outcome.CONFIRMED, unhealthy)
    assert state().blocked_until is None


def test_an_outage_puts_a_handful_of_rows_in_doubt_and_not_all(bunce: Emulator) -> None:
    bunce.set(outage="reset")
    rows = [make(f"Segment {number}") for number in range(30)]
    for row in rows:
        try:
            push(row.pk)
        except NoPermit:
            continue
    statuses = [fresh(row).status for row in rows]
    assert statuses.count(Status.IN_DOUBT) == BREAKER_THRESHOLD
    assert statuses.count(Status.PENDING) == 30 - BREAKER_THRESHOLD
    assert bunce.served == BREAKER_THRESHOLD


def test_a_permit_that_waits_for_its_turn_is_not_used_once_the_rate_limiter_has_closed(
    bunce: Emulator,
) -> None:
    assert not shared_state.is_paused()
    set_state(blocked_until=ago(-5), blocked_reason=Reason.RATE_LIMITED)
    assert shared_state.is_paused()


def test_a_permit_does_not_age_while_others_hold_the_rate_limiter(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = rate_limiter._lock_state
    later = time.monotonic() + 5

    def lock_late(using: str) -> None:
        lock(using)
        monkeypatch.setattr("time.monotonic", lambda: later)

    monkeypatch.setattr(rate_limiter, "_lock_state", lock_late)
    assert not permit().record.too_late


def test_the_shared_row_is_made_when_it_is_missing(bunce: Emulator) -> None:
    SyncState.objects.all().delete()
    assert permit().wait == 0
    assert SyncState.objects.get().permits == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_alone_is_let_through_to_probe(bunce: Emulator) -> None:
    set_state(blocked_until=ago(1), blocked_reason=Reason.UNREACHABLE, failures=9)
    barrier = threading.Barrier(6)

    def work() -> bool:
        barrier.wait(10)
        try:
            return permit().probe
        except NoPermit:
            return False

    assert in_threads([work] * 6).count(True) == 1
    assert seconds_until(state().probe_until) > 0

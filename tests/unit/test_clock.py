"""A database clock that jumps: noticed, healed, and never a delay of more than a window."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.db.models import F

from bunce_sync.models import Segment, SyncState
from bunce_sync.sync import clock, rate_limiter, shared_state
from bunce_sync.sync.clock import Reading
from bunce_sync.sync.push import push
from bunce_sync.sync.rate_limiter import ClockJumped, NoPermit
from bunce_sync.sync.sweep import sweep
from bunce_sync.testing.emulator import Emulator

from .core import (
    USING,
    Reason,
    Status,
    ago,
    calls,
    fresh,
    let_pauses_pass,
    make,
    record_calls,
    seconds_until,
    set_state,
    state,
)

BEGAN = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)


@pytest.fixture(autouse=True)
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not read the clock yet."""
    monkeypatch.setattr(clock, "_seen", {})


class Monotonic:
    """The process's own clock, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: self.now))

    def jump(self, *, database: float, query: float = 0.0, epoch: int = 0) -> float:
        """Read the database's clock, which says so many seconds after it began."""
        reading = Reading()
        self.now += query
        return reading.jump(BEGAN + timedelta(seconds=database), epoch)


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


def test_the_first_reading_tells_no_jump(monotonic: Monotonic) -> None:
    assert monotonic.jump(database=0) == 0


@pytest.mark.parametrize(("passed", "shown"), [(10, 10), (10, 10.9), (10, 9.1), (0, 0)])
def test_clocks_that_go_alike_tell_no_jump(
    monotonic: Monotonic, passed: float, shown: float
) -> None:
    monotonic.jump(database=0)
    monotonic.now += passed
    assert monotonic.jump(database=shown) == 0


def test_a_slow_query_tells_no_jump_whichever_moment_of_it_was_read(monotonic: Monotonic) -> None:
    monotonic.jump(database=0, query=5)
    assert monotonic.jump(database=5, query=5) == 0
    assert monotonic.jump(database=5.1) == 0


@pytest.mark.parametrize("jump", [30.0, -30.0, 3600.0, -3600.0])
def test_a_jump_is_told_with_its_length(monotonic: Monotonic, jump: float) -> None:
    monotonic.jump(database=0)
    monotonic.now += 10
    assert monotonic.jump(database=10 + jump) == pytest.approx(jump)
    assert monotonic.jump(database=10 + jump) == 0, "it is told once"


def test_quartz_clocks_that_drift_apart_overnight_tell_no_jump(monotonic: Monotonic) -> None:
    night = 10 * 3600
    monotonic.jump(database=0)
    monotonic.now += night
    assert monotonic.jump(database=night * (1 + 1e-4)) == 0
    monotonic.now += night
    assert monotonic.jump(database=2 * night + 60) != 0


def test_a_reading_of_before_a_jump_that_another_process_healed_is_void(
    monotonic: Monotonic,
) -> None:
    monotonic.jump(database=0)
    assert monotonic.jump(database=500, epoch=1) == 0
    assert monotonic.jump(database=900, epoch=1) == pytest.approx(400)


def set_clock(seconds: float) -> None:
    """Make the present look as if the database's clock had just been set by so many seconds."""
    last = clock._seen[USING]
    clock._seen[USING] = replace(last, now=last.now - timedelta(seconds=seconds))


def read_clock() -> None:
    """Let this process know the clock, as its last request did."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "TOLERANCE", 1e9)
        record = Reading()
        seen, now = shared_state.read()
        record.jump(now, seen.clock_epoch)


@pytest.mark.django_db
@pytest.mark.parametrize("jump", [500.0, -500.0])
def test_after_a_jump_nothing_is_sent_for_one_window_and_then_all_goes_on(
    bunce: Emulator, jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    row = make()
    read_clock()
    set_clock(jump)
    with caplog.at_level(logging.WARNING, "bunce_sync"), pytest.raises(ClockJumped):
        push(row.pk)
    assert "clock jumped" in caplog.text
    assert (fresh(row).status, fresh(row).attempts, calls()) == (Status.PENDING, 0, [])
    with pytest.raises(NoPermit) as closed:
        push(row.pk)
    assert closed.value.reason == Reason.CLOCK
    window = rate_limiter.window().total_seconds()
    assert window - 5 < closed.value.wait <= window
    let_pauses_pass(window)
    assert push(row.pk)
    assert (fresh(row).status, state().blocked_reason) == (Status.SYNCED, "")
    assert len(bunce.segments) == 1


@pytest.mark.django_db
def test_after_a_jump_back_what_lies_ahead_comes_along(bunce: Emulator) -> None:
    hour = 3600.0
    waiting = make("Waiting", due_at=ago(-hour - 30))
    sending = make("Sending", status=Status.SENDING, lease_until=ago(-hour - 60))
    [call] = record_calls(-hour + 10)
    set_state(swept_at=ago(-hour), scan_lease_until=ago(-hour - 20))
    rate_limiter.recover_from_clock_jump(ClockJumped(-hour, state().clock_epoch))
    assert 25 < seconds_until(fresh(waiting).due_at) <= 30
    assert 55 < seconds_until(fresh(sending).lease_until) <= 60
    call.refresh_from_db()
    assert -15 < seconds_until(call.started_at) <= -10
    assert -5 < seconds_until(state().swept_at) <= 0
    assert 15 < seconds_until(state().scan_lease_until) <= 20


@pytest.mark.django_db
def test_a_jump_back_is_noticed_by_the_ledger_when_no_process_saw_the_clock_before(
    bunce: Emulator,
) -> None:
    row = make()
    [ahead] = record_calls(-3600)
    with pytest.raises(ClockJumped):
        push(row.pk)
    ahead.refresh_from_db()
    assert seconds_until(ahead.started_at) <= 0
    assert seconds_until(state().blocked_until) <= rate_limiter.window().total_seconds()
    let_pauses_pass(rate_limiter.window().total_seconds())
    push(row.pk)
    assert fresh(row).status == Status.SYNCED


@pytest.mark.django_db
def test_a_jump_forward_moves_no_row(bunce: Emulator) -> None:
    row = make(due_at=ago(-30))
    rate_limiter.recover_from_clock_jump(ClockJumped(3600.0, state().clock_epoch))
    assert 25 < seconds_until(fresh(row).due_at) <= 30


@pytest.mark.django_db
def test_a_jump_that_two_processes_notice_is_healed_once(bunce: Emulator) -> None:
    row = make(due_at=ago(-1000))
    seen_by_both = state().clock_epoch
    for _ in range(2):
        rate_limiter.recover_from_clock_jump(ClockJumped(-300.0, seen_by_both))
    assert 690 < seconds_until(fresh(row).due_at) <= 700
    assert SyncState.objects.get().clock_epoch == seen_by_both + 1


@pytest.mark.django_db
def test_a_jump_closes_the_rate_limiter_for_a_window_whatever_it_was_closed_for(
    bunce: Emulator,
) -> None:
    set_state(blocked_until=ago(-5), blocked_reason=Reason.UNREACHABLE, probe_until=ago(-90))
    rate_limiter.recover_from_clock_jump(ClockJumped(+60.0, state().clock_epoch))
    assert state().blocked_reason == Reason.CLOCK
    assert seconds_until(state().blocked_until) > 55


@pytest.mark.django_db
@pytest.mark.parametrize("known", [True, False], ids=["to_this_process", "to_nobody_who_is_left"])
def test_a_clock_set_back_while_nothing_is_due_is_noticed_by_the_sweep(
    bunce: Emulator, known: bool
) -> None:
    hour = timedelta(hours=1)
    row = make()
    sweep()
    if known:
        read_clock()
    # What was due a moment ago seems to lie an hour ahead, so nobody asks the rate_limiter.
    Segment.objects.update_sync_fields(due_at=F("due_at") + hour)
    SyncState.objects.update(swept_at=F("swept_at") + hour, blocked_until=ago(-3700))
    if known:
        set_clock(-3600)
    sweep()
    assert seconds_until(fresh(row).due_at) < 15
    let_pauses_pass(rate_limiter.window().total_seconds())
    Segment.objects.update_sync_fields(due_at=ago(0))
    assert sweep().workers == 1


@pytest.mark.django_db
@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_after_a_jump_rows_in_doubt_have_their_whole_grace_period_before_them(
    bunce: Emulator, jump: float
) -> None:
    row = make(status=Status.IN_DOUBT, due_at=ago(-5))
    rate_limiter.recover_from_clock_jump(ClockJumped(jump, state().clock_epoch))
    assert seconds_until(fresh(row).due_at) > 115

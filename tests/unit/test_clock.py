"""Jumps of the database's clock: detection, and recovery after at most one window."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.db.models import F
from pytest_django import Settings

from bunce_sync import database
from bunce_sync.models import Segment, SyncState
from bunce_sync.sync import clock, shared_state
from bunce_sync.sync.clock import ClockJumped, Reading
from bunce_sync.sync.push import push
from bunce_sync.sync.rate_limiter import NoPermit, counted_window
from bunce_sync.sync.sweep import sweep
from bunce_sync.testing.emulator import Emulator, Faults

from .core import (
    Reason,
    Status,
    ago,
    calls,
    configure,
    fresh,
    let_pauses_pass,
    make,
    record_calls,
    seconds_until,
    set_state,
    state,
)

BEGAN = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture(autouse=True)
def without_readings() -> None:
    """Forget all readings, as in a process that has not read the clock yet."""
    clock.forget_readings()


# Detection


class Monotonic:
    """The process's own clock, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock, "clocks", SimpleNamespace(monotonic=lambda: self.now))

    def jump(self, *, database: float, query: float = 0.0, epoch: int = 0) -> float:
        """Read the database's clock, which shows so many seconds since it began."""
        reading = Reading()
        self.now += query
        return reading.jump(BEGAN + timedelta(seconds=database), epoch)


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


def test_the_first_reading_shows_no_jump(monotonic: Monotonic) -> None:
    assert monotonic.jump(database=0) == 0


@pytest.mark.parametrize(("passed", "shown"), [(10, 10), (10, 10.9), (10, 9.1), (0, 0)])
def test_clocks_that_agree_within_the_tolerance_show_no_jump(
    monotonic: Monotonic, passed: float, shown: float
) -> None:
    monotonic.jump(database=0)
    monotonic.now += passed
    assert monotonic.jump(database=shown) == 0


def test_a_slow_query_shows_no_jump_whenever_it_read_the_clock(monotonic: Monotonic) -> None:
    monotonic.jump(database=0, query=5)
    assert monotonic.jump(database=5, query=5) == 0
    assert monotonic.jump(database=5.1) == 0


@pytest.mark.parametrize("jump", [30.0, -30.0, HOUR, -HOUR])
def test_a_jump_is_detected_once_with_its_length(monotonic: Monotonic, jump: float) -> None:
    monotonic.jump(database=0)
    monotonic.now += 10
    assert monotonic.jump(database=10 + jump) == pytest.approx(jump)
    assert monotonic.jump(database=10 + jump) == 0, "it is reported once"


def test_quartz_clocks_that_drift_apart_overnight_show_no_jump(monotonic: Monotonic) -> None:
    night = 10 * HOUR
    monotonic.jump(database=0)
    monotonic.now += night
    assert monotonic.jump(database=night * (1 + 1e-4)) == 0
    monotonic.now += night
    assert monotonic.jump(database=2 * night + 60) != 0


def test_a_reading_from_before_another_process_recovered_does_not_count(
    monotonic: Monotonic,
) -> None:
    monotonic.jump(database=0)
    assert monotonic.jump(database=500, epoch=1) == 0
    assert monotonic.jump(database=900, epoch=1) == pytest.approx(400)


# Recovery


def set_clock(seconds: float) -> None:
    """Shift the last reading, as if the database's clock had just been set by this many seconds."""
    alias = database.alias()
    last = clock._seen[alias]
    clock._seen[alias] = replace(last, now=last.now - timedelta(seconds=seconds))


def read_clock() -> None:
    """Let this process read the clock, as its last request did."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "TOLERANCE", 1e9)
        record = Reading()
        seen, now = shared_state.read()
        record.jump(now, seen.clock_epoch)


def recover(seconds: float, *, epoch: int | None = None) -> None:
    """Recover from a jump of this many seconds."""
    jumped = ClockJumped(seconds, state().clock_epoch if epoch is None else epoch)
    clock.recover_from_clock_jump(jumped, window=counted_window())


def move_pauses(seconds: float) -> None:
    """Shift all pauses, as if the clock had been set by this many seconds."""
    let_pauses_pass(seconds)
    by = timedelta(seconds=seconds)
    SyncState.objects.filter(asked_until__isnull=False).update(asked_until=F("asked_until") - by)


@pytest.mark.django_db
@pytest.mark.parametrize("jump", [500.0, -500.0])
def test_after_a_jump_nothing_is_sent_for_one_window_and_then_requests_resume(
    bunce: Emulator, jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    row = make()
    read_clock()
    set_clock(jump)
    with caplog.at_level(logging.WARNING, "bunce_sync"), pytest.raises(NoPermit) as jumped:
        push(row.pk)
    assert jumped.value.reason == Reason.CLOCK
    assert "clock jumped" in caplog.text
    assert (fresh(row).status, fresh(row).attempts, calls()) == (Status.PENDING, 0, [])
    with pytest.raises(NoPermit) as paused:
        push(row.pk)
    assert paused.value.reason == Reason.CLOCK
    window = counted_window().total_seconds()
    assert window - 5 < paused.value.wait <= window
    let_pauses_pass(window)
    assert push(row.pk)
    assert (fresh(row).status, state().blocked_reason) == (Status.SYNCED, "")
    assert len(bunce.segments) == 1


@pytest.mark.django_db
def test_a_jump_back_moves_future_times_back_too(bunce: Emulator) -> None:
    waiting = make("Waiting", due_at=ago(-HOUR - 30))
    sending = make("Sending", status=Status.SENDING, lease_until=ago(-HOUR - 60))
    [call] = record_calls(-HOUR + 10)
    set_state(swept_at=ago(-HOUR), scan_lease_until=ago(-HOUR - 20))
    recover(-HOUR)
    assert 25 < seconds_until(fresh(waiting).due_at) <= 30
    assert 55 < seconds_until(fresh(sending).lease_until) <= 60
    call.refresh_from_db()
    assert -15 < seconds_until(call.started_at) <= -10
    assert -5 < seconds_until(state().swept_at) <= 0
    assert 15 < seconds_until(state().scan_lease_until) <= 20


@pytest.mark.django_db
def test_a_jump_back_that_no_process_saw_is_detected_by_the_call_log(bunce: Emulator) -> None:
    row = make()
    [ahead] = record_calls(-HOUR)
    with pytest.raises(NoPermit) as jumped:
        push(row.pk)
    assert jumped.value.reason == Reason.CLOCK
    ahead.refresh_from_db()
    assert seconds_until(ahead.started_at) <= 0
    assert seconds_until(state().blocked_until) <= counted_window().total_seconds()
    let_pauses_pass(counted_window().total_seconds())
    push(row.pk)
    assert fresh(row).status == Status.SYNCED


@pytest.mark.django_db
def test_a_jump_forward_moves_no_row(bunce: Emulator) -> None:
    row = make(due_at=ago(-30))
    recover(HOUR)
    assert 25 < seconds_until(fresh(row).due_at) <= 30


@pytest.mark.django_db
def test_a_jump_that_two_processes_detect_is_recovered_from_once(bunce: Emulator) -> None:
    row = make(due_at=ago(-1000))
    set_state(blocked_until=ago(-1500), blocked_reason=Reason.RATE_LIMITED)
    seen_by_both = state().clock_epoch
    for _ in range(2):
        recover(-300.0, epoch=seen_by_both)
    assert 690 < seconds_until(fresh(row).due_at) <= 700
    assert 1190 < seconds_until(state().blocked_until) <= 1200
    assert SyncState.objects.get().clock_epoch == seen_by_both + 1


@pytest.mark.django_db
@pytest.mark.parametrize("known", [True, False], ids=["seen_by_this_process", "seen_by_none_left"])
def test_a_jump_back_while_no_row_is_due_is_detected_by_the_sweep(
    bunce: Emulator, known: bool
) -> None:
    hour = timedelta(seconds=HOUR)
    row = make()
    sweep()
    if known:
        read_clock()
    # Rows that were due now seem to be due in an hour, so no request asks for a permit.
    Segment.objects.update_sync_fields(due_at=F("due_at") + hour)
    SyncState.objects.update(swept_at=F("swept_at") + hour, blocked_until=ago(-HOUR - 100))
    if known:
        set_clock(-HOUR)
    sweep()
    assert seconds_until(fresh(row).due_at) < 15
    let_pauses_pass(seconds_until(state().blocked_until))
    Segment.objects.update_sync_fields(due_at=ago(0))
    assert sweep().workers["push"] == 1


@pytest.mark.django_db
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_after_a_jump_rows_in_doubt_wait_for_their_whole_grace_period(
    bunce: Emulator, jump: float
) -> None:
    row = make(status=Status.IN_DOUBT, due_at=ago(-5))
    recover(jump)
    assert seconds_until(fresh(row).due_at) > 115


# A pause during a jump


JUMPS = pytest.mark.parametrize("jump", [HOUR, -HOUR, 2 * HOUR, -2 * HOUR, 600.0, -600.0])


@pytest.mark.django_db
@JUMPS
def test_a_pause_of_an_hour_that_bunce_requested_keeps_its_length_through_a_jump(
    bunce: Emulator, jump: float
) -> None:
    bunce.set_faults(Faults(limit_429=1.0, retry_seconds=int(HOUR)))
    row = make()
    assert push(row.pk)
    asked_for = seconds_until(state().blocked_until)
    assert HOUR - 10 < asked_for < HOUR + 10
    bunce.set_faults(None)
    move_pauses(jump)
    set_clock(jump)
    with pytest.raises(NoPermit):
        push(row.pk)  # the jump is detected
    assert state().clock_epoch == 1
    assert seconds_until(state().blocked_until) == pytest.approx(asked_for, abs=5)
    with pytest.raises(NoPermit) as paused:
        push(row.pk)
    assert paused.value.reason == Reason.RATE_LIMITED
    assert paused.value.wait == pytest.approx(asked_for, abs=5)
    assert -10 < seconds_until(state().blocked_since) <= 0
    assert bunce.served == 1
    let_pauses_pass(paused.value.wait - 60)
    with pytest.raises(NoPermit):
        push(row.pk)
    let_pauses_pass(60)
    Segment.objects.update_sync_fields(due_at=ago(0))
    assert push(row.pk)
    assert (fresh(row).status, state().blocked_reason) == (Status.SYNCED, "")


@pytest.mark.django_db
@JUMPS
def test_the_sweep_also_keeps_the_length_of_a_requested_pause(bunce: Emulator, jump: float) -> None:
    bunce.set_faults(Faults(limit_429=1.0, retry_seconds=int(HOUR)))
    assert push(make().pk)
    asked_for = seconds_until(state().blocked_until)
    move_pauses(jump)
    set_clock(jump)
    assert sum(sweep().workers.values()) == 0
    assert state().clock_epoch == 1
    assert state().blocked_reason == Reason.RATE_LIMITED
    assert seconds_until(state().blocked_until) == pytest.approx(asked_for, abs=5)


@pytest.mark.django_db
@JUMPS
def test_the_time_until_which_bunce_requested_a_pause_keeps_its_length_too(
    bunce: Emulator, jump: float
) -> None:
    bunce.set_faults(Faults(limit_429=1.0, retry_seconds=int(DAY)))
    assert push(make().pk)
    move_pauses(jump)
    set_clock(jump)
    sweep()
    assert state().clock_epoch == 1
    assert seconds_until(state().blocked_until) == pytest.approx(HOUR, abs=10)
    assert seconds_until(state().asked_until) == pytest.approx(DAY, abs=10)


@pytest.mark.django_db
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
@pytest.mark.parametrize("reason", [Reason.KEY_REFUSED, Reason.UNREACHABLE, Reason.UNAVAILABLE])
def test_a_pause_for_another_reason_keeps_its_length_too(
    bunce: Emulator, settings: Settings, reason: Reason, jump: float
) -> None:
    configure(settings, RATE_WINDOW=10)
    set_state(
        blocked_until=ago(jump - 60),
        blocked_since=ago(jump + 5),
        blocked_reason=reason,
        blocked_detail="As it was",
    )
    recover(jump)
    assert (state().blocked_reason, state().blocked_detail) == (reason, "As it was")
    assert seconds_until(state().blocked_until) == pytest.approx(60, abs=5)
    assert seconds_until(state().blocked_since) == pytest.approx(-5, abs=5)


@pytest.mark.django_db
@pytest.mark.parametrize("jump", [60.0, HOUR, -HOUR])
def test_a_pause_that_ends_within_the_window_is_replaced_by_that_of_the_clock(
    bunce: Emulator, jump: float
) -> None:
    set_state(
        blocked_until=ago(jump - 30),
        blocked_since=ago(jump + 30),
        blocked_reason=Reason.UNREACHABLE,
        asked_until=ago(jump - 30),
        probe_until=ago(jump - 90),
    )
    recover(jump)
    window = counted_window().total_seconds()
    assert state().blocked_reason == Reason.CLOCK
    assert seconds_until(state().blocked_until) == pytest.approx(window, abs=5)
    assert seconds_until(state().blocked_since) == pytest.approx(0, abs=5)
    assert (state().asked_until, state().probe_until) == (None, None)

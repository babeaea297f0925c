"""A site's tests that freeze or move the time: rows are sent, and nothing is left paused."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import time_machine
from freezegun import freeze_time

from bunce_sync import clocks, tasks
from bunce_sync.models import OperationState, Segment
from bunce_sync.publisher import publisher
from bunce_sync.sync import push, shared_state
from bunce_sync.sync.sweep import run_once
from bunce_sync.testing.emulator import Emulator, Faults

from .broker_queue import BrokerQueue
from .core import Reason, Status, fresh, state

pytestmark = pytest.mark.django_db

PAST, FUTURE = "1979-05-27 07:32:00", "2079-05-27 07:32:00"
Freeze = Callable[[str], AbstractContextManager[Any]]


def ticking(moment: str) -> AbstractContextManager[Any]:
    return freeze_time(moment, auto_tick_seconds=15)


FREEZERS: list[Freeze] = [freeze_time, ticking, time_machine.travel]


@pytest.fixture(params=FREEZERS, ids=["freezegun", "ticking", "time_machine"])
def freeze(request: pytest.FixtureRequest) -> Freeze:
    chosen: Freeze = request.param
    return chosen


def assert_no_pause() -> None:
    assert state().blocked_reason == ""
    assert state().clock_epoch == 0
    assert not OperationState.objects.exists()


@pytest.mark.parametrize("moment", [PAST, FUTURE])
def test_a_segment_that_is_saved_and_edited_in_frozen_time_is_sent(
    bunce: Emulator, freeze: Freeze, moment: str
) -> None:
    run_once(seconds=5)
    with freeze(moment):
        row = Segment.objects.create(name="VIP")
        run_once(seconds=5)
        assert fresh(row).status == Status.SYNCED
        row.name = "Gold"
        row.save()
        run_once(seconds=5)
    run_once(seconds=5)
    assert fresh(row).status == Status.SYNCED
    assert [stored.name for stored in bunce.segments] == ["Gold"]
    assert_no_pause()


@pytest.mark.parametrize("moment", [PAST, FUTURE])
def test_an_edit_in_frozen_time_is_sent_afterwards(
    bunce: Emulator, freeze: Freeze, moment: str
) -> None:
    row = Segment.objects.create(name="VIP")
    push.push(row.pk)
    with freeze(moment):
        row.name = "Gold"
        row.save()
    push.push(row.pk)
    assert fresh(row).status == Status.SYNCED
    assert_no_pause()


def test_a_create_without_a_response_in_frozen_time_is_found(
    bunce: Emulator, freeze: Freeze, settings: Any
) -> None:
    settings.BUNCE_SYNC = {**settings.BUNCE_SYNC, "GRACE": 0.1}
    with freeze(PAST):
        row = Segment.objects.create(name="VIP")
        bunce.script(["lost_answer"])
        push.push(row.pk)
        assert fresh(row).status == Status.IN_DOUBT
        time.sleep(0.2)
        run_once(seconds=5)
    assert fresh(row).bunce_id == bunce.segments[0].id
    assert len(bunce.segments) == 1


def test_a_pause_that_bunce_asks_for_in_frozen_time_has_its_length(
    bunce: Emulator, freeze: Freeze
) -> None:
    bunce.set_faults(Faults(limit_429=1.0, retry_after="date", retry_seconds=30))
    with freeze(FUTURE):
        push.push(Segment.objects.create(name="VIP").pk)
    assert state().blocked_reason == Reason.RATE_LIMITED
    until = state().blocked_until
    assert until is not None
    assert 0 < (until - shared_state.now()).total_seconds() < 60


@pytest.mark.parametrize("moment", [PAST, FUTURE])
def test_a_broker_failure_in_frozen_time_pauses_the_publisher_no_longer_than_usual(
    bunce: Emulator,
    settings: Any,
    freeze: Freeze,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = BrokerQueue(settings)
    with monkeypatch.context() as patch:
        patch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:9/0")
        with freeze(moment):
            assert not publisher.publish(tasks.push_segment, 1)
    real = clocks.monotonic
    monkeypatch.setattr(clocks, "monotonic", lambda: real() + 31)
    assert publisher.publish(tasks.push_segment, 1)
    assert queue.sent() == [("push_segment", [1])]

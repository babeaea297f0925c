"""The Celery tasks, whose messages may be lost, duplicated or late."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import current_app
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from bunce_sync import clocks, exceptions, tasks
from bunce_sync.choices import Sweeper
from bunce_sync.models import ApiCall, Segment
from bunce_sync.publisher import publisher
from bunce_sync.sync import push
from bunce_sync.sync import sweep as sweep_module
from bunce_sync.sync.clock import ClockJumped
from bunce_sync.sync.rate_limiter import NoPermit
from bunce_sync.sync.sweep import forget_sweep
from bunce_sync.tasks import push_segment, sweep, work
from bunce_sync.testing.emulator import Emulator, Faults

from .broker_queue import BrokerQueue
from .core import (
    Outcome,
    Reason,
    Status,
    ago,
    configure,
    doubtful,
    fresh,
    make,
    now,
    record_calls,
    seconds_until,
    set_state,
    state,
)

pytestmark = pytest.mark.django_db

#: Each task, and arguments for it. Without an id, ``push_segment`` pushes whatever is due.
TASKS = [(push_segment, ()), (sweep, ()), (work, ("reconcile",)), (work, ("refresh",))]


@pytest.fixture(autouse=True)
def broker_queue(bunce: Emulator, settings: Settings) -> BrokerQueue:
    return BrokerQueue(settings)


# The messages


@pytest.mark.parametrize("task", [push_segment, sweep, work], ids=lambda task: task.name)
def test_tasks_have_no_results_retries_or_late_acknowledgement(task: object) -> None:
    assert task in current_app.tasks.values()
    assert getattr(task, "ignore_result", None) is True
    assert getattr(task, "acks_late", None) is False
    assert not hasattr(task, "autoretry_for")


def test_only_a_push_expires_which_the_sweep_replaces(broker_queue: BrokerQueue) -> None:
    for task, arguments in TASKS:
        publisher.publish(task, *arguments)
    for name, _, headers in broker_queue.messages():
        expires = headers["expires"] and datetime.fromisoformat(str(headers["expires"]))
        if name == "push_segment":
            assert isinstance(expires, datetime)
            assert 3500 < (expires - datetime.now(UTC)).total_seconds() <= 3600
        else:
            assert expires is None
        assert headers["eta"] is None


def test_rabbitmq_drops_a_message_after_an_hour_by_its_own_clock(broker_queue: BrokerQueue) -> None:
    for task, arguments in TASKS:
        publisher.publish(task, *arguments)
        with (
            current_app.connection_for_read() as connection,
            connection.SimpleQueue(broker_queue.queue) as queue,
        ):
            message = queue.get(block=False)
            message.ack()
        assert message.properties["expiration"] == "3600000"  # AMQP counts milliseconds, as text


def test_a_message_tells_what_the_clock_of_its_sender_shows(broker_queue: BrokerQueue) -> None:
    push_segment.apply_async((7,), headers={"tenant": "a"})
    [(name, arguments, headers)] = broker_queue.messages()
    assert (name, arguments, headers["tenant"]) == ("push_segment", [7], "a")
    sent_at = headers[tasks.SENT_AT]
    assert isinstance(sent_at, float)
    assert 0 <= clocks.wall() - sent_at < 5


def test_the_caller_can_set_another_expiry(broker_queue: BrokerQueue) -> None:
    push_segment.apply_async((7,), expires=900)
    [(_, _, headers)] = broker_queue.messages()
    expires = datetime.fromisoformat(str(headers["expires"]))
    assert (expires - datetime.now(UTC)).total_seconds() > 600


def test_the_message_carries_time_limits_that_outrank_those_of_the_site(
    broker_queue: BrokerQueue,
) -> None:
    for task, arguments in TASKS:
        publisher.publish(task, *arguments)
    limits = [headers["timelimit"] for _, _, headers in broker_queue.messages()]
    assert limits == [[tasks.TIME_LIMIT, tasks.TIME_LIMIT]] * len(TASKS)


# push_segment


def test_the_named_segment_is_pushed_and_then_whatever_else_is_due(bunce: Emulator) -> None:
    older, named = make("Older", due_at=ago(60)), make("Named")
    push_segment(named.pk)
    assert [segment.name for segment in bunce.segments] == ["Named", "Older"]
    assert fresh(older).status == Status.SYNCED


def test_a_segment_that_does_not_exist_is_logged_in_one_line(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "bunce_sync"):
        push_segment(4711)
    assert [record.getMessage() for record in caplog.records] == [
        "Segment 4711 does not exist (any more); nothing to push."
    ]
    assert bunce.served == 0


def test_a_message_that_comes_five_times_makes_one_segment(bunce: Emulator) -> None:
    row = make()
    for _ in range(5):
        push_segment(row.pk)
    assert len(bunce.segments) == 1


def test_a_pause_ends_the_task_without_an_error(bunce: Emulator, broker_queue: BrokerQueue) -> None:
    row = make()
    set_state(blocked_until=ago(-30), blocked_reason=Reason.RATE_LIMITED)
    push_segment(row.pk)
    assert (bunce.served, fresh(row).status, broker_queue.sent()) == (0, Status.PENDING, [])


def test_a_used_up_budget_enqueues_the_next_run(
    broker_queue: BrokerQueue, monkeypatch: pytest.MonkeyPatch, bunce: Emulator
) -> None:
    row = make()
    monkeypatch.setattr(tasks, "TIME_BUDGET", 0.0)
    push_segment(row.pk)
    assert bunce.served == 0
    assert broker_queue.sent() == [("push_segment", [row.pk])]


@pytest.fixture
def eager() -> Iterator[None]:
    current_app.conf.task_always_eager = True
    yield
    current_app.conf.task_always_eager = False


@pytest.mark.usefixtures("eager")
def test_in_eager_mode_no_next_run_is_enqueued(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``task_always_eager`` the next run would start inside this one, and so on."""
    monkeypatch.setattr(tasks, "TIME_BUDGET", 0.0)
    runs: list[object] = []

    run = push.run

    def count_and_run(*args: Any, **options: Any) -> Any:
        runs.append(options)
        return run(*args, **options)

    monkeypatch.setattr(push, "run", count_and_run)
    push_segment(make().pk)
    assert (len(runs), bunce.served) == (1, 0)


@pytest.mark.parametrize(
    ("task", "arguments", "values"),
    [
        *((task, arguments, {"API_KEY": ""}) for task, arguments in TASKS),
        *((task, arguments, {"ENV": "mars", "BASE_URL": ""}) for task, arguments in TASKS),
        (push_segment, (), {"LEASE": "long"}),
        (sweep, (), {"GRACE": "long"}),
    ],
)
def test_unusable_settings_are_logged_in_one_line_and_nothing_is_sent(
    bunce: Emulator,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    task: Any,
    arguments: tuple[str, ...],
    values: dict[str, str],
) -> None:
    row, requested = make(), make(status=Status.SYNCED, refresh_requested_at=now())
    in_doubt = doubtful("In doubt")
    configure(settings, **values)
    task(*arguments)
    assert bunce.served == 0
    [logged] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (logged.levelname, logged.exc_info) == ("ERROR", None)
    assert [fresh(one).status for one in (row, requested, in_doubt)] == [
        Status.PENDING,
        Status.SYNCED,
        Status.IN_DOUBT,
    ]


# sweep and the others


def test_the_sweep_publishes_for_each_kind_of_work_and_for_pushes_last(
    broker_queue: BrokerQueue,
) -> None:
    make()
    doubtful()
    make(status=Status.SYNCED, refresh_requested_at=now())
    sweep()
    assert broker_queue.sent() == [
        ("work", ["refresh"]),
        ("work", ["reconcile"]),
        ("work", ["push"]),
    ]


def take(mark: str = "", **headers: Any) -> None:
    """Run the sweep as a worker does that takes a message."""
    sweep.push_request(called_directly=False, **headers)
    try:
        sweep.run(mark)
    finally:
        sweep.pop_request()


def test_messages_that_piled_up_cause_one_sweep(broker_queue: BrokerQueue) -> None:
    take()
    make()
    for known, cost in ((True, 0), (False, 1)):
        if not known:
            forget_sweep()  # another process
        with CaptureQueriesContext(connection) as queries:
            take()
        assert (broker_queue.sent(), len(queries)) == ([], cost)
    set_state(swept_at=ago(6))
    forget_sweep()
    take()
    assert broker_queue.sent() == [("work", ["push"])]


def test_a_sweep_is_due_again_half_an_interval_after_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monotonic = clocks.monotonic
    take()
    set_state(swept_at=ago(2))
    forget_sweep()
    take()  # finds that one
    monkeypatch.setattr(clocks, "monotonic", lambda: monotonic() + 2.9)
    assert sweep_module.is_known_recent()
    monkeypatch.setattr(clocks, "monotonic", lambda: monotonic() + 3.1)
    assert not sweep_module.is_known_recent()


def test_a_sweep_that_is_called_always_runs(broker_queue: BrokerQueue) -> None:
    take()
    make()
    sweep()
    assert broker_queue.sent() == [("work", ["push"])]


def test_a_message_of_the_doctor_is_answered_even_right_after_a_sweep() -> None:
    take()
    take("a mark")
    assert state().answered == "a mark"


@pytest.mark.parametrize("by", [Sweeper.LOOP, Sweeper.CRON])
def test_a_sweep_of_the_command_does_not_replace_that_of_a_worker(
    broker_queue: BrokerQueue, by: Sweeper
) -> None:
    sweep_module.sweep(by=by)
    make()
    take()
    assert broker_queue.sent() == [("work", ["push"])]
    assert state().swept_by == Sweeper.WORKER


def test_after_the_databases_clock_was_set_back_a_message_causes_a_sweep(
    broker_queue: BrokerQueue,
) -> None:
    set_state(swept_at=ago(-3600))
    take()
    assert -5 < seconds_until(state().swept_at) <= 0


def test_a_message_from_the_future_names_the_host_of_its_sender() -> None:
    headers: dict[str, Any] = {"origin": "gen7@clockwork", tasks.SENT_AT: clocks.wall() + 240}
    take(**headers)
    [entry] = (state().clocks or {}).items()
    assert (entry[0], round(entry[1]["ahead"], -1)) == ("clockwork", 240)


def test_with_nothing_to_do_the_sweep_publishes_nothing(broker_queue: BrokerQueue) -> None:
    sweep()
    assert broker_queue.sent() == []


def test_rows_in_doubt_are_resolved_and_absent_ones_are_sent_at_once(
    bunce: Emulator,
) -> None:
    row = doubtful()
    work("reconcile")
    assert fresh(row).status == Status.SYNCED
    assert [segment.name for segment in bunce.segments] == ["VIP"]


def test_a_comparison_wakes_a_worker_for_the_customers(broker_queue: BrokerQueue) -> None:
    work("audiences")
    assert [(name, arguments) for name, arguments, _ in broker_queue.messages()] == [
        ("work", ["customers"])
    ]


def test_requested_refreshes_are_done(bunce: Emulator) -> None:
    seen = make(
        status=Status.SYNCED, bunce_id=bunce.add_segment("VIP").id, refresh_requested_at=now()
    )
    work("refresh")
    assert fresh(seen).refresh_requested_at is None


# Secrets


def test_the_key_is_in_no_log_line_no_row_and_no_message(
    bunce: Emulator, broker_queue: BrokerQueue, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    key = "sk_test_do_not_show_me"
    configure(settings, API_KEY=key)
    with caplog.at_level(logging.DEBUG):
        for fault in (None, "lost_answer", "html_502", "unauthorized", "cut_json"):
            bunce.set_faults(Faults(), script=[fault])
            push_segment(make(str(fault)).pk)
            set_state(blocked_until=None, blocked_reason="", failures=0, probe_until=None)
        sweep()
    stored = [*Segment.objects.values(), *ApiCall.objects.values()]
    assert len(stored) >= 10
    assert key not in f"{stored} {caplog.text} {broker_queue.messages()}"
    assert "do_not_show" not in repr(settings.BUNCE_SYNC["BASE_URL"])


def test_messages_contain_only_ids(broker_queue: BrokerQueue) -> None:
    publisher.publish(push_segment, make("A name").pk)
    [message] = broker_queue.messages()
    assert "A name" not in str(message)


def test_a_long_call_log_does_not_delay_the_tasks(bunce: Emulator) -> None:
    record_calls(*[300.0] * 600, outcome=Outcome.CONFIRMED)
    push_segment(make().pk)
    assert len(bunce.segments) == 1


def test_the_exceptions_of_tasks_can_be_pickled() -> None:
    for error in (
        exceptions.Rejected("No", code="rejected", http_status=400),
        exceptions.RateLimited("Enough", retry_after=7.0),
        exceptions.ConfigurationError("no key"),
        NoPermit(7.0, Reason.UNREACHABLE),
        ClockJumped(-7.0, 3),
    ):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert (type(again), vars(again), str(again)) == (type(error), vars(error), str(error))

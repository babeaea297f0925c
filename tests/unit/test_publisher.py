"""The publisher: one attempt, a pause after a failure, and a throttle for many saved rows."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, current_app
from django.db import transaction
from kombu import Connection, Producer
from kombu.exceptions import OperationalError
from pytest_django import Settings

from bunce_sync import publisher as publisher_module
from bunce_sync import tasks
from bunce_sync.models import Segment
from bunce_sync.publisher import (
    BURST,
    IDLE_SECONDS,
    MESSAGES_PER_SECOND,
    PAUSE_SECONDS,
    PUBLISH_SECONDS,
    Publisher,
    publisher,
)
from bunce_sync.testing.emulator import Emulator

from .broker_queue import BrokerQueue
from .core import Status, configure, doubtful, fresh, in_threads, make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue(bunce: Emulator, settings: Settings) -> BrokerQueue:
    return BrokerQueue(settings)


class Clock:
    """Stands in for the module ``clocks`` of the publisher."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(publisher_module, "clocks", clock)
    return clock


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, queue: BrokerQueue) -> Iterator[list[str]]:
    """Make the broker unreachable, and yield the names of the tasks that were tried."""
    tried: list[str] = []

    def fail(task: Any, *args: Any, **options: Any) -> None:
        tried.append(task.name)
        raise OperationalError("amqp://user:secret@broker refuses")

    with monkeypatch.context() as patch:
        patch.setattr(tasks.BunceTask, "apply_async", fail)
        yield tried
    publisher.reset()


def publish() -> bool:
    return publisher.publish(tasks.push_segment, 1)


def test_after_a_failure_it_pauses_and_then_tries_again(broken: list[str], clock: Clock) -> None:
    assert not publish()
    clock.now += PAUSE_SECONDS - 1
    assert not publish()
    assert len(broken) == 1
    clock.now += 2
    assert not publish()
    assert len(broken) == 2


def test_a_failure_is_one_line_without_the_brokers_address(
    broken: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bunce_sync.publisher"):
        publish()
        publish()
    [line] = [record.message for record in caplog.records if "message" in record.message]
    assert "picked up by the sweep" in line
    assert "secret" not in caplog.text


def test_another_broker_of_the_site_takes_over(
    queue: BrokerQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:9/0;memory://localhost")
        assert publish()
        publisher.reset()
        patch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:9/0;redis://127.0.0.1:9/1")
        assert not publish()
    assert queue.sent() == [("push_segment", [1])]


def test_a_connection_is_reused_unless_it_was_idle_for_too_long(
    queue: BrokerQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    connect = publisher_module.connect

    def count_and_connect(app: Celery, url: str | None = None) -> Producer:
        made.append(app)
        return connect(app, url)

    monkeypatch.setattr(publisher_module, "connect", count_and_connect)
    assert publish()
    assert publish()
    assert len(made) == 1
    clock.now += IDLE_SECONDS + 1
    assert publish()
    assert len(made) == 2


def test_a_connection_that_was_closed_while_idle_is_replaced_at_once(queue: BrokerQueue) -> None:
    assert publish()
    [(_, producer)] = publisher._idle
    assert producer.connection is not None
    producer.connection.collect()
    producer.release()
    assert publish()
    assert len(queue.sent()) == 2


def test_threads_do_not_share_a_connection(queue: BrokerQueue) -> None:
    together = threading.Barrier(8)
    # In memory, threads that find no queue could each make one, and all but one would be lost.
    publish()
    assert len(queue.sent()) == 1

    def publish_together() -> bool:
        together.wait(10)
        return publish()

    assert all(in_threads([publish_together] * 8))
    assert len(queue.sent()) == 8


def test_a_forked_child_has_its_own_lock_and_connections() -> None:
    # In a process without other threads, as Python warns of a fork that would lose some.
    script = """
import os, signal
from bunce_sync.publisher import Publisher
publisher = Publisher()
publisher._idle.append((float("inf"), "a connection of the parent"))
with publisher._lock:
    child = os.fork()
    if not child:
        signal.alarm(10)
        os._exit(0 if publisher._take() is None else 1)
assert os.waitpid(child, 0)[1] == 0, "the child hangs, or uses its parent's connection"
assert publisher._take() == "a connection of the parent"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_in_eager_mode_the_task_runs_at_once(queue: BrokerQueue, bunce: Emulator) -> None:
    current_app.conf.task_always_eager = True
    try:
        row = Segment.objects.create(name="VIP")
    finally:
        current_app.conf.task_always_eager = False
    assert fresh(row).status == Status.SYNCED


def test_it_pauses_after_a_broker_responded_too_slowly(
    queue: BrokerQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Publisher._send
    late = PUBLISH_SECONDS + 0.1

    def send_slowly(*args: Any) -> None:
        clock.now += late
        send(*args)

    monkeypatch.setattr(Publisher, "_send", send_slowly)
    assert publish(), "the message was accepted"
    assert not publish()
    clock.now += PAUSE_SECONDS
    late = 0.0
    assert publish()
    assert publish()


def test_the_time_to_import_the_brokers_client_does_not_count_as_a_slow_broker(
    queue: BrokerQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = Connection.get_transport_cls
    imports = [PUBLISH_SECONDS + 0.1]

    def resolve_slowly(self: Connection) -> Any:
        clock.now += imports.pop() if imports else 0.0
        return resolve(self)

    publisher.reset()
    monkeypatch.setattr(Connection, "get_transport_cls", resolve_slowly)
    assert publish()
    assert not imports
    assert publish()


# Many rows


def test_rows_saved_in_quick_succession_are_throttled(queue: BrokerQueue, clock: Clock) -> None:
    rows = [Segment.objects.create(name=f"Segment {number}") for number in range(BURST + 30)]
    assert [arguments[0] for _, arguments in queue.sent()] == [row.pk for row in rows[:BURST]]
    clock.now += 1.5 / MESSAGES_PER_SECOND
    later = [Segment.objects.create(name="Later") for _ in range(2)]
    assert [arguments[0] for _, arguments in queue.sent()] == [later[0].pk]
    clock.now += 60
    for _ in range(BURST + 1):
        Segment.objects.create(name="Much later")
    assert len(queue.sent()) == BURST


def test_a_row_without_a_message_is_found_by_the_worker_that_is_running(
    queue: BrokerQueue, bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = make()

    def save_meanwhile(seconds: float) -> None:
        assert seconds > 1 / MESSAGES_PER_SECOND
        if not Segment.objects.filter(name="Meanwhile").exists():
            make("Meanwhile")

    monkeypatch.setattr("bunce_sync.sync.push.time.sleep", save_meanwhile)
    tasks.push_segment(row.pk)
    assert [segment.name for segment in bunce.segments] == ["VIP", "Meanwhile"]


def test_many_rows_in_one_transaction_are_throttled(queue: BrokerQueue) -> None:
    with transaction.atomic():
        rows = [Segment.objects.create(name=f"Segment {number}") for number in range(BURST + 50)]
    sent = [arguments[0] for _, arguments in queue.sent()]
    assert sent[:BURST] == [row.pk for row in rows[:BURST]]
    assert len(sent) < BURST + 25, "ten a second more"


def test_eager_tasks_are_never_throttled(
    queue: BrokerQueue, bunce: Emulator, settings: Settings
) -> None:
    """In a project's tests each row is pushed by its own message: no worker rechecks."""
    configure(settings, RATE_LIMIT=None)
    current_app.conf.task_always_eager = True
    try:
        for number in range(BURST + 5):
            Segment.objects.create(name=f"Segment {number}")
    finally:
        current_app.conf.task_always_eager = False
    assert len(bunce.segments) == BURST + 5


# A broker that cannot be reached


def test_a_sweep_that_cannot_publish_does_the_work_itself(
    broken: list[str], bunce: Emulator
) -> None:
    waiting, unsure = make("Waiting"), doubtful("In doubt")
    asked = make("Asked", status=Status.SYNCED, bunce_id=bunce.add_segment("Asked in Bunce").id)
    Segment.objects.filter(pk=asked.pk).update_sync_fields(refresh_requested_at=asked.due_at)
    tasks.sweep()
    assert fresh(waiting).status == Status.SYNCED
    assert fresh(unsure).status == Status.SYNCED
    assert fresh(asked).bunce_name == "Asked in Bunce"
    assert len(broken) == 1, "paused after the first failure"

"""The sample site's filesystem broker, without kombu's race conditions."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty
from typing import IO, Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.simple import SimpleQueue
from kombu.transport import filesystem

from project import env

#: Enough for kombu's own transport to fail in nearly every run (5 of 6).
MESSAGES = 500
#: Queues declared at the same moment, and how often: kombu's own transport loses some of them.
QUEUES, EXCHANGES = 4, 25


def connect(folder: Path) -> Connection:
    url, transport, options = env.broker("filesystem://localhost", folder=folder)
    return Connection(url, transport=transport, transport_options=options)


def test_a_message_is_never_read_before_it_is_complete(tmp_path: Path) -> None:
    name = f"test-{uuid.uuid4()}"

    def write() -> None:
        with connect(tmp_path) as mine, mine.SimpleQueue(name) as queue:
            for number in range(MESSAGES):
                queue.put({"number": number})

    with connect(tmp_path) as mine, mine.SimpleQueue(name) as queue:
        writer = threading.Thread(target=write)
        writer.start()
        taken: list[int] = []
        while writer.is_alive():
            taken += read(queue)
        taken += read(queue)
    assert sorted(taken) == list(range(MESSAGES))


def test_queues_declared_at_the_same_moment_are_all_bound(
    tmp_path: Path,
) -> None:
    names = {f"queue-{number}" for number in range(QUEUES)}
    with ThreadPoolExecutor(QUEUES) as pool:
        for _ in range(EXCHANGES):
            exchange, together = f"test-{uuid.uuid4()}", threading.Barrier(QUEUES)
            made = [pool.submit(declare, tmp_path, exchange, name, together) for name in names]
            for one in made:
                one.result()
            with connect(tmp_path) as connection:
                channel: Any = connection.default_channel
                assert {queue for _, _, queue in channel.get_table(exchange)} == names


def test_a_child_forked_while_the_queues_are_locked_does_not_keep_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock: Any = filesystem.lock
    child: list[int] = []

    def lock_and_fork(file: IO[str], flags: int) -> None:
        lock(file, flags)
        child.append(os.dup(file.fileno()))  # a fork leaves the same open

    with connect(tmp_path) as connection:
        channel: Any = connection.default_channel
        monkeypatch.setattr(filesystem, "lock", lock_and_fork)
        channel.get_table("shared")
    with (tmp_path / "control" / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if it is held
    for one in child:
        os.close(one)
    assert child


def declare(folder: Path, exchange: str, name: str, together: threading.Barrier) -> None:
    """Declare a queue, as a starting worker does."""
    with connect(folder) as connection:
        channel = connection.default_channel
        together.wait(10)
        Queue(name, Exchange(exchange), routing_key=name)(channel).declare()


def read(queue: SimpleQueue) -> list[int]:
    """Return the numbers of all waiting messages, and acknowledge them."""
    taken: list[int] = []
    while True:
        try:
            message = queue.get(block=False)
        except Empty:
            return taken
        taken.append(message.payload["number"])
        message.ack()

"""The sample site's broker in a folder."""

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

from project import services

#: So many that with kombu's own transport nearly every run takes one too early (5 of 6 did).
MESSAGES = 500
#: So many start at once, so many times: with kombu's own transport some of them fail.
FIRST, EXCHANGES = 4, 25


def connect(folder: Path) -> Connection:
    url, transport, options = services.broker("filesystem://localhost", folder=folder)
    return Connection(url, transport=transport, transport_options=options)


def test_a_message_is_never_taken_before_it_is_written(tmp_path: Path) -> None:
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


def test_all_who_are_the_first_to_use_an_exchange_at_the_same_moment_find_their_queue(
    tmp_path: Path,
) -> None:
    names = {f"queue-{number}" for number in range(FIRST)}
    with ThreadPoolExecutor(FIRST) as pool:
        for _ in range(EXCHANGES):
            record, together = f"test-{uuid.uuid4()}", threading.Barrier(FIRST)
            made = [pool.submit(declare, tmp_path, record, name, together) for name in names]
            for one in made:
                one.result()
            with connect(tmp_path) as connection:
                channel: Any = connection.default_channel
                assert {queue for _, _, queue in channel.get_table(record)} == names


def test_a_child_forked_while_the_list_of_queues_is_locked_does_not_keep_it_locked(
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
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error if somebody has it
    for one in child:
        os.close(one)
    assert child


def declare(folder: Path, record: str, name: str, together: threading.Barrier) -> None:
    """Make a queue, as a worker does that starts."""
    with connect(folder) as connection:
        channel = connection.default_channel
        together.wait(10)
        Queue(name, Exchange(record), routing_key=name)(channel).declare()


def read(queue: SimpleQueue) -> list[int]:
    """Take the messages that are there."""
    taken: list[int] = []
    while True:
        try:
            message = queue.get(block=False)
        except Empty:
            return taken
        taken.append(message.payload["number"])
        message.ack()

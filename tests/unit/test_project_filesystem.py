"""The sample site's broker in a folder."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from queue import Empty

from kombu import Connection
from kombu.simple import SimpleQueue

from project import services

#: So many that with kombu's own transport nearly every run takes one too early (5 of 6 did).
MESSAGES = 500


def test_a_message_is_never_taken_before_it_is_written(tmp_path: Path) -> None:
    url, transport, options = services.broker("filesystem://localhost", folder=tmp_path)
    name = f"test-{uuid.uuid4()}"

    def connection() -> Connection:
        return Connection(url, transport=transport, transport_options=options)

    def write() -> None:
        with connection() as mine, mine.SimpleQueue(name) as queue:
            for number in range(MESSAGES):
                queue.put({"number": number})

    with connection() as mine, mine.SimpleQueue(name) as queue:
        writer = threading.Thread(target=write)
        writer.start()
        taken: list[int] = []
        while writer.is_alive():
            taken += read(queue)
        taken += read(queue)
    assert sorted(taken) == list(range(MESSAGES))


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

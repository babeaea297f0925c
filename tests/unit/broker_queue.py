"""The messages that the publisher sent, read from the queue of an in-memory broker."""

from __future__ import annotations

from queue import Empty
from uuid import uuid4

from celery import current_app
from pytest_django import Settings

from bunce_sync.publisher import publisher

from .core import configure


class BrokerQueue:
    """A queue that belongs to one test."""

    def __init__(self, settings: Settings) -> None:
        self.queue = f"test-{uuid4()}"
        configure(settings, QUEUE=self.queue)
        publisher.reset()

    def sent(self) -> list[tuple[str, list[object]]]:
        """Return task and arguments of each message since the last call, oldest first."""
        return [(name, arguments) for name, arguments, _ in self.messages()]

    def messages(self) -> list[tuple[str, list[object], dict[str, object]]]:
        """Return the same with the headers."""
        found: list[tuple[str, list[object], dict[str, object]]] = []
        with (
            current_app.connection_for_read() as connection,
            connection.SimpleQueue(self.queue) as queue,
        ):
            while True:
                try:
                    message = queue.get(block=False)
                except Empty:
                    return found
                arguments = message.payload[0]
                name = message.headers["task"].removeprefix("bunce_sync.")
                found.append((name, arguments, dict(message.headers)))
                message.ack()

"""Whom the publisher rang for: the messages that lie in the queue of a broker in memory."""

from __future__ import annotations

from queue import Empty
from uuid import uuid4

from celery import current_app
from pytest_django import Settings

from bunce_sync.publisher import publisher

from .core import configure


class BrokerQueue:
    """A queue of the test's own."""

    def __init__(self, settings: Settings) -> None:
        self.queue = f"test-{uuid4()}"
        configure(settings, QUEUE=self.queue)
        publisher.reset()

    def rung(self) -> list[tuple[str, list[object]]]:
        """Task and arguments of each message since the last look, oldest first."""
        return [(name, arguments) for name, arguments, _ in self.messages()]

    def messages(self) -> list[tuple[str, list[object], dict[str, object]]]:
        """The same with the headers."""
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

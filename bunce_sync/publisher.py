"""Sends Celery messages without delaying the caller or raising errors.

With Celery's defaults, publishing can block for minutes while the broker is down. The publisher
uses its own connections with short timeouts, makes one attempt, and pauses after a failure. No
message is essential: the row is the queue, and the sweep finds it.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from celery import Celery, Task
from kombu import Producer

from bunce_sync import clocks
from bunce_sync.log_events import LogEvent, event
from bunce_sync.routing import celery_app

logger = logging.getLogger(__name__)

#: Seconds for each step of communication with the broker.
STEP_SECONDS = 0.3
#: Seconds that one message may take. STEP_SECONDS limits single steps, of which a new connection
#: has many; a broker that responds but takes longer than this counts as failed.
PUBLISH_SECONDS = 1.0
#: Seconds without further attempts after a failure.
PAUSE_SECONDS = 30.0
#: Seconds after which an idle connection is not used again: brokers and firewalls drop them.
IDLE_SECONDS = 10.0

#: Throttled messages that a process may send at once, and how many per second after that. A worker
#: rechecks the database before it ends, so an import that saves row by row does not need a message
#: for each row.
BURST = 20
MESSAGES_PER_SECOND = 10.0

_ONE_ATTEMPT = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
_REDIS = {
    "socket_timeout": STEP_SECONDS,
    "socket_connect_timeout": STEP_SECONDS,
    "retry_on_timeout": False,
}
_AMQP = {
    "read_timeout": STEP_SECONDS,
    "write_timeout": STEP_SECONDS,
    "confirm_publish": True,
    "confirm_timeout": STEP_SECONDS,
}


class Publisher:
    """The publisher of one process. It is thread-safe, and works after a fork."""

    def __init__(self) -> None:
        self._paused_until = 0.0
        self._tokens, self._tokens_at = float(BURST), clocks.monotonic()
        self._transports_imported = False
        self._reset_connections()
        # A child must neither use nor close its parent's sockets, and another thread of the parent
        # may have held the lock, which would never be released in the child.
        if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
            os.register_at_fork(after_in_child=self._reset_connections)

    def _reset_connections(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Producer]] = []

    def publish(self, task: Task[Any, Any], *args: Any) -> bool:
        """Send a message for the task, unless a recent attempt failed.

        Args:
            task: the task to run.
            args: its arguments.

        Returns:
            Whether the broker accepted the message. If not, the next sweep sends it again.
        """
        app = celery_app()
        if app is None:  # there is no broker to wait for
            return False
        if app.conf.task_always_eager:
            task.apply_async(args)
            return True
        if clocks.monotonic() < self._paused_until:
            return False
        try:
            if not self._transports_imported:
                import_transports(app)
                self._transports_imported = True
            started = clocks.monotonic()
            self._publish(task, args)
        except Exception as error:  # noqa: BLE001 - each transport has its own errors
            self._paused_until = clocks.monotonic() + PAUSE_SECONDS
            # Without the error's text, which may contain the broker's URL with a password.
            logger.warning(
                "Celery could not send a message (%s). Segments wait in the database and are picked"
                " up by the sweep. Next attempt in %.0f s.",
                type(error).__name__,
                PAUSE_SECONDS,
                extra=event(
                    LogEvent.MESSAGE_NOT_SENT, error=type(error).__name__, seconds=PAUSE_SECONDS
                ),
            )
            return False
        if (took := clocks.monotonic() - started) > PUBLISH_SECONDS:
            self._paused_until = clocks.monotonic() + PAUSE_SECONDS
            logger.warning(
                "The Celery broker took %.1f s for one message. No messages are sent for %.0f s;"
                " segments wait in the database and are picked up by the sweep.",
                took,
                PAUSE_SECONDS,
                extra=event(LogEvent.BROKER_SLOW, duration_ms=round(took * 1000)),
            )
        return True

    def publish_throttled(self, task: Task[Any, Any], *args: Any) -> bool:
        """Send a message as ``publish`` does, but skip it when many were sent recently.

        Only for a task that, having found no more work, checks once more after at least
        ``1 / MESSAGES_PER_SECOND``.

        Returns:
            Whether the broker accepted a message.
        """
        app = celery_app()
        if app is None:
            return False
        if app.conf.task_always_eager:
            return self.publish(task, *args)  # no worker would recheck the database
        now = clocks.monotonic()
        passed, self._tokens_at = now - self._tokens_at, now
        self._tokens = min(BURST, self._tokens + passed * MESSAGES_PER_SECOND)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return self.publish(task, *args)

    def reset(self) -> None:
        """Close the connections, and forget failures and the number of messages sent."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._paused_until = 0.0
            self._tokens, self._tokens_at = float(BURST), clocks.monotonic()
            self._transports_imported = False
        for _since, producer in idle:
            discard(producer)

    def _publish(self, task: Task[Any, Any], args: tuple[Any, ...]) -> None:
        producer = self._take()
        began = clocks.monotonic()
        if producer is not None:
            try:
                self._send(task, args, producer)
            except Exception:
                # Most likely the connection was closed while idle, so try a new one; but not if
                # the broker did not respond in time.
                if clocks.monotonic() - began >= STEP_SECONDS:
                    raise
            else:
                return
        problem: Exception | None = None
        for url in broker_urls(task.app):
            try:
                self._send(task, args, connect(task.app, url))
            except Exception as error:  # noqa: BLE001 - each transport has its own errors
                problem = problem or error
            else:
                return
        if problem is not None:
            raise problem

    def _send(self, task: Task[Any, Any], args: tuple[Any, ...], producer: Producer) -> None:
        try:
            task.apply_async(args, producer=producer, retry=False)
        except BaseException:
            discard(producer)
            raise
        with self._lock:
            self._idle.append((clocks.monotonic(), producer))

    def _take(self) -> Producer | None:
        with self._lock:
            while self._idle:
                since, producer = self._idle.pop()
                if clocks.monotonic() - since < IDLE_SECONDS:
                    return producer
                discard(producer)
        return None


def import_transports(app: Celery) -> None:
    """Import the client of each of the site's brokers; nothing is opened.

    The first time this can take a second, which must not count as a slow broker.
    """
    for url in broker_urls(app):
        app.connection_for_write(url).get_transport_cls()


def broker_urls(app: Celery) -> list[str | None]:
    """Return the site's brokers, several if it uses fail-over; [None] if there is only one."""
    return [*dict.fromkeys(app.connection_for_write().alt)] or [None]


def connect(app: Celery, url: str | None = None) -> Producer:
    """Return a producer on a connection of its own, which is opened when it is first used.

    Args:
        url: one of ``broker_urls``.
    """
    driver = app.connection_for_write().transport.driver_type  # lazy: nothing is opened
    limits: dict[str, Any] = {"redis": _REDIS, "amqp": _AMQP}.get(driver, {})
    connection = app.connection_for_write(
        url, connect_timeout=STEP_SECONDS, transport_options=_ONE_ATTEMPT | limits
    )
    return Producer(connection, auto_declare=False)


def discard(producer: Producer) -> None:
    """Close a producer's connection without waiting for the broker."""
    connection = producer.connection
    try:
        if connection is not None:
            # Not release(): over AMQP it sends two closing messages and waits for the replies,
            # which a frozen broker does not send.
            connection.collect()
    except Exception as error:  # noqa: BLE001 - the connection is dropped either way
        logger.debug(
            "Closing a broken broker connection: %s",
            type(error).__name__,
            extra=event(LogEvent.BROKER_CLOSE_FAILED, error=type(error).__name__),
        )


publisher = Publisher()

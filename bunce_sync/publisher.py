"""Rings for a worker without ever holding up, or failing, the one who rings.

A publish with Celery's defaults can hang for minutes while the broker is down. Here it has a
connection of its own with tight limits, one try, and after a failure silence for a while: the row
is the queue, and the sweep finds it anyway.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from celery import Celery, Task
from kombu import Producer

logger = logging.getLogger(__name__)

#: Seconds for each step of talking to the broker.
STEP_SECONDS = 0.3
#: Seconds that a ring may take in all: a broker that answers, but takes longer, counts as failed.
#: Its limits are for each step, of which a new connection has many.
PUBLISH_SECONDS = 1.0
#: Seconds without further tries after one failed.
SILENCE_SECONDS = 30.0
#: Seconds after which an idle connection is not trusted any more: brokers and firewalls drop them.
IDLE_SECONDS = 10.0

#: Rings for rows saved one after the other that a process makes as they come; and how many it makes
#: a second beyond these. Whoever was woken looks again a little later, so an import that saves row
#: by row need not send a message for each.
BURST = 20
MESSAGES_PER_SECOND = 10.0

_ONE_TRY = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
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
    """The publisher of one process. Safe for threads; after a fork the child makes its own."""

    def __init__(self) -> None:
        self._silent_until = 0.0
        self._left, self._left_at = float(BURST), time.monotonic()
        self._start_anew()
        # The parent's sockets are neither to be used nor to be closed in a child, and another
        # thread of the parent may have held the lock, which nobody would release there.
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Producer]] = []

    def publish(self, task: Task[Any, Any], *args: Any) -> bool:
        """Send the message, or let it be.

        Args:
            args: the task's arguments.

        Returns:
            Whether the broker took it. False is no loss: the next sweep rings again.
        """
        app: Celery = task.app
        if app.conf.task_always_eager:
            task.apply_async(args)
            return True
        if time.monotonic() < self._silent_until:
            return False
        began = time.monotonic()
        try:
            self._publish(task, args)
        except Exception as error:  # noqa: BLE001 - each transport has errors of its own
            self._silent_until = time.monotonic() + SILENCE_SECONDS
            # Not the error's text: it may hold the broker's address with a password.
            logger.warning(
                "The broker cannot be reached (%s). Nothing is lost: rows wait in the database,"
                " and the sweep rings for them. Next try in %.0f s.",
                type(error).__name__,
                SILENCE_SECONDS,
            )
            return False
        if (took := time.monotonic() - began) > PUBLISH_SECONDS:
            self._silent_until = time.monotonic() + SILENCE_SECONDS
            logger.warning(
                "The broker took %.1f s for one message. So that saving stays quick, it is left"
                " alone for %.0f s; the sweep rings for rows meanwhile.",
                took,
                SILENCE_SECONDS,
            )
        return True

    def publish_throttled(self, task: Task[Any, Any], *args: Any) -> bool:
        """As ``ring``, but not for each of very many calls in a row.

        Only for a task that looks for more work ``1 / MESSAGES_PER_SECOND`` after it has found none.
        """
        if task.app.conf.task_always_eager:
            return self.publish(task, *args)  # no worker is awake that would look again
        now = time.monotonic()
        passed, self._left_at = now - self._left_at, now
        self._left = min(BURST, self._left + passed * MESSAGES_PER_SECOND)
        if self._left < 1:
            return False
        self._left -= 1
        return self.publish(task, *args)

    def reset(self) -> None:
        """Forget connections, failures, and how often it rang."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._silent_until = 0.0
            self._left, self._left_at = float(BURST), time.monotonic()
        for _since, producer in idle:
            _discard(producer)

    def _publish(self, task: Task[Any, Any], args: tuple[Any, ...]) -> None:
        producer = self._take()
        began = time.monotonic()
        if producer is not None:
            try:
                self._send(task, args, producer)
            except Exception:
                # Closed while it was idle, most likely: worth one fresh connection, unless the
                # broker has already shown that it does not answer.
                if time.monotonic() - began >= STEP_SECONDS:
                    raise
            else:
                return
        self._send(task, args, _connect(task.app))

    def _send(self, task: Task[Any, Any], args: tuple[Any, ...], producer: Producer) -> None:
        try:
            task.apply_async(args, producer=producer, retry=False)
        except BaseException:
            _discard(producer)
            raise
        with self._lock:
            self._idle.append((time.monotonic(), producer))

    def _take(self) -> Producer | None:
        with self._lock:
            while self._idle:
                since, producer = self._idle.pop()
                if time.monotonic() - since < IDLE_SECONDS:
                    return producer
                _discard(producer)
        return None


def _connect(app: Celery) -> Producer:
    driver = app.connection_for_write().transport.driver_type  # lazy: nothing is opened
    limits: dict[str, Any] = {"redis": _REDIS, "amqp": _AMQP}.get(driver, {})
    connection = app.connection_for_write(
        connect_timeout=STEP_SECONDS, transport_options=_ONE_TRY | limits
    )
    return Producer(connection, auto_declare=False)


def _discard(producer: Producer) -> None:
    connection = producer.connection
    try:
        if connection is not None:
            # Not release(): over AMQP that says goodbye twice and waits for the answers, which a
            # frozen broker does not give.
            connection.collect()
    except Exception as error:  # noqa: BLE001 - it is of no more use either way
        logger.debug("Closing a broken broker connection: %s", type(error).__name__)


publisher = Publisher()

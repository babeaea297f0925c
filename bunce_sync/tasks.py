"""The Celery tasks: shells around ``bunce_sync.sync``, and nothing else.

A message only says "look now": one that is lost, doubled or late changes nothing but the delay.
So there is no result, no retry, no ETA; leases recover lost work, not acknowledgements.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Task, shared_task

from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.publisher import MESSAGES_PER_SECOND, publisher
from bunce_sync.sync.push import drain
from bunce_sync.sync.reconcile import reconcile as scan
from bunce_sync.sync.refresh import refresh_requested
from bunce_sync.sync.sweep import sweep as look_after_rows

logger = logging.getLogger(__name__)

#: Seconds after which a task begins nothing new, so that a worker slot is not held for long.
TIME_BUDGET = 5.0
#: Seconds after which a worker that has found nothing more looks once again: the publisher does not
#: ring for each of the rows that are saved in quick succession.
RECHECK_DELAY = 2 / MESSAGES_PER_SECOND


class BunceTask(Task):  # type: ignore[type-arg]  # Task is generic in the stubs alone
    """A task on the app's own queue whose message is worthless when it is old."""

    ignore_result = True
    acks_late = False

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """As Celery's; queue and expiry come from the settings as they are now."""
        options.setdefault("queue", conf.QUEUE)
        options.setdefault("expires", conf.SWEEP_INTERVAL)
        return super().apply_async(*args, **options)


def enqueue_next(task: Task[Any, Any], *args: Any) -> None:
    """Ring for the next shift. Without workers the one who rang would have to work it as well."""
    if not task.app.conf.task_always_eager:
        publisher.publish(task, *args)


@shared_task(name="bunce_sync.push_segment", base=BunceTask)
def push_segment(segment_id: int | None, using: str | None = None) -> None:
    """Push the row that rang, then whatever else is due.

    A woken worker works off the queue in the database, so that a backlog needs few messages.

    Args:
        segment_id: None when it was not one row that rang.
    """
    try:
        drain(
            seconds=TIME_BUDGET,
            first=segment_id,
            recheck_delay=0.0 if push_segment.app.conf.task_always_eager else RECHECK_DELAY,
            on_more_work=lambda next_id: enqueue_next(push_segment, next_id, using),
            using=using,
        )
    except ConfigurationError as error:
        logger.error("Nothing is sent to Bunce: %s", error)


@shared_task(name="bunce_sync.sweep", base=BunceTask)
def sweep(using: str | None = None) -> None:
    """Ring for rows that are due, free rows whose worker died, settle rows in doubt."""
    try:
        found = look_after_rows(using=using)
    except ConfigurationError as error:
        logger.error("Nothing is sent to Bunce: %s", error)
        return
    # Where the bell cannot be rung, or is silent since it could not a moment ago, a worker is here
    # all the same: the one that runs this. The many come last: behind a backlog's messages the two
    # that are rung for once would lie until they expire, sweep after sweep.
    if found.in_doubt and not publisher.publish(reconcile, using):
        reconcile(using)
    if found.asked and not publisher.publish(refresh_segments, using):
        refresh_segments(using)
    if not all(publisher.publish(push_segment, None, using) for _ in range(found.workers)):
        drain(seconds=TIME_BUDGET, using=using)


@shared_task(name="bunce_sync.reconcile", base=BunceTask)
def reconcile(using: str | None = None) -> None:
    """Go on looking for rows in doubt in Bunce's list."""
    try:
        scan(seconds=TIME_BUDGET, on_more_work=lambda: enqueue_next(reconcile, using), using=using)
        drain(
            seconds=TIME_BUDGET, using=using
        )  # what is not in Bunce need not wait for the next sweep
    except ConfigurationError as error:
        logger.error("Nothing is sent to Bunce: %s", error)


@shared_task(name="bunce_sync.refresh_segments", base=BunceTask)
def refresh_segments(using: str | None = None) -> None:
    """Read the segments from Bunce that somebody asked to see."""
    try:
        refresh_requested(
            seconds=TIME_BUDGET,
            on_more_work=lambda: enqueue_next(refresh_segments, using),
            using=using,
        )
    except ConfigurationError as error:
        logger.error("Nothing is read from Bunce: %s", error)

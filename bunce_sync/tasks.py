"""The Celery tasks, which run ``bunce_sync.sync`` within a budget of time.

A message only says "look now": a lost, duplicated or late message affects only the delay.
So there is no result, no retry and no ETA; leases recover lost work, not acknowledgements.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery, Task, shared_task

from bunce_sync import database
from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.log_events import LogEvent, event
from bunce_sync.publisher import MESSAGES_PER_SECOND, publisher
from bunce_sync.routing import SWEEP, is_scheduled
from bunce_sync.sync import push
from bunce_sync.sync import sweep as sweep_module
from bunce_sync.sync.audience_runs import AUDIENCES
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.customers import CUSTOMERS
from bunce_sync.sync.push import PUSH
from bunce_sync.sync.work import BY_NAME, KINDS

logger = logging.getLogger(__name__)

#: Seconds after which a task begins nothing new, so that it does not hold a worker slot for long.
TIME_BUDGET = 5.0
#: Seconds after which a worker that finds nothing more looks once again: the publisher does not
#: send a message for each of the rows that are saved in quick succession.
RECHECK_DELAY = 2 / MESSAGES_PER_SECOND
#: Seconds after which Celery ends a task that hangs. It replaces the site's own time limits, which
#: may be shorter than a request: ended in the middle of one, a create would be in doubt.
TIME_LIMIT = 3600


class BunceTask(Task):  # type: ignore[type-arg]  # Task is generic in the stubs alone
    """A task whose message is worthless when it is old."""

    ignore_result = True
    acks_late = False

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """As Celery's; queue and expiry come from the settings as they are now.

        The time limits are in the message, which outranks settings, options of the worker and
        ``task_annotations``.
        """
        if conf.QUEUE:
            options.setdefault("queue", conf.QUEUE)
        options.setdefault("expires", conf.SWEEP_INTERVAL)
        options.setdefault("time_limit", TIME_LIMIT)
        options.setdefault("soft_time_limit", TIME_LIMIT)
        return super().apply_async(*args, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As Celery's; a setting that cannot be used is logged and not an error of the task."""
        try:
            return super().__call__(*args, **kwargs)
        except ConfigurationError as error:
            logger.error(
                "No request to Bunce was made: %s", error, extra=event(LogEvent.NOT_CONFIGURED)
            )
            return None


@shared_task(name="bunce_sync.push_segment", base=BunceTask)
def push_segment(segment_id: int | None = None) -> None:
    """Push a segment, then whatever else is due.

    A woken worker drains the queue in the database, so that a backlog needs few messages.
    """
    progress = push.run(
        Budget(TIME_BUDGET),
        first_id=segment_id,
        recheck_seconds=0.0 if _is_eager(push_segment) else RECHECK_DELAY,
    )
    if progress.more:
        _enqueue_next(push_segment, progress.waiting_id)


@shared_task(name="bunce_sync.work", base=BunceTask)
def work(kind: str) -> None:
    """Do some work of one kind, then push what that made due.

    Args:
        kind: a name of ``sync.work.KINDS``.
    """
    progress = BY_NAME[kind].run(Budget(TIME_BUDGET))
    if progress.more:
        _enqueue_next(work, kind)
    if kind == AUDIENCES.name:
        # A comparison makes customers due. Without this they would wait for the next sweep.
        _enqueue_next(work, CUSTOMERS.name)
    if kind != PUSH.name:
        PUSH.run(Budget(TIME_BUDGET))


class SweepTask(BunceTask):
    """The task that beat starts, in every Celery application that has this app's tasks."""

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Add the task to beat's schedule, unless the site has scheduled it."""
        if is_scheduled(app):
            return
        interval = conf.usable("SWEEP_INTERVAL")
        # No changes to the site's dict. While no worker runs, sweeps must not pile up.
        app.conf.beat_schedule = {
            **(app.conf.beat_schedule or {}),
            SWEEP: {"task": SWEEP, "schedule": interval, "options": {"expires": interval}},
        }


@shared_task(name=SWEEP, base=SweepTask)
def sweep(mark: str = "") -> None:
    """Repair what crashed workers left, and wake workers for all work that is due.

    Args:
        mark: of a message of ``bunce_doctor``; it shows that a worker took this very message.
    """
    if mark:
        database.sync_state().update(answered=mark[:36])
    found = sweep_module.sweep()
    for kind in KINDS:
        published = [publisher.publish(work, kind.name) for _ in range(found.workers[kind.name])]
        if not all(published):
            # No message can be sent, but one worker is here: the one that runs this.
            kind.run(Budget(TIME_BUDGET))


def _enqueue_next(task: Task[Any, Any], *args: Any) -> None:
    """Publish the next run. In eager mode it would run here, without an end to the budget."""
    if not _is_eager(task):
        publisher.publish(task, *args)


def _is_eager(task: Task[Any, Any]) -> bool:
    return bool(task.app.conf.task_always_eager)

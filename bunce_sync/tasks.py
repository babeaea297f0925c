"""The Celery tasks, which run ``bunce_sync.sync`` within a budget of time.

A message only says "look now": a lost, duplicated or late message affects only the delay.
So there is no result, no retry and no ETA; leases recover lost work, not acknowledgements.

Nor may the sync depend on messages that expire: Celery compares the clocks of two hosts, and a
worker whose clock is ahead would discard all of them. So only ``push_segment`` expires, after an
hour; the sweep finds the row.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from celery import Celery, Task, shared_task
from celery.app.task import Context
from celery.schedules import schedstate, schedule

from bunce_sync import clocks, database
from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.log_events import LogEvent, event
from bunce_sync.publisher import MESSAGES_PER_SECOND, publisher
from bunce_sync.routing import SWEEP, is_scheduled
from bunce_sync.sync import host_clocks, push
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
#: Seconds after which RabbitMQ drops a message that no worker took, by its own clock. A worker
#: discards a message for a push of that age, by its own clock and the sender's.
MESSAGE_SECONDS = 3600
#: The message header with the time at which the sender's clock stood, in seconds since 1970.
SENT_AT = "bunce_sync_sent_at"
#: Seconds that the clock of beat's host may be set back without a sweep at once.
CLOCK_STEP = 1.0


class BunceTask(Task):  # type: ignore[type-arg]  # Task is generic in the stubs alone
    """A task whose message only says "look now"."""

    ignore_result = True
    acks_late = False

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """As Celery's; the queue comes from the settings as they are now.

        The time limits are in the message, which outranks settings, options of the worker and
        ``task_annotations``.
        """
        if conf.QUEUE:
            options.setdefault("queue", conf.QUEUE)
        options.setdefault("expiration", MESSAGE_SECONDS)
        options["headers"] = {SENT_AT: clocks.wall(), **(options.get("headers") or {})}
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


@shared_task(name="bunce_sync.push_segment", base=BunceTask, expires=MESSAGE_SECONDS)
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


class SweepSchedule(schedule):
    """An interval that also holds when the clock of beat's host is set back.

    Celery would not sweep again before that clock reaches the time of the last sweep once more.
    """

    def is_due(self, last_run_at: datetime) -> schedstate:
        """As Celery's; a last run that lies in the future is over."""
        due = super().is_due(last_run_at)
        if due.next > self.seconds + CLOCK_STEP:
            return schedstate(is_due=True, next=self.seconds)
        return due


class SweepTask(BunceTask):
    """The task that beat starts, in every Celery application that has this app's tasks."""

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Add the task to beat's schedule, unless the site has scheduled it."""
        if is_scheduled(app):
            return
        # No changes to the site's dict.
        app.conf.beat_schedule = {
            **(app.conf.beat_schedule or {}),
            SWEEP: {"task": SWEEP, "schedule": SweepSchedule(conf.usable("SWEEP_INTERVAL"))},
        }


@shared_task(name=SWEEP, base=SweepTask)
def sweep(mark: str = "") -> None:
    """Repair what crashed workers left, and wake workers for all work that is due.

    A message does nothing if another sweep has just run, as when many pile up while no worker runs.

    Args:
        mark: of a message of ``bunce_doctor``; it shows that a worker took this very message.
    """
    if mark:
        database.sync_state().update(answered=mark[:36])
    request = sweep.request
    is_message = not (request.called_directly or request.is_eager)
    if is_message and not mark and sweep_module.is_known_recent():
        return
    found = sweep_module.sweep(unless_recent=is_message, sender=_sender(request))
    for kind in KINDS:
        published = [publisher.publish(work, kind.name) for _ in range(found.workers[kind.name])]
        if not all(published):
            # No message can be sent, but one worker is here: the one that runs this.
            kind.run(Budget(TIME_BUDGET))


def _sender(request: Context) -> host_clocks.Sender | None:
    """Return the host that sent the message, and its time then; None if the message lacks them."""
    sent_at, origin = request.get(SENT_AT), request.get("origin")
    if not isinstance(sent_at, int | float) or not origin:
        return None
    return host_clocks.Sender(str(origin).rpartition("@")[2], sent_at)


def _enqueue_next(task: Task[Any, Any], *args: Any) -> None:
    """Publish the next run. In eager mode it would run here, without an end to the budget."""
    if not _is_eager(task):
        publisher.publish(task, *args)


def _is_eager(task: Task[Any, Any]) -> bool:
    return bool(task.app.conf.task_always_eager)

"""Work in the foreground of a command, beside workers, until it is done or cannot be continued.

The command waits as long as Bunce asks for a pause or the limit of requests is used up. It ends,
with the reason, when a person has to act or Bunce has failed for a while: workers retry
automatically.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from django.core.management.base import CommandError

from bunce_sync.choices import Operation, Reason
from bunce_sync.management.console import StopEvent, printable
from bunce_sync.models import Segment
from bunce_sync.status.presenters import (
    StatusMessage,
    describe_operation,
    describe_rate_limiter,
    describe_segment,
    problems_to_fix,
)
from bunce_sync.status.status import SyncStatus, get_status
from bunce_sync.sync import customers
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.circuit_breaker import OperationPaused
from bunce_sync.sync.rate_limiter import NoPermit

#: Seconds of work before the progress is shown and signals are looked at.
TURN: Final = 0.5
LONGEST_TURN: Final = 10.0
#: Seconds between two looks at what keeps the work waiting.
RECHECK: Final = 1.0
#: For how long Bunce may fail before the command gives up.
PATIENCE: Final = timedelta(seconds=60)
#: The longest pause that is waited for.
LONGEST_PAUSE: Final = timedelta(minutes=5)


class Turn(Enum):
    """What one turn of work found.

    MORE: there is more to do at once. WAIT: nothing could be done now. DONE: all is done.
    """

    MORE = auto()
    WAIT = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps the work waiting.

    Attributes:
        note: in a few words, to be shown.
        final: whether waiting does not help, so that the command ends.
        action: what to do then.
    """

    note: str = ""
    final: bool = False
    action: str = ""


class Blocked(CommandError):
    """The work cannot be continued now; the text says why, and what to do."""


def work(
    turn: Callable[[Budget], Turn],
    show: Callable[[str], None],
    *,
    stop: StopEvent,
    operations: Callable[[], Collection[Operation]],
) -> bool:
    """Do turns of work until all is done or a signal comes.

    Args:
        turn: does some work within a budget.
        show: shows the progress; takes why the work waits, or nothing.
        operations: returns the operations that the work waits for.

    Returns:
        Whether all is done; not after a signal.

    Raises:
        Blocked: the work cannot be continued now.
        ConfigurationError: a setting cannot be used.
    """
    seconds = TURN
    while not stop.is_set():
        try:
            found = turn(Budget(seconds))
        except OperationPaused:
            found = Turn.WAIT
        except NoPermit as denied:
            if not denied.reason and denied.wait < RECHECK:
                show("")
                stop.wait(denied.wait)
                continue
            found = Turn.WAIT
        if found == Turn.DONE:
            show("")
            return True
        if found == Turn.MORE:
            seconds = TURN
            show("")
            continue
        obstacle = find_obstacle(get_status(), operations())
        if obstacle.final:
            raise Blocked(f"{obstacle.note} {obstacle.action}".strip())
        if not obstacle.note:
            # Perhaps the database is so slow that the time is over before the first request.
            seconds = min(2 * seconds, LONGEST_TURN)
        show(obstacle.note)
        stop.wait(RECHECK)
    return False


def why_customers_wait(segment: Segment) -> str:
    """Return why no customer of a segment is sent at present; empty if they are sent."""
    if not customers.waits_for_segment(segment):
        return ""
    message = describe_segment(segment, get_status(), permissions=())
    return f"{_in_one(message)} {message.action}".strip()


def find_obstacle(status: SyncStatus, operations: Collection[Operation]) -> Obstacle:
    """Return what keeps requests of these operations waiting."""
    if status.configuration_problem or status.key_missing or status.strange_key_since:
        return _final(problems_to_fix(status)[0])
    pushes = {*operations} - {Operation.READ, Operation.LIST}
    if pushes and status.pause is not None:
        return Obstacle("Pushes are paused.", final=True, action="Resume them with bunce_resume.")
    imported = status.imported
    if Operation.CREATE in operations and imported and imported.holds_creates:
        return Obstacle(
            "No segment is created until the open import ends, which may link it instead.",
            final=True,
            action="`manage.py bunce_import` completes it.",
        )
    limiter = describe_rate_limiter(status.rate_limiter, status.now)
    if limiter is not None:
        return _limiter_obstacle(status, limiter)
    paused = [one for one in status.operations if one.operation in operations]
    for one in paused:
        message = describe_operation(one, status)
        if message.urgent or status.now - one.since > PATIENCE:
            return _final(message)
    if paused:
        return Obstacle(printable(describe_operation(paused[0], status).summary, 500))
    usage = status.usage
    if usage.limit is not None and usage.used >= usage.limit * 0.5:
        return Obstacle(
            f"{usage.used} of {usage.limit} requests used in {usage.seconds:g} s; continues as the"
            " limit allows"
        )
    return Obstacle()


def _limiter_obstacle(status: SyncStatus, message: StatusMessage) -> Obstacle:
    """Return whether to wait until requests are made again, or to give up."""
    limiter = status.rate_limiter
    too_long = limiter.until is not None and limiter.until - status.now > LONGEST_PAUSE
    failing = (
        limiter.reason == Reason.UNREACHABLE
        and limiter.since is not None
        and status.now - limiter.since > PATIENCE
    )
    if message.urgent or too_long or failing:
        return _final(message)
    return Obstacle(printable(message.summary, 500))


def _final(message: StatusMessage) -> Obstacle:
    return Obstacle(_in_one(message), final=True, action=message.action)


def _in_one(message: StatusMessage) -> str:
    """Return what happened and why, in one line."""
    note = f"{message.summary} {message.cause}"
    return printable(f"{note} ({message.detail})" if message.detail else note, 1000)

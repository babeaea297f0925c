"""Chooses among the sentences of ``messages.py`` for a row, a call, the rate limiter, and fills them in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from celery import current_app
from django.utils import formats, timezone

from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.status import messages
from bunce_sync.status.messages import Right, Step, Template, Text, Todo
from bunce_sync.status.status import PausedOperation, RateLimiterStatus, SyncStatus

Status = Segment.Status
Reason = SyncState.Reason
Operation = ApiCall.Operation


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """A state in words.

    Attributes:
        what: what happened.
        why: what caused it.
        todo: what to do next, if only "nothing".
        said: Bunce's message or a technical remark, as it came and untranslated; often empty.
        answered: that it is Bunce's message.
        urgent: nothing goes on before somebody acts.
    """

    what: str
    why: str
    todo: str
    said: str = ""
    answered: bool = False
    urgent: bool = False


def describe_segment(
    segment: Segment, overview: SyncStatus, rights: Collection[Right] = get_args(Right)
) -> StatusMessage:
    """Where a segment stands.

    Args:
        segment: the row, as it is now.
        overview: where all stands, for what keeps a waiting row waiting.
        rights: what the reader may do, so that nobody is told to press a button that is not there.
    """
    status, code = Status(segment.status), segment.trouble
    usual = messages.WHAT_CREATE if segment.creates else messages.WHAT_UPDATE
    what = messages.WHAT_ELSE.get((status, code), usual[status])
    said = "" if status == Status.SENDING else remark(code, segment.last_error)
    answered = code in messages.ANSWERED
    waits = _kept_waiting(overview, _needs(segment))
    steps = [str(_step(step, rights)) for step in waits.todo or _todo(segment, overview)]
    if segment.refresh_requested_at is not None:
        look = _kept_waiting(overview, Operation.READ)
        if look.todo:
            steps = [step for step in steps if step != str(messages.NO_ACTION)]
        steps.append(str(messages.ACTION_CHECK_ASKED))
        steps += [step for step in look.todo if step not in waits.todo]
        waits = waits if waits.said else look
    if not said:
        said, answered = waits.said, waits.answered
    return StatusMessage(str(what), str(_why(segment, overview)), " ".join(steps), said, answered)


def remark(code: str, detail: str) -> str:
    """What is worth showing of a detail beside the sentence on its code."""
    return "" if code in messages.DETAIL_IS_ID | messages.DETAIL_REPEATS else detail


def cause(code: str, said: str = "") -> str:
    """The last problem in a sentence, by its code."""
    if code not in messages.WHY:
        return _fill(messages.WHY_UNKNOWN_CODE, code=code)
    return (
        _fill(messages.WHY[code], said=said)
        if code in messages.DETAIL_IS_ID
        else str(messages.WHY[code])
    )


def _why(segment: Segment, overview: SyncStatus) -> Text:
    code, now = segment.trouble, overview.now
    match Status(segment.status):
        case Status.SENDING:
            return _fill(messages.WHY_SENDING, time=moment(segment.sent_at, now))
        case Status.SYNCED if not code:
            return _fill(messages.WHY_SYNCED, time=moment(segment.synced_at, now))
        case Status.SYNCED if code not in messages.ACTION_SYNCED:
            return _fill(messages.WHY_LOOK_FAILED, why=cause(code))
        case Status.PENDING if segment.absent_at is not None:
            return _fill(messages.WHY_ABSENT, why=cause(code), time=moment(segment.absent_at, now))
        case Status.PENDING if not code:
            return _why_pending(segment)
        case Status.PENDING if code in messages.REFUSALS:
            return messages.WHY_EDITED_SINCE
        case Status.IN_DOUBT if code in messages.REFUSALS:
            return messages.WHY_TWIN
        case _:
            return cause(code, segment.bunce_duplicate_id or segment.last_error)


def _why_pending(segment: Segment) -> Text:
    """Why a row without a problem waits: it is new or changed, or somebody had it sent again."""
    if segment.creates:
        return messages.WHY_NEW if segment.sent_at is None else messages.WHY_AGAIN
    return messages.WHY_AGAIN if segment.digest == segment.sent_digest else messages.WHY_EDITED


def _todo(segment: Segment, overview: SyncStatus) -> Todo:
    status, now = Status(segment.status), overview.now
    if status == Status.SENDING:
        return (_fill(messages.ACTION_SENDING, time=moment(segment.lease_until, now)),)
    if status == Status.SYNCED:
        return messages.ACTION_SYNCED.get(segment.trouble, (messages.ACTION_LOOK_AGAIN,))
    if status == Status.REJECTED:
        return messages.ACTION_BY_CODE.get(segment.last_code, messages.ACTION_REJECTED)
    due = moment(segment.due_at, now) if segment.due_at > now else ""
    if status == Status.PENDING and due:
        return _fill(messages.ACTION_RETRY, time=due), messages.ACTION_HURRY
    if status == Status.PENDING:
        return (messages.ACTION_SOON,)
    return (_fill(messages.ACTION_LOOK_AT, time=due) if due else messages.ACTION_LOOKING,)


@dataclass(frozen=True, slots=True)
class _Waits:
    """What keeps a request waiting, to be told in place of what happens next; empty if nothing."""

    todo: tuple[str, ...] = ()
    said: str = ""
    answered: bool = False


def _kept_waiting(overview: SyncStatus, operation: Operation | None) -> _Waits:
    """What keeps the requests of an operation waiting; nothing when the row needs none."""
    if operation is None:
        return _Waits()
    for obstacle in problems_to_fix(overview):
        return _Waits((obstacle.what, obstacle.todo))
    rate_limiter, paused = (
        describe_rate_limiter(overview.rate_limiter, overview.now),
        _paused(operation, overview),
    )
    if paused is None:
        return _Waits(
            (str(_todo_gate(overview.rate_limiter, overview.now)),) if rate_limiter else ()
        )
    told = describe_operation(paused, overview)
    # That the rate limiter opens by itself is not enough here: that there is nothing to do is not said.
    first = (
        (rate_limiter.what, rate_limiter.todo)
        if rate_limiter and rate_limiter.urgent
        else (rate_limiter.what,)
        if rate_limiter
        else ()
    )
    return _Waits((*first, told.what, told.why, told.todo), told.said, told.answered)


def _needs(segment: Segment) -> Operation | None:
    """The operation that a waiting row needs next."""
    return {
        Status.PENDING: Operation.CREATE if segment.creates else Operation.UPDATE,
        Status.IN_DOUBT: Operation.LIST,
    }.get(Status(segment.status))


def _paused(operation: Operation | None, overview: SyncStatus) -> PausedOperation | None:
    return next((one for one in overview.operations if one.operation == operation), None)


def is_paused(segment: Segment, overview: SyncStatus) -> bool:
    """Whether the operation that a waiting row needs next is paused, or about to be tried."""
    return _paused(_needs(segment), overview) is not None


def paused_until(segment: Segment, overview: SyncStatus) -> datetime | None:
    """Until when no request is made for a waiting row; None when none keeps it waiting."""
    paused = _paused(_needs(segment), overview)
    times = (overview.rate_limiter.until, paused.until if paused else None)
    return max(filter(None, times), default=None)


def describe_operation(paused: PausedOperation, overview: SyncStatus) -> StatusMessage:
    """Why one operation waits, and when it is tried again unless all else waits as well."""
    code, now, rate_limiter = paused.code, overview.now, overview.rate_limiter
    values = {
        "since": moment(paused.since, now),
        "status": str(paused.http_status or "-"),
        "why": cause(code),
    }
    unreadable = code in messages.UNREADABLE
    usual = messages.OPERATION_WHY_UNREADABLE if unreadable else messages.OPERATION_WHY_REFUSED
    todo = messages.OPERATION_ACTION.get(code, messages.OPERATION_ACTION_ELSE)
    following: Text = ""
    if not problems_to_fix(overview):
        if paused.until and (rate_limiter.until is None or paused.until > rate_limiter.until):
            following = _fill(messages.OPERATION_NEXT, until=moment(paused.until, now))
        elif paused.until is None and rate_limiter.state == "open":
            following = messages.OPERATION_PROBING
    return StatusMessage(
        what=str(messages.OPERATION_PAUSED[Operation(paused.operation)]),
        why=_fill(messages.OPERATION_WHY.get(code, usual), **values),
        todo=f"{todo} {following}".strip(),
        said=paused.detail,
        answered=code in messages.ANSWERED,
        urgent=code in messages.OPERATION_ACTION,
    )


def _todo_gate(rate_limiter: RateLimiterStatus, now: datetime) -> Text:
    if rate_limiter.asked_until is not None:
        times = {
            "asked": moment(rate_limiter.asked_until, now),
            "until": moment(rate_limiter.until, now),
        }
        return _fill(messages.ACTION_GATE_LONG, **times)
    choice = (
        messages.ACTION_GATE_CLOSED
        if rate_limiter.state == "closed"
        else messages.ACTION_GATE_PROBING
    )
    return _fill(choice[_reason(rate_limiter)], until=moment(rate_limiter.until, now))


def _step(step: Text | Step, rights: Collection[Right]) -> Text:
    if isinstance(step, Step):
        return step.do if step.right in rights else step.ask
    return step


def problems_to_fix(overview: SyncStatus) -> list[StatusMessage]:
    """What has to be put right by somebody before anything is sent."""
    found = []
    if overview.trouble:
        found.append(_filled(messages.BAD_SETTING, urgent=True, trouble=overview.trouble))
    elif overview.key_missing:
        found.append(_filled(messages.NO_KEY, urgent=True))
    if overview.sweep.late:
        at = overview.sweep.at
        found.append(
            _filled(
                messages.SWEEP_LATE if at else messages.NEVER_SWEPT,
                urgent=True,
                time=moment(at, overview.now),
                seconds=f"{overview.sweep.interval:g}",
                command=worker_command(),
            )
        )
    return found


def describe_rate_limiter(rate_limiter: RateLimiterStatus, now: datetime) -> StatusMessage | None:
    """Why the rate limiter is not open; None when it is."""
    if rate_limiter.state == "open":
        return None
    reason = _reason(rate_limiter)
    choice = messages.GATE_CLOSED if rate_limiter.state == "closed" else messages.GATE_PROBING
    times = {"until": moment(rate_limiter.until, now), "since": moment(rate_limiter.since, now)}
    if rate_limiter.asked_until is not None:
        times["asked"] = moment(rate_limiter.asked_until, now)
        return _filled(messages.GATE_LONG, urgent=False, said=rate_limiter.detail, **times)
    urgent = reason == Reason.KEY_REFUSED
    return _filled(choice[reason], urgent=urgent, said=rate_limiter.detail, **times)


def reasons_to_wait(overview: SyncStatus) -> list[StatusMessage]:
    """All that keeps requests waiting, what has to be put right by people first."""
    found = problems_to_fix(overview)
    told = describe_rate_limiter(overview.rate_limiter, overview.now)
    # Without a worker, or without a key, nothing is being tried.
    stuck = bool(found)
    if told and not (overview.rate_limiter.state == "probing" and stuck):
        found.append(told)
    found += [
        describe_operation(paused, overview)
        for paused in overview.operations
        if paused.until is not None or not stuck
    ]
    return sorted(found, key=lambda one: not one.urgent)


def _reason(rate_limiter: RateLimiterStatus) -> Reason:
    return (
        Reason(rate_limiter.reason) if rate_limiter.reason in Reason.values else Reason.UNREACHABLE
    )


def describe_decision(call: ApiCall, now: datetime) -> str:
    """What reconciliation found out about a call whose outcome was unknown; empty if nothing."""
    if not call.decision:
        return ""
    return _fill(
        messages.DECISION[ApiCall.Decision(call.decision)], time=moment(call.decided_at, now)
    )


def worker_command() -> str:
    """What starts a worker with beat in this site."""
    return f"celery -A {current_app.main or 'yourproject'} worker -B"


def moment(at: datetime | None, now: datetime) -> str:
    """A time of the site's zone to the second, with its date unless that is today's."""
    if at is None:
        return "-"
    local, today = timezone.localtime(at), timezone.localtime(now).date()
    text = formats.time_format(local, "H:i:s")
    return text if local.date() == today else f"{formats.date_format(local)} {text}"


def _fill(text: Text, **values: str) -> str:
    return str(text) % values


def _filled(
    text: Template, *, urgent: bool = False, said: str = "", **values: str
) -> StatusMessage:
    return StatusMessage(
        what=_fill(text.what, **values),
        why=_fill(text.why, **values),
        todo=_fill(text.todo, **values),
        said=said,
        urgent=urgent,
    )

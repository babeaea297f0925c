"""Chooses among the sentences of ``texts.py`` for a row, a call, the gate, and fills them in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from celery import current_app
from django.utils import formats, timezone

from bunce_sync import texts
from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.overview import Gate, Overview, PausedOperation
from bunce_sync.texts import Right, Step, Template, Text, Todo

Status = Segment.Status
Reason = SyncState.Reason
Operation = ApiCall.Operation


@dataclass(frozen=True, slots=True)
class Told:
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


def segment_told(
    segment: Segment, overview: Overview, rights: Collection[Right] = get_args(Right)
) -> Told:
    """Where a segment stands.

    Args:
        segment: the row, as it is now.
        overview: where all stands, for what keeps a waiting row waiting.
        rights: what the reader may do, so that nobody is told to press a button that is not there.
    """
    status, code = Status(segment.status), segment.trouble
    usual = texts.WHAT_CREATE if segment.creates else texts.WHAT_UPDATE
    what = texts.WHAT_ELSE.get((status, code), usual[status])
    said = "" if status == Status.SENDING else remark(code, segment.last_error)
    answered = code in texts.ANSWERED
    waits = _kept_waiting(overview, _needs(segment))
    steps = [str(_step(step, rights)) for step in waits.todo or _todo(segment, overview)]
    if segment.check_asked_at is not None:
        look = _kept_waiting(overview, Operation.READ)
        if look.todo:
            steps = [step for step in steps if step != str(texts.NOTHING_TO_DO)]
        steps.append(str(texts.TODO_CHECK_ASKED))
        steps += [step for step in look.todo if step not in waits.todo]
        waits = waits if waits.said else look
    if not said:
        said, answered = waits.said, waits.answered
    return Told(str(what), str(_why(segment, overview)), " ".join(steps), said, answered)


def remark(code: str, detail: str) -> str:
    """What is worth showing of a detail beside the sentence on its code."""
    return "" if code in texts.DETAIL_IS_ID | texts.DETAIL_REPEATS else detail


def cause(code: str, said: str = "") -> str:
    """The last problem in a sentence, by its code."""
    if code not in texts.WHY:
        return _fill(texts.WHY_UNKNOWN_CODE, code=code)
    return _fill(texts.WHY[code], said=said) if code in texts.DETAIL_IS_ID else str(texts.WHY[code])


def _why(segment: Segment, overview: Overview) -> Text:
    code, now = segment.trouble, overview.now
    match Status(segment.status):
        case Status.SENDING:
            return _fill(texts.WHY_SENDING, time=moment(segment.sent_at, now))
        case Status.SYNCED if not code:
            return _fill(texts.WHY_SYNCED, time=moment(segment.synced_at, now))
        case Status.SYNCED if code not in texts.TODO_SYNCED:
            return _fill(texts.WHY_LOOK_FAILED, why=cause(code))
        case Status.PENDING if segment.absent_at is not None:
            return _fill(texts.WHY_ABSENT, why=cause(code), time=moment(segment.absent_at, now))
        case Status.PENDING if not code:
            return _why_pending(segment)
        case Status.PENDING if code in texts.REFUSALS:
            return texts.WHY_EDITED_SINCE
        case Status.IN_DOUBT if code in texts.REFUSALS:
            return texts.WHY_TWIN
        case _:
            return cause(code, segment.bunce_duplicate_id or segment.last_error)


def _why_pending(segment: Segment) -> Text:
    """Why a row without a problem waits: it is new or changed, or somebody had it sent again."""
    if segment.creates:
        return texts.WHY_NEW if segment.sent_at is None else texts.WHY_AGAIN
    return texts.WHY_AGAIN if segment.digest == segment.sent_digest else texts.WHY_EDITED


def _todo(segment: Segment, overview: Overview) -> Todo:
    status, now = Status(segment.status), overview.now
    if status == Status.SENDING:
        return (_fill(texts.TODO_SENDING, time=moment(segment.lease_until, now)),)
    if status == Status.SYNCED:
        return texts.TODO_SYNCED.get(segment.trouble, (texts.TODO_LOOK_AGAIN,))
    if status == Status.REJECTED:
        return texts.TODO_BY_CODE.get(segment.last_code, texts.TODO_REJECTED)
    due = moment(segment.due_at, now) if segment.due_at > now else ""
    if status == Status.PENDING and due:
        return _fill(texts.TODO_RETRY, time=due), texts.TODO_HURRY
    if status == Status.PENDING:
        return (texts.TODO_SOON,)
    return (_fill(texts.TODO_LOOK_AT, time=due) if due else texts.TODO_LOOKING,)


@dataclass(frozen=True, slots=True)
class _Waits:
    """What keeps a request waiting, to be told in place of what happens next; empty if nothing."""

    todo: tuple[str, ...] = ()
    said: str = ""
    answered: bool = False


def _kept_waiting(overview: Overview, operation: Operation | None) -> _Waits:
    """What keeps the requests of an operation waiting; nothing when the row needs none."""
    if operation is None:
        return _Waits()
    for obstacle in obstacles(overview):
        return _Waits((obstacle.what, obstacle.todo))
    gate, paused = gate_told(overview.gate, overview.now), _paused(operation, overview)
    if paused is None:
        return _Waits((str(_todo_gate(overview.gate, overview.now)),) if gate else ())
    told = operation_told(paused, overview)
    # That the gate opens by itself is not enough here: that there is nothing to do is not said.
    first = (gate.what, gate.todo) if gate and gate.urgent else (gate.what,) if gate else ()
    return _Waits((*first, told.what, told.why, told.todo), told.said, told.answered)


def _needs(segment: Segment) -> Operation | None:
    """The operation that a waiting row needs next."""
    return {
        Status.PENDING: Operation.CREATE if segment.creates else Operation.UPDATE,
        Status.IN_DOUBT: Operation.LIST,
    }.get(Status(segment.status))


def _paused(operation: Operation | None, overview: Overview) -> PausedOperation | None:
    return next((one for one in overview.operations if one.operation == operation), None)


def is_paused(segment: Segment, overview: Overview) -> bool:
    """Whether the operation that a waiting row needs next is paused, or about to be tried."""
    return _paused(_needs(segment), overview) is not None


def paused_until(segment: Segment, overview: Overview) -> datetime | None:
    """Until when no request is made for a waiting row; None when none keeps it waiting."""
    paused = _paused(_needs(segment), overview)
    times = (overview.gate.until, paused.until if paused else None)
    return max(filter(None, times), default=None)


def operation_told(paused: PausedOperation, overview: Overview) -> Told:
    """Why one operation waits, and when it is tried again unless all else waits as well."""
    code, now, gate = paused.code, overview.now, overview.gate
    values = {
        "since": moment(paused.since, now),
        "status": str(paused.http_status or "-"),
        "why": cause(code),
    }
    unreadable = code in texts.UNREADABLE
    usual = texts.OPERATION_WHY_UNREADABLE if unreadable else texts.OPERATION_WHY_REFUSED
    todo = texts.OPERATION_TODO.get(code, texts.OPERATION_TODO_ELSE)
    following: Text = ""
    if not obstacles(overview):
        if paused.until and (gate.until is None or paused.until > gate.until):
            following = _fill(texts.OPERATION_NEXT, until=moment(paused.until, now))
        elif paused.until is None and gate.state == "open":
            following = texts.OPERATION_PROBING
    return Told(
        what=str(texts.OPERATION_PAUSED[Operation(paused.operation)]),
        why=_fill(texts.OPERATION_WHY.get(code, usual), **values),
        todo=f"{todo} {following}".strip(),
        said=paused.detail,
        answered=code in texts.ANSWERED,
        urgent=code in texts.OPERATION_TODO,
    )


def _todo_gate(gate: Gate, now: datetime) -> Text:
    if gate.asked_until is not None:
        times = {"asked": moment(gate.asked_until, now), "until": moment(gate.until, now)}
        return _fill(texts.TODO_GATE_LONG, **times)
    choice = texts.TODO_GATE_CLOSED if gate.state == "closed" else texts.TODO_GATE_PROBING
    return _fill(choice[_reason(gate)], until=moment(gate.until, now))


def _step(step: Text | Step, rights: Collection[Right]) -> Text:
    if isinstance(step, Step):
        return step.do if step.right in rights else step.ask
    return step


def obstacles(overview: Overview) -> list[Told]:
    """What has to be put right by somebody before anything is sent."""
    found = []
    if overview.trouble:
        found.append(_filled(texts.BAD_SETTING, urgent=True, trouble=overview.trouble))
    elif overview.key_missing:
        found.append(_filled(texts.NO_KEY, urgent=True))
    if overview.sweep.late:
        at = overview.sweep.at
        found.append(
            _filled(
                texts.SWEEP_LATE if at else texts.NEVER_SWEPT,
                urgent=True,
                time=moment(at, overview.now),
                seconds=f"{overview.sweep.interval:g}",
                command=worker_command(),
            )
        )
    return found


def gate_told(gate: Gate, now: datetime) -> Told | None:
    """Why the gate is not open; None when it is."""
    if gate.state == "open":
        return None
    reason = _reason(gate)
    choice = texts.GATE_CLOSED if gate.state == "closed" else texts.GATE_PROBING
    times = {"until": moment(gate.until, now), "since": moment(gate.since, now)}
    if gate.asked_until is not None:
        times["asked"] = moment(gate.asked_until, now)
        return _filled(texts.GATE_LONG, urgent=False, said=gate.detail, **times)
    urgent = reason == Reason.KEY_REFUSED
    return _filled(choice[reason], urgent=urgent, said=gate.detail, **times)


def hindrances(overview: Overview) -> list[Told]:
    """All that keeps requests waiting, what has to be put right by people first."""
    found = obstacles(overview)
    told = gate_told(overview.gate, overview.now)
    # Without a worker, or without a key, nothing is being tried.
    stuck = bool(found)
    if told and not (overview.gate.state == "probing" and stuck):
        found.append(told)
    found += [
        operation_told(paused, overview)
        for paused in overview.operations
        if paused.until is not None or not stuck
    ]
    return sorted(found, key=lambda one: not one.urgent)


def _reason(gate: Gate) -> Reason:
    return Reason(gate.reason) if gate.reason in Reason.values else Reason.UNREACHABLE


def decision_told(call: ApiCall, now: datetime) -> str:
    """What reconciliation found out about a call whose outcome was unknown; empty if nothing."""
    if not call.decision:
        return ""
    return _fill(texts.DECISION[ApiCall.Decision(call.decision)], time=moment(call.decided_at, now))


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


def _filled(text: Template, *, urgent: bool = False, said: str = "", **values: str) -> Told:
    return Told(
        what=_fill(text.what, **values),
        why=_fill(text.why, **values),
        todo=_fill(text.todo, **values),
        said=said,
        urgent=urgent,
    )

"""Chooses among the sentences of ``texts.py`` for a row, a call, the gate, and fills them in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from celery import current_app
from django.utils import formats, timezone

from bunce_sync import texts
from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.overview import Gate, Overview
from bunce_sync.texts import Template, Text

Status = Segment.Status
Reason = SyncState.Reason


@dataclass(frozen=True, slots=True)
class Told:
    """A state in words.

    Attributes:
        what: what happened.
        why: what caused it.
        todo: what to do next, if only "nothing".
        said: Bunce's message or a technical remark, as it came and untranslated; often empty.
    """

    what: str
    why: str
    todo: str
    said: str = ""


def segment_told(segment: Segment, overview: Overview) -> Told:
    """Where a segment stands.

    Args:
        segment: the row, as it is now.
        overview: where all stands, for what keeps a waiting row waiting.
    """
    status, code = Status(segment.status), segment.last_code
    usual = texts.WHAT_CREATE if segment.creates else texts.WHAT_UPDATE
    what = texts.WHAT_ELSE.get((status, code), usual[status])
    todo = str(_todo(segment, overview))
    if segment.check_asked_at is not None:
        todo = f"{todo} {texts.TODO_CHECK_ASKED}"
    said = "" if status == Status.SENDING or code in texts.DETAIL_IS_ID else segment.last_error
    return Told(str(what), str(_why(segment, overview)), todo, said)


def cause(code: str, said: str = "") -> str:
    """The last problem in a sentence, by its code."""
    if code not in texts.WHY:
        return _fill(texts.WHY_UNKNOWN_CODE, code=code)
    return _fill(texts.WHY[code], said=said) if code in texts.DETAIL_IS_ID else str(texts.WHY[code])


def _why(segment: Segment, overview: Overview) -> Text:
    code, now = segment.last_code, overview.now
    match Status(segment.status):
        case Status.SENDING:
            return _fill(texts.WHY_SENDING, time=moment(segment.sent_at, now))
        case Status.SYNCED if not code:
            return _fill(texts.WHY_SYNCED, time=moment(segment.synced_at, now))
        case Status.SYNCED if code not in ("drift", "duplicate"):
            return _fill(texts.WHY_LOOK_FAILED, why=cause(code))
        case Status.PENDING if not code:
            return texts.WHY_NEW if segment.creates else texts.WHY_EDITED
        case Status.PENDING if code in texts.REFUSALS:
            return texts.WHY_EDITED_SINCE
        case Status.IN_DOUBT if code in texts.REFUSALS:
            return texts.WHY_TWIN
        case _:
            return cause(code, segment.last_error)


def _todo(segment: Segment, overview: Overview) -> Text:
    status, now = Status(segment.status), overview.now
    if status == Status.SENDING:
        return _fill(texts.TODO_SENDING, time=moment(segment.lease_until, now))
    if status == Status.SYNCED:
        return texts.TODO_SYNCED.get(segment.last_code, texts.TODO_LOOK_AGAIN)
    if status == Status.REJECTED:
        return texts.TODO_NOT_FOUND if segment.last_code == "not_found" else texts.TODO_REJECTED
    for obstacle in obstacles(overview):
        return f"{obstacle.what} {obstacle.todo}"
    if overview.gate.state != "open":
        return _todo_gate(overview.gate, now)
    due = segment.due_at if segment.due_at > now else None
    if status == Status.PENDING:
        return _fill(texts.TODO_RETRY, time=moment(due, now)) if due else texts.TODO_SOON
    return _fill(texts.TODO_LOOK_AT, time=moment(due, now)) if due else texts.TODO_LOOKING


def _todo_gate(gate: Gate, now: datetime) -> Text:
    match gate.reason:
        case Reason.RATE_LIMITED if gate.until:
            return _fill(texts.TODO_AFTER_PAUSE, time=moment(gate.until, now))
        case Reason.KEY_REFUSED:
            return texts.TODO_AFTER_KEY
        case Reason.UNREACHABLE:
            return texts.TODO_AFTER_OUTAGE
        case _:
            return texts.TODO_AFTER_CLOCK


def obstacles(overview: Overview) -> list[Told]:
    """What has to be put right by somebody before anything is sent."""
    found = []
    if overview.trouble:
        found.append(_filled(texts.BAD_SETTING, trouble=overview.trouble))
    elif overview.key_missing:
        found.append(_filled(texts.NO_KEY))
    if overview.sweep.late:
        at = overview.sweep.at
        found.append(
            _filled(
                texts.SWEEP_LATE if at else texts.NEVER_SWEPT,
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
    choice = texts.GATE_CLOSED if gate.state == "closed" else texts.GATE_PROBING
    reason = Reason(gate.reason) if gate.reason in Reason.values else Reason.UNREACHABLE
    times = {"until": moment(gate.until, now), "since": moment(gate.since, now)}
    return _filled(choice[reason], said=gate.detail, **times)


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


def _filled(text: Template, *, said: str = "", **values: str) -> Told:
    return Told(
        what=_fill(text.what, **values),
        why=_fill(text.why, **values),
        todo=_fill(text.todo, **values),
        said=said,
    )

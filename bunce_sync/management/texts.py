"""How commands print segments, as lines of plain text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from django.db import models

from bunce_sync.management.console import counted, named, printable, quoted
from bunce_sync.models import Segment
from bunce_sync.status.plan import Change, Item, Kind
from bunce_sync.status.presenters import (
    StatusMessage,
    describe_problem,
    format_time,
    release_command,
    visible_detail,
)
from bunce_sync.status.status import BlockHold, Pause

SIGNS: Final = {
    Kind.CREATE: "+",
    Kind.UPDATE: "~",
    Kind.CHECK: "?",
    Kind.DIFFERS: "≠",
    Kind.ATTENTION: "!",
}
#: What a line says about a segment, and the totals about several.
WORDS: Final = {
    Kind.CREATE: "create",
    Kind.UPDATE: "update",
    Kind.CHECK: "being checked with Bunce",
    Kind.DIFFERS: "differs in Bunce",
    Kind.ATTENTION: "needs attention",
}
#: Of a difference that came about by a change in Bunce; the badges in the admin say the same.
CHANGED: Final = "changed in Bunce"


def problem(code: str, detail: str) -> str:
    """Return a problem in words, with Bunce's message."""
    text = describe_problem(code, detail)
    shown = printable(visible_detail(code, detail), 200)
    return f"{text} {quoted(shown, 200)}" if shown else text


def message_lines(message: StatusMessage) -> Iterator[str]:
    """Yield what happened, why, Bunce's message, and what to do."""
    yield printable(message.summary, 500)
    if message.cause:
        yield f"  {printable(message.cause, 500)}"
    if message.detail:
        yield f"  {quoted(message.detail, 300)}"
    if message.action:
        yield f"  → {message.action}"


def describe_pause(pause: Pause, now: datetime) -> str:
    """Return who paused pushes, when and why."""
    by, reason = printable(pause.by), printable(pause.reason, 300)
    text = f"Pushes are paused by {by} since {format_time(pause.since, now)}"
    return f"{text}: {reason}" if reason else f"{text}."


def describe_hold(hold: BlockHold, now: datetime) -> str:
    """Return what a ``no_push()`` block holds, and how it is released if its process died."""
    reason = f" ({printable(hold.reason)})" if hold.reason else ""
    return (
        f"A no_push() block{reason} has held {counted(hold.segments, 'segment')} since"
        f" {format_time(hold.since, now)}, in {printable(hold.process)}. If that is gone:"
        f" {release_command(hold.id)}"
    )


def item_lines(item: Item, now: datetime) -> Iterator[str]:
    """Yield the lines about a segment: what is to be done, and its fields."""
    remarks = []
    if item.hold is not None and item.kind in (Kind.CREATE, Kind.UPDATE):
        remarks.append(f"held by block {item.hold}")
    if item.due_at is not None:
        what = "looked for from" if item.kind == Kind.CHECK else "not before"
        remarks.append(f"{what} {format_time(item.due_at, now)}")
    if item.kind == Kind.DIFFERS and item.code == "stored_differently":
        remarks.append("stored differently by Bunce")
    word = CHANGED if item.code == "drift" else WORDS[item.kind]
    text = f"{SIGNS[item.kind]} {word:<8} {named(item.id, item.name)}"
    yield text + (f"  ({'; '.join(remarks)})" if remarks else "")
    if item.code and item.kind in (Kind.ATTENTION, Kind.CHECK, Kind.CREATE, Kind.UPDATE):
        yield f"    {problem(item.code, item.detail)}"
    for change in item.changes:
        yield f"    {_change(change, item.kind)}"


def _change(change: Change, kind: Kind) -> str:
    field = Segment._meta.get_field(change.field)
    label = str(field.verbose_name) if isinstance(field, models.Field) else change.field
    if kind == Kind.CREATE:
        return f"{label}: {_value(change.here)}"
    if kind == Kind.DIFFERS:
        return f"{label}: here {_value(change.here)}, in Bunce {_value(change.bunce)}"
    before = _value(change.bunce) if change.seen else "(not read yet)"
    return f"{label}: {before} → {_value(change.here)}"


def _value(value: Any) -> str:
    if value is None or value == "":
        return "(empty)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return quoted(str(value))

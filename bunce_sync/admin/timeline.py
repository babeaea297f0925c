"""The calls made for a segment: when, what, what came of it, and how to do the same by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bunce_sync.admin.curl import curl, method
from bunce_sync.models import ApiCall, Segment
from bunce_sync.status import messages
from bunce_sync.status.presenters import (
    describe_decision,
    describe_problem,
    format_time,
    visible_detail,
)

Outcome = ApiCall.Outcome

#: The calls shown, the newest first; the ledger has all.
MOST: Final = 50

GOOD: Final = frozenset({Outcome.CONFIRMED})
BAD: Final = frozenset({Outcome.REJECTED, Outcome.KEY_REFUSED, Outcome.DUPLICATE})
#: Codes that only repeat what the outcome's own sentence says.
REPEATING: Final = frozenset({"", "rate_limited", "key_refused", "worker_lost", "rejected"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One call, in words.

    Attributes:
        look: ``good``, ``bad`` or ``open``, beside the words.
        why: what went wrong, when the sentence on the outcome does not say it.
        pk: as text, since a template would put separators into a number.
        said: Bunce's message, or a technical remark.
        caution: what running the command line would do.
    """

    pk: str
    at: str
    at_iso: str
    title: str
    request: str
    outcome: str
    look: str
    status: str
    duration: str
    meaning: str
    why: str
    said: str
    decision: str
    curl: str
    caution: str


@dataclass(frozen=True, slots=True)
class Timeline:
    entries: list[Entry]
    more: bool


def timeline(segment: Segment, now: datetime) -> Timeline:
    """The newest calls of a segment, in one query."""
    calls = list(
        ApiCall.objects.using(segment._state.db)
        .filter(segment_id=segment.pk)
        .order_by("-pk")[: MOST + 1]
    )
    return Timeline([_entry(call, now) for call in calls[:MOST]], more=len(calls) > MOST)


def _entry(call: ApiCall, now: datetime) -> Entry:
    outcome = Outcome(call.outcome)
    return Entry(
        pk=str(call.pk),
        at=format_time(call.started_at, now),
        at_iso=call.started_at.isoformat(),
        title=str(call.get_operation_display()),
        request=f"{method(call)} {call.path}",
        outcome=str(outcome.label),
        look=look(call),
        status=str(call.http_status or ""),
        duration=duration(call.duration_ms),
        meaning=str(messages.OUTCOME[outcome]),
        why="" if call.code in REPEATING | messages.DETAIL_IS_ID else describe_problem(call.code),
        said=visible_detail(call.code, call.message),
        decision=describe_decision(call, now),
        curl=curl(call),
        caution=str(messages.CURL_CREATES) if call.operation == ApiCall.Operation.CREATE else "",
    )


def look(call: ApiCall) -> str:
    """How a call went, in one word for the style: ``good``, ``bad`` or ``open``."""
    return "good" if call.outcome in GOOD else "bad" if call.outcome in BAD else "open"


def duration(milliseconds: int | None) -> str:
    """How long a call took, for people; empty when that is not known."""
    if milliseconds is None:
        return ""
    return f"{milliseconds} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:.1f} s"

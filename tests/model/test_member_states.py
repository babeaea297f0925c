"""Every order of events for one customer, with the transitions alone: no database, no time.

The search goes through all states that can be reached: what the row holds, what Bunce has, and the
requests that may still act. Whether requests about one customer overtake each other, and whether
Bunce ends with what is wanted, depends on ``member_transitions`` alone; ``test_customers_machine``
tests the queries around them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

from bunce_sync import member_transitions as transitions
from bunce_sync.choices import MemberStatus, Operation, Outcome
from bunce_sync.customer_entries import read_entry
from bunce_sync.functions import DatabaseNow
from bunce_sync.results import Result

NOW: Final = DatabaseNow()
TOKEN: Final = UUID(int=1)
GRACE: Final = timedelta(seconds=1)
#: What the site may want: no membership, or one of two profiles.
ENTRIES: Final = {
    name: read_entry({"customer_id": "a", "first_name": name or None}) for name in ("", "Ann")
}
DIGESTS: Final = {entry.digest: name for name, entry in ENTRIES.items()}
CONFIRMED: Final = Result(Outcome.CONFIRMED, http_status=200)
LOST: Final = Result(Outcome.UNKNOWN, code="closed")
UNSENT: Final = Result(Outcome.NOT_SENT, code="refused")
LIMITED: Final = Result(Outcome.RATE_LIMITED, code="rate_limited", http_status=429)
Request = tuple[Operation, str]


@dataclass(frozen=True)
class Row:
    """The columns on which something depends. Waits are until now, or until all is settled."""

    is_email: bool = False
    wanted: bool = True
    in_bunce: bool | None = False
    status: str = MemberStatus.PENDING
    waits: bool = False
    changed: bool = False
    late: bool = False
    profile: str | None = None
    profile_digest: str = ""


@dataclass(frozen=True)
class State:
    """All that matters.

    Attributes:
        row: None if there is none.
        wanted: the profile that the site wants; None: not in the segment.
        member: whether Bunce has the customer in the segment.
        profile: the profile that Bunce has.
        sent: the request that a worker is making; whether it has left is not known yet.
        open: those whose outcome is unknown, and which may still act.
        path: how it was reached, for messages.
    """

    row: Row | None = None
    wanted: str | None = None
    member: bool = False
    profile: str = ""
    sent: Request | None = None
    open: frozenset[Request] = frozenset()

    def acted(self, request: Request) -> State:
        """Return the state after Bunce carried a request out."""
        operation, profile = request
        if operation == Operation.REMOVE:
            return replace(self, member=False)
        return replace(self, member=True, profile=profile or self.profile)


def changed(row: Row, values: Mapping[str, Any]) -> Row:
    """Return the row with new values; the times become waits."""
    known = {name: value for name, value in values.items() if hasattr(row, name)}
    if "profile" in known:
        known["profile"] = (known["profile"] or {}).get("first_name")
    if "late_until" in values:
        known["late"] = True
    if "due_at" in values:
        due = values["due_at"]
        late = known.get("late", row.late)
        if due is transitions.WHEN_SETTLED:
            known["waits"] = late
        else:
            known["waits"] = str(due) == str(NOW + GRACE)
    return replace(row, **known)


def as_model(row: Row) -> Any:
    """Return what the transitions take for a ``Member``."""
    profile = None if row.profile is None else {"first_name": row.profile}
    late = NOW if row.late else None
    return SimpleNamespace(**{**vars(row), "profile": profile, "late_until": late})


def want(state: State, name: str) -> State:
    entry, row = ENTRIES[name], state.row
    if row is None:
        row = Row(profile=name or None, profile_digest=entry.digest)
    else:
        row = changed(row, transitions.wanted(as_model(row), entry))
    return replace(state, row=row, wanted=name)


def unwant(state: State) -> State:
    row = state.row
    if row is None or not row.wanted:
        return replace(state, wanted=None)
    values = transitions.unwanted(as_model(row))
    return replace(state, row=None if values is None else changed(row, values), wanted=None)


def lease(state: State) -> State | None:
    """Return the state in which a worker has claimed the row; None if it may not."""
    row = state.row
    if row is None or row.status != MemberStatus.PENDING or row.waits:
        return None
    if not row.wanted and row.in_bunce is False:
        return replace(state, row=None)
    operation = Operation.ADD if row.wanted else Operation.REMOVE
    request = (operation, (row.profile or "") if row.wanted else "")
    for other in state.open:
        assert other == request, f"{request} is sent while {other} may still act"
    row = changed(row, transitions.leased(TOKEN, until=NOW))
    return replace(state, row=replace(row, waits=False), sent=request)


def record(state: State, result: Result) -> State:
    assert state.row is not None
    assert state.sent is not None
    end = transitions.after_batch(state.sent[0], result, attempts=1, now=NOW, grace=GRACE)
    row = changed(state.row, end.changed if state.row.changed else end.values)
    is_gone = row.status == MemberStatus.REMOVED and not row.waits
    return replace(state, row=None if is_gone else row, sent=None)


def abandon(state: State) -> State:
    """Return the state after the lease of a dead worker ended."""
    assert state.row is not None
    end = transitions.unsettled(now=NOW, grace=GRACE)
    row = changed(state.row, end.changed if state.row.changed else end.values)
    return replace(state, row=row, sent=None)


def settle(state: State) -> State:
    """Return the state after the grace period of all requests."""
    row = state.row
    if row is not None:
        row = replace(row, late=False, waits=False)
        if row.status == MemberStatus.REMOVED:
            row = None
    return replace(state, row=row, open=frozenset())


def following(state: State) -> Iterator[tuple[str, State]]:
    """Yield each event that can happen, and the state after it."""
    for name in ENTRIES:
        yield f"add {name}", want(state, name)
    yield "remove", unwant(state)
    for request in state.open:
        rest = replace(state, open=state.open - {request})
        yield f"{request} acts late", rest.acted(request)
    if state.sent is not None:
        request = state.sent
        yield "confirmed", record(state.acted(request), CONFIRMED)
        yield "acted, lost", record(state.acted(request), LOST)
        yield "acted, died", abandon(state.acted(request))
        later = replace(state, open=state.open | {request})
        yield "lost", record(later, LOST)
        yield "died", abandon(later)
        yield "not sent", record(state, UNSENT)
        yield "limited", record(state, LIMITED)
        return
    if (leased := lease(state)) is not None:
        yield "lease", leased
    yield "settle", settle(state)


def finished(state: State) -> State:
    """Return the state after everything went well."""
    for _ in range(10):
        if state.sent:
            state = record(state.acted(state.sent), CONFIRMED)
        state = settle(state)
        state = lease(state) or state
    return state


def check_end(state: State) -> None:
    """Check that Bunce ends with what is wanted."""
    end = finished(state)
    assert end.member == (end.wanted is not None), f"{end.wanted!r} is wanted"
    if end.wanted:
        assert end.profile == end.wanted
    if end.wanted is None:
        assert end.row is None, "the row of a removed customer is left"


def test_whatever_happens_to_requests_bunce_ends_with_what_is_wanted() -> None:
    begin = State()
    seen: dict[State, tuple[State, str] | None] = {begin: None}
    waiting = deque([begin])
    while waiting:
        state = waiting.popleft()
        try:
            check_end(state)
            for event, after in following(state):
                if after not in seen:
                    seen[after] = (state, event)
                    waiting.append(after)
        except AssertionError as error:
            error.add_note(f"after {path(seen, state)}")
            raise
    assert len(seen) > 400


def path(seen: Mapping[State, tuple[State, str] | None], state: State) -> list[str]:
    """Return the events that lead to a state."""
    events: list[str] = []
    while step := seen[state]:
        state, event = step
        events.insert(0, event)
    return events

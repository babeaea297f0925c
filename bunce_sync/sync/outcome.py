"""What an answer means, and what it makes of a row.

Pure: no database, no network, no clock. ``result_of`` judges one request; ``settle`` says what the
row becomes. Every transition that follows a request is made here and nowhere else.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from django.db.models.expressions import Combinable

from bunce_sync import exceptions
from bunce_sync.client import RemoteSegment
from bunce_sync.fingerprint import content_digest
from bunce_sync.models import ApiCall, Segment

Status = Segment.Status
Operation = ApiCall.Operation
Outcome = ApiCall.Outcome

#: The database's time: as a value, or as the expression that the database works out itself.
Moment: TypeAlias = datetime | Combinable

#: The code of a create that Bunce confirmed with an id which another row holds.
LINKED_ELSEWHERE = "linked_elsewhere"
#: The code of a request that was not made because its permit was no longer good.
PERMIT_EXPIRED = exceptions.PermitExpired.code
#: The code of a request whose address does not exist, where no segment's id is part of it.
NO_SUCH_ADDRESS = "no_such_address"
#: Successes that cannot be read: whether Bunce acted is not known.
UNREADABLE = frozenset({"not_json", "wrong_shape", "no_id", "says_failed", "too_large", "paging"})
#: Answers that may concern one row or all rows of an operation; the breaker finds out.
SHARED = UNREADABLE | {
    *("forbidden", "not_found", NO_SUCH_ADDRESS),
    *("redirect", "unexpected_status"),
}
#: Refusals of the content itself, which an earlier create of the same row may have caused.
REFUSED_CONTENT = frozenset({"rejected", "conflict"})
#: How long an update of unknown outcome waits for a look at what Bunce has.
LOOK_FIRST = timedelta(seconds=30)
#: Seconds after the first failed attempt; doubled with each further one.
BACKOFF_BASE = 1.0
#: Seconds at which the backoff stays: a row that waits for the network never gives up.
BACKOFF_CAP = 3600.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to send one request for one row, as it was when taken.

    Attributes:
        token: names the lease; recording with another token is late.
        digest: the fingerprint of the content that is sent.
        doubted: an earlier create of this row had an unknown outcome.
        probe: the request probes whether its operation works again.
    """

    segment_id: int
    token: UUID
    name: str
    description: str | None
    add_all_customers: bool
    bunce_id: str | None
    attempts: int
    doubted: bool = False
    probe: bool = False

    @property
    def creates(self) -> bool:
        return self.bunce_id is None

    @property
    def operation(self) -> ApiCall.Operation:
        return Operation.CREATE if self.creates else Operation.UPDATE

    @property
    def digest(self) -> str:
        return content_digest(self.name, self.description)


@dataclass(frozen=True, slots=True)
class Result:
    """What one request came to. ``code`` and ``detail`` as in ``BunceError``.

    Attributes:
        shared: the trouble is known to be the whole operation's, not the row's own.
    """

    outcome: ApiCall.Outcome
    segment: RemoteSegment | None = None
    code: str = ""
    detail: str = ""
    http_status: int | None = None
    retry_after: float | None = None
    shared: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether Bunce carried the request out and said so in a way that can be read."""
        good = (Outcome.CONFIRMED, Outcome.DUPLICATE)
        return self.outcome in good or self.code == LINKED_ELSEWHERE

    @property
    def answered(self) -> bool:
        """Whether Bunce is there and judges requests, though its answer may be a no."""
        readable = self.succeeded or self.outcome == Outcome.REJECTED
        return readable or self.code in UNREADABLE or self.code == "no_content"

    def concerns(self, operation: str) -> bool:
        """Whether the answer may be one that all requests of the operation get."""
        if operation == Operation.LIST and self.outcome == Outcome.REJECTED:
            return True
        return self.code in SHARED

    def fails(self, operation: str) -> bool:
        """Whether a list was asked for and did not come: it is one thing for all rows in doubt."""
        asked_to_wait = self.code == "unavailable" and self.retry_after is not None
        sent = self.outcome == Outcome.UNKNOWN and self.code != "internal"
        return operation == Operation.LIST and sent and not asked_to_wait


def result_of(error: Exception, *, sent: bool, operation: ApiCall.Operation) -> Result:
    """Judge a request that failed.

    Args:
        error: what the client raised.
        sent: whether a byte of the request left, as the connection knows it.
        operation: what was asked for: the same answer does not mean the same for all.
    """
    if not isinstance(error, exceptions.BunceError):
        outcome = Outcome.UNKNOWN if sent else Outcome.NOT_SENT
        return Result(outcome, code="internal", detail=type(error).__name__)
    code = error.code
    match error:
        case exceptions.RateLimited():
            outcome = Outcome.RATE_LIMITED
        case exceptions.KeyRefused():
            outcome = Outcome.KEY_REFUSED
        case exceptions.NotFound() if operation in (Operation.CREATE, Operation.LIST):
            outcome, code = Outcome.REJECTED, NO_SUCH_ADDRESS
        case exceptions.Rejected():
            outcome = Outcome.REJECTED
        case exceptions.NoContent() if operation == Operation.UPDATE:
            outcome = Outcome.CONFIRMED
        case exceptions.UnusableResponse(code="says_failed") if operation == Operation.UPDATE:
            outcome = Outcome.REJECTED
        case _:
            outcome = Outcome.UNKNOWN if sent else Outcome.NOT_SENT
    return Result(
        outcome,
        code=code,
        detail=error.detail,
        http_status=error.http_status,
        retry_after=error.retry_after,
    )


def backoff(attempts: int) -> timedelta:
    """How long to wait after this many failed attempts: doubling, capped, with jitter."""
    longest = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(attempts, 20))
    return timedelta(seconds=random.uniform(longest / 2, longest))


def confirmed_fields(remote: RemoteSegment) -> dict[str, Any]:
    """The ``bunce_`` fields as Bunce gave them; what an answer leaves out stays as it was known."""
    content = {
        "name": ("bunce_name", remote.name),
        "description": ("bunce_description", remote.description or ""),
        "conditions": ("bunce_conditions", remote.conditions),
    }
    facts = {
        "bunce_type": remote.type and remote.type[:100],
        "bunce_all_customers": remote.all_customers,
        "bunce_customers_count": remote.customers_count,
        "bunce_created_at": remote.created_at,
        "bunce_updated_at": remote.updated_at,
    }
    return {
        "bunce_id": remote.id,
        **dict(known for name, known in content.items() if name not in remote.left_out),
        **{name: value for name, value in facts.items() if value is not None},
    }


def after_push(
    row: Segment, claim: Claim, result: Result, *, now: Moment, grace: timedelta
) -> dict[str, Any]:
    """The changes that a request's result makes to its row; empty when there are none.

    Args:
        row: as it is now, locked.
        claim: under which the request was made.
        now: the database's time, or the expression for it.
        grace: how long Bunce may still be working on a create that looked lost.
    """
    mine = row.status == Status.SENDING and row.lease_token == claim.token
    if result.segment is not None:
        return _confirm(row, claim, result.segment, now=now, mine=mine)
    if not mine:
        # The lease ran out and others decide about this row now. Without an id there is nothing
        # to add: an expired create is in doubt already, which covers whatever happened.
        return {}
    released = {
        "lease_token": None,
        "lease_until": None,
        "last_code": result.code,
        "last_error": result.detail,
        "absent_at": None,
    }
    edited = row.digest != claim.digest
    if claim.creates and row.add_all_customers != claim.add_all_customers:
        edited = True
    untried = {"attempts": max(claim.attempts - 1, 0)}
    match result.outcome:
        case Outcome.CONFIRMED:
            # An update that Bunce confirmed without showing what it has now: a look tells.
            return _rest(row, claim.digest, now) | {"shown_digest": "", "refresh_requested_at": now}
        case Outcome.RATE_LIMITED | Outcome.KEY_REFUSED:
            # Not this row's fault: it keeps its place and its attempts; the rate limiter is closed.
            return released | untried | {"status": Status.PENDING, "due_at": now}
        case Outcome.NOT_SENT:
            # Nothing left, so what goes out with a create alone may still be changed.
            unsent = released | {"status": Status.PENDING}
            if row.bunce_id is None:
                unsent |= {"sent_at": None}
            if result.code == PERMIT_EXPIRED:
                # It was not Bunce that could not be reached: that costs no attempt.
                return unsent | untried | {"due_at": now}
            return unsent | {"due_at": now + backoff(claim.attempts)}
        case Outcome.REJECTED:
            if row.bunce_id is None and claim.doubted and result.code in REFUSED_CONTENT:
                # Refused as a twin, perhaps, of our own earlier create that did arrive.
                return released | {"status": Status.IN_DOUBT, "due_at": now}
            if edited or row.bunce_id != claim.bunce_id:
                # What was refused is not what the row wants now: it was edited, or a late answer
                # to an earlier create has linked it meanwhile, and an update is what it needs.
                return released | {"status": Status.PENDING, "due_at": now, "attempts": 0}
            if result.shared:
                # Others get the same answer: the row waits until the operation works again.
                return released | untried | {"status": Status.PENDING, "due_at": now}
            return released | {"status": Status.REJECTED}
        case _ if row.bunce_id is None:
            return released | {"status": Status.IN_DOUBT, "due_at": now + grace}
        case _ if result.code in UNREADABLE:
            # It may have taken effect: look first, then send it again if need be.
            wait = max(backoff(claim.attempts), LOOK_FIRST)
            return released | {
                "status": Status.PENDING,
                "due_at": now + wait,
                "refresh_requested_at": now,
            }
        case _:
            # A PATCH can be repeated.
            return released | {"status": Status.PENDING, "due_at": now + backoff(claim.attempts)}


def _confirm(
    row: Segment, claim: Claim, remote: RemoteSegment, *, now: Moment, mine: bool
) -> dict[str, Any]:
    if row.bunce_id is not None and row.bunce_id != remote.id:
        # A late answer: the row has its segment, and Bunce has one more. Never overwrite.
        told = {"bunce_duplicate_id": remote.id}
        held = content_digest(row.bunce_name, row.bunce_description)
        return (_rest(row, held, now) if mine else {}) | told
    changes = confirmed_fields(remote)
    unlinked = row.bunce_id is None
    if mine:
        # What the answer leaves out is as Bunce confirmed it.
        changes = {"bunce_name": claim.name, "bunce_description": claim.description or ""} | changes
    if unlinked and remote.all_customers is None:
        changes["bunce_all_customers"] = claim.add_all_customers  # Bunce confirmed what was sent
    if mine or (unlinked and row.status != Status.SENDING):
        # Also a row that was refused later, as a twin perhaps of the very segment of this answer.
        return changes | _rest(row, claim.digest, now) | _shown(row, claim, remote)
    if unlinked:
        # Somebody else's claim is on the wire; that one's answer decides about the status.
        return changes
    # A late answer to an update. Another one may have reached Bunce since, so a row that waits goes
    # on waiting: what it says now is sent once more, which cannot harm.
    if row.status == Status.SYNCED and row.sent_digest != claim.digest:
        # Two updates crossed, and which of them Bunce kept is not known: send what is wanted again.
        return {"status": Status.PENDING, "due_at": now}
    return {}


def _shown(row: Segment, claim: Claim, remote: RemoteSegment) -> dict[str, Any]:
    """What a confirmed request says of the content that Bunce has now."""
    digest = _digest_of(remote, claim.name, claim.description)
    edited = row.digest != claim.digest
    differs = not edited and digest != claim.digest
    return {"shown_digest": digest, "last_code": "stored_differently" if differs else ""}


def _digest_of(remote: RemoteSegment, name: str, description: str | None) -> str:
    """The fingerprint of what Bunce has; what the answer leaves out is as it was known."""
    return content_digest(
        name if "name" in remote.left_out else remote.name,
        description if "description" in remote.left_out else remote.description,
    )


def adopted(row: Segment, remote: RemoteSegment, *, now: Moment) -> dict[str, Any]:
    """The changes that make a row in doubt the owner of a segment found in Bunce."""
    found = content_digest(remote.name, remote.description)
    return confirmed_fields(remote) | _rest(row, row.sent_digest, now) | {"shown_digest": found}


def restored(row: Segment, bunce_id: str, *, now: Moment) -> dict[str, Any]:
    """The changes that give a row back the id which the call log says it had.

    What Bunce has of it is not known, so it is updated next.
    """
    return {
        "bunce_id": bunce_id,
        "status": Status.PENDING,
        "due_at": now,
        "lease_token": None,
        "lease_until": None,
        "attempts": row.attempts,
        "sent_digest": row.sent_digest,
    }


def doubted(body: dict[str, Any], *, sent_at: datetime, due_at: Moment) -> dict[str, Any]:
    """The changes that put a row in doubt again about a create that it does not know of.

    Args:
        body: of the create, as the call log has it.
        sent_at: when it was made.
        due_at: when Bunce has surely finished with it.
    """
    return {
        "status": Status.IN_DOUBT,
        "due_at": due_at,
        "lease_token": None,
        "lease_until": None,
        "sent_digest": content_digest(body["name"], body["description"]),
        "sent_at": sent_at,
        "last_code": "worker_lost",
        "last_error": "",
    }


def checked(
    row: Segment,
    result: Result,
    remote: RemoteSegment | None,
    *,
    now: Moment,
    reads_work: bool = True,
) -> dict[str, Any]:
    """The changes that a look at the row's own segment in Bunce makes to the row.

    Drift, that is content which somebody changed in Bunce, is told and not undone: "Push now" or an
    edit does that. What Bunce showed right after the last push is no drift, though it may differ
    from what was sent.

    Args:
        row: as it is now, locked.
        result: of the read.
        remote: what Bunce has, if the read succeeded.
        now: the database's time, or the expression for it.
        reads_work: single segments were read before, so that a 404 is about this one. Bunce's pages
            do not document the call.
    """
    seen: dict[str, Any] = {"refresh_requested_at": None}
    at_rest = row.status in Segment.RESTING
    if remote is not None:
        seen |= confirmed_fields(remote)
        found = _digest_of(remote, row.bunce_name, row.bunce_description)
        if row.status == Status.PENDING and found == row.digest == row.sent_digest:
            # The update of unknown outcome took effect.
            return seen | _rest(row, row.sent_digest, now) | {"shown_digest": found}
        gone_again = row.status == Status.REJECTED and row.last_code != "not_found"
        if at_rest and not gone_again:
            code = ""
            if found == row.digest or not row.shown_digest:
                seen["shown_digest"] = found
            if found != row.digest:
                first = row.shown_digest in ("", found)
                code = "stored_differently" if first else "drift"
            seen |= {"status": Status.SYNCED, "last_code": code, "last_error": ""}
        return seen
    if result.shared:
        return {}  # others get the same answer: it stays asked for until the reads work again
    if result.code == "not_found" and at_rest and reads_work:
        return seen | {
            "status": Status.REJECTED,
            "last_code": result.code,
            "last_error": result.detail,
        }
    everybodys = result.outcome in (Outcome.RATE_LIMITED, Outcome.KEY_REFUSED) or (
        result.code == "unavailable" and result.retry_after is not None
    )
    if everybodys or (result.http_status is None and result.code != "internal"):
        return {}  # no fault of this segment: it stays asked for, and the next sweep tries again
    # Bunce answered, and might answer the same for ever. That is told, and who likes asks again.
    return seen | {"last_code": result.code, "last_error": result.detail}


def _rest(row: Segment, sent_digest: str, now: Moment) -> dict[str, Any]:
    """The state of a row that Bunce holds: synced, or pending when it was edited meanwhile."""
    edited = row.digest != sent_digest
    return {
        "status": Status.PENDING if edited else Status.SYNCED,
        "due_at": now,
        "lease_token": None,
        "lease_until": None,
        "attempts": 0,
        "last_code": "",
        "last_error": "",
        "absent_at": None,
        "sent_digest": sent_digest,
        "synced_at": now,
    }

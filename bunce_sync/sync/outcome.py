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
from bunce_sync.models import ApiCall, Segment, content_digest

Status = Segment.Status
Outcome = ApiCall.Outcome

#: The database's time: as a value, or as the expression that the database works out itself.
Moment: TypeAlias = datetime | Combinable

#: The code of a create that Bunce confirmed with an id which another row holds.
LINKED_ELSEWHERE = "linked_elsewhere"
#: The code of a request that was not made because its permit was no longer good.
PERMIT_EXPIRED = exceptions.PermitExpired.code
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
    """

    segment_id: int
    token: UUID
    name: str
    description: str | None
    add_all_customers: bool
    bunce_id: str | None
    attempts: int
    doubted: bool = False

    @property
    def creates(self) -> bool:
        return self.bunce_id is None

    @property
    def digest(self) -> str:
        return content_digest(self.name, self.description)


@dataclass(frozen=True, slots=True)
class Result:
    """What one request came to. ``code`` and ``detail`` as in ``BunceError``."""

    outcome: ApiCall.Outcome
    segment: RemoteSegment | None = None
    code: str = ""
    detail: str = ""
    http_status: int | None = None
    retry_after: float | None = None


def result_of(error: Exception, *, sent: bool) -> Result:
    """Judge a request that failed.

    Args:
        error: what the client raised.
        sent: whether a byte of the request left, as the connection knows it.
    """
    match error:
        case exceptions.RateLimited():
            outcome = Outcome.RATE_LIMITED
        case exceptions.KeyRefused():
            outcome = Outcome.KEY_REFUSED
        case exceptions.Rejected():
            outcome = Outcome.REJECTED
        case _:
            outcome = Outcome.UNKNOWN if sent else Outcome.NOT_SENT
    if not isinstance(error, exceptions.BunceError):
        return Result(outcome, code="internal", detail=type(error).__name__)
    return Result(
        outcome,
        code=error.code,
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
    content = {"bunce_name": remote.name, "bunce_description": remote.description or ""}
    facts = {
        "bunce_type": remote.type and remote.type[:100],
        "bunce_all_customers": remote.all_customers,
        "bunce_customers_count": remote.customers_count,
        "bunce_created_at": remote.created_at,
        "bunce_updated_at": remote.updated_at,
    }
    return {
        "bunce_id": remote.id,
        "bunce_conditions": remote.conditions,
        **(content if remote.name else {}),
        **{name: value for name, value in facts.items() if value is not None},
    }


def settle(
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
    }
    edited = row.digest != claim.digest
    match result.outcome:
        case Outcome.RATE_LIMITED | Outcome.KEY_REFUSED:
            # Not this row's fault: it keeps its place and its attempts; the gate is closed.
            waiting = {"status": Status.PENDING, "attempts": max(claim.attempts - 1, 0)}
            return released | waiting | {"due_at": now}
        case Outcome.NOT_SENT:
            # Nothing left, so what goes out with a create alone may still be changed.
            unsent = released | {"status": Status.PENDING}
            if row.bunce_id is None:
                unsent |= {"sent_at": None}
            if result.code == PERMIT_EXPIRED:
                # It was not Bunce that could not be reached: that costs no attempt.
                return unsent | {"due_at": now, "attempts": max(claim.attempts - 1, 0)}
            return unsent | {"due_at": now + backoff(claim.attempts)}
        case Outcome.REJECTED:
            if row.bunce_id is None and claim.doubted and result.http_status in (409, 422):
                # Refused as a twin, perhaps, of our own earlier create that did arrive.
                return released | {"status": Status.IN_DOUBT, "due_at": now}
            if edited or row.bunce_id != claim.bunce_id:
                # What was refused is not what the row wants now: it was edited, or a late answer
                # to an earlier create has linked it meanwhile, and an update is what it needs.
                return released | {"status": Status.PENDING, "due_at": now, "attempts": 0}
            return released | {"status": Status.REJECTED}
        case _ if row.bunce_id is None:
            return released | {"status": Status.IN_DOUBT, "due_at": now + grace}
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
        return changes | _rest(row, claim.digest, now)
    if unlinked and row.status != Status.SENDING:
        # Also a row that was refused later, as a twin perhaps of the very segment of this answer.
        return changes | _rest(row, claim.digest, now)
    if unlinked:
        # Somebody else's claim is on the wire; that one's answer decides about the status.
        return changes
    # A late answer to an update. Another one may have reached Bunce since, so a row that waits goes
    # on waiting: what it says now is sent once more, which cannot harm.
    if row.status == Status.SYNCED and row.sent_digest != claim.digest:
        # Two updates crossed, and which of them Bunce kept is not known: send what is wanted again.
        return {"status": Status.PENDING, "due_at": now}
    return {}


def adopted(row: Segment, remote: RemoteSegment, *, now: Moment) -> dict[str, Any]:
    """The changes that make a row in doubt the owner of a segment found in Bunce."""
    return confirmed_fields(remote) | _rest(row, row.sent_digest, now)


def checked(row: Segment, result: Result, remote: RemoteSegment | None) -> dict[str, Any]:
    """The changes that a look at the row's own segment in Bunce makes to the row.

    Drift, that is content which somebody changed in Bunce, is told and not undone: "Push now" or an
    edit does that.
    """
    seen: dict[str, Any] = {"check_asked_at": None}
    at_rest = row.status in Segment.RESTING
    if remote is not None:
        seen |= confirmed_fields(remote)
        if at_rest:
            drift = content_digest(remote.name, remote.description) != row.digest
            gone_again = row.status == Status.REJECTED and row.last_code != "not_found"
            if not gone_again:
                seen |= {
                    "status": Status.SYNCED,
                    "last_code": "drift" if drift else "",
                    "last_error": "",
                }
        return seen
    if result.code == "not_found" and at_rest:
        return seen | {
            "status": Status.REJECTED,
            "last_code": result.code,
            "last_error": result.detail,
        }
    if result.http_status is None or result.outcome in (Outcome.RATE_LIMITED, Outcome.KEY_REFUSED):
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
        "sent_digest": sent_digest,
        "synced_at": now,
    }

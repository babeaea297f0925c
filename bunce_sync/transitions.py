"""Every change of a segment's state, as pure functions: no database, network or clock.

Each function returns the new values of columns that only the sync writes
(``Segment.SYNC_FIELDS``); an empty mapping means that nothing changes. ``now`` is the database's
time, as a value or as the expression that the database evaluates.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypedDict
from uuid import UUID

from django.db.models.expressions import Combinable

from bunce_sync.choices import Operation, Outcome, Status
from bunce_sync.client import RemoteSegment
from bunce_sync.exceptions import NotFound
from bunce_sync.fingerprint import LISTED_FIELDS, field_digest, listed_fingerprint
from bunce_sync.local_form import local_description, local_name
from bunce_sync.results import (
    LINKED_ELSEWHERE,
    PERMIT_EXPIRED,
    REFUSED_CONTENT,
    UNREADABLE,
    Result,
)

#: A ``Segment``, which this module cannot import: the models use it.
Row: TypeAlias = Any
Moment: TypeAlias = datetime | Combinable
Values: TypeAlias = dict[str, Any]

#: The states in which nothing happens until the segment is edited or a person acts.
AT_REST = (Status.SYNCED, Status.REJECTED)
#: How long an update of unknown outcome waits, so that Bunce's copy is read first.
REFRESH_FIRST = timedelta(seconds=30)
#: The backoff is at most this many seconds, doubled with each failed attempt: 2 after the first.
BACKOFF_BASE = 1.0
#: Seconds at which the backoff stops growing; a row never gives up on the network.
BACKOFF_CAP = 3600.0
#: How many failed attempts an internal error counts as: one of the database's is brief.
DATABASE_ERROR_ATTEMPTS = 4
INTERNAL_ERROR_ATTEMPTS = 8
#: The highest count of attempts that is stored.
MOST_ATTEMPTS = 1_000_000


class Content(TypedDict):
    """The fields that Bunce's list shows; see ``LISTED_FIELDS``."""

    name: str
    description: str | None


_NO_LEASE: Values = {"lease_token": None, "lease_until": None}
_NO_PROBLEM: Values = {"last_code": "", "last_error": "", "absent_at": None}


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to send one request for one segment, with the content to send.

    Attributes:
        token: names the lease; a result recorded with another token is late.
        content: the fields to send, by name; an update omits those that Bunce has already.
        sent_digest: the fingerprint of the row's content, to detect edits.
        listed_digest: the fingerprint that Bunce's list would show for it.
        environment: where it is sent.
        came_from: the row's environment before the claim.
        settled: ``Segment.settled`` while the outcome is not known: what Bunce has in either case,
            and for a create what it will have if it acted.
        bunce_id: None for a create.
        attempts: the count of attempts, this one included.
        has_unresolved_create: an earlier create of this row had an unknown outcome.
    """

    segment_id: int
    token: UUID
    content: Mapping[str, Any]
    sent_digest: str
    listed_digest: str
    bunce_id: str | None
    attempts: int
    environment: str = ""
    came_from: str = ""
    settled: Mapping[str, str] = field(default_factory=dict)
    has_unresolved_create: bool = False

    @property
    def creates(self) -> bool:
        return self.bunce_id is None

    @property
    def operation(self) -> Operation:
        return Operation.CREATE if self.creates else Operation.UPDATE


def backoff(attempts: int) -> timedelta:
    """Return how long to wait after so many failed attempts: doubled, capped, with jitter."""
    longest = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(attempts, 20))
    return timedelta(seconds=random.uniform(longest / 2, longest))


# Requests by people and other code


def requeued(*, now: Moment) -> Values:
    """Return the values of a row that is sent again after an edit or a retry."""
    return {"status": Status.PENDING, "due_at": now, "attempts": 0, **_NO_PROBLEM}


def push_requested(*, now: Moment) -> Values:
    """Return the values of a row that is sent without further delay."""
    return {"status": Status.PENDING, "due_at": now}


def refresh_requested(*, now: Moment) -> Values:
    """Return the values of a row whose copy in Bunce is to be read."""
    return {"refresh_requested_at": now}


# One request


def claimed(claim: Claim, *, now: Moment, lease: timedelta) -> Values:
    """Return the values of a row that a worker has claimed."""
    return {
        "status": Status.SENDING,
        "lease_token": claim.token,
        "lease_until": now + lease,
        "attempts": claim.attempts,
        "sent_digest": claim.sent_digest,
        "listed_digest": claim.listed_digest,
        "sent_at": now,
        "environment": claim.environment,
        "settled": dict(claim.settled),
    }


def nothing_to_send(row: Row, *, now: Moment) -> Values:
    """Return the values of a waiting row that was edited back to what Bunce confirmed before."""
    values = _confirmed(row, row.content_fingerprint, row.listed_fingerprint, now)
    del values["synced_at"]
    return values | {"last_code": _difference(row, held_fingerprint(row), row.shown_digest)}


def after_push(row: Row, claim: Claim, result: Result, *, now: Moment, grace: timedelta) -> Values:
    """Return the values of a row after a create or an update.

    Args:
        row: as it is now, locked.
        claim: under which the request was made.
        grace: how long Bunce may still be working on a create that looked lost.
    """
    owns_lease = row.status == Status.SENDING and row.lease_token == claim.token
    if result.segment is not None:
        return _after_success(row, claim, result.segment, now=now, owns_lease=owns_lease)
    if not owns_lease:
        # The lease ended and the row has moved on. A create without an id adds nothing: the row
        # went through in_doubt, which covers whatever happened.
        return {}
    released = {
        **_NO_LEASE,
        "last_code": result.code,
        "last_error": result.detail,
        "absent_at": None,
    }
    # Bunce did nothing with it, so it does not belong there yet.
    not_counted = {
        "attempts": max(claim.attempts - 1, 0),
        "environment": claim.came_from,
    }
    # A row that is not in Bunce can still be linked instead of created.
    unsent: Values = {"sent_at": None} if row.bunce_id is None else {}
    waiting = {"status": Status.PENDING, "due_at": now}
    match result.outcome:
        case Outcome.CONFIRMED:
            # An update that Bunce confirmed without content; a refresh shows what it has now.
            return _confirmed(row, claim.sent_digest, claim.listed_digest, now) | {
                "shown_digest": "",
                "refresh_requested_at": now,
                "settled": {**row.settled_digests, **_digests(row, claim.content)},
            }
        case Outcome.RATE_LIMITED | Outcome.KEY_REFUSED:
            # The row keeps its place; the rate limiter has paused all requests.
            return released | unsent | not_counted | waiting
        case Outcome.NOT_SENT:
            if result.code == PERMIT_EXPIRED:  # connecting was slow; Bunce is reachable
                return released | unsent | not_counted | waiting
            unsent["environment"] = claim.came_from
            return released | unsent | waiting | {"due_at": now + backoff(claim.attempts)}
        case Outcome.REJECTED:
            return released | _after_refusal(row, claim, result, now=now)
        case _ if row.bunce_id is None:
            return released | {"status": Status.IN_DOUBT, "due_at": now + grace}
        case _ if result.code in UNREADABLE:
            # The update may have taken effect: read it first, and send it again if needed.
            wait = max(backoff(claim.attempts), REFRESH_FIRST)
            return released | waiting | {"due_at": now + wait, "refresh_requested_at": now}
        case _:
            return released | waiting | {"due_at": now + backoff(claim.attempts)}


def _after_refusal(row: Row, claim: Claim, result: Result, *, now: Moment) -> Values:
    waiting = {"status": Status.PENDING, "due_at": now}
    create_refused = row.bunce_id is None and result.code in REFUSED_CONTENT
    if create_refused and claim.has_unresolved_create:
        # Perhaps refused as a duplicate of our own earlier create, which did arrive.
        return {"status": Status.IN_DOUBT, "due_at": now}
    edited = row.content_fingerprint != claim.sent_digest or (
        claim.creates and create_only_fields_differ(row, claim.content)
    )
    if edited or row.bunce_id != claim.bunce_id:
        # The refused content is outdated: the row was edited, or a late response to an earlier
        # create has linked it meanwhile, so that it needs an update.
        return waiting | {"attempts": 0}
    if result.shared:
        # Other rows get the same response: the row waits until the operation works again.
        return waiting | {"attempts": max(claim.attempts - 1, 0)}
    return {"status": Status.REJECTED}


def _after_success(
    row: Row, claim: Claim, remote: RemoteSegment, *, now: Moment, owns_lease: bool
) -> Values:
    if row.bunce_id is None and not claim.creates:
        return {}  # the row gave up the segment meanwhile
    if row.bunce_id is not None and row.bunce_id != remote.id:
        # A late response: the row has its segment, and Bunce has a second one. Never overwrite.
        duplicate = {"bunce_duplicate_id": remote.id}
        if not owns_lease:
            return duplicate
        # The row's own segment has what Bunce showed of it last.
        held = held_fingerprint(row)
        is_current = held == row.listed_fingerprint and _list_shows_updates(row)
        sent_digest = row.content_fingerprint if is_current else ""
        return _confirmed(row, sent_digest, held, now) | duplicate
    values = confirmed_values(remote)
    linked_now = row.bunce_id is None
    if owns_lease:
        # What the response leaves out is as it was sent.
        as_sent = {
            f"bunce_{name}": claim.content[name] or ""
            for name in LISTED_FIELDS
            if name in claim.content
        }
        values = as_sent | values
    if owns_lease or linked_now:
        known = {} if linked_now else row.settled_digests
        values["settled"] = {**known, **_digests(row, claim.content)}
    if linked_now and remote.all_customers is None:
        values["bunce_all_customers"] = claim.content["add_all_customers"]
    if owns_lease or (linked_now and row.status != Status.SENDING):
        # This includes a row that was refused later, perhaps as a duplicate of this very segment.
        at_rest = _confirmed(row, claim.sent_digest, claim.listed_digest, now)
        return values | at_rest | _shown_values(row, claim, remote)
    if linked_now:
        # Another worker's request is under way; its response decides about the status.
        return values
    # A late response to an update. A row that is waiting keeps waiting and is sent once more.
    if row.status == Status.SYNCED and row.sent_digest != claim.sent_digest:
        # Two updates crossed, and it is unknown which one Bunce kept.
        late = _digests(row, claim.content)
        kept = {
            name: digest
            for name, digest in row.settled_digests.items()
            if late.get(name) in (None, digest)
        }
        if kept != row.settled_digests:
            return {"status": Status.PENDING, "due_at": now, "settled": kept}
    return {}


def _list_shows_updates(row: Row) -> bool:
    """Return whether Bunce's list shows every field of an update, and so proves one."""
    return {*row.UPDATE_FIELDS} <= {*LISTED_FIELDS}


def create_only_fields_differ(row: Row, content: Mapping[str, Any]) -> bool:
    """Return whether a create sent other values of fields that ``sent_digest`` does not cover.

    Args:
        content: the content of the create; fields that it lacks do not differ.
    """
    return any(
        name in content and getattr(row, name) != content[name] for name in row.CREATE_ONLY_FIELDS
    )


def _shown_values(row: Row, claim: Claim, remote: RemoteSegment) -> Values:
    """Return the baseline of drift after a success, and whether Bunce has other content.

    The baseline of a field that was not sent stays as it was: what differs there was changed in
    Bunce.
    """
    assumed = {name: claim.content[name] for name in remote.left_out if name in claim.content}
    shown = {**shown_content(remote, row), **assumed}
    digest = listed_fingerprint(**shown)
    held = held_content(row)
    before = held if row.shown_digest in ("", listed_fingerprint(**held)) else _wanted(row)
    sent = {name: value for name, value in shown.items() if name in claim.content}
    baseline = listed_fingerprint(**{**before, **sent})
    code = ""
    if row.content_fingerprint == claim.sent_digest and digest != claim.listed_digest:
        code = "stored_differently" if digest == baseline else "drift"
    return {"shown_digest": baseline, "last_code": code}


def _difference(row: Row, shown: str, baseline: str) -> str:
    """Return the code of what Bunce shows of a row at rest; empty if it is the content here."""
    if shown == row.listed_fingerprint:
        return ""
    return "stored_differently" if baseline in ("", shown) else "drift"


def _digests(row: Row, content: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of the fields that a request sent and an update can send."""
    return {
        name: field_digest(value) for name, value in content.items() if name in row.UPDATE_FIELDS
    }


def shown_content(remote: RemoteSegment, row: Row) -> Content:
    """Return the content that Bunce shows, in the form it has here.

    Args:
        row: what the response leaves out is as Bunce showed it of this row before.
    """
    name = row.bunce_name if "name" in remote.left_out else remote.name
    description = row.bunce_description if "description" in remote.left_out else remote.description
    return {
        "name": local_name(name, remote.id),
        "description": local_description(description),
    }


def own_content(remote: RemoteSegment) -> Content:
    """Return the content of a listed segment in the form it has here."""
    return {
        "name": local_name(remote.name, remote.id),
        "description": local_description(remote.description),
    }


def _wanted(row: Row) -> Content:
    return {"name": row.name, "description": row.description}


def held_content(row: Row) -> Content:
    """Return the content that Bunce showed of a row last, in the form it has here."""
    return {
        "name": local_name(row.bunce_name, row.bunce_id or ""),
        "description": local_description(row.bunce_description),
    }


def held_fingerprint(row: Row) -> str:
    """Return the fingerprint of the content that Bunce showed of a row last."""
    return listed_fingerprint(**held_content(row))


def _confirmed(row: Row, sent_digest: str, listed_digest: str, now: Moment) -> Values:
    """Return the values of a row that Bunce has: synced, or pending when it was edited since."""
    edited = row.content_fingerprint != sent_digest
    return {
        "status": Status.PENDING if edited else Status.SYNCED,
        "due_at": now,
        "attempts": 0,
        "sent_digest": sent_digest,
        "listed_digest": listed_digest,
        "synced_at": now,
        **_NO_LEASE,
        **_NO_PROBLEM,
    }


def confirmed_values(remote: RemoteSegment) -> Values:
    """Return the ``bunce_`` columns as Bunce gave them; what it leaves out stays unchanged."""
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


def operation_paused(*, now: Moment) -> Values:
    """Return the values of a rejected row whose refusal turned out to be the operation's."""
    return {"status": Status.PENDING, "due_at": now}


def after_internal_error(error: Exception, *, now: Moment, brief: bool) -> Values:
    """Return the values of a waiting row that an internal error kept from being sent.

    Args:
        brief: the error passes soon, as a deadlock does.
    """
    attempts = DATABASE_ERROR_ATTEMPTS if brief else INTERNAL_ERROR_ATTEMPTS
    return {
        "due_at": now + backoff(attempts),
        "last_code": "internal",
        "last_error": type(error).__name__,
    }


# Refresh


def after_refresh(
    row: Row,
    result: Result,
    remote: RemoteSegment | None,
    *,
    now: Moment,
    reads_work: bool = True,
    outdated: bool = False,
    unread: bool = False,
) -> Values:
    """Return the values of a row after its segment was read from Bunce.

    Drift (content changed in Bunce) is shown and not undone. Content that Bunce showed right after
    the last push is not drift, even if it differs from what was sent.

    Args:
        row: as it is now, locked.
        result: of the read.
        remote: what Bunce has, if the read succeeded.
        reads_work: single segments were read before, so that a 404 is about this one. Bunce's
            pages do not document the call.
        outdated: the row was written since the read began, which may have seen what was before.
        unread: nothing has ever shown that Bunce has the segment: code linked the row to it.
    """
    if outdated or row.status == Status.SENDING:
        return {}  # the request stays, so the segment is read once more
    done: Values = {"refresh_requested_at": None}
    at_rest = row.status in AT_REST
    if remote is not None:
        return done | confirmed_values(remote) | _compare(row, remote, now=now)
    if result.shared:
        return {}  # other rows get the same response: the request stays until reads work again
    refused = unread and result.outcome == Outcome.REJECTED
    if at_rest and (refused or (result.code == "not_found" and reads_work)):
        return done | {
            "status": Status.REJECTED,
            "last_code": NotFound.code,
            "last_error": result.detail,
        }
    if result.concerns_all or (result.http_status is None and result.code != "internal"):
        return {}  # not about this segment: the request stays, and the next sweep repeats it
    return done | {"last_code": result.code, "last_error": result.detail}


def _compare(row: Row, remote: RemoteSegment, *, now: Moment) -> Values:
    """Return what the comparison of a row with its segment in Bunce changes."""
    shown = listed_fingerprint(**shown_content(remote, row))
    local = row.listed_fingerprint
    if (
        row.status == Status.PENDING
        and shown == local
        and row.content_fingerprint == row.sent_digest
        and _list_shows_updates(row)
    ):
        # The update of unknown outcome took effect.
        return _confirmed(row, row.sent_digest, row.listed_digest, now) | {
            "shown_digest": shown,
            "settled": row.field_digests(row.UPDATE_FIELDS),
        }
    gone_before = row.status == Status.REJECTED and row.last_code == "not_found"
    if row.status != Status.SYNCED and not gone_before:
        return _followed_baseline(row, remote)
    values: Values = {"status": Status.SYNCED, "last_error": ""}
    values["last_code"] = _difference(row, shown, row.shown_digest)
    if shown == local or not row.shown_digest:
        values["shown_digest"] = shown
    return values


def _followed_baseline(row: Row, remote: RemoteSegment) -> Values:
    """Return the baseline of drift of a row whose update is still to be confirmed.

    A field that the update sends may show its effect already. That it differs from before is no
    drift, also if Bunce normalizes another field.
    """
    held = held_content(row)
    if row.shown_digest != listed_fingerprint(**held):
        return {}  # it was changed in Bunce before
    unsettled = row.unsettled_fields
    sent = {name: value for name, value in shown_content(remote, row).items() if name in unsettled}
    baseline: dict[str, Any] = {**held, **sent}
    return {"shown_digest": listed_fingerprint(**baseline)}


def with_duplicate(bunce_id: str) -> Values:
    """Return the values of a row of which Bunce has a second segment."""
    return {"bunce_duplicate_id": bunce_id}


def without_duplicate() -> Values:
    """Return the values of a row whose second segment is gone or belongs to another row."""
    return {"bunce_duplicate_id": None}


def after_failed_refresh(error: Exception) -> Values:
    """Return the values of a row whose refresh failed by an internal error."""
    return {
        "refresh_requested_at": None,
        "last_code": "internal",
        "last_error": type(error).__name__,
    }


def refresh_impossible() -> Values:
    """Return the values of a row that cannot be refreshed because it has no segment in Bunce."""
    return {"refresh_requested_at": None}


# Import


def imported(remote: RemoteSegment, *, environment: str, now: Moment) -> Values:
    """Return the values of the fields of the sync of a row made from a segment in Bunce's list.

    The editable fields are set already, to ``shown_content``; see ``taken_over``.
    """
    return confirmed_values(remote) | {
        "status": Status.SYNCED,
        "environment": environment,
        "imported_at": now,
        "synced_at": now,
    }


def taken_over(row: Row) -> Values:
    """Return what a row has to remember whose content is what Bunce has, unsent by this site."""
    digest = row.listed_fingerprint
    return {
        "sent_digest": row.content_fingerprint,
        "listed_digest": digest,
        "shown_digest": digest,
        "settled": row.field_digests(row.UPDATE_FIELDS),
    }


def after_import(row: Row, remote: RemoteSegment, *, now: Moment, outdated: bool = False) -> Values:
    """Return what changes in a row whose segment is in Bunce's list; often nothing.

    What people want here is never overwritten.

    Args:
        outdated: as for ``after_refresh``.
    """
    if outdated or row.status == Status.SENDING:
        return {}
    # The list shows what the read of a single segment would.
    values = confirmed_values(remote) | _compare(row, remote, now=now)
    values["refresh_requested_at"] = None
    return {name: value for name, value in values.items() if getattr(row, name) != value}


def linked(row: Row, values: Mapping[str, Any], *, environment: str, now: Moment) -> Values:
    """Return the values of a waiting row that gets a segment with the same content.

    Args:
        values: of the columns that have Bunce's own values.
    """
    at_rest = _confirmed(row, row.content_fingerprint, row.listed_fingerprint, now)
    return {**values, **at_rest, **taken_over(row), "environment": environment}


def linked_by_code(row: Row, bunce_id: str, *, now: Moment) -> Values:
    """Return the values of a new row that code links to a segment of Bunce.

    What Bunce has of it is read next: until then it is taken to be the content here.
    """
    return {
        **taken_over(row),
        "bunce_id": bunce_id,
        "bunce_name": row.name,
        "bunce_description": row.description or "",
        "status": Status.SYNCED,
        "refresh_requested_at": now,
    }


def after_late_find(
    row: Row, remote: RemoteSegment, body: Mapping[str, Any], *, environment: str, now: Moment
) -> Values:
    """Return the values of a row without an id whose create of unknown outcome is found after all.

    Args:
        body: of the create.
        environment: where it was sent.
    """
    digests = row.digests_of(body)
    at_rest = _confirmed(row, digests["sent_digest"], digests["listed_digest"], now)
    return (
        confirmed_values(remote)
        | at_rest
        | {
            "shown_digest": listed_fingerprint(**own_content(remote)),
            "settled": _digests(row, body),
            "environment": environment,
        }
    )


def given_way(bunce_id: str) -> Values:
    """Return the values of an imported row whose segment another row turned out to have created.

    It was edited, so it is not deleted; sending it again would create a second segment.
    """
    return {
        **released(),
        "status": Status.REJECTED,
        "last_code": LINKED_ELSEWHERE,
        "last_error": bunce_id,
    }


# Differences with Bunce, and rows that give up their segment


def released() -> Values:
    """Return the values of a row that gives up its segment in Bunce, and keeps its content."""
    return {
        "bunce_id": None,
        "bunce_name": "",
        "bunce_description": "",
        "bunce_type": "",
        "bunce_all_customers": None,
        "bunce_conditions": None,
        "bunce_customers_count": None,
        "bunce_created_at": None,
        "bunce_updated_at": None,
        "bunce_duplicate_id": None,
        "environment": "",
        "settled": None,
        "imported_at": None,
        "sent_digest": "",
        "listed_digest": "",
        "shown_digest": "",
        "sent_at": None,
        "synced_at": None,
        "refresh_requested_at": None,
        **_NO_LEASE,
        **_NO_PROBLEM,
    }


def created_again(*, now: Moment) -> Values:
    """Return the values of a row that is created in Bunce again, as if for the first time."""
    return released() | requeued(now=now)


def moved(*, environment: str) -> Values:
    """Return the values of a row that belongs to this environment from now on."""
    return {"environment": environment}


def moved_back(row: Row, bunce_id: str, *, environment: str, now: Moment) -> Values:
    """Return the values of a row that gets back the segment it had in an environment before.

    What Bunce has of it is unknown, so an update follows.
    """
    restored = after_restore(row, bunce_id, now=now)
    return created_again(now=now) | restored | {"attempts": 0, "environment": environment}


def ours_pushed(*, now: Moment) -> Values:
    """Return the values of a row whose whole content is to replace what Bunce has."""
    return push_requested(now=now) | {"settled": None}


def theirs_taken(row: Row) -> Values:
    """Return the values of a row whose content was just replaced by what Bunce has."""
    return taken_over(row) | {"last_code": "", "last_error": ""}


# Reconciliation


def after_adoption(row: Row, remote: RemoteSegment, *, environment: str, now: Moment) -> Values:
    """Return the values of a row in doubt that is linked to a segment found in Bunce's list.

    Args:
        environment: of the list.
    """
    at_rest = _confirmed(row, row.sent_digest, row.listed_digest, now)
    return (
        confirmed_values(remote)
        | at_rest
        | {
            "shown_digest": listed_fingerprint(**own_content(remote)),
            "environment": environment,
        }
    )


def after_absence(row: Row, *, refused: bool, now: Moment) -> Values:
    """Return the values of a row in doubt that Bunce's whole list does not have.

    Args:
        refused: Bunce refused this content, and no create of ours explains the refusal.
    """
    if row.content_fingerprint != row.sent_digest:
        return requeued(now=now)
    if refused:
        return {"status": Status.REJECTED, "absent_at": now}
    # A create that is lost again and again costs a scan each time: at growing intervals.
    due_at = now + backoff(row.attempts - 1) if row.attempts > 1 else now
    # The problem stays shown: it is why the row waits.
    return {"status": Status.PENDING, "due_at": due_at, "absent_at": now}


# Repairs


def after_lease_expired(*, creates: bool, now: Moment, grace: timedelta) -> Values:
    """Return the values of a row whose worker did not record a result before its lease ended."""
    return {
        "status": Status.IN_DOUBT if creates else Status.PENDING,
        "due_at": now + grace if creates else now,
        "last_code": "worker_lost",
        "last_error": "",
        "absent_at": None,
        **_NO_LEASE,
    }


def after_restore(row: Row, bunce_id: str, *, now: Moment) -> Values:
    """Return the values of a row that gets back the id which the call log has for it.

    What Bunce has of it is unknown, so an update follows.
    """
    return {
        "bunce_id": bunce_id,
        "status": Status.PENDING,
        "due_at": now,
        "attempts": row.attempts,
        "sent_digest": row.sent_digest,
        "listed_digest": row.listed_digest,
        "settled": None,
        **_NO_LEASE,
    }


def after_lost_create(
    row: Row, body: Mapping[str, Any], *, sent_at: datetime, due_at: Moment
) -> Values:
    """Return the values of a row that is in doubt about a create which only the call log has.

    Args:
        body: of the create.
        sent_at: when it was made.
        due_at: when Bunce has certainly finished with it.
    """
    return {
        "status": Status.IN_DOUBT,
        "due_at": due_at,
        "sent_at": sent_at,
        "last_code": "worker_lost",
        "last_error": "",
        "settled": _digests(row, body),
        **row.digests_of(body),
        **_NO_LEASE,
    }


def after_raw_insert(row: Row, body: Mapping[str, Any] | None, *, now: Moment) -> Values:
    """Return the values of a row that is inserted again, from a dump or an older version of it.

    The row keeps what identifies it, and the doubt about its create. Everything else is as old as
    the dump: what Bunce was sent since then is in the call log, and a row without a Bunce id has
    to be sent.

    Args:
        body: of the last request that Bunce confirmed for this row, if there is one.
    """
    unresolved = row.status in (Status.SENDING, Status.IN_DOUBT)
    if row.bunce_id is None:
        return {} if unresolved else requeued(now=now)
    if body is not None and not {*row.UPDATE_FIELDS} <= body.keys():
        return requeued(now=now) | _NO_LEASE  # that update left fields out: send all of them
    digests: Values = row.digests_of(body) if body else {}
    changed = row.content_fingerprint != digests.get("sent_digest", row.sent_digest)
    if changed or row.status == Status.SENDING:
        return digests | requeued(now=now) | _NO_LEASE
    return digests

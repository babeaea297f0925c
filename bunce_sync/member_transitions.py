"""Every change of a member's state, as pure functions; see ``transitions`` for segments.

Each returns the new values of columns of ``Member`` that only the sync writes. Those of a batch
hold for all of its rows, so what differs from row to row is an expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from django.db.models import Case, F, Q, Value, When
from django.db.models.expressions import Combinable

from bunce_sync.choices import MemberStatus, Operation, Outcome
from bunce_sync.customer_entries import CustomerEntry
from bunce_sync.functions import DatabaseNow
from bunce_sync.results import PERMIT_EXPIRED, Result
from bunce_sync.transitions import backoff

#: A ``Member``, which this module cannot import: the model uses it.
Row: TypeAlias = Any
Values: TypeAlias = dict[str, Any]
Moment: TypeAlias = datetime | Combinable

#: For how long only the worker whose batch was refused sends its members again.
ISOLATION: Final = timedelta(seconds=5)
#: The digest of a profile that has to be sent again, whatever it is.
OUTDATED: Final = "*"
#: Now, or when a request of unknown outcome can no longer take effect: what differs from it must
#: not overtake it.
WHEN_SETTLED: Final = Case(
    When(late_until__gt=DatabaseNow(), then=F("late_until")), default=DatabaseNow()
)
#: That of a customer who was forgotten: removed even while an audience is held.
FORGOTTEN: Final = "forgotten"
_NO_PROBLEM: Final[Values] = {"attempts": 0, "split": 0, "last_code": "", "last_error": ""}
_WAITING: Final[Values] = {
    "status": MemberStatus.PENDING,
    "due_at": WHEN_SETTLED,
    **_NO_PROBLEM,
}
#: Of a member that Bunce does not have: deleted once no earlier request can take effect any more.
_GONE: Final[Values] = {"status": MemberStatus.REMOVED, "due_at": WHEN_SETTLED}


# What the site wants


def wanted(row: Row, entry: CustomerEntry, *, retry: bool = False) -> Values:
    """Return the values of a member that the site wants in the segment; empty if it is as it was.

    Args:
        row: as it is now, locked.
        retry: send it again if Bunce refused it.
    """
    same = row.profile_digest == entry.digest and row.is_email == entry.is_email
    profile: Values = {}
    if not same:
        profile = {
            "is_email": entry.is_email,
            "profile": dict(entry.profile) or None,
            "profile_digest": entry.digest,
        }
    if row.wanted and same:
        again = retry and row.status == MemberStatus.REFUSED
        return dict(_WAITING) if again else {}
    if row.status == MemberStatus.SENDING:
        return profile | {"wanted": True, "changed": True}
    if row.in_bunce and same and row.profile is None:
        return {"wanted": True, "status": MemberStatus.IN_BUNCE, **_NO_PROBLEM}
    return profile | {"wanted": True, **_WAITING}


def unwanted(row: Row) -> Values | None:
    """Return the values of a member that is to be removed; None if the row can be deleted.

    Args:
        row: as it is now, locked.
    """
    if not row.wanted:
        return {}
    if row.status == MemberStatus.SENDING:
        return {"wanted": False, "changed": True}
    if row.in_bunce is False:
        # Kept until no removal of unknown outcome can take effect any more: it must not undo an
        # add that follows.
        is_settled = row.late_until is None
        return None if is_settled else {"wanted": False, **_GONE, **_NO_PROBLEM}
    return {"wanted": False, **_WAITING}


def retried() -> Values:
    """Return the values of refused members that are sent again."""
    return dict(_WAITING)


def forgotten() -> Values:
    """Return the values of members, unwanted already, who were forgotten."""
    return {"profile": None, "profile_digest": FORGOTTEN}


def outdated() -> Values:
    """Return the values of members that Bunce is told again, because its segment may lack them."""
    digest = Case(When(profile_digest="", then=Value("")), default=Value(OUTDATED))
    return {"in_bunce": None, "profile_digest": digest, **_WAITING}


def lost() -> Values:
    """Return the values of wanted members of a segment that Bunce has under another id now."""
    return {**outdated(), "in_bunce": False, "lease_token": None, "changed": False}


# One request


def leased(token: UUID, *, until: Moment) -> Values:
    """Return the values of the members of a batch that is about to be sent."""
    return {
        "status": MemberStatus.SENDING,
        "lease_token": token,
        "due_at": until,
        "changed": False,
    }


@dataclass(frozen=True, slots=True)
class BatchEnd:
    """What a result makes of the members of a batch.

    Attributes:
        values: of the members that were not changed while it was sent.
        changed: of those that were.
    """

    values: Values
    changed: Values


def after_batch(
    operation: Operation,
    result: Result,
    *,
    attempts: int,
    now: Moment,
    grace: timedelta,
    split: int = 0,
    refusal: str = "",
) -> BatchEnd:
    """Return what the result of a batch makes of its members.

    Args:
        operation: ``ADD`` or ``REMOVE``.
        attempts: the most attempts of a member, this one included.
        grace: how long Bunce may still be working on a request that looked lost.
        split: the size of the batches in which refused members are sent next; 0 if the refusal
            concerns the batch, not its members.
        refusal: Bunce's words about the only member of the batch, if it stays refused.
    """
    released: Values = {"lease_token": None, "changed": False}
    again = {**released, "status": MemberStatus.PENDING, "due_at": now}
    adds = operation == Operation.ADD
    if result.outcome == Outcome.CONFIRMED:
        told: Values = {"in_bunce": adds, **_NO_PROBLEM}
        changed = {**again, **told, "due_at": WHEN_SETTLED}
        if adds:
            done = {**released, **told, "status": MemberStatus.IN_BUNCE, "profile": None}
        else:
            done = {**released, **told, **_GONE}
        return BatchEnd(done, changed)
    if result.outcome == Outcome.REJECTED:
        changed = {**again, **_NO_PROBLEM, "due_at": WHEN_SETTLED}
        if refusal:
            stopped = {
                **released,
                "status": MemberStatus.REFUSED,
                "last_code": result.code,
                "last_error": refusal,
            }
            return BatchEnd(stopped, changed)
        # The worker that was refused looks for the one that Bunce refuses; others leave it to it.
        apart = {"split": split, "due_at": now + ISOLATION}
        return BatchEnd(again | apart if split else again, changed)
    not_counted = result.concerns_all or result.code == PERMIT_EXPIRED
    if result.outcome in (Outcome.RATE_LIMITED, Outcome.KEY_REFUSED, Outcome.NOT_SENT):
        # What differs from an earlier request of unknown outcome still waits for that one.
        changed = again | {"due_at": WHEN_SETTLED}
        if not_counted:
            return BatchEnd(again, changed)
        wait = {"attempts": F("attempts") + 1, "due_at": now + backoff(attempts)}
        return BatchEnd(again | wait, changed)
    return unsettled(now=now, grace=grace, delay=backoff(attempts))


def unsettled(*, now: Moment, grace: timedelta, delay: timedelta = timedelta()) -> BatchEnd:
    """Return what becomes of members whose request may have taken effect, or may do so later.

    The same request is made again. A different one waits until this one can no longer act.
    """
    values = {
        "status": MemberStatus.PENDING,
        "lease_token": None,
        "changed": False,
        "in_bunce": None,
        "late_until": now + grace,
        "attempts": F("attempts") + 1,
        "due_at": now + delay,
    }
    return BatchEnd(values, values | {"attempts": 0, "due_at": now + grace})


#: The condition for members that were never told to Bunce, so that nothing has to be removed.
NEVER_TOLD: Final = Q(in_bunce=False)

"""Services of the customers in segments, beside ``Segment.add_customers`` and its counterpart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from bunce_sync import database, member_transitions
from bunce_sync.choices import MemberStatus
from bunce_sync.customer_entries import read_entry
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ForgottenCustomer, Segment
from bunce_sync.models.member_queryset import BATCH
from bunce_sync.services.publishing import publish_after_commit
from bunce_sync.sync.audience_runs import AUDIENCES
from bunce_sync.sync.customers import CUSTOMERS
from bunce_sync.tasks import work


class RemovalsChanged(Exception):
    """The removals are no longer the ones that were shown."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What ``forget`` found.

    Attributes:
        to_remove: the segments from which Bunce has to remove the customer.
        deleted: how many members were deleted because Bunce was never told.
    """

    to_remove: tuple[int, ...]
    deleted: int


def retry_refused(segment: Segment) -> int:
    """Send the refused customers of a segment again; return how many."""
    with transaction.atomic(using=database.alias()):
        refused = database.members().filter(segment=segment, status=MemberStatus.REFUSED)
        refused.lock_keys()
        number = refused.update(**member_transitions.retried())
        if number:
            publish_after_commit(work, CUSTOMERS.name)
    return number


def retry_customers(keys: Sequence[int]) -> int:
    """Send those of the members with these keys again that Bunce refused; return how many."""
    with transaction.atomic(using=database.alias()):
        refused = database.members().filter(pk__in=keys, status=MemberStatus.REFUSED)
        number = refused.update(**member_transitions.retried())
        if number:
            publish_after_commit(work, CUSTOMERS.name)
    return number


def resync_customers(segment: Segment) -> int:
    """Tell Bunce all customers of a segment again; return how many members there are.

    For what Bunce may have lost, or what a restored backup has lost. Customers who are in the
    segment in Bunce and not here stay there: Bunce has no list of them.
    """
    number = 0
    last = 0
    members = database.members().filter(segment=segment, wanted=True).order_by("pk")
    while keys := list(members.filter(pk__gt=last).values_list("pk", flat=True)[:BATCH]):
        last = keys[-1]
        some = database.members().filter(pk__in=keys).exclude(status=MemberStatus.SENDING)
        with transaction.atomic(using=database.alias()):
            some.lock_keys()
            number += some.exclude(in_bunce=False).update(**member_transitions.outdated())
            # Bunce was never told these, and must not be asked to remove them either.
            number += some.filter(in_bunce=False).update(**member_transitions.retried())
    database.customer_syncs().filter(pk=segment.pk).exclude(key=None).update(
        run_requested_at=DatabaseNow()
    )
    with transaction.atomic(using=database.alias()):
        publish_after_commit(work, AUDIENCES.name)
        publish_after_commit(work, CUSTOMERS.name)
    return number


def request_comparison(segment: Segment) -> bool:
    """Have the audience of a segment compared soon; return whether it has one."""
    with transaction.atomic(using=database.alias()):
        syncs = database.customer_syncs().filter(pk=segment.pk).exclude(key=None)
        requested = bool(syncs.update(run_requested_at=DatabaseNow()))
        if requested:
            publish_after_commit(work, AUDIENCES.name)
    return requested


def confirm_removals(segment: Segment, *, shown: int) -> None:
    """Let the held removals of an audience happen.

    The audience is compared again first. If that finds more removals than were shown, it is held
    again.

    Args:
        shown: how many removals the person saw.

    Raises:
        RemovalsChanged: the audience is not held, or holds another number by now.
    """
    with transaction.atomic(using=database.alias()):
        syncs = database.customer_syncs().filter(pk=segment.pk, held_at__isnull=False)
        confirmed = syncs.filter(held_removals=shown).update(
            confirmed_removals=shown, run_requested_at=DatabaseNow()
        )
        if not confirmed:
            raise RemovalsChanged
        publish_after_commit(work, AUDIENCES.name)


def drop_removals(segment: Segment, *, shown: int) -> None:
    """Discard the held removals of an audience: these members stay.

    The next comparison finds them again if they are still not in the queryset.

    Args:
        shown: how many removals the person saw.

    Raises:
        RemovalsChanged: the audience is not held, or holds another number by now.
    """
    syncs = database.customer_syncs().filter(pk=segment.pk, held_at__isnull=False)
    if not syncs.filter(held_removals=shown).update(held_at=None, held_examples=[]):
        raise RemovalsChanged


def forget(identifier: str) -> Forgotten:
    """Have a customer removed from all segments, and never added again.

    Only a digest of the identifier is kept. The member rows are deleted as soon as Bunce has
    confirmed the removals; Bunce keeps the customer itself, which its API cannot delete.

    Args:
        identifier: as it was given when the customer was added.

    Raises:
        InvalidCustomer: it cannot be an identifier.
    """
    entry = read_entry(identifier)
    spellings = {entry.identifier, str(identifier).strip()}
    with transaction.atomic(using=database.alias()):
        for one in spellings:
            database.forgotten_customers().get_or_create(
                digest=ForgottenCustomer.digests_of(one)[0]
            )
        members = database.members().filter(identifier__in=spellings)
        before = members.count()
        members.unwant_all()
        # Perhaps Bunce refused to remove them before.
        members.filter(status=MemberStatus.REFUSED).update(**member_transitions.retried())
        rows = members.values_list("pk", "segment_id")
        left = dict(rows)
        # Nothing else about the customer is needed to remove them.
        members.update(**member_transitions.forgotten())
        publish_after_commit(work, CUSTOMERS.name)
    return Forgotten(tuple(sorted({*left.values()})), before - len(left))


def unforget(identifier: str) -> bool:
    """Allow a forgotten customer to be added again; return whether they were forgotten."""
    entry = read_entry(identifier)
    digests = [
        digest
        for one in {entry.identifier, str(identifier).strip()}
        for digest in ForgottenCustomer.digests_of(one)
    ]
    return bool(database.forgotten_customers().filter(digest__in=digests).delete()[0])

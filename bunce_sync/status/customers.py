"""The customers of one segment: numbers, and what keeps them from being as they should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from django.db.models import Count

from bunce_sync import audiences, database
from bunce_sync.choices import MemberStatus, Operation, Status
from bunce_sync.models import CustomerSync, Segment
from bunce_sync.status import messages
from bunce_sync.status.messages import MessageTemplate
from bunce_sync.status.presenters import (
    StatusMessage,
    describe_environment,
    format_time,
    summarize_segment,
)
from bunce_sync.sync import shared_state
from bunce_sync.sync.customers import ALL_REFUSED, waits_for_segment


@dataclass(frozen=True, slots=True)
class CustomerCounts:
    """How many customers of a segment there are.

    Attributes:
        members: those who belong in the segment, without the refused ones.
        in_bunce: those who are in Bunce as they are here.
        to_add: those who wait to be added or updated, or are being sent.
        to_remove: those who wait to be removed, or are being removed.
        refused: those whom Bunce refused to add or to remove.
    """

    members: int = 0
    in_bunce: int = 0
    to_add: int = 0
    to_remove: int = 0
    refused: int = 0

    @property
    def waiting(self) -> int:
        return self.to_add + self.to_remove


@dataclass(frozen=True, slots=True)
class SegmentCustomers:
    """The customers of one segment.

    Attributes:
        key: of the audience they come from; None if people and other code add them.
        maintained: whether the class of the audience exists; True without an audience.
        compared_at: when the audience was compared last.
        next_at: when it is compared next, if that is scheduled.
        held: how many removals a person has to decide about; None if the audience is not held.
        bunce_count: how many customers Bunce counts, as far as it was read after all were sent.
        problems: what is wrong, the most important first.
    """

    counts: CustomerCounts
    key: str | None = None
    maintained: bool = True
    compared_at: datetime | None = None
    next_at: datetime | None = None
    held: int | None = None
    bunce_count: int | None = None
    problems: tuple[StatusMessage, ...] = ()


def count_customers(segment_ids: list[int]) -> dict[int, CustomerCounts]:
    """Return the numbers of customers of some segments, zeros included, in one query."""
    rows = database.members().filter(segment_id__in=segment_ids).order_by()
    # An index has all of these, and is read alone.
    groups = rows.values_list("segment_id", "wanted", "status").annotate(number=Count("*"))
    counts = {segment_id: Counter[str]() for segment_id in segment_ids}
    for segment_id, wanted, status, number in groups:
        counts[segment_id].update(_counted_as(wanted, MemberStatus(status), number))
    return {segment_id: CustomerCounts(**counted) for segment_id, counted in counts.items()}


def _counted_as(wanted: bool, status: MemberStatus, number: int) -> dict[str, int]:
    """Return the numbers of ``CustomerCounts`` to which members of one kind belong."""
    if status == MemberStatus.REFUSED:
        return {"refused": number}
    names = ["members"] if wanted else []
    if status in (MemberStatus.PENDING, MemberStatus.SENDING):
        names.append("to_add" if wanted else "to_remove")
    elif status == MemberStatus.IN_BUNCE:
        names.append("in_bunce")
    return dict.fromkeys(names, number)


def customers_of(segment: Segment) -> SegmentCustomers | None:
    """Return the customers of a segment; None if it never had any here."""
    syncs = database.customer_syncs().filter(pk=segment.pk).prefetch_related("queues")
    sync = syncs.first()
    if sync is None:
        return None
    counts = count_customers([segment.pk])[segment.pk]
    bunce_count = _count_in_bunce(segment, sync, counts)
    return SegmentCustomers(
        counts=counts,
        key=sync.key,
        maintained=sync.key is None or audiences.get(sync.key) is not None,
        compared_at=sync.last_run_at,
        next_at=sync.next_run_at,
        held=sync.held_removals if sync.held_at else None,
        bunce_count=bunce_count,
        problems=tuple(_problems(segment, sync, counts, bunce_count)),
    )


def _count_in_bunce(segment: Segment, sync: CustomerSync, counts: CustomerCounts) -> int | None:
    """Return what Bunce counts; None if it was not read since the last customer was sent."""
    read = segment.refresh_requested_at is None and sync.sent_all_at is not None
    return segment.bunce_customers_count if read and not counts.waiting else None


def _problems(
    segment: Segment, sync: CustomerSync, counts: CustomerCounts, bunce_count: int | None
) -> list[StatusMessage]:
    now = shared_state.now()
    problems = []
    if sync.held_at is not None:
        template = messages.AUDIENCE_EMPTY if sync.held_empty else messages.AUDIENCE_HELD
        problems.append(
            _message(
                template,
                urgent=True,
                since=format_time(sync.held_at, now),
                removals=f"{sync.held_removals:,}",
                members=f"{sync.held_members:,}",
            )
        )
    if sync.run_error:
        problems.append(
            _message(
                messages.AUDIENCE_FAILED,
                urgent=True,
                detail=sync.run_error,
                time=format_time(sync.last_run_at or now, now),
                key=sync.key or "",
            )
        )
    for queue in sync.queues.all():
        adds = queue.operation == Operation.ADD
        if not (queue.last_code and (counts.to_add if adds else counts.to_remove)):
            continue
        refused = queue.last_code == ALL_REFUSED
        template = messages.CUSTOMERS_ALL_REFUSED if refused else messages.CUSTOMERS_DELAYED
        problems.append(
            _message(
                template,
                detail=queue.last_error,
                from_bunce=refused,
                since=format_time(queue.since or now, now),
                until=format_time(max(queue.due_at, now), now),
                what=str(messages.CUSTOMERS_WHAT[adds]),
            )
        )
    if counts.refused:
        problems.append(_message(messages.CUSTOMERS_REFUSED, number=f"{counts.refused:,}"))
    if counts.waiting and (segment.bunce_id is None or waits_for_segment(segment)):
        problems.append(_waits_for_segment(segment))
    if sync.key is not None and audiences.get(sync.key) is None:
        problems.append(_message(messages.AUDIENCE_UNMAINTAINED, key=sync.key))
    if bunce_count is not None and sync.sent_count not in (None, bunce_count):
        problems.append(_count_differs(bunce_count, sync.sent_count or 0))
    return problems


def _waits_for_segment(segment: Segment) -> StatusMessage:
    """Return why no customer of a segment is sent."""
    waits = _message(messages.CUSTOMERS_WAIT_FOR_SEGMENT)
    if not segment.is_here:
        elsewhere = messages.SEGMENT_ELSEWHERE
        environment = describe_environment(segment.environment)
        cause = str(elsewhere.summary) % {"elsewhere": environment}
        return replace(waits, cause=cause, action=str(elsewhere.action))
    if segment.hold_id is not None:
        return replace(waits, cause=str(messages.SEGMENT_HELD.summary), action="")
    if segment.status == Status.REJECTED:
        return replace(waits, cause=str(summarize_segment(segment)), action="")
    return waits


def _count_differs(bunce_count: int, sent: int) -> StatusMessage:
    template = messages.COUNT_LOWER if bunce_count < sent else messages.COUNT_HIGHER
    return _message(
        template,
        count=f"{bunce_count:,}",
        difference=f"{abs(bunce_count - sent):,}",
        sent=f"{sent:,}",
    )


def _message(
    template: MessageTemplate,
    *,
    urgent: bool = False,
    detail: str = "",
    from_bunce: bool = False,
    **values: str,
) -> StatusMessage:
    return StatusMessage(
        summary=str(template.summary) % values if values else str(template.summary),
        cause=str(template.cause) % values if values else str(template.cause),
        action=str(template.action) % values if values else str(template.action),
        detail=detail,
        from_bunce=from_bunce,
        urgent=urgent,
    )


#: The order in which states of members are listed.
ORDER: Final = (
    MemberStatus.REFUSED,
    MemberStatus.SENDING,
    MemberStatus.PENDING,
    MemberStatus.IN_BUNCE,
)

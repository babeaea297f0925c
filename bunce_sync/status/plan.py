"""The plan: what a push would create and update, what differs in Bunce, and what needs a person.

It is made from the database alone, so what it says of Bunce is as old as the last reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from django.db.models import Max, Q

from bunce_sync import database
from bunce_sync.choices import Status
from bunce_sync.fingerprint import normalize
from bunce_sync.models import Segment, SegmentQuerySet
from bunce_sync.status.counts import count_elsewhere
from bunce_sync.sync.push import content_to_send
from bunce_sync.transitions import held_content

#: Rows with their descriptions that are loaded at a time.
CHUNK: Final = 500


class Kind(StrEnum):
    """What is to be done about a segment.

    CREATE, UPDATE: a push sends it.
    CHECK: it is not known whether Bunce created it; its list will show it.
    DIFFERS: Bunce has other content, which a person may replace or take over.
    ATTENTION: a person has to act.
    """

    CREATE = "create"
    UPDATE = "update"
    CHECK = "check"
    DIFFERS = "differs"
    ATTENTION = "attention"


@dataclass(frozen=True, slots=True)
class Change:
    """One field: what Bunce has, as last seen, and what it has here.

    Attributes:
        seen: whether it is known what Bunce has.
    """

    field: str
    bunce: Any
    here: Any
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Item:
    """What is to be done about one segment.

    Attributes:
        code: of its last problem; empty if there is none.
        detail: Bunce's message, or a technical one.
        changes: the fields that are sent, or that differ.
        hold: the ``no_push()`` block that holds it.
        due_at: when it may be sent or looked for, if that is later.
    """

    kind: Kind
    id: int
    name: str
    bunce_id: str | None
    code: str
    detail: str
    changes: tuple[Change, ...] = ()
    hold: int | None = None
    due_at: datetime | None = None


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        counts: segments by kind, zeros included.
        items: the first segments of each kind.
        decisions: how many of those that differ wait for a person: not those whose content Bunce
            stored differently, which may not matter.
        elsewhere: how many segments belong to other environments, by environment.
        in_step: how many segments need nothing.
        read_at: when Bunce's list was last read completely; None if never.
    """

    now: datetime
    counts: Counter[Kind] = field(default_factory=lambda: Counter(dict.fromkeys(Kind, 0)))
    items: dict[Kind, list[Item]] = field(default_factory=lambda: {kind: [] for kind in Kind})
    decisions: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    in_step: int = 0
    read_at: datetime | None = None

    @property
    def has_work(self) -> bool:
        """Whether a push would send something, or a person has to decide."""
        others = sum(count for kind, count in self.counts.items() if kind != Kind.DIFFERS)
        return bool(others or self.decisions)


def make_plan(
    *,
    now: datetime,
    limit: int,
    only: Collection[int] | None = None,
    retry: bool = False,
) -> Plan:
    """Return the plan, in bounded memory.

    Args:
        limit: how many segments of each kind are described; all are counted.
        only: the keys of the segments to consider, instead of all.
        retry: whether segments that were refused are sent again.
    """
    plan = Plan(now)
    for row in _rows(only):
        item = _describe(row, now, retry=retry)
        if item is None:
            continue
        plan.counts[item.kind] += 1
        plan.decisions += item.kind == Kind.DIFFERS and item.code == "drift"
        if len(plan.items[item.kind]) < limit:
            plan.items[item.kind].append(item)
    if only is None:
        plan.elsewhere = count_elsewhere()
        here = database.segments().here().order_by().count()
        plan.in_step = max(0, here - sum(plan.counts.values()))
    read = database.import_runs().filter(finished_at__isnull=False, cancelled=False)
    plan.read_at = read.aggregate(at=Max("finished_at"))["at"]
    return plan


def _rows(only: Collection[int] | None) -> Iterator[Segment]:
    rows: SegmentQuerySet = database.segments().here()
    if only is not None:
        rows = rows.filter(pk__in=only)
    concerned = ~Q(status=Status.SYNCED) | Segment.HAS_PROBLEM
    wanted = rows.filter(concerned).defer("bunce_conditions").order_by("pk")
    return wanted.iterator(chunk_size=CHUNK)


def _describe(row: Segment, now: datetime, *, retry: bool) -> Item | None:
    """Return what is to be done about a row; None if nothing is."""
    code = row.problem_code
    changes: tuple[Change, ...] = ()
    match Status(row.status):
        case Status.IN_DOUBT:
            kind = Kind.CHECK
        case Status.REJECTED if not retry:
            kind = Kind.ATTENTION
        case Status.SYNCED if code == "duplicate":
            kind = Kind.ATTENTION
        case Status.SYNCED if code in (*Segment.DIFFERING, "all_customers"):
            kind, changes = Kind.DIFFERS, _differences(row, code)
        case Status.SYNCED:
            return None  # a refresh failed, which changes nothing
        case _ if row.creates:
            kind, changes = Kind.CREATE, _created(row)
        case _:
            kind, changes = Kind.UPDATE, _updated(row)
            if not changes:
                return None  # edited back to what Bunce has
    waits = row.status in (Status.PENDING, Status.IN_DOUBT) and row.due_at > now
    return Item(
        kind=kind,
        id=row.pk,
        name=row.name,
        bunce_id=row.bunce_id,
        code=code,
        detail=row.bunce_duplicate_id or "" if code == "duplicate" else row.last_error,
        changes=changes,
        hold=row.hold_id,
        due_at=row.due_at if waits else None,
    )


def _created(row: Segment) -> tuple[Change, ...]:
    content = content_to_send(row)
    return tuple(
        Change(name, None, value) for name, value in content.items() if name != "name" and value
    )


def _updated(row: Segment) -> tuple[Change, ...]:
    held: Mapping[str, Any] = held_content(row)
    # Of a segment that was linked without being read, nothing is known.
    seen = bool(row.bunce_name or row.shown_digest)
    return tuple(
        Change(name, held.get(name) if seen else None, value, seen)
        for name, value in content_to_send(row).items()
    )


def _differences(row: Segment, code: str) -> tuple[Change, ...]:
    if code == "all_customers":
        return (Change("add_all_customers", row.bunce_all_customers, row.add_all_customers),)
    held: Mapping[str, Any] = held_content(row)
    return tuple(
        Change(name, theirs, ours)
        for name, theirs in held.items()
        if normalize(ours := getattr(row, name) or "") != normalize(theirs or "")
    )

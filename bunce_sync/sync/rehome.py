"""Moves segments to the environment that the site uses now, or to the account of its key.

The list of the current environment decides: a row whose segment is in it is only relabelled; any
other gives up its Bunce id and is created again. So the list must be certain. If it has several
pages and does not show every segment, it is read twice, since rows may move between pages while it
is read.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from django.db.models import Exists, OuterRef, Q, QuerySet

from bunce_sync import database, transitions
from bunce_sync.choices import UNRESOLVED, Decision, Operation, Outcome, Status
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import ApiCall, Segment, SegmentQuerySet
from bunce_sync.sync import linking, shared_state
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.list_scan import Reading
from bunce_sync.sync.reconcile import LISTS
from bunce_sync.sync.sweep import free_leases

logger = logging.getLogger(__name__)

#: Rows that are moved in one transaction.
BATCH: Final = 500
#: Segments of each kind that a preview names.
EXAMPLES: Final = 5


class Verdict(StrEnum):
    """What is done with a row.

    FOUND: its segment is in the list, so only its environment changes.
    BACK: it gets back the segment it had here before.
    UNRESOLVED: a create may have arrived, here or where the row belonged; the list is searched for
        it as for any other in doubt.
    ANEW: it gives up its Bunce id and is created here.
    SENDING: another process is sending it right now, so it is left.
    """

    FOUND = "found"
    BACK = "back"
    UNRESOLVED = "unresolved"
    ANEW = "anew"
    SENDING = "sending"


@dataclass
class Preview:
    """What would be done.

    Attributes:
        counts: rows by environment and verdict.
        examples: keys and names of the first rows, likewise.
    """

    counts: dict[str, Counter[Verdict]] = field(default_factory=dict)
    examples: dict[tuple[str, Verdict], list[tuple[int, str]]] = field(default_factory=dict)

    @property
    def total(self) -> Counter[Verdict]:
        return sum(self.counts.values(), Counter())


class Rehome:
    """One move: read the list, look at the preview, apply.

    Args:
        environments: whose rows are moved, as in ``Segment.environment``.
        this_account: also examine the rows of the current environment, because the account of the
            key is another one than before.

    Attributes:
        pages: pages of the list that were read.
        complete: whether the list was read, twice if necessary.
    """

    def __init__(self, environments: Collection[str], *, this_account: bool = False) -> None:
        self.here = conf.environment
        self.elsewhere = tuple(name for name in environments if name not in ("", self.here))
        self.this_account = this_account
        self.pages = 0
        self.complete = False
        #: The keys of rows whose segment is in the list.
        self._found: set[int] = set()
        self._found_here = False
        self._back: dict[int, str] = {}
        free_leases()
        self._former = self._former_ids()
        self._began = shared_state.now()
        self._reading = Reading(LISTS, any_key=True)
        self._again = False
        #: Pages with segments.
        self._filled = 0

    @property
    def has_rows(self) -> bool:
        """Whether there is any row to look at."""
        return self._rows().exists()

    # The list

    def read_page(self, budget: Budget) -> bool:
        """Read one page of the list; return whether that was possible.

        Raises:
            ConfigurationError, NoPermit: no request was made.
        """
        if self.complete:
            return False
        read = self._reading.read_page(budget)
        if read is None:
            return False
        self.pages += 1
        self._filled += bool(read[0])
        ids = [remote.id for remote in read[0]]
        found = database.segments().filter(bunce_id__in=ids).values_list("pk", "environment")
        for pk, environment in found:
            self._found.add(pk)
            self._found_here = self._found_here or environment == self.here
        self._back |= {self._former[one]: one for one in ids if one in self._former}
        if self._reading.ended:
            certain = self._again or self._filled < 2
            if certain or not self._is_any_missing():
                self.complete = True
            else:
                self._again = True
                self._reading = Reading(LISTS, any_key=True)
        return True

    @property
    def reads_again(self) -> bool:
        """Whether the list is being read for the second time."""
        return self._again

    @property
    def key_is_strange(self) -> bool:
        """Whether the site has segments in this environment, and the list shows none of them."""
        known = database.segments().filter(environment=self.here, bunce_id__isnull=False)
        return not self._found_here and known.exists()

    def _is_any_missing(self) -> bool:
        """Return whether a row would be created again, as far as the list was read."""
        rows = self._rows().filter(bunce_id__isnull=False).order_by("pk")
        keys = rows.values_list("pk", flat=True).iterator(chunk_size=BATCH)
        return any(pk not in self._found for pk in keys)

    def _former_ids(self) -> dict[str, int]:
        """Return the keys of rows by the ids of the segments they had here before."""
        left = database.tombstones().filter(environment=self.here, segment_id__isnull=False)
        rows = database.segments().filter(environment__in=self.elsewhere)
        left = left.filter(segment_id__in=rows.values("pk"))
        return {bunce_id: pk for bunce_id, pk in left.values_list("bunce_id", "segment_id") if pk}

    # The rows

    def preview(self) -> Preview:
        """Return what ``apply`` would do now."""
        preview = Preview()
        rows = self._rows().only("name", *DECIDING).order_by("pk")
        for row in rows.iterator(chunk_size=BATCH):
            verdict = self._verdict(row)
            if verdict is None:
                continue
            environment = row.environment or self.here
            preview.counts.setdefault(environment, Counter())[verdict] += 1
            named = preview.examples.setdefault((environment, verdict), [])
            if len(named) < EXAMPLES:
                named.append((row.pk, row.name))
        return preview

    def apply(self) -> Iterator[Counter[Verdict]]:
        """Move the rows in some transactions; yield after each how many were moved in it.

        Killed in between, each row is as it was or moved, and another move continues.
        """
        shared_state.read()  # the row must exist
        last = 0
        while True:
            rows = self._rows().filter(pk__gt=last).order_by("pk")
            keys = list(rows.values_list("pk", flat=True)[:BATCH])
            if not keys:
                break
            last = keys[-1]
            yield self._move(keys)
        if self.this_account or self._found:
            shared_state.accept_key()

    def _rows(self) -> SegmentQuerySet:
        """Return the rows to look at, with whether a create of theirs is unresolved."""
        chosen = Q(environment__in=self.elsewhere)
        if self.this_account:
            # Not those that were sent or linked since the list is being read: they belong here.
            here = Q(environment__in=("", self.here), bunce_id__isnull=False)
            for moment in ("sent_at", "synced_at"):
                here &= Q(**{f"{moment}__lt": self._began}) | Q(**{f"{moment}__isnull": True})
            chosen |= here
        return (
            database.segments()
            .filter(chosen)
            .annotate(
                unresolved=Exists(_unresolved_creates(OuterRef("pk"))),
                unresolved_here=Exists(
                    _unresolved_creates(OuterRef("pk")).filter(environment=self.here, decision="")
                ),
            )
        )

    def _verdict(self, row: Any) -> Verdict | None:
        """Return what to do with a row; None if it belongs here already."""
        found = row.pk in self._found
        if row.environment in ("", self.here) and (found or row.bunce_id is None):
            return None
        if row.status == Status.SENDING:
            return Verdict.SENDING
        if found:
            return Verdict.FOUND
        if row.pk in self._back:
            return Verdict.BACK
        doubtful = row.status == Status.IN_DOUBT or (row.bunce_id is None and row.unresolved)
        if doubtful or row.unresolved_here:
            return Verdict.UNRESOLVED
        return Verdict.ANEW

    def _move(self, keys: list[int]) -> Counter[Verdict]:
        """Move some rows in one transaction, each as it is once it is locked."""
        moved: dict[Verdict, list[int]] = {verdict: [] for verdict in Verdict}
        now = DatabaseNow()
        with database.atomic():
            for row in self._locked(keys):
                verdict = self._verdict(row)
                if verdict is None:
                    continue
                if verdict == Verdict.BACK and not self._is_free(self._back[row.pk], row.pk):
                    verdict = Verdict.ANEW
                moved[verdict].append(row.pk)
                if verdict in (Verdict.BACK, Verdict.UNRESOLVED, Verdict.ANEW):
                    self._leave(row)
                if verdict == Verdict.BACK:
                    self._give_back(row)
                if verdict == Verdict.UNRESOLVED:
                    self._doubt_here(row)
            self._take_along(moved[Verdict.FOUND])
            _write(moved[Verdict.FOUND], transitions.moved(environment=self.here))
            if self.this_account:
                linking.release(moved[Verdict.ANEW])
            # Not "": a late response from where the row was must not link it.
            here = transitions.moved(environment=self.here)
            _write(moved[Verdict.ANEW], transitions.created_again(now=now) | here)
        counts = Counter({verdict: len(pks) for verdict, pks in moved.items() if pks})
        logger.info(
            "Segments moved to %s: %s",
            self.here,
            ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "none",
            extra=event(LogEvent.SEGMENTS_MOVED, environment=self.here, count=sum(counts.values())),
        )
        return counts

    def _locked(self, keys: list[int]) -> Iterable[Segment]:
        # Two steps: a row that another transaction changes meanwhile must be read as it is then.
        held = list(
            database.segments()
            .filter(pk__in=keys)
            .locked()
            .order_by("pk")
            .values_list("pk", flat=True)
        )
        rows = self._rows().filter(pk__in=held).only(*DECIDING, *Segment.UPDATE_FIELDS)
        return list(rows.order_by("pk"))

    def _leave(self, row: Segment) -> None:
        """Note which segments the row leaves behind: moved back, it gets its own again."""
        ids: dict[str, int | None] = {}
        if row.bunce_duplicate_id is not None:
            ids[row.bunce_duplicate_id] = None
        if row.bunce_id is not None:
            ids[row.bunce_id] = None if row.environment in ("", self.here) else row.pk
        linking.bury(ids, environment=row.environment or self.here)

    def _is_free(self, bunce_id: str, pk: int) -> bool:
        """Return whether no row has a segment, after imported rows have given way."""
        if not database.segments().filter(bunce_id=bunce_id).exists():
            return True
        return linking.give_way(bunce_id, to=pk)

    def _give_back(self, row: Segment) -> None:
        """Link a row to the segment it had here before."""
        bunce_id = self._back[row.pk]
        values = transitions.moved_back(row, bunce_id, environment=self.here, now=DatabaseNow())
        _write([row.pk], values)
        database.tombstones().filter(bunce_id=bunce_id, environment=self.here).delete()

    def _doubt_here(self, row: Any) -> None:
        """Have the list searched for a create of the row that may have arrived.

        A create that was made elsewhere is in doubt in both environments: they may share an
        account, such as behind another host name.
        """
        creates = _unresolved_creates([row.pk]).order_by("-pk")
        call = creates.filter(environment=self.here, decision="").first() or creates.first()
        now = DatabaseNow()
        values: dict[str, Any] = {}
        if call is not None and call.body:
            lost = transitions.after_lost_create(
                row, call.body, sent_at=call.started_at, due_at=now
            )
            values = transitions.created_again(now=now) | lost
        elif row.status != Status.IN_DOUBT:
            values = transitions.created_again(now=now)
        _write([row.pk], values | transitions.moved(environment=self.here))
        if call is not None and call.environment != self.here:
            call.pk, call.environment, call.decision, call.decided_at = None, self.here, "", None
            call.outcome = Outcome.UNKNOWN
            call.save(using=database.alias(), force_insert=True)

    def _take_along(self, keys: list[int]) -> None:
        """Let the creates of segments that are in the list of this environment count here."""
        ids = database.segments().filter(pk__in=keys).values_list("bunce_id", flat=True)
        creates = database.calls().filter(segment_id__in=keys, operation=Operation.CREATE)
        creates.filter(bunce_id__in=[*ids]).update(environment=self.here)


#: The columns by which it is decided.
DECIDING: Final = (
    *("environment", "status", "bunce_id", "bunce_duplicate_id"),
    *("sent_digest", "listed_digest", "attempts"),
)


def _unresolved_creates(rows: Any) -> QuerySet[ApiCall]:
    """Return the creates of unknown outcome of rows.

    Args:
        rows: a list of keys, or an expression for one.
    """
    chosen = {"segment_id__in": rows} if isinstance(rows, list) else {"segment_id": rows}
    return database.calls().filter(
        operation=Operation.CREATE,
        outcome__in=(Outcome.UNDER_WAY, *UNRESOLVED),
        decision__in=("", Decision.ABSENT),
        **chosen,
    )


def _write(keys: list[int], values: Mapping[str, Any]) -> None:
    if keys:
        database.segments().filter(pk__in=keys).update_sync_fields(**values)


def _batches(keys: Iterable[int], size: int) -> Iterator[list[int]]:
    some: list[int] = []
    for key in keys:
        some.append(key)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some

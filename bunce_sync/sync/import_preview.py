"""What an import would do, by reading Bunce's list and changing nothing that people see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bunce_sync.client import RemoteSegment
from bunce_sync.fingerprint import LISTED_FIELDS
from bunce_sync.models import ApiCall, Segment, SegmentQuerySet
from bunce_sync.sync import account, linking, shared_state
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.importer import COUNTS, Acts, ImportPage, use_page
from bunce_sync.sync.list_scan import Reading
from bunce_sync.sync.reconcile import LISTS

#: Rows that are loaded at a time.
CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Example:
    """A segment of Bunce, and the row it belongs to or would belong to.

    Attributes:
        bunce_id: Bunce's id.
        name: as Bunce has it.
        segment_id: the row; None for one that an import would add, or if that is not known.
    """

    bunce_id: str
    name: str
    segment_id: int | None = None


class NoActs(Acts):
    """Decides as an import does, and writes nothing.

    Attributes:
        rows: the row of each segment of the page, as far as it is known, by Bunce's id.
    """

    def __init__(self) -> None:
        super().__init__(shared_state.now())
        self.rows: dict[str, int] = {}
        self._taken: set[int] = set()
        self._waiting: dict[str, list[int]] | None = None

    def refresh(self, page: ImportPage, rows: SegmentQuerySet, keys: set[int]) -> None:
        for pk, bunce_id in rows.filter(pk__in=keys).values_list("pk", "bunce_id"):
            self.rows[str(bunce_id)] = pk
            page.done(page.remotes[str(bunce_id)], "changed")

    def link_late(self, call: ApiCall, remote: RemoteSegment) -> bool:
        return self._take(call.segment_id or 0, remote.id)

    def note_duplicate(self, pk: int | None, remote: RemoteSegment) -> None:
        if pk is not None:
            self.rows[remote.id] = pk

    def find_waiting(self, fingerprints: Collection[str]) -> dict[str, list[int]]:
        # An import stores the fingerprints of these rows first.
        if self._waiting is None:
            self._waiting = {}
            rows = linking.waiting().order_by("pk").only(*LISTED_FIELDS)
            for row in rows.iterator(chunk_size=CHUNK):
                self._waiting.setdefault(row.listed_fingerprint, []).append(row.pk)
        return {one: [*self._waiting[one]] for one in fingerprints if one in self._waiting}

    def link_waiting(self, pk: int, fingerprint: str, remote: RemoteSegment) -> bool:
        return self._take(pk, remote.id)

    def take_over(self, pk: int, imported: Segment) -> bool:
        return self._take(pk, imported.bunce_id or "")

    def insert(self, page: ImportPage) -> None:
        for remote in [*page.remotes.values()]:
            page.done(remote, "imported")

    def _take(self, pk: int, bunce_id: str) -> bool:
        """Return whether no segment read before would get the row."""
        if pk in self._taken:
            return False
        self._taken.add(pk)
        self.rows[bunce_id] = pk
        return True


class RefreshOnly(NoActs):
    """Refreshes the ``bunce_`` columns of known rows, and does nothing else."""

    def refresh(self, page: ImportPage, rows: SegmentQuerySet, keys: set[int]) -> None:
        Acts.refresh(self, page, rows, keys)


class ImportPreview:
    """One reading of Bunce's list, page by page, with what an import would do about each segment.

    Args:
        adopt, include_deleted: as for ``importer.request``.
        acts: what is done nevertheless.
        examples: how many segments are kept of each kind.

    Attributes:
        counts: segments read, by what an import would do; see ``importer.COUNTS``.
        examples: the first segments of each kind.
        pages: pages read so far.
        ended: whether the whole list was read.
    """

    def __init__(
        self,
        *,
        adopt: bool = False,
        include_deleted: bool = False,
        acts: NoActs | None = None,
        examples: int = 20,
    ) -> None:
        self.adopt = adopt
        self.include_deleted = include_deleted
        self.acts = acts or NoActs()
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self.examples: dict[str, list[Example]] = {name: [] for name in COUNTS}
        self._reading = Reading(LISTS)
        self._kept = examples
        # A list that shifts while it is read repeats segments. Hashes, since ids are long.
        self._seen: set[int] = set()

    @property
    def started_at(self) -> datetime:
        """The database's time before the first page was requested."""
        return self._reading.scan.started_at

    @property
    def pages(self) -> int:
        return self._reading.scan.pages

    @property
    def ended(self) -> bool:
        return self._reading.ended

    def has_read(self, bunce_id: str) -> bool:
        """Return whether a segment is on one of the pages."""
        return hash(bunce_id) in self._seen

    def read_page(self, budget: Budget) -> bool:
        """Read one page; return whether that was possible.

        Raises:
            ConfigurationError, NoPermit: no request was made.
        """
        if self.ended or not account.is_known(budget):
            return False
        if self.adopt and not self.pages:
            linking.fingerprint_waiting()
        read = self._reading.read_page(budget)
        if read is None:
            return False
        segments, asked_at = read
        fresh = {remote.id: remote for remote in segments if not self.has_read(remote.id)}
        self._seen.update(map(hash, fresh))
        page = ImportPage(dict(fresh), asked_at, self.acts)
        use_page(page, adopt=self.adopt, include_deleted=self.include_deleted)
        for bunce_id, what in page.decided.items():
            self.counts[what] += 1
            if len(self.examples[what]) < self._kept:
                pk = self.acts.rows.get(bunce_id)
                self.examples[what].append(Example(bunce_id, fresh[bunce_id].name, pk))
        self.acts.rows.clear()
        return True

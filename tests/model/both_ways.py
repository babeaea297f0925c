"""What is known about rows and segments when both sides change: edits here, people in Bunce."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from bunce_sync import transitions
from bunce_sync.choices import Outcome, Status
from bunce_sync.client import RemoteSegment
from bunce_sync.exceptions import UnusableResponse
from bunce_sync.local_form import local_description, local_name
from bunce_sync.models import ApiCall, Segment, Tombstone
from bunce_sync.results import LINKED_ELSEWHERE, Result
from bunce_sync.services import request_import, resume
from bunce_sync.sync import importer, push, refresh, shared_state, sweep
from tests.model.actors import Scanner, Worker
from tests.model.bunce_model import NOT_FOUND, Request, Stored
from tests.model.interruption import Locks
from tests.model.world import GRACE, LEASE, REFUSALS, World

FIELDS = Segment.UPDATE_FIELDS
#: The time between a worker's last look at its lease and the end of its transaction, at most.
MARGIN = 3.0


@dataclass(eq=False)
class Reader:
    """A process that has read a single segment.

    Attributes:
        row: as it was before.
        remote: what Bunce returned; None if it does not have the segment.
    """

    row: Segment
    remote: RemoteSegment | None
    asked_at: datetime

    @property
    def result(self) -> Result:
        return Result(Outcome.CONFIRMED, http_status=200) if self.remote else NOT_FOUND


class BothWays(World):
    """The bookkeeping and the checks of imports.

    Attributes:
        wanted: name and description of each row, as code and people here wrote them.
        unsent: the fields of each linked row that were edited and not confirmed since.
        imported: the rows that an import made.
        edited: the rows that were edited here.
        restored: the rows that were deleted and inserted again, perhaps as they once were.
        linked_by_code: ids that code linked.
        deleted: ids of segments whose row was deleted here.
        brought_back: deleted segments may have been imported again.
        removals: how many linked segments were removed in Bunce.
        locks: the rows that an importer has locked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.importers: list[Scanner] = []
        self.readers: list[Reader] = []
        self.wanted: dict[int, tuple[str, str | None]] = {}
        self.unsent: dict[int, set[str]] = {}
        self.imported: set[int] = set()
        self.edited: set[int] = set()
        self.restored: set[int] = set()
        self.linked_by_code: set[str] = set()
        self.deleted: set[str] = set()
        self.brought_back = False
        self.removals = 0
        self.locks = Locks()
        shared_state.accept_key()
        # Reads of single segments work, so a 404 is about one segment.
        ApiCall.objects.create(
            operation="read", path="/", outcome=Outcome.CONFIRMED, started_at=self.time.now
        )

    # Rows

    def rows(self) -> list[int]:
        return sorted(self.wanted)

    def add(self, name: str, description: str | None) -> None:
        super().add(name, description)
        pk = max(self.contents)
        self.wanted[pk], self.unsent[pk] = (name, description), set()

    def note_edit(self, pk: int) -> None:
        row = Segment.objects.filter(pk=pk).first()
        if row is None:
            return
        before = self.wanted.get(pk)
        self.wanted[pk] = now = (row.name, row.description)
        if before is None:
            self.restored.add(pk)
            self.unsent[pk] = set(FIELDS)
        else:
            changed = {
                field for field, *both in zip(FIELDS, before, now, strict=True) if len({*both}) > 1
            }
            self.unsent[pk] |= changed
        if before != now:
            self.edited.add(pk)
        if pk in self.contents:
            self.contents[pk].add(row.listed_fingerprint)

    def forget_row(self, pk: int) -> None:
        """Note that a row does not exist any more."""
        self.wanted.pop(pk, None)
        self.unsent.pop(pk, None)
        self.linked.pop(pk, None)

    def note_rows(self) -> None:
        """Compare all rows with what may have happened to them."""
        found = set()
        for row in Segment.objects.only("name", "description", "bunce_id", "status", "last_code"):
            found.add(row.pk)
            self._note_row(row)
        for pk in self.wanted.keys() - found:
            gave_way = pk in self.imported and pk not in self.edited
            assert gave_way, f"row {pk} was deleted"
            self.forget_row(pk)

    def _note_row(self, row: Segment) -> None:
        pk, now, before = row.pk, row.bunce_id, self.linked.get(row.pk)
        if pk not in self.wanted:
            assert now is not None, "an import made a row without a segment"
            self.imported.add(pk)
            self.wanted[pk], self.unsent[pk] = (row.name, row.description), set()
        elif now != before:
            if before is not None:
                gave_way = pk in self.imported and row.last_code == LINKED_ELSEWHERE
                assert now is None, f"row {pk} lost {before} for {now}"
                assert gave_way or before not in self.bunce.segments, f"row {pk} lost {before}"
            if now is not None:
                self._note_link(pk, now)
        assert self.wanted[pk] == (row.name, row.description), f"an edit of row {pk} was lost"
        self.linked.pop(pk, None)
        if now is not None:
            self.linked[pk] = now
        stored = self.bunce.segments.get(now or "")
        if row.status == Status.SYNCED and stored is not None and row.last_code:
            # A late update of a row that was deleted changes a segment that was imported since.
            by_another = any(
                one.claim.bunce_id == stored.id and one.claim.segment_id != pk
                for one in self.bunce.requests
            )
            excused = stored.edited or by_another or stored.id in self.linked_by_code
            assert excused or (self.bunce.upper and row.last_code != "drift"), "false drift"

    def _note_link(self, pk: int, bunce_id: str) -> None:
        # A response may be recorded after its segment was removed.
        stored = self.bunce.segments.get(bunce_id) or self.bunce.removed.get(bunce_id)
        create = stored.create if stored else None
        if create is None:
            assert not self.bunce.alive(pk), f"row {pk} has a segment of its own"
            self.unsent[pk] = set()
        else:
            sent = create.claim.content
            both = zip(FIELDS, self.wanted[pk], strict=True)
            self.unsent[pk] = {field for field, value in both if sent[field] != value}

    # Requests

    def _send(self, worker: Worker) -> Request:
        claim = worker.attempt.claim
        if claim.creates:
            self.contents.setdefault(claim.segment_id, {claim.listed_digest})
        elif claim.segment_id in self.wanted.keys() - self.restored:
            edited = self.unsent[claim.segment_id]
            assert {*claim.content} <= edited, f"sends {claim.content}; edited was {edited}"
        return super()._send(worker)

    def _record(self, worker: Worker) -> None:
        claim, result = worker.attempt.claim, worker.result
        row = Segment.objects.filter(pk=claim.segment_id).first()
        in_time = row is not None and row.lease_token == claim.token
        super()._record(worker)
        assert result is not None
        if (
            claim.creates
            or result.outcome != Outcome.CONFIRMED
            or claim.segment_id not in self.unsent
        ):
            return
        wanted = dict(zip(FIELDS, self.wanted[claim.segment_id], strict=True))
        for field, value in claim.content.items():
            if in_time and wanted[field] == value:
                self.unsent[claim.segment_id].discard(field)
            else:
                self.unsent[claim.segment_id].add(field)

    # A Bunce that stores another name than was sent: a create can be recognised by its response
    # alone, so every create on which it acts is recorded while its lease lasts.

    def may_act(self, request: Request) -> bool:
        if not (self.bunce.upper and request.claim.creates):
            return True
        ends = request.sent_at + timedelta(seconds=LEASE - MARGIN)
        waiting = any(one.request is request and one.result is None for one in self.workers)
        leased = Segment.objects.filter(lease_token=request.claim.token).exists()
        return waiting and leased and self.time.now < ends

    def may_be_lost(self, request: Request) -> bool:
        return not (self.bunce.upper and request.claim.creates)

    def must_be_recorded(self, worker: Worker) -> bool:
        request = worker.request
        return request is not None and request.fate == "done" and not self.may_be_lost(request)

    def longest_wait(self) -> float:
        ends = [
            worker.request.sent_at + timedelta(seconds=LEASE - MARGIN / 2) - self.time.now
            for worker in self.workers
            if worker.request and self.must_be_recorded(worker)
        ]
        return min((one.total_seconds() for one in ends), default=super().longest_wait())

    # Imports and reads

    def _begin_import(self) -> Scanner | None:
        run = importer.open_run()
        if run is None:
            return None
        scanner = Scanner(importer.Import(run))
        scanner.walk.begin()
        if scanner.walk.scan is None:
            scanner.walk.release()
            return None
        self.importers.append(scanner)
        return scanner

    def _use_import(self, scanner: Scanner) -> None:
        assert scanner.page is not None
        scanner.walk.use_page(scanner.page, asked_at=scanner.asked_at)
        scanner.page = None
        if scanner.walk.scan is None:
            scanner.walk.release()
            self.importers.remove(scanner)

    def _import_all(self) -> None:
        """Continue the open import to its end, if one may."""
        if scanner := self._begin_import():
            while scanner in self.importers:
                self._read_import(scanner)
                if scanner.page is not None:
                    self._use_import(scanner)

    def _read_import(self, scanner: Scanner) -> None:
        """Read a page; a list that has shifted may look as if it had no end."""
        try:
            self._read(scanner)
        except UnusableResponse as error:
            scanner.walk._after_failure(Result(Outcome.UNKNOWN, code=error.code, http_status=200))
            scanner.walk.release()
            self.importers.remove(scanner)

    def _read_one(self, row: Segment) -> Reader:
        stored = self.bunce.segments.get(row.bunce_id or "")
        self.time.advance(0.001)
        reader = Reader(row, self.bunce.show(stored) if stored else None, self.time.now)
        self.readers.append(reader)
        return reader

    def _finish_read(self, reader: Reader) -> None:
        self.readers.remove(reader)
        refresh._save(
            reader.row, reader.result, reader.remote, asked_at=reader.asked_at, duplicate_gone=False
        )

    # The end

    def _come_to_rest(self) -> None:
        for worker in [one for one in self.workers if self.must_be_recorded(one)]:
            worker.result = worker.result or (worker.request.answer if worker.request else None)
            self._record(worker)
        self.workers.clear()
        self.scanners.clear()
        self.importers.clear()
        self.readers.clear()
        self.bunce.blocked.clear()
        self.bunce.refusing = False
        resume()
        self._finish_work()
        for _ in range(2):  # the first may find what has to be sent, or have been cut short
            request_import()
            self.time.advance(LEASE + GRACE)
            self._import_all()
            self._finish_work()
        before = self._written()
        request_import()
        self._import_all()
        assert self._written() == before, "an import with nothing new wrote rows"
        self.note_rows()
        self._compare()

    def _written(self) -> dict[int, datetime]:
        return dict(Segment.objects.values_list("pk", "updated_at"))

    def _finish_work(self) -> None:
        """Do what is due until nothing is."""
        for _ in range(14):
            self.time.advance(max(LEASE, GRACE) + 1)
            self._decide()
            sweep.free_leases()
            for row in Segment.objects.filter(refresh_requested_at__isnull=False):
                self._finish_read(self._read_one(row))
            for row in Segment.objects.due():
                self._push(row)
            self._scan()
            self.note_rows()
            waiting = Segment.objects.exclude(status__in=transitions.AT_REST)
            importing = importer.open_run() is not None
            if importing:
                self._import_all()
            elif not waiting.exists():
                return
        raise AssertionError(f"rows are stuck: {list(waiting.values())}")

    def _push(self, row: Segment) -> None:
        if row.bunce_id is not None and not row.unsettled_fields:
            self._settle(row)
        elif worker := self._reserve(row):
            self.workers.remove(worker)
            request = self._send(worker)
            self.bunce.act(request, self.time.now)
            worker.result = request.answer
            self._record(worker)

    def _compare(self) -> None:
        rows = {row.pk: row for row in Segment.objects.all()}
        for row in rows.values():
            self._compare_row(row)
        linked = {row.bunce_id: row for row in rows.values() if row.bunce_id is not None}
        buried = set(Tombstone.objects.values_list("bunce_id", flat=True))
        # Of two creates with the same content, whose responses were lost, each row may have
        # got the other's segment, and one of the rows may be deleted.
        left, taken = Counter[str](), Counter[str]()
        for stored in self.bunce.segments.values():
            owner = linked.get(stored.id)
            claim = stored.create.claim if stored.create else None
            origin = claim.segment_id if claim else None
            if owner is not None:
                twin = origin in rows and origin != owner.pk and owner.imported_at is not None
                assert not twin, f"{stored} of row {origin} was imported"
                if stored.id in self.deleted:
                    back = self.brought_back or owner.pk in self.restored
                    assert back or stored.id in self.linked_by_code, f"{stored} came back"
                if claim and origin not in rows and owner.imported_at is None:
                    taken[claim.listed_digest] += 1
            elif not stored.archived and stored.id not in buried:
                assert claim is not None, f"{stored} was not imported"
                if origin in rows:
                    left[claim.listed_digest] += 1
        assert left <= taken, f"{left - taken} of rows that exist are lost"

    def _compare_row(self, row: Segment) -> None:
        stored = self.bunce.segments.get(row.bunce_id or "")
        if row.status != Status.SYNCED:
            excused = (*REFUSALS, LINKED_ELSEWHERE) if row.bunce_id is None else REFUSALS
            gone = row.last_code == "not_found" and stored is None
            assert gone or self.bunce.unique or row.last_code in excused, row.last_code
        elif stored is not None:
            same = self._local(stored) == (row.name, row.description)
            assert same == (row.last_code == ""), f"{stored} and {row.last_code!r}"

    def _local(self, stored: Stored) -> tuple[str, str | None]:
        return local_name(stored.name, stored.id), local_description(stored.description)

    def _settle(self, row: Segment) -> None:
        push._settle(row.pk)

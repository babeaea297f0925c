"""The steps of the model, made with the functions that run in production."""

import math
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from hypothesis.stateful import RuleBasedStateMachine

from bunce_sync import transitions
from bunce_sync.choices import Status
from bunce_sync.models import (
    ApiCall,
    ImportRun,
    OperationState,
    PushHold,
    Segment,
    SyncState,
    Tombstone,
)
from bunce_sync.sync import circuit_breaker, sweep
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.push import Push
from bunce_sync.sync.rate_limiter import NoPermit
from tests.model.actors import UNHEARD, Killed, Scanner, Worker
from tests.model.bunce_model import Bunce, Request
from tests.model.virtual_time import VirtualTime

#: The codes with which a row may stay rejected, perhaps because of its content.
REFUSALS = ("rejected", "forbidden", "says_failed")
LEASE = 15.0
GRACE = 30.0


class World(RuleBasedStateMachine):
    """The rows, Bunce, the processes, and the time.

    Attributes:
        read: the rows as last read.
        ready: the statuses of rows that are due, or whose lease has ended.
        unresolved: the keys of rows whose create is under way or in doubt.
        linked: the Bunce id of each row that has one.
        contents: the fingerprints of all content that each row has had.
        foreign: ids of segments in Bunce that belong to no row.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time = VirtualTime()
        self.bunce = Bunce()
        self.workers: list[Worker] = []
        self.scanners: list[Scanner] = []
        self.read: list[Segment] = []
        self.ready: set[str] = set()
        self.unresolved: list[int] = []
        self.linked: dict[int, str] = {}
        self.contents: dict[int, set[str]] = {}
        self.foreign: set[str] = set()
        self.resources = ExitStack()
        self.resources.enter_context(self.time.in_force())
        self.resources.enter_context(patch.object(circuit_breaker, "OUTAGE_THRESHOLD", 10**6))
        tables = (ApiCall, ImportRun, OperationState, Segment, PushHold, SyncState, Tombstone)
        for model in tables:
            model._base_manager.all().delete()

    def _any(self, status: str) -> bool:
        """Return whether a row with this status is ready for its next step."""
        return status in self.ready

    def add(self, name: str, description: str | None) -> None:
        """Add a row, due at once."""
        row = Segment.objects.create(name=name, description=description)
        self.contents[row.pk] = {row.listed_fingerprint}

    def rows(self) -> list[int]:
        """Return the keys of the rows."""
        return sorted(self.contents)

    def note_edit(self, pk: int) -> None:
        """Note the content that a row has now."""
        self.contents[pk].add(Segment.objects.get(pk=pk).listed_fingerprint)

    # What an identifiable create permits

    def may_act(self, request: Request) -> bool:
        """Return whether Bunce may act on a request now."""
        return True

    def may_be_lost(self, request: Request) -> bool:
        """Return whether the response to a request may be lost."""
        return True

    def must_be_recorded(self, worker: Worker) -> bool:
        """Return whether a worker must live until it has recorded its result."""
        return False

    def longest_wait(self) -> float:
        """Return before how many seconds something else must happen."""
        return math.inf

    def _reserve(self, row: Segment) -> Worker | None:
        attempt = Push(row)
        try:
            if not attempt.reserve(Budget(60, wait_seconds=0)):
                return None
        except NoPermit:
            return None
        worker = Worker(attempt)
        self.workers.append(worker)
        return worker

    def _send(self, worker: Worker) -> Request:
        claim = worker.attempt.claim
        worker.request = self.bunce.receive(claim, self.time.now, timedelta(seconds=GRACE - 1))
        if claim.creates:
            kin = self._interchangeable(claim.segment_id)
            alive = [one for pk in kin for one in self.bunce.alive(pk)]
            assert len(alive) <= len(kin), f"one create too many for rows {kin}: {alive}"
        return worker.request

    def _interchangeable(self, pk: int) -> set[int]:
        """Return the row and those that ever had its content: each may adopt another's segment."""
        kin = {pk}
        while more := {
            other
            for other, digests in self.contents.items()
            if other not in kin and any(digests & self.contents[one] for one in kin)
        }:
            kin |= more
        return kin

    def _record(self, worker: Worker) -> None:
        assert worker.result is not None
        worker.attempt.record(worker.result)

    def _begin_scan(self) -> Scanner | None:
        scanner = Scanner()
        scanner.walk.begin()
        if scanner.walk.scan is None:
            scanner.walk.release()
            return None
        self.scanners.append(scanner)
        return scanner

    def _scan(self) -> None:
        """Run a whole scan at once, if one may begin."""
        if scanner := self._begin_scan():
            while scanner in self.scanners:
                self._read(scanner)
                self._use(scanner)

    def _read(self, scanner: Scanner) -> None:
        assert scanner.walk.scan is not None
        scanner.page = self.bunce.page(scanner.walk.scan.position)
        scanner.asked_at = self.time.now

    def _use(self, scanner: Scanner, *, dies: str | None = None) -> None:
        assert scanner.page is not None
        handler: Any = scanner.handler
        handler.dies = dies
        try:
            scanner.walk.use_page(scanner.page, asked_at=scanner.asked_at)
        except Killed:
            self.scanners.remove(scanner)
            return
        handler.dies = None
        scanner.page = None
        if scanner.walk.scan is None:
            self._release(scanner)

    def _release(self, scanner: Scanner) -> None:
        scanner.walk.release()
        self.scanners.remove(scanner)

    def _decide(self) -> None:
        """Fail the requests on which Bunce did not act within the grace period."""
        for request in self.bunce.overdue(self.time.now):
            self.bunce.fail(request, UNHEARD)

    def _come_to_rest(self) -> None:
        """End all faults, and finish what is under way."""
        self.workers.clear()
        self.scanners.clear()
        self.bunce.blocked.clear()
        self.bunce.refusing = False
        rounds = 0
        while Segment.objects.exclude(status__in=transitions.AT_REST).exists():
            rounds += 1
            assert rounds <= 12, "rows are stuck"
            self.time.advance(max(LEASE, GRACE) + 1)
            self._decide()
            sweep.free_leases()
            for row in Segment.objects.due():
                if worker := self._reserve(row):
                    self.workers.remove(worker)
                    request = self._send(worker)
                    self.bunce.act(request, self.time.now)
                    worker.result = request.answer
                    self._record(worker)
            self._scan()
        self._compare()

    def _compare(self) -> None:
        """Compare rows and segments, one to one."""
        rows = list(Segment.objects.all())
        for row in rows:
            assert row.status == Status.SYNCED or self.bunce.unique or row.last_code in REFUSALS
            if row.status == Status.SYNCED:
                assert row.bunce_id is not None
                stored = self.bunce.segments[row.bunce_id]
                assert stored.listed_fingerprint == row.listed_fingerprint, "unnoticed drift"
        ours = self.bunce.segments.keys() - self.foreign
        linked = {row.bunce_id for row in rows} - {None}
        assert ours == linked, f"duplicates: {ours - linked}; lost: {linked - ours}"

"""What can be done in the model, step by step, with the functions that run in earnest."""

from contextlib import ExitStack
from datetime import timedelta
from unittest.mock import patch
from uuid import uuid4

from hypothesis.stateful import RuleBasedStateMachine

from bunce_sync.models import ApiCall, OperationState, Segment, SyncState
from bunce_sync.sync import push, rate_limiter, reconcile, sweep
from tests.model.actors import UNHEARD, Scanner, Worker
from tests.model.bunce_model import Bunce, Request
from tests.model.virtual_time import VirtualTime

Status = Segment.Status

ALIAS = "default"
#: What a row may rest with that Bunce refused, be it for what the row says.
REFUSALS = ("rejected", "forbidden", "says_failed")
LEASE = 15.0
GRACE = 30.0


class World(RuleBasedStateMachine):
    """The rows, Bunce, whoever works, and the time.

    Attributes:
        read: the rows as they were when somebody read them last.
        ready: the states in which there are rows whose time has come.
        linked: the Bunce id of each row, once it has one.
        contents: the digests of all that each row ever said.
        foreign: ids of segments in Bunce that are not ours.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time = VirtualTime()
        self.bunce = Bunce()
        self.workers: list[Worker] = []
        self.scanners: list[Scanner] = []
        self.read: list[Segment] = []
        self.ready: set[str] = set()
        self.linked: dict[int, str] = {}
        self.contents: dict[int, set[str]] = {}
        self.foreign: set[str] = set()
        self.resources = ExitStack()
        self.resources.enter_context(self.time.in_force())
        self.resources.enter_context(patch.object(rate_limiter, "BREAKER_THRESHOLD", 10**6))
        for model in (ApiCall, OperationState, Segment, SyncState):
            model._base_manager.all().delete()

    def _any(self, status: str) -> bool:
        """Whether a row in this state is ready for what comes next."""
        return status in self.ready

    def add(self, name: str, description: str | None) -> None:
        """One more row, due at once."""
        row = Segment.objects.create(name=name, description=description)
        self.contents[row.pk] = {row.digest}

    def _claim(self, row: Segment) -> Worker | None:
        try:
            claimed = push.claim(row, ALIAS)
        except rate_limiter.NoPermit:
            return None
        if claimed is None:
            return None
        worker = Worker(*claimed)
        self.workers.append(worker)
        return worker

    def _send(self, worker: Worker) -> Request:
        claim = worker.claim
        worker.request = self.bunce.receive(claim, self.time.now, timedelta(seconds=GRACE - 1))
        kin = self._interchangeable(claim.segment_id)
        alive = [one for pk in kin for one in self.bunce.alive(pk)]
        assert len(alive) <= len(kin), f"a create too many for rows {kin}: {alive}"
        return worker.request

    def _interchangeable(self, pk: int) -> set[int]:
        """The row and all that ever shared a content: they may take each other's segments."""
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
        push.record(worker.claim, worker.call, worker.permit, worker.result, ALIAS)

    def _begin_scan(self) -> Scanner | None:
        token = uuid4()
        scan = reconcile._take(token, ALIAS)
        if scan is None:
            reconcile._release(token, ALIAS, 0.0)
            return None
        scanner = Scanner(token, scan)
        self.scanners.append(scanner)
        return scanner

    def _scan(self) -> None:
        """A whole scan at once, if one may begin."""
        if scanner := self._begin_scan():
            while scanner in self.scanners:
                self._read(scanner)
                self._use(scanner)

    def _read(self, scanner: Scanner) -> None:
        scanner.page = self.bunce.page(scanner.scan.position)

    def _use(self, scanner: Scanner, *, killed: bool = False) -> None:
        page = scanner.page
        assert page is not None
        reconcile.adopt(page.segments, scanner.scan, ALIAS)
        if killed:
            self.scanners.remove(scanner)
            return
        scanner.scan = scanner.scan.after(page)
        scanner.page = None
        pause = 0.0
        if reconcile._may_stop(scanner.scan, ALIAS):
            reconcile._finish(scanner.scan, scanner.token, ALIAS)
        elif page.next is not None:
            if reconcile._keep(scanner.scan, scanner.token, ALIAS):
                return
        elif reconcile._was_disturbed(scanner.scan, ALIAS):
            pause = reconcile._begin_anew(scanner.token, ALIAS)
        else:
            reconcile._finish(scanner.scan, scanner.token, ALIAS)
        self._end_scan(scanner, pause)

    def _end_scan(self, scanner: Scanner, pause: float = 0.0) -> None:
        reconcile._release(scanner.token, ALIAS, pause)
        self.scanners.remove(scanner)

    def _decide(self) -> None:
        """What Bunce did not act on within the grace period it never will."""
        for request in self.bunce.overdue(self.time.now):
            self.bunce.fail(request, UNHEARD)

    def _come_to_rest(self) -> None:
        """No more faults: whatever is under way comes to an end."""
        self.workers.clear()
        self.scanners.clear()
        self.bunce.blocked.clear()
        self.bunce.refusing = False
        rounds = 0
        while Segment.objects.exclude(status__in=Segment.RESTING).exists():
            rounds += 1
            assert rounds <= 12, "rows are stuck"
            self.time.advance(max(LEASE, GRACE) + 1)
            self._decide()
            sweep.free_leases(ALIAS)
            for row in Segment.objects.due():
                if worker := self._claim(row):
                    self.workers.remove(worker)
                    request = self._send(worker)
                    self.bunce.act(request, self.time.now)
                    worker.result = request.answer
                    self._record(worker)
            self._scan()
        self._compare()

    def _compare(self) -> None:
        """Rows and segments, one to one."""
        rows = list(Segment.objects.all())
        for row in rows:
            assert row.status == Status.SYNCED or self.bunce.unique or row.last_code in REFUSALS
            if row.status == Status.SYNCED:
                assert row.bunce_id is not None
                assert self.bunce.segments[row.bunce_id].digest == row.digest, "drift, not told"
        ours = self.bunce.segments.keys() - self.foreign
        linked = {row.bunce_id for row in rows} - {None}
        assert ours == linked, f"duplicates: {ours - linked}; lost: {linked - ours}"

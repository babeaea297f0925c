"""The real protocol against an exact model of Bunce, with events in any order.

Hypothesis draws the events: workers reserve, send, receive, and record late, twice or never;
Bunce acts at once, late or not at all; scans are killed between any two steps; rows are edited.
What must always hold is an invariant. At the end all faults stop, and every row must end
at rest with exactly one segment.

Workers make their two transactions with ``Push.reserve`` and ``Push.record``, scanners use
``list_scan.Walk`` with the real page handler. Only the request itself is the model's.

The assumptions are those of docs/guarantees.md: Bunce does not begin to act on a request after
the grace period, it completes updates in the order in which they were sent, and no request is
sent once its permit has expired.
"""

import logging
from collections.abc import Callable
from copy import copy
from datetime import timedelta
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from django.conf import settings as django_settings
from django.db import models
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pytest_django import Settings

from bunce_sync.choices import Outcome, Status
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import Segment
from bunce_sync.results import PERMIT_EXPIRED, Result
from bunce_sync.sync import rate_limiter, reconcile, sweep
from tests.faults.trial import LONG
from tests.model.actors import (
    KNOWN_FAILURES,
    NO_CONTENT,
    REFUSED,
    UNHEARD,
    UNREADABLE,
    before,
    pick,
)
from tests.model.bunce_model import Bunce
from tests.model.virtual_time import START
from tests.model.world import GRACE, LEASE, World

#: Rows at most, so that scans are short and rows interact.
ROWS = 5
#: Few contents, so that some rows have the same.
NAMES = st.sampled_from(["VIP", "New", "Old", "Gone", "Lost"])
DESCRIPTIONS = st.sampled_from([None, "text"])

#: The fields that an app unaware of the sync writes.
EVERY_FIELD = [field.name for field in Segment._meta.concrete_fields if not field.primary_key]


def save_raw(row: Segment) -> None:
    """Save as ``loaddata`` and versioning apps do, without ``Segment.save()``."""
    models.Model.save_base(row, raw=True)


def save_in_bulk(row: Segment) -> None:
    """Save as import tools do."""
    Segment.objects.bulk_update([row], EVERY_FIELD)


def update_all(row: Segment) -> None:
    """Save as a custom form of a site might."""
    values = {name: getattr(row, name) for name in EVERY_FIELD}
    Segment.objects.filter(pk=row.pk).update(**values)


class Protocol(World):
    """The events and the invariants; see the module."""

    @initialize(
        order=st.sampled_from(["newest", "oldest", "name", "id"]),
        unique=st.booleans(),
        zone=st.sampled_from([0, 14, -12, None]),
        old=st.lists(NAMES, max_size=2),
        new=st.lists(NAMES, min_size=1, max_size=3),
        cap=st.sampled_from([None, None, 1]),
        archived=st.integers(0, 2),
    )
    def begin(
        self,
        order: str,
        unique: bool,
        zone: int | None,
        old: list[str],
        new: list[str],
        cap: int | None,
        archived: int,
    ) -> None:
        """Begin with some rows. Bunce may hold older segments, which belong to no row.

        It may return fewer rows a page than requested, or filter them after paging: one page in
        the middle may be empty, but never two in a row.
        """
        offset = None if zone is None else timedelta(hours=zone)
        self.bunce = Bunce(order=order, unique=unique, zone=offset, cap=cap)
        django_settings.BUNCE_SYNC["PAGE_SIZE"] = 2
        for number in range(min(archived, cap or archived)):
            self.bunce.add("Archived", None, START - timedelta(days=2 + number), archived=True)
        # Without times in the responses they could not be distinguished from ours.
        for name in old if offset is not None and not unique else ():
            self.bunce.add(name, None, START - timedelta(days=3))
        self.foreign = set(self.bunce.segments)
        for name in new:
            self.add(name, None)

    # Edits and settings

    @precondition(lambda self: len(self.contents) < ROWS)
    @rule(name=NAMES, description=DESCRIPTIONS)
    def create(self, name: str, description: str | None) -> None:
        self.add(name, description)

    @precondition(lambda self: self.rows())
    @rule(data=st.data(), name=NAMES, description=DESCRIPTIONS, how=st.booleans())
    def edit(self, data: st.DataObject, name: str, description: str | None, how: bool) -> None:
        pk = pick(data, self.rows())
        if how:
            Segment.objects.filter(pk=pk).update(name=name, description=description)
        else:
            row = Segment.objects.get(pk=pk)
            row.name, row.description = name, description
            row.save()
        self.note_edit(pk)

    @precondition(lambda self: self.read)
    @rule(data=st.data(), how=st.sampled_from([save_raw, save_in_bulk, update_all, Segment.save]))
    def write_back(self, data: st.DataObject, how: Callable[[Segment], object]) -> None:
        """Write a stale row back as an app does, including the sync's columns."""
        row = copy(pick(data, self.read))
        how(row)
        self.note_edit(row.pk)

    @rule(names=st.sets(NAMES, max_size=2), refusing=st.booleans())
    def refuse(self, names: set[str], refusing: bool) -> None:
        """Change what Bunce refuses from now on: some content, every create, or nothing."""
        self.bunce.blocked, self.bunce.refusing = names, refusing

    @rule(size=st.sampled_from([2, 3]))
    def change_page_size(self, size: int) -> None:
        """Change the setting, perhaps during a scan."""
        django_settings.BUNCE_SYNC["PAGE_SIZE"] = size

    @precondition(lambda self: self.unresolved)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """Reset a row with an unresolved create by raw SQL; only the call log keeps the create."""
        rows = Segment.objects.filter(pk=pick(data, self.unresolved))
        rows.update_sync_fields(
            status=Status.PENDING,
            due_at=DatabaseNow(),
            attempts=0,
            lease_token=None,
            lease_until=None,
            sent_digest="",
            listed_digest="",
            sent_at=None,
        )

    # Workers

    @precondition(lambda self: self._any(Status.PENDING))
    @rule(data=st.data(), stale=st.booleans())
    def reserve(self, data: st.DataObject, stale: bool) -> None:
        """Reserve a push of a row, as it is now or as it was read earlier."""
        rows = self.read if stale else list(Segment.objects.due())
        self.read = list(Segment.objects.all())
        if rows:
            self._reserve(pick(data, rows))

    @precondition(lambda self: any(not (one.request or one.result) for one in self.workers))
    @rule(data=st.data(), reached=st.booleans())
    def send(self, data: st.DataObject, reached: bool) -> None:
        """Send the request, unless the permit has expired or Bunce cannot be reached."""
        waiting = [one for one in self.workers if not (one.request or one.result)]
        worker = pick(data, waiting)
        age = self.time.now - worker.attempt.permit.slot
        if age > timedelta(seconds=rate_limiter.PERMIT_SECONDS):
            worker.result = Result(Outcome.NOT_SENT, code=PERMIT_EXPIRED)
        elif not reached:
            worker.result = REFUSED
        else:
            self._send(worker)

    @precondition(lambda self: any(one.fate == "open" for one in self.bunce.requests))
    @rule(data=st.data(), how=st.sampled_from([None, None, *KNOWN_FAILURES, UNHEARD]))
    def serve(self, data: st.DataObject, how: Result | None) -> None:
        """Let Bunce act on a request, or fail to."""
        open_ones = [one for one in self.bunce.requests if one.fate == "open"]
        request = pick(data, open_ones)
        if how is None and not self.may_act(request):
            how = UNHEARD
        if how is None:
            self.bunce.act(request, self.time.now)
        else:
            self.bunce.fail(request, how)

    @precondition(lambda self: any(one.request and not one.result for one in self.workers))
    @rule(data=st.data(), lost=st.sampled_from([None, None, UNHEARD, UNREADABLE, NO_CONTENT]))
    def hear(self, data: st.DataObject, lost: Result | None) -> None:
        """Let a worker receive the response, fail to read it, or stop waiting."""
        waiting = [one for one in self.workers if one.request and not one.result]
        worker = pick(data, waiting)
        answer = worker.request.answer if worker.request else None
        updated = answer is not None and answer.segment and not worker.attempt.claim.creates
        if self.must_be_recorded(worker):
            lost = None
        if lost == NO_CONTENT and not updated:
            lost = None
        worker.result = lost or answer or UNHEARD

    @precondition(lambda self: any(one.result for one in self.workers))
    @rule(data=st.data(), times=st.sampled_from([1, 1, 2]))
    def record(self, data: st.DataObject, times: int) -> None:
        """Record a worker's result, on time or late; twice if it cannot tell that it did."""
        ready = [one for one in self.workers if one.result]
        worker = pick(data, ready)
        self.workers.remove(worker)
        for _ in range(times):
            self._record(worker)

    @precondition(lambda self: self._any(Status.PENDING))
    @rule(data=st.data(), fate=st.sampled_from(["done", "lost", "late", "failed", "refused"]))
    def push(self, data: st.DataObject, fate: str) -> None:
        """Push one row from start to end, so that deep states are common."""
        rows = list(Segment.objects.due())
        worker = self._reserve(pick(data, rows)) if rows else None
        if worker is None:
            return
        self.workers.remove(worker)
        request = self._send(worker)
        worker.result = UNHEARD
        if fate in ("lost", "late") and not self.may_be_lost(request):
            fate = "done"
        if fate in ("done", "lost"):
            self.bunce.act(request, self.time.now)
        elif fate != "late":  # if late it stays open: Bunce may act after the worker has given up
            self.bunce.fail(request, KNOWN_FAILURES[1] if fate == "refused" else UNHEARD)
        if fate != "lost" and request.answer is not None:
            worker.result = request.answer
        self._record(worker)

    @precondition(lambda self: any(not self.must_be_recorded(one) for one in self.workers))
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """Kill a worker between any two steps."""
        mortal = [one for one in self.workers if not self.must_be_recorded(one)]
        self.workers.remove(pick(data, mortal))

    # Sweep and reconciliation

    @precondition(lambda self: self._any(Status.SENDING))
    @rule()
    def free_leases(self) -> None:
        sweep.free_leases()

    @precondition(lambda self: len(self.scanners) < 2 and self._any(Status.IN_DOUBT))
    @rule()
    def begin_scan(self) -> None:
        self._begin_scan()

    @precondition(lambda self: self._any(Status.IN_DOUBT))
    @rule()
    def scan(self) -> None:
        self._scan()

    @precondition(lambda self: any(one.page is None for one in self.scanners))
    @rule(data=st.data())
    def read_page(self, data: st.DataObject) -> None:
        waiting = [one for one in self.scanners if one.page is None]
        self._read(pick(data, waiting))

    @precondition(lambda self: any(one.page for one in self.scanners))
    @rule(
        data=st.data(),
        dies=st.sampled_from([None, None, "before_progress", "before_commit"]),
        meanwhile=st.booleans(),
    )
    def use_page(self, data: st.DataObject, dies: str | None, meanwhile: bool) -> None:
        """Let a scanner use the page it has read, and maybe kill it before it stores its progress.

        Meanwhile, after it has read which segments are linked and before it adopts one, a worker
        may record a result.
        """
        scanner = pick(data, [one for one in self.scanners if one.page])
        ready = [one for one in self.workers if one.result]
        if not (meanwhile and ready):
            self._use(scanner, dies=dies)
            return
        worker = pick(data, ready)
        self.workers.remove(worker)
        with patch.object(reconcile, "_adopt", before(lambda: self._record(worker))):
            self._use(scanner, dies=dies)

    @precondition(lambda self: self.scanners)
    @rule(data=st.data(), killed=st.booleans())
    def leave_scan(self, data: st.DataObject, killed: bool) -> None:
        """End a run because its time budget is used up, or kill the process."""
        scanner = pick(data, self.scanners)
        if killed:
            self.scanners.remove(scanner)
        else:
            self._release(scanner)

    # Time

    @rule(seconds=st.sampled_from([0.4, 2.0, LEASE + 1, GRACE + 1]))
    def wait(self, seconds: float) -> None:
        if seconds < self.longest_wait():
            self.time.advance(seconds)

    @invariant()
    def decide(self) -> None:
        self._decide()

    # What must hold

    @invariant()
    def look(self) -> None:
        """Note which rows are ready for their next step."""
        rows = Segment.objects.values_list("pk", "bunce_id", "status", "due_at", "lease_until")
        self.ready = set()
        self.unresolved = []
        for pk, bunce_id, status, due_at, lease_until in rows:
            if (lease_until or due_at) <= self.time.now:
                self.ready.add(status)
            if bunce_id is None and status in (Status.SENDING, Status.IN_DOUBT):
                self.unresolved.append(pk)

    @invariant()
    def an_id_is_never_overwritten(self) -> None:
        for pk, bunce_id in Segment.objects.values_list("pk", "bunce_id"):
            assert self.linked.get(pk, bunce_id) == bunce_id, f"row {pk} lost {self.linked[pk]}"
            if bunce_id is not None:
                assert bunce_id in self.bunce.segments
                assert bunce_id not in self.foreign, "a foreign segment was adopted"
                self.linked[pk] = bunce_id

    @invariant()
    def there_are_never_more_segments_than_rows(self) -> None:
        ours = self.bunce.segments.keys() - self.foreign
        assert len(ours) <= len(self.contents)

    def teardown(self) -> None:
        """End all faults; then rows and segments match one to one."""
        try:
            self._come_to_rest()
        finally:
            self.resources.close()


@pytest.mark.django_db
def test_no_order_of_events_duplicates_or_loses_a_segment_or_leaves_a_row_stuck(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.BUNCE_SYNC = {
        "API_KEY": "sk_test_model",
        "LEASE": LEASE,
        "GRACE": GRACE,
        "CONNECT_TIMEOUT": 1,
        "READ_TIMEOUT": 2,
        "RATE_LIMIT": None,
        "PAGE_SIZE": 2,
    }
    caplog.set_level(logging.CRITICAL, "bunce_sync")  # thousands of lines
    examples = 3000 if LONG else 100
    bounds = hypothesis_settings(max_examples=examples, stateful_step_count=50, deadline=None)
    run_state_machine_as_test(Protocol, settings=bounds)

"""The protocol's real transitions against an exact model of Bunce, in every order.

Hypothesis plays the world: workers that claim, send, hear, record late, twice or never; Bunce
that acts at once, late or not at all; scans that are killed between any two steps; people who
edit. What must hold is written as invariants; in the end all faults stop and everything has to
come to rest, one segment for each row.

Taken for granted, as in docs/guarantees.md: Bunce does not begin to act on a request once the
grace period is over, it completes updates in the order in which they were sent, and a permit
that is older than a second sends nothing.
"""

import logging
from collections.abc import Callable
from copy import copy
from datetime import timedelta
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from bunce_sync.sync.outcome import Outcome, Result
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

from bunce_sync.models import Segment
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
from tests.model.world import ALIAS, GRACE, LEASE, World

Status = Segment.Status

#: Rows at most, so that scans stay short and rows meet each other.
ROWS = 5
#: Few contents, so that some rows are the same.
NAMES = st.sampled_from(["VIP", "New", "Old", "Gone", "Lost"])
DESCRIPTIONS = st.sampled_from([None, "text"])


#: All that an app which knows nothing of the sync would write.
EVERY_FIELD = [field.name for field in Segment._meta.concrete_fields if not field.primary_key]


def save_raw(row: Segment) -> None:
    """As ``loaddata`` and versioning apps do, past ``Segment.save()``."""
    models.Model.save_base(row, raw=True)


def save_in_bulk(row: Segment) -> None:
    """As import tools do."""
    Segment.objects.bulk_update([row], EVERY_FIELD)


def update_all(row: Segment) -> None:
    """As a form of a site's own might do."""
    values = {name: getattr(row, name) for name in EVERY_FIELD}
    Segment.objects.filter(pk=row.pk).update(**values)


class Protocol(World):
    """The world around the rows; see the module."""

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
        """Some rows; and Bunce may hold segments from long ago, which belong to nobody here.

        It may give fewer rows a page than asked for, or filter them after paging: one page may
        come empty in the middle, but never two in a row.
        """
        offset = None if zone is None else timedelta(hours=zone)
        self.bunce = Bunce(order=order, unique=unique, zone=offset, cap=cap)
        django_settings.BUNCE_SYNC["PAGE_SIZE"] = 2
        for number in range(min(archived, cap or archived)):
            self.bunce.add("Archived", None, START - timedelta(days=2 + number), archived=True)
        # Without times in the answers nobody could tell them from ours.
        for name in old if offset is not None and not unique else ():
            self.bunce.add(name, None, START - timedelta(days=3))
        self.foreign = set(self.bunce.segments)
        for name in new:
            self.add(name, None)

    # People

    @precondition(lambda self: len(self.contents) < ROWS)
    @rule(name=NAMES, description=DESCRIPTIONS)
    def create(self, name: str, description: str | None) -> None:
        self.add(name, description)

    @precondition(lambda self: self.contents)
    @rule(data=st.data(), name=NAMES, description=DESCRIPTIONS, how=st.booleans())
    def edit(self, data: st.DataObject, name: str, description: str | None, how: bool) -> None:
        pk = pick(data, sorted(self.contents))
        if how:
            Segment.objects.filter(pk=pk).update(name=name, description=description)
        else:
            row = Segment.objects.get(pk=pk)
            row.name, row.description = name, description
            row.save()
        self.contents[pk].add(Segment.objects.get(pk=pk).digest)

    @precondition(lambda self: self.read)
    @rule(data=st.data(), how=st.sampled_from([save_raw, save_in_bulk, update_all, Segment.save]))
    def write_back(self, data: st.DataObject, how: Callable[[Segment], object]) -> None:
        """An app writes back a row as it read it some time ago, with the sync's columns of then."""
        row = copy(pick(data, self.read))
        how(row)
        self.contents[row.pk].add(Segment.objects.get(pk=row.pk).digest)

    @rule(names=st.sets(NAMES, max_size=2), refusing=st.booleans())
    def refuse(self, names: set[str], refusing: bool) -> None:
        """What Bunce refuses changes: some contents, every create, or nothing."""
        self.bunce.blocked, self.bunce.refusing = names, refusing

    @rule(size=st.sampled_from([2, 3]))
    def change_page_size(self, size: int) -> None:
        """The site's setting changes while a scan may be under way."""
        django_settings.BUNCE_SYNC["PAGE_SIZE"] = size

    # Workers

    @precondition(lambda self: self._any(Status.PENDING))
    @rule(data=st.data(), stale=st.booleans())
    def claim(self, data: st.DataObject, stale: bool) -> None:
        """A worker claims a row as it is, or as it was when it was read some time ago."""
        rows = self.read if stale else list(Segment.objects.due())
        self.read = list(Segment.objects.all())
        if rows:
            self._claim(pick(data, rows))

    @precondition(lambda self: any(not (one.request or one.result) for one in self.workers))
    @rule(data=st.data(), reached=st.booleans())
    def send(self, data: st.DataObject, reached: bool) -> None:
        """The request leaves, unless the permit is too old or nobody can be reached."""
        waiting = [one for one in self.workers if not (one.request or one.result)]
        worker = pick(data, waiting)
        if self.time.now - worker.permit.at > timedelta(seconds=rate_limiter.PERMIT_SECONDS):
            worker.result = Result(Outcome.NOT_SENT, code="permit_expired")
        elif not reached:
            worker.result = REFUSED
        else:
            self._send(worker)

    @precondition(lambda self: any(one.fate == "open" for one in self.bunce.requests))
    @rule(data=st.data(), how=st.sampled_from([None, None, *KNOWN_FAILURES, UNHEARD]))
    def serve(self, data: st.DataObject, how: Result | None) -> None:
        """Bunce acts on a request, or fails to."""
        open_ones = [one for one in self.bunce.requests if one.fate == "open"]
        request = pick(data, open_ones)
        if how is None:
            self.bunce.act(request, self.time.now)
        else:
            self.bunce.fail(request, how)

    @precondition(lambda self: any(one.request and not one.result for one in self.workers))
    @rule(data=st.data(), lost=st.sampled_from([None, None, UNHEARD, UNREADABLE, NO_CONTENT]))
    def hear(self, data: st.DataObject, lost: Result | None) -> None:
        """The worker gets the answer, cannot read it, or gives up waiting."""
        waiting = [one for one in self.workers if one.request and not one.result]
        worker = pick(data, waiting)
        answer = worker.request.answer if worker.request else None
        if lost == NO_CONTENT and (worker.claim.creates or answer is None or not answer.segment):
            lost = None
        worker.result = lost or answer or UNHEARD

    @precondition(lambda self: any(one.result for one in self.workers))
    @rule(data=st.data(), times=st.sampled_from([1, 1, 2]))
    def record(self, data: st.DataObject, times: int) -> None:
        """It writes the outcome down, in time or late; twice when the commit's answer was lost."""
        ready = [one for one in self.workers if one.result]
        worker = pick(data, ready)
        self.workers.remove(worker)
        for _ in range(times):
            self._record(worker)

    @precondition(lambda self: self._any(Status.PENDING))
    @rule(data=st.data(), fate=st.sampled_from(["done", "lost", "late", "failed", "refused"]))
    def push(self, data: st.DataObject, fate: str) -> None:
        """The whole way of one row at once, so that deep states are met often."""
        rows = list(Segment.objects.due())
        worker = self._claim(pick(data, rows)) if rows else None
        if worker is None:
            return
        self.workers.remove(worker)
        request = self._send(worker)
        worker.result = UNHEARD
        if fate in ("done", "lost"):
            self.bunce.act(request, self.time.now)
        elif fate != "late":  # then it stays open: Bunce may act on it after the worker gave up
            self.bunce.fail(request, KNOWN_FAILURES[1] if fate == "refused" else UNHEARD)
        if fate != "lost" and request.answer is not None:
            worker.result = request.answer
        self._record(worker)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """A worker is killed wherever it is."""
        self.workers.remove(pick(data, self.workers))

    # Sweep and reconciliation

    @precondition(lambda self: self._any(Status.SENDING))
    @rule()
    def free_leases(self) -> None:
        sweep.free_leases(ALIAS)

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
    @rule(data=st.data(), killed=st.booleans(), meanwhile=st.booleans())
    def use_page(self, data: st.DataObject, killed: bool, meanwhile: bool) -> None:
        """As ``reconcile`` does after a page; it may be killed before the progress is kept.

        Meanwhile, after it has looked which segments are linked and before it adopts, an answer
        may be recorded.
        """
        scanner = pick(data, [one for one in self.scanners if one.page])
        ready = [one for one in self.workers if one.result]
        if not (meanwhile and ready):
            self._use(scanner, killed=killed)
            return
        worker = pick(data, ready)
        self.workers.remove(worker)
        with patch.object(reconcile, "_adopt", before(lambda: self._record(worker))):
            self._use(scanner, killed=killed)

    @precondition(lambda self: self.scanners)
    @rule(data=st.data(), killed=st.booleans())
    def leave_scan(self, data: st.DataObject, killed: bool) -> None:
        """The shift is over and the next one goes on; or the process is killed."""
        scanner = pick(data, self.scanners)
        if killed:
            self.scanners.remove(scanner)
        else:
            self._end_scan(scanner)

    # Time

    @rule(seconds=st.sampled_from([0.4, 2.0, LEASE + 1, GRACE + 1]))
    def wait(self, seconds: float) -> None:
        self.time.advance(seconds)

    @invariant()
    def decide(self) -> None:
        self._decide()

    # What must hold

    @invariant()
    def an_id_is_never_overwritten(self) -> None:
        rows = Segment.objects.values_list("pk", "bunce_id", "status", "due_at", "lease_until")
        self.ready = set()
        for pk, bunce_id, status, due_at, lease_until in rows:
            if (lease_until or due_at) <= self.time.now:
                self.ready.add(status)
            assert self.linked.get(pk, bunce_id) == bunce_id, f"row {pk} lost {self.linked[pk]}"
            if bunce_id is not None:
                assert bunce_id in self.bunce.segments
                assert bunce_id not in self.foreign, "somebody else's segment was adopted"
                self.linked[pk] = bunce_id

    @invariant()
    def there_are_never_more_segments_than_rows(self) -> None:
        ours = self.bunce.segments.keys() - self.foreign
        assert len(ours) <= len(self.contents)

    def teardown(self) -> None:
        """All faults end: everything comes to rest, one to one."""
        try:
            self._come_to_rest()
        finally:
            self.resources.close()


@pytest.mark.django_db
def test_no_order_of_events_makes_a_twin_loses_a_row_or_leaves_one_stuck(
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
    caplog.set_level(logging.CRITICAL, "bunce_sync")  # thousands of lines that nobody reads
    examples = 3000 if LONG else 100
    bounds = hypothesis_settings(max_examples=examples, stateful_step_count=50, deadline=None)
    run_state_machine_as_test(Protocol, settings=bounds)

"""The protocol of ``test_protocol_machine`` while people change both sides, and imports run.

Segments are added, changed and removed in Bunce's dashboard; rows are deleted, linked by code and
restored; imports are killed between any two statements, run twice at once, and use pages that are
older than what pushes and reads have recorded since; Bunce may store names in capitals.

The assumptions are those of docs/guarantees.md. A segment of which the response to its create is
still out is not changed in the dashboard, and nothing is removed there, or renamed in a list by
name, while reconciliation reads the list. If Bunce stores other names than were sent, each
response to a create arrives.
"""

import logging
from datetime import timedelta

import hypothesis.strategies as st
import pytest
from django.db import IntegrityError, transaction
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pytest_django import Settings

from bunce_sync import services, transitions
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import Segment, SyncState
from bunce_sync.sync import importer
from tests.faults.trial import LONG
from tests.model.actors import Killed, pick
from tests.model.both_ways import FIELDS, BothWays
from tests.model.bunce_model import Stored
from tests.model.interruption import interrupted
from tests.model.test_protocol_machine import (
    DESCRIPTIONS,
    NAMES,
    Protocol,
    save_in_bulk,
    save_raw,
    update_all,
)
from tests.model.virtual_time import START
from tests.model.world import GRACE, LEASE

#: Segments at most that are added in the dashboard.
FOREIGN = 4
#: Linked segments at most that are removed there; three refused in a row would pause updates.
REMOVALS = 2


class Imports(BothWays, Protocol):
    """The events and the invariants; see the module."""

    @initialize(
        order=st.sampled_from(["newest", "oldest", "name", "id"]),
        unique=st.booleans(),
        zone=st.sampled_from([0, 14, -12, None]),
        old=st.lists(NAMES, max_size=2),
        new=st.lists(NAMES, min_size=1, max_size=3),
        cap=st.sampled_from([None, None, 1]),
        archived=st.integers(0, 2),
        upper=st.booleans(),
    )
    def begin(self, *, upper: bool, **options: object) -> None:
        super().begin(**options)
        self.bunce.upper = upper and not self.bunce.unique
        self.dashboard = 0

    # Bunce's dashboard

    @precondition(lambda self: self.dashboard < FOREIGN)
    @rule(name=NAMES, description=DESCRIPTIONS, old=st.booleans())
    def add_there(self, name: str, description: str | None, old: bool) -> None:
        """Add a segment: one like those of rows, but older, or one like no other."""
        self.dashboard += 1
        recognisable = self.bunce.zone is not None and not self.bunce.unique
        if old and recognisable:
            self.bunce.add(name, description, START - timedelta(days=3))
        else:
            self.bunce.add(f"Foreign {self.dashboard}", description, self.time.now)

    def _there(self) -> list[Stored]:
        """Return the segments that are not those of creates whose outcome is unknown here."""
        linked = {*Segment.objects.values_list("bunce_id", flat=True)}
        return [
            one
            for one in self.bunce.segments.values()
            if not one.archived and (one.create is None or one.id in linked)
        ]

    def _is_reconciling(self) -> bool:
        return bool(self.scanners) or SyncState.objects.filter(scan__isnull=False).exists()

    @precondition(lambda self: self._there())
    @rule(data=st.data(), field=st.sampled_from(FIELDS))
    def change_there(self, data: st.DataObject, field: str) -> None:
        if field == "name" and self.bunce.order == "name" and self._is_reconciling():
            return
        self.dashboard += 1
        self.bunce.change(pick(data, self._there()), **{field: f"Theirs {self.dashboard}"})

    @precondition(lambda self: self.removals < REMOVALS and self._there())
    @rule(data=st.data())
    def remove_there(self, data: st.DataObject) -> None:
        if not self._is_reconciling():
            self.removals += 1
            self.bunce.remove(pick(data, self._there()))

    # Rows

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Delete a row, which may have been loaded long before."""
        loaded = [row for row in self.read if row.pk in self.wanted]
        row = pick(data, [*Segment.objects.order_by("pk"), *loaded])
        self.deleted |= {*Segment.objects.filter(pk=row.pk).values_list("bunce_id", flat=True)}
        Segment(pk=row.pk, bunce_id=row.bunce_id, environment=row.environment).delete()
        self.forget_row(row.pk)

    @precondition(lambda self: self.read)
    @rule(data=st.data(), how=st.sampled_from([save_raw, save_in_bulk, update_all, Segment.save]))
    def write_back(self, data: st.DataObject, how: object) -> None:
        """Write a stale row back as an app does, which may have been deleted since."""
        pk = pick(data, self.read).pk
        try:
            with transaction.atomic():
                super().write_back(_Only(data, [row.pk for row in self.read].index(pk)), how)
        except IntegrityError:
            return  # another row has its segment now

    @precondition(lambda self: self._there())
    @rule(data=st.data(), name=NAMES, description=DESCRIPTIONS)
    def link(self, data: st.DataObject, name: str, description: str | None) -> None:
        stored = pick(data, self._there())
        row = Segment.objects.link(stored.id, name=name, description=description)
        if row.pk not in self.wanted:
            self.linked_by_code.add(stored.id)
            self.wanted[row.pk], self.unsent[row.pk] = (name, description), set()
            self.edited.add(row.pk)
            self.linked[row.pk] = stored.id

    @precondition(lambda self: self.linked)
    @rule(data=st.data())
    def read_one(self, data: st.DataObject) -> None:
        pk = pick(data, sorted(self.linked))
        rows = Segment.objects.filter(pk=pk)
        rows.update_sync_fields(**transitions.refresh_requested(now=DatabaseNow()))
        self._read_one(rows.get())

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def record_read(self, data: st.DataObject) -> None:
        self._finish_read(pick(data, self.readers))

    @rule()
    def push_ours(self) -> None:
        rows = Segment.objects.filter(services.PUSH_OURS.candidates)
        keys = list(rows.values_list("pk", flat=True))
        services.push_ours(rows)
        for pk in keys:
            self.unsent[pk] = {*FIELDS}

    @rule()
    def take_theirs(self) -> None:
        rows = Segment.objects.filter(services.TAKE_THEIRS.candidates)
        keys = list(rows.values_list("pk", flat=True))
        services.take_theirs(rows)
        for row in Segment.objects.filter(pk__in=keys):
            self.wanted[row.pk], self.unsent[row.pk] = (row.name, row.description), set()
            if row.pk in self.contents:
                self.contents[row.pk].add(row.listed_fingerprint)

    @rule()
    def create_again(self) -> None:
        services.create_again(Segment.objects.filter(services.CREATE_AGAIN.candidates))

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        if paused:
            services.pause(reason="", by="")
        else:
            services.resume()

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Run a worker on a row that was edited back."""
        due = [row for row in Segment.objects.due() if row.bunce_id and not row.unsettled_fields]
        if due:
            self._settle(pick(data, due))

    # Imports

    @rule(adopt=st.booleans(), include_deleted=st.sampled_from([False, False, True]))
    def request_import(self, adopt: bool, include_deleted: bool) -> None:
        services.request_import(adopt=adopt, include_deleted=include_deleted)
        self.brought_back |= include_deleted

    @precondition(lambda self: importer.open_run())
    @rule()
    def cancel_import(self) -> None:
        services.cancel_import()

    @precondition(lambda self: importer.open_run() and len(self.importers) < 2)
    @rule()
    def begin_import(self) -> None:
        self._begin_import()

    @precondition(lambda self: importer.open_run())
    @rule()
    def import_all(self) -> None:
        self._import_all()

    @rule(adopt=st.booleans())
    def request_and_import(self, adopt: bool) -> None:
        """Import from beginning to end, so that deep states are common."""
        services.request_import(adopt=adopt)
        self._import_all()

    @rule()
    def adopt_by_hand(self) -> None:
        pairs = services.adoptable(Segment.objects.all())
        services.adopt((row.pk, imported.pk) for row, imported in pairs)

    @precondition(lambda self: any(one.page is None for one in self.importers))
    @rule(data=st.data())
    def read_import(self, data: st.DataObject) -> None:
        self._read(pick(data, [one for one in self.importers if one.page is None]))

    @precondition(lambda self: any(one.page for one in self.importers))
    @rule(data=st.data(), fate=st.sampled_from(["whole", "killed", "meanwhile", "meanwhile"]))
    def use_import(self, data: st.DataObject, fate: str) -> None:
        """Use a page, or die before any statement of it, or let others act between two of them."""
        scanner = pick(data, [one for one in self.importers if one.page])
        if fate == "whole":
            self._use_import(scanner)
            return
        at = data.draw(st.integers(1, 30))
        if fate == "meanwhile":
            acting = data.draw(st.sampled_from(["record", "edit", "delete", "push", "other"]))
            with interrupted(at=at, by=lambda: self._act(data, acting), in_transactions=False):
                self._use_import(scanner)
            return
        try:
            with interrupted(at=at, by=_die, in_transactions=True):
                self._use_import(scanner)
        except Killed:
            if scanner in self.importers:
                self.importers.remove(scanner)

    def _act(self, data: st.DataObject, what: str) -> None:
        """Do something, if it is possible, while an importer uses a page."""
        if what == "record" and any(one.result for one in self.workers):
            self.record(data, 1)
        elif what == "edit" and self.wanted:
            self.edit(data, data.draw(NAMES), None, True)
        elif what == "delete" and self.wanted:
            self.delete(data)
        elif what == "push":
            self.push(data, data.draw(st.sampled_from(["done", "lost"])))
        elif what == "other":
            others = [one for one in self.importers if one.page]
            self.time.advance(LEASE + GRACE if self.longest_wait() > LEASE + GRACE else 0)
            if len(others) < 2 and (other := self._begin_import()):
                self._read(other)
                self._use_import(other)

    @precondition(lambda self: self.importers)
    @rule(data=st.data(), killed=st.booleans())
    def leave_import(self, data: st.DataObject, killed: bool) -> None:
        scanner = pick(data, self.importers)
        self.importers.remove(scanner)
        if not killed:
            scanner.walk.release()

    # What must hold

    @invariant()
    def an_id_is_never_overwritten(self) -> None:
        self.note_rows()

    @invariant()
    def there_are_never_more_segments_than_rows(self) -> None:
        ours = [one for one in self.bunce.segments.values() if one.create is not None]
        assert len(ours) <= len(self.contents)


class _Only:
    """Data of which the first draw is known."""

    def __init__(self, data: st.DataObject, index: int) -> None:
        self.index = index

    def draw(self, strategy: object) -> int:
        return self.index


def _die() -> None:
    raise Killed


@pytest.mark.django_db
def test_no_order_of_events_loses_an_edit_or_ends_with_a_twin_or_a_false_difference(
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
    run_state_machine_as_test(Imports, settings=bounds)

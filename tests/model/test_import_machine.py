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
from collections.abc import Callable
from copy import copy
from datetime import timedelta
from typing import Any, TypeAlias

import hypothesis.strategies as st
import pytest
from django.db import IntegrityError, transaction
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import (
    RULE_MARKER,
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
#: What people do in Bunce's dashboard.
DASHBOARD = ("add", "change", "remove")
#: What people and code of the site do to rows, beside edits.
PERSONS = ("link", "push_ours", "take_theirs", "create_again", "adopt_by_hand", "pause")
#: Parts of a read of a single segment.
READS = st.sampled_from(["begin", "end", "whole"])
Event: TypeAlias = Callable[["Imports", st.DataObject], None]
#: What happens while an importer uses a page.
FATES = ("late", "whole", "whole", "killed", "other", "record", "edit", "delete", "push")


def when_possible(rule_name: str, /, **arguments: Any) -> Event:
    """Return an event: a rule with these arguments, or values drawn for them, if it can run."""

    def event(machine: "Imports", data: st.DataObject) -> None:
        rule = getattr(getattr(Imports, rule_name), RULE_MARKER)
        if all(possible(machine) for possible in rule.preconditions):
            given = {"data": data} if "data" in rule.arguments else {}
            for argument, value in arguments.items():
                is_drawn = isinstance(value, st.SearchStrategy)
                given[argument] = data.draw(value) if is_drawn else value
            getattr(machine, rule_name)(**given)

    return event


def importer_steps(fate: str) -> Event:
    """Return one step of an importer, which is begun if there is none."""
    begin = when_possible("begin_import", adopt=st.sampled_from([False, False, True]))
    use = when_possible("use_import", fate=fate)

    def event(machine: "Imports", data: st.DataObject) -> None:
        if not machine.importers:
            begin(machine, data)
        use(machine, data)

    return event


def worker_step(machine: "Imports", data: st.DataObject) -> None:
    """Let a worker do its next step."""
    worker = machine.workers[0] if machine.workers else None
    if worker is None:
        next_step = when_possible("reserve", stale=False)
    elif worker.result:
        next_step = when_possible("record", times=1)
    elif not worker.request:
        next_step = when_possible("send", reached=True)
    elif worker.request.fate == "open":
        next_step = when_possible("serve", how=None)
    else:
        next_step = when_possible("hear", lost=None)
    next_step(machine, data)


#: What happens most often. Hypothesis chooses among many rules, so that few of its choices follow
#: from each other.
OFTEN: dict[str, Event] = {
    **{f"step of a worker {n}": worker_step for n in range(6)},
    **{f"step of an importer, {fate}": importer_steps(fate) for fate in {*FATES}},
    **{f"push, {fate}": when_possible("push", fate=fate) for fate in ("done", "lost", "late")},
    **{f"row, {what}": when_possible("act_on_rows", what=what) for what in PERSONS},
    **{f"dashboard, {what}": when_possible("use_dashboard", what=what) for what in DASHBOARD},
    "drain": when_possible("drain"),
    "import": when_possible("import_all", adopt=st.booleans(), include_deleted=False),
    "import deleted": when_possible("import_all", adopt=False, include_deleted=True),
    "create": when_possible("create", name=NAMES, description=None),
    "edit": when_possible("edit", name=NAMES, description=None, how=False),
    "describe": when_possible("describe"),
    "delete": when_possible("delete"),
    "write back": when_possible("write_back", how=save_raw),
    "read": when_possible("read_one", what=READS),
    "scan": when_possible("scan"),
    "wait": when_possible("wait", seconds=GRACE + 1),
    "free leases": when_possible("free_leases"),
}


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
        past=st.integers(0, 80),
        data=st.data(),
    )
    def begin(self, *, upper: bool, past: int, data: st.DataObject, **options: Any) -> None:
        """Begin with some rows, and with some of what happens most often."""
        super().begin(**options)
        self.bunce.upper = upper and not self.bunce.unique
        self.dashboard = 0
        for _ in range(past):
            self.look()
            OFTEN[data.draw(st.sampled_from([*OFTEN]))](self, data)
            self.decide()
            self.note_rows()

    # Bunce's dashboard

    @rule(data=st.data(), what=st.sampled_from(DASHBOARD))
    def use_dashboard(self, data: st.DataObject, what: str) -> None:
        """Add a segment, or change or remove one."""
        if what == "add" and self.dashboard < FOREIGN:
            self._add_there(data)
        elif what == "change" and self._there():
            self._change_there(data)
        elif what == "remove" and self._there() and self.removals < REMOVALS:
            self._remove_there(pick(data, self._there()))

    def _add_there(self, data: st.DataObject) -> None:
        """Add a segment: one like those of rows, but older, or one like no other."""
        self.dashboard += 1
        description = data.draw(DESCRIPTIONS)
        recognisable = self.bunce.zone is not None and not self.bunce.unique
        if recognisable and data.draw(st.booleans()):
            self.bunce.add(data.draw(NAMES), description, START - timedelta(days=3))
        else:
            self.bunce.add(f"Foreign {self.dashboard}", description, self.time.now)

    def _change_there(self, data: st.DataObject) -> None:
        field = data.draw(st.sampled_from(FIELDS))
        if field == "name" and self.bunce.order == "name" and self._is_reconciling():
            return
        self.dashboard += 1
        self.bunce.change(pick(data, self._there()), **{field: f"Theirs {self.dashboard}"})

    def _remove_there(self, stored: Stored) -> None:
        if not self._is_reconciling():
            self.removals += 1
            self.bunce.remove(stored)

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

    # Rows

    @rule()
    def drain(self) -> None:
        """Push all that is due, as workers do most of the time."""
        for row in Segment.objects.due():
            self._push(row)

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def describe(self, data: st.DataObject) -> None:
        """Edit one of two fields."""
        row = Segment.objects.get(pk=pick(data, self.rows()))
        row.description = data.draw(st.sampled_from(["ours", "ours too", None]))
        row.save()
        self.note_edit(row.pk)

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Delete a row, which may have been loaded long before."""
        loaded = [row for row in self.read if row.pk in self.wanted]
        row = pick(data, [*Segment.objects.filter(pk__in=self._free()), *loaded])
        self._delete(row)

    def _delete(self, row: Segment) -> None:
        ids = Segment.objects.filter(pk=row.pk).values_list("bunce_id", flat=True)
        self.deleted |= {str(bunce_id) for bunce_id in ids}
        for bunce_id in ids:
            stored = self.bunce.segments.get(bunce_id or "")
            if stored and stored.create and stored.create.claim.segment_id != row.pk:
                # Imported after its own row was deleted: if that is restored, it gets a new one.
                stored.create.given_up = True
        Segment(pk=row.pk, bunce_id=row.bunce_id, environment=row.environment).delete()
        self.forget_row(row.pk)

    @precondition(lambda self: self.read)
    @rule(data=st.data(), how=st.sampled_from([save_raw, save_in_bulk, update_all, Segment.save]))
    def write_back(self, data: st.DataObject, how: Callable[[Segment], object]) -> None:
        """Write a stale row back as an app does, which may have been deleted since."""
        row = copy(pick(data, self.read))
        try:
            with transaction.atomic():
                how(row)
        except IntegrityError:
            return  # another row has its segment now
        self.note_edit(row.pk)

    @rule(data=st.data(), what=st.sampled_from(PERSONS))
    def act_on_rows(self, data: st.DataObject, what: str) -> None:
        """Do something that people or code of the site do to rows."""
        getattr(self, f"_{what}")(data)

    def _link(self, data: st.DataObject) -> None:
        if not self._there():
            return
        stored, name, description = pick(data, self._there()), data.draw(NAMES), None
        row = Segment.objects.link(stored.id, name=name, description=description)
        if row.pk not in self.wanted:
            self.linked_by_code.add(stored.id)
            self.wanted[row.pk], self.unsent[row.pk] = (name, description), set()
            self.edited.add(row.pk)
            self.linked[row.pk] = stored.id

    def _push_ours(self, data: st.DataObject) -> None:
        rows = Segment.objects.filter(services.PUSH_OURS.candidates)
        keys = list(rows.values_list("pk", flat=True))
        services.push_ours(rows)
        for pk in keys:
            self.unsent[pk] = {*FIELDS}

    def _take_theirs(self, data: st.DataObject) -> None:
        rows = Segment.objects.filter(services.TAKE_THEIRS.candidates)
        keys = list(rows.values_list("pk", flat=True))
        services.take_theirs(rows)
        for row in Segment.objects.filter(pk__in=keys):
            self.wanted[row.pk], self.unsent[row.pk] = (row.name, row.description), set()
            if row.pk in self.contents:
                self.contents[row.pk].add(row.listed_fingerprint)

    def _create_again(self, data: st.DataObject) -> None:
        services.create_again(Segment.objects.filter(services.CREATE_AGAIN.candidates))

    def _adopt_by_hand(self, data: st.DataObject) -> None:
        pairs = services.adoptable(Segment.objects.all())
        services.adopt((row.pk, imported.pk) for row, imported in pairs)

    def _pause(self, data: st.DataObject) -> None:
        services.pause(reason="", by="")
        assert not any(self._reserve(row) for row in Segment.objects.due())
        services.resume()

    @precondition(lambda self: self.linked or self.readers)
    @rule(data=st.data(), what=READS)
    def read_one(self, data: st.DataObject, what: str) -> None:
        """Read a single segment; the response may be recorded much later."""
        if what == "end":
            if self.readers:
                self._finish_read(pick(data, self.readers))
            return
        if not self.linked:
            return
        rows = Segment.objects.filter(pk=pick(data, sorted(self.linked)))
        rows.update_sync_fields(**transitions.refresh_requested(now=DatabaseNow()))
        reader = self._read_one(rows.get())
        if what == "whole":
            self._finish_read(reader)

    # Imports

    @rule(adopt=st.booleans(), include_deleted=st.sampled_from([False, False, True]))
    def import_all(self, adopt: bool, include_deleted: bool) -> None:
        """Import from beginning to end."""
        services.request_import(adopt=adopt, include_deleted=include_deleted)
        self.brought_back |= include_deleted
        self._import_all()

    @precondition(lambda self: len(self.importers) < 2)
    @rule(adopt=st.sampled_from([False, False, True]))
    def begin_import(self, adopt: bool) -> None:
        services.request_import(adopt=adopt)
        self._begin_import()

    @precondition(lambda self: importer.open_run() is not None)
    @rule(data=st.data())
    def end_import(self, data: st.DataObject) -> None:
        """Cancel it, or go on to its end."""
        if data.draw(st.sampled_from([True, False, False])):
            services.cancel_import()
        else:
            self._import_all()

    @precondition(lambda self: self.importers)
    @rule(data=st.data(), fate=st.sampled_from(FATES))
    def use_import(self, data: st.DataObject, fate: str) -> None:
        """Read a page, use one, die before any statement, or let others act between two of them."""
        scanner = pick(data, self.importers)
        if scanner.page is None:
            self._read_import(scanner)
            if fate == "late" or scanner.page is None:
                return
        at = data.draw(st.integers(1, 30))
        if fate in ("late", "whole"):
            self._use_import(scanner)
        elif fate == "killed":
            try:
                with interrupted(at=at, by=_die):
                    self._use_import(scanner)
            except Killed:
                if scanner in self.importers:
                    self.importers.remove(scanner)
        elif fate == "other":
            with interrupted(at=at, by=lambda: self._use_other(data), depth=0):
                self._use_import(scanner)
        else:
            # A page that is used without the lease is rolled back in the end.
            depth = int(scanner.walk._mine().filter(finished_at=None).exists())
            with self.locks, interrupted(at=at, by=lambda: self._act(data, fate), depth=depth):
                self._use_import(scanner)

    def _act(self, data: st.DataObject, what: str) -> None:
        """Let another process do something, if it can, while an importer uses a page."""
        free = self._free()
        workers = [one for one in self.workers if one.result and one.attempt.row.pk in free]
        if what == "record" and workers:
            worker = pick(data, workers)
            self.workers.remove(worker)
            self._record(worker)
        elif what == "edit" and free:
            pk = pick(data, free)
            Segment.objects.filter(pk=pk).update(name=data.draw(NAMES))
            self.note_edit(pk)
        elif what == "delete" and free:
            self._delete(Segment.objects.get(pk=pick(data, free)))
        elif what == "push":
            for row in Segment.objects.due().filter(pk__in=free):
                self._push(row)

    def _free(self) -> list[int]:
        """Return the rows that no transaction under way has locked or inserted."""
        return [pk for pk in self.rows() if pk not in self.locks.keys]

    def _use_other(self, data: st.DataObject) -> None:
        """Let the lease of an importer end, and another one take over."""
        if len(self.importers) < 2 and self.longest_wait() > LEASE + GRACE:
            self.time.advance(LEASE + GRACE)
            if other := self._begin_import():
                self._read_import(other)
                if other.page is not None:
                    self._use_import(other)
                if data.draw(st.booleans()) and self.wanted:
                    self._delete(Segment.objects.get(pk=pick(data, self.rows())))

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
    examples = 1000 if LONG else 30
    # The short form is the same each time; the long one looks for more.
    bounds = hypothesis_settings(
        max_examples=examples, stateful_step_count=40, deadline=None, derandomize=not LONG
    )
    run_state_machine_as_test(Imports, settings=bounds)

"""Imports: all segments of the account become rows, and the rows learn what Bunce has.

An import is one scan of Bunce's list. It can be resumed at any page, and using a page twice does
no harm. Of each segment on a page:

1. its row exists: the ``bunce_`` columns are refreshed, and what people want stays;
2. it is the second segment of a row, or the row was deleted here: nothing;
3. it fits a create of unknown outcome: it is the matter of that create's row, never a new one;
4. with ``adopt``, a row that waits to be created has the same content: it is linked;
5. otherwise it becomes a row that is synced.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    transaction,
)
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from bunce_sync import database, transitions
from bunce_sync.choices import UNRESOLVED, Decision, Operation, Outcome
from bunce_sync.client import RemoteSegment
from bunce_sync.conf import conf
from bunce_sync.fingerprint import listed_fingerprint
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import ApiCall, ImportRun, Segment, SegmentQuerySet
from bunce_sync.sync import events, linking, list_scan, shared_state
from bunce_sync.sync.budget import Budget, Kind, Progress
from bunce_sync.sync.circuit_breaker import OperationRows
from bunce_sync.sync.list_scan import Scan
from bunce_sync.sync.reconcile import LISTS, NEAR, distance
from bunce_sync.sync.refresh import COMPARED, changed_since

logger = logging.getLogger(__name__)

#: What an import counts, by segment of Bunce:
#:
#: imported: became a row;
#: changed, unchanged: had a row, whose columns changed or did not;
#: adopted: linked to a row that waited to be created;
#: found: linked to a row whose create had an unknown outcome;
#: duplicates: second segments of rows;
#: reserved: left to a create whose outcome is still unknown;
#: deleted: left out because the row was deleted here;
#: elsewhere: its row belongs to another environment;
#: refused: could not be stored; the log says why.
COUNTS: Final = (
    *("imported", "changed", "unchanged", "adopted", "found", "duplicates"),
    *("reserved", "deleted", "elsewhere", "refused"),
)
#: The columns of a known row that a page may change.
REFRESHED: Final = (
    *{*COMPARED, *linking.BUNCE_FIELDS},
    *("environment", "last_error", "due_at", "refresh_requested_at"),
)


@dataclass
class ImportPage:
    """The segments of one page that are still to be decided about, and what was decided.

    Attributes:
        remotes: what is left, by id.
        asked_at: the database's time before the page was requested.
        acts: what is done.
        environment: the current one; to work it out for each segment would take long.
        decided: what was done with each segment, one of ``COUNTS`` by id.
    """

    remotes: dict[str, RemoteSegment]
    asked_at: datetime
    acts: Acts
    environment: str = field(default_factory=lambda: conf.environment)
    decided: dict[str, str] = field(default_factory=dict)

    def count(self, what: str) -> int:
        """Return for how many segments something was done."""
        return sum(each == what for each in self.decided.values())

    def done(self, remote: RemoteSegment, what: str) -> None:
        """Note what was done with a segment, about which nothing more is to be decided."""
        self.decided[remote.id] = what
        self.remotes.pop(remote.id, None)


class Acts:
    """What an import does once it is decided. A preview decides alike, and does nothing.

    Each method may find that a row has changed since it was read, and returns whether it acted.
    Rows that other transactions hold are left to the next import: waiting for one while others
    are locked could deadlock.

    Args:
        now: the database's time. A value, since an expression for each row takes long to compile.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now

    def refresh(self, page: ImportPage, rows: SegmentQuerySet, keys: set[int]) -> None:
        """Write what changed in Bunce to rows with a segment of the page, and note each.

        Args:
            rows: all rows with a segment of the page.
            keys: of those that differ.
        """
        with _atomic():
            # Once more and locked, since a push may have changed them.
            groups: dict[frozenset[str], list[Segment]] = {}
            for row in _to_compare(rows.filter(pk__in=keys).lock_available(), page):
                remote = page.remotes[row.bunce_id or ""]
                values = _changes(row, remote, page)
                page.done(remote, "changed" if values else "unchanged")
                if values:
                    events.announce(row, values)
                    groups.setdefault(frozenset(values), []).append(row)
                    row.set_stored(**values)
            # Rows in which the same fields change; other fields are not loaded.
            for names, changed in groups.items():
                database.segments().write_sync_fields(changed, names)

    def link_late(self, call: ApiCall, remote: RemoteSegment) -> bool:
        """Link the row of a create that was judged absent to its segment."""
        return linking.link_late(call, remote)

    def note_duplicate(self, pk: int | None, remote: RemoteSegment) -> None:
        """Show a segment with the row whose repeated create made it."""
        _note_duplicate(pk, remote)

    def find_waiting(self, fingerprints: Collection[str]) -> dict[str, list[int]]:
        """Return the keys of rows that wait to be created by their fingerprints."""
        return linking.find_waiting(fingerprints)

    def link_waiting(self, pk: int, fingerprint: str, remote: RemoteSegment) -> bool:
        """Link a row that waits to be created to a segment with the same content."""
        try:
            with _atomic():
                return linking.link_waiting(pk, fingerprint, transitions.confirmed_values(remote))
        except IntegrityError:
            if not database.segments().filter(bunce_id=remote.id).exists():
                raise
            return False  # a push has recorded it meanwhile

    def take_over(self, pk: int, imported: Segment) -> bool:
        """Give the segment of an imported row to a row that waits to be created."""
        with _atomic():
            return linking.take_over(pk, imported.pk)

    def insert(self, page: ImportPage) -> None:
        """Make rows of the segments that are left."""
        _insert(page, self.now)


class Import:
    """The page handler of one import."""

    is_atomic = True  # so that each page is counted once

    def __init__(self, run: ImportRun) -> None:
        self.run = run
        self._was_cancelled = False

    @property
    def rows(self) -> OperationRows:
        return LISTS

    @property
    def store(self) -> QuerySet[ImportRun]:
        return database.import_runs().filter(pk=self.run.pk)

    @property
    def _open(self) -> QuerySet[ImportRun]:
        return self.store.filter(finished_at=None)

    def is_wanted(self) -> bool:
        return self._open.exists()

    def on_page(self, segments: Sequence[RemoteSegment], scan: Scan, *, asked_at: datetime) -> None:
        run: Any = self._open.annotate(now=DatabaseNow()).defer("scan").first()
        if run is None:
            self._was_cancelled = True
            return
        page = ImportPage({remote.id: remote for remote in segments}, asked_at, Acts(run.now))
        use_page(page, adopt=run.adopt, include_deleted=run.include_deleted)
        before = run.counts if scan.pages else {}
        counts = {name: before.get(name, 0) + page.count(name) for name in COUNTS}
        self.store.update(counts=counts, pages=scan.pages + 1)

    def may_stop(self, scan: Scan) -> bool:
        return self._was_cancelled

    def must_restart(self, scan: Scan) -> bool:
        return False  # what moved to a page read before is imported next time

    def on_end(self, scan: Scan) -> None:
        self._open.update(finished_at=DatabaseNow())


def request(*, by: str = "", adopt: bool = False, include_deleted: bool = False) -> ImportRun:
    """Return the open import, or a new one. Call it in a transaction.

    An open import also does what is asked for now, from its next page on.
    """
    shared_state.lock()
    run = open_run()
    if run is None:
        return database.import_runs().create(
            environment=conf.environment,
            requested_by=by,
            adopt=adopt,
            include_deleted=include_deleted,
        )
    more = {"adopt": adopt or run.adopt, "include_deleted": include_deleted or run.include_deleted}
    if more != {"adopt": run.adopt, "include_deleted": run.include_deleted}:
        # Pages read so far were used without it, so begin with the first again. A process that
        # is reading a page loses the lease, and with it the right to go on from there.
        afresh = {"scan": None, "scan_token": None, "scan_lease_until": None}
        database.import_runs().filter(pk=run.pk).update(**more, **afresh, pages=0, counts={})
        run.refresh_from_db()
    return run


def open_run() -> ImportRun | None:
    """Return the import that is under way or about to begin; None if there is none."""
    return database.import_runs().filter(finished_at=None).order_by("pk").first()


def run(budget: Budget) -> Progress:
    """Continue the open import until it ends or the budget is used up.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    current = open_run()
    if current is None:
        return Progress()
    if current.adopt and not current.pages:
        linking.fingerprint_waiting()
    return list_scan.run(Import(current), budget)


def workers_needed(permits: int) -> int:
    """Return 1 if there is an import to do; begin one if the interval is over."""
    if not permits:
        return 0
    if open_run() is not None:
        return 1
    if not _is_scheduled():
        return 0
    with database.atomic():
        request()
    return 1


def _is_scheduled() -> bool:
    interval = conf.IMPORT_INTERVAL
    if interval is None:
        return False
    since = DatabaseNow() - timedelta(seconds=interval)
    return not database.import_runs().filter(requested_at__gt=since).exists()


# One page


def use_page(page: ImportPage, *, adopt: bool, include_deleted: bool) -> None:
    """Decide about each segment of a page, and act on it."""
    # In this order: a create that is recorded meanwhile is in one of the two.
    creates = _unresolved_creates(page)
    _refresh_known(page)
    if page.remotes:
        _set_aside(page, include_deleted=include_deleted)
        _leave_to_creates(page, creates, include_deleted=include_deleted)
    if adopt:
        _adopt(page)
        _adopt_imported(page)
    page.acts.insert(page)


def _unresolved_creates(page: ImportPage) -> dict[str, list[ApiCall]]:
    """Return the creates of unknown outcome that a segment of the page may be from, by its id."""
    by_digest: dict[str, list[RemoteSegment]] = {}
    for remote in page.remotes.values():
        digest = listed_fingerprint(remote.name, remote.description)
        by_digest.setdefault(digest, []).append(remote)
    calls = database.calls_here().filter(
        listed_digest__in=by_digest,
        operation=Operation.CREATE,
        outcome__in=(Outcome.UNDER_WAY, *UNRESOLVED),
        decision__in=("", Decision.ABSENT),
    )
    found: dict[str, list[ApiCall]] = {}
    for call in calls.order_by("pk"):
        for remote in by_digest[call.listed_digest]:
            if distance(call.started_at, remote) <= NEAR:
                found.setdefault(remote.id, []).append(call)
    return found


def _refresh_known(page: ImportPage) -> None:
    """Write what changed in Bunce to the rows that have a segment of the page."""
    known = database.segments().filter(bunce_id__in=[*page.remotes]).order_by()
    differing = set()
    for row in _to_compare(known, page):
        remote = page.remotes.get(row.bunce_id or "")
        if remote is None:
            continue  # MariaDB and MySQL also find ids that differ in upper and lower case
        if row.environment not in ("", page.environment):
            page.done(remote, "elsewhere")
        elif _changes(row, remote, page):
            differing.add(row.pk)
        else:
            page.done(remote, "unchanged")
    if differing:
        page.acts.refresh(page, known, differing)
        held = known.filter(pk__in=differing, bunce_id__in=[*page.remotes])
        for bunce_id in held.values_list("bunce_id", flat=True):  # by another transaction
            page.done(page.remotes[bunce_id or ""], "unchanged")


def _to_compare(rows: SegmentQuerySet, page: ImportPage) -> Iterable[Any]:
    """Return the rows with what a comparison needs, and ``outdated``."""
    return rows.annotate(outdated=changed_since(page.asked_at)).only(*REFRESHED)


def _changes(row: Any, remote: RemoteSegment, page: ImportPage) -> dict[str, Any]:
    values = transitions.after_import(row, remote, now=DatabaseNow(), outdated=row.outdated)
    if row.environment == "" and not row.outdated:
        values["environment"] = page.environment
    return values


def _set_aside(page: ImportPage, *, include_deleted: bool) -> None:
    """Leave out second segments of rows, and segments whose row was deleted here."""
    for bunce_id in _second_segments(page) & page.remotes.keys():
        page.done(page.remotes[bunce_id], "duplicates")
    buried = linking.buried(page.remotes)
    for bunce_id in buried.keys() & page.remotes.keys():
        if buried[bunce_id] is not None:
            page.done(page.remotes[bunce_id], "elsewhere")
        elif not include_deleted:
            page.done(page.remotes[bunce_id], "deleted")


def _second_segments(page: ImportPage) -> set[str]:
    """Return the ids of the page's segments that are known as second segments of rows."""
    ids = database.segments().values_list("bunce_duplicate_id", flat=True)
    # Usually there are none. In this order the index shows it, also while an import fills the
    # table so fast that the database's statistics are old and it would read every row instead.
    if not ids.filter(bunce_duplicate_id__gt="").order_by("bunce_duplicate_id")[:1]:
        return set()
    # Without an order, so that the index of the condition is used, not that of the keys.
    return {str(one) for one in ids.filter(bunce_duplicate_id__in=[*page.remotes]).order_by()}


def _leave_to_creates(
    page: ImportPage, creates: dict[str, list[ApiCall]], *, include_deleted: bool
) -> None:
    """Leave segments that fit a create of unknown outcome to the row of that create."""
    fitting = [call for bunce_id in page.remotes for call in creates.get(bunce_id, ())]
    if not fitting:
        return
    keys = {call.segment_id or 0 for call in fitting}
    rows = database.segments().filter(pk__in=keys)
    owners = dict(rows.here().values_list("pk", "bunce_id"))
    moved = {*rows.elsewhere().values_list("pk", flat=True)}
    for bunce_id, calls in creates.items():
        remote = page.remotes.get(bunce_id)
        if remote is None:
            continue
        if any(call.segment_id in moved for call in calls):
            page.done(remote, "elsewhere")
            continue
        unlinked = [call for call in calls if owners.get(call.segment_id or 0, "") is None]
        if not unlinked:
            linked = [call for call in calls if owners.get(call.segment_id or 0)]
            if linked:
                page.acts.note_duplicate(linked[0].segment_id, remote)
                page.done(remote, "duplicates")
            elif not include_deleted:
                page.done(remote, "deleted")
            continue
        absent = [call for call in unlinked if call.decision == Decision.ABSENT]
        found = next((call for call in absent if page.acts.link_late(call, remote)), None)
        if found is not None:
            owners[found.segment_id or 0] = remote.id
        page.done(remote, "found" if found else "reserved")


def _note_duplicate(pk: int | None, remote: RemoteSegment) -> None:
    """Show a segment with the row whose repeated create made it."""
    with _atomic():
        rows = database.segments().filter(pk=pk or 0, bunce_duplicate_id=None)
        row = rows.lock_available().only("status", "last_code").first()
        if row is not None:
            logger.error(
                "Segment %s exists twice in Bunce, also as %s",
                pk,
                remote.id,
                extra=event(LogEvent.SEGMENT_DUPLICATED, segment_id=pk, bunce_id=remote.id),
            )
            values = transitions.with_duplicate(remote.id)
            rows.update_sync_fields(**values)
            events.announce(row, values)


def _adopt(page: ImportPage) -> None:
    """Link rows that wait to be created to segments of the page with the same content."""
    digests = {
        remote.id: listed_fingerprint(**transitions.own_content(remote))
        for remote in page.remotes.values()
    }
    waiting = page.acts.find_waiting({*digests.values()})
    for bunce_id, digest in digests.items():
        remote = page.remotes[bunce_id]
        for pk in waiting.get(digest, ()):
            if page.acts.link_waiting(pk, digest, remote):
                waiting[digest].remove(pk)
                page.done(remote, "adopted")
                break


def _adopt_imported(page: ImportPage) -> None:
    """Let rows that wait to be created take over from untouched rows of earlier imports."""
    imported = linking.untouched_imports().filter(bunce_id__in=[*page.decided])
    rows = list(imported.only("bunce_id", "listed_digest"))
    waiting = page.acts.find_waiting({row.listed_digest for row in rows})
    for row in rows:
        for pk in waiting.get(row.listed_digest, ()):
            if page.acts.take_over(pk, row):
                page.decided[row.bunce_id or ""] = "adopted"
                waiting[row.listed_digest].remove(pk)
                break


def _insert(page: ImportPage, now: datetime) -> None:
    """Make rows of the segments that are left."""
    remotes = [*page.remotes.values()]
    if not remotes:
        return
    try:
        with _atomic():
            database.segments().insert_as_stored(
                [_new_row(remote, page.environment, now) for remote in remotes]
            )
    except (OperationalError, InterfaceError):
        raise  # not about these segments: the page is read again
    except DatabaseError:
        logger.info(
            "Some segments of a page cannot be inserted together; trying one by one",
            extra=event(LogEvent.IMPORT_PAGE_SPLIT, count=len(remotes)),
        )
        for remote in remotes:
            page.done(remote, _insert_alone(_new_row(remote, page.environment, now)))
    else:
        for remote in remotes:
            page.done(remote, "imported")


def _insert_alone(row: Segment) -> str:
    """Insert one row; return what was done."""
    try:
        with _atomic():
            database.segments().insert_as_stored([row])
    except (OperationalError, InterfaceError):
        raise  # not about this segment: the page is read again
    except DatabaseError as error:
        if database.segments().filter(bunce_id=row.bunce_id).exists():
            return "unchanged"  # a push recorded it meanwhile
        logger.error(
            "Segment %s of Bunce cannot be stored (%s)",
            row.bunce_id,
            type(error).__name__,
            extra=event(LogEvent.IMPORT_REFUSED, bunce_id=row.bunce_id, error=type(error).__name__),
        )
        return "refused"
    return "imported"


def _new_row(remote: RemoteSegment, environment: str, now: datetime) -> Segment:
    row = Segment(**transitions.own_content(remote), add_all_customers=bool(remote.all_customers))
    row.set_stored(
        **transitions.imported(remote, environment=environment, now=now),
        **transitions.taken_over(row),
        **dict.fromkeys(("created_at", "updated_at", "due_at"), now),
    )
    return row


def _atomic() -> transaction.Atomic:
    """Return a transaction, or a savepoint in the page's."""
    return transaction.atomic(using=database.alias())


IMPORT: Final = Kind(
    name="import",
    label=_("import to run"),
    workers_needed=workers_needed,
    run=run,
    operations=(),
    report="read %s of Bunce's list for an import",
    noun="page",
    count_due=lambda: int(open_run() is not None),
)

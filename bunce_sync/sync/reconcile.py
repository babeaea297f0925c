"""Reconciliation: one scan of Bunce's list resolves all segments in doubt.

A row is considered if its grace period was over when the scan began. A segment that is found is
adopted at once; a row is absent only when the whole list was read without it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import Any, Final

from django.db import IntegrityError
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext_lazy as _

from bunce_sync import database, transitions
from bunce_sync.choices import UNRESOLVED, Decision, Operation, Outcome, Status
from bunce_sync.client import RemoteSegment
from bunce_sync.conf import conf
from bunce_sync.fingerprint import listed_fingerprint
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import ApiCall, Segment, SegmentQuerySet, SyncState
from bunce_sync.results import REFUSED_CONTENT
from bunce_sync.sync import events, linking, list_scan
from bunce_sync.sync.budget import Budget, Kind, Progress, count_waiting
from bunce_sync.sync.circuit_breaker import OperationRows
from bunce_sync.sync.list_scan import Scan

logger = logging.getLogger(__name__)

#: How far apart the attempt and Bunce's time of creation may lie: the time zone of ``created_at``
#: is not documented.
NEAR = timedelta(days=1)
#: Rows with their descriptions that are loaded at a time.
CHUNK = 500


class Reconciliation:
    """The page handler that resolves segments in doubt."""

    @property
    def rows(self) -> OperationRows:
        return LISTS

    is_atomic = False  # each row is adopted in a transaction of its own

    @property
    def store(self) -> QuerySet[SyncState]:
        return database.sync_state()

    def is_wanted(self) -> bool:
        return database.segments().checkable().exists()

    def on_page(self, segments: Sequence[RemoteSegment], scan: Scan, *, asked_at: datetime) -> None:
        adopt(segments, scan)

    def may_stop(self, scan: Scan) -> bool:
        return not _considered(scan).exists()

    def must_restart(self, scan: Scan) -> bool:
        return _was_disturbed(scan)

    def on_end(self, scan: Scan) -> None:
        _resolve_absent(scan)


def run(budget: Budget) -> Progress:
    """Continue the scan for segments in doubt, or begin one.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    return list_scan.run(Reconciliation(), budget)


def workers_needed(permits: int) -> int:
    """Return 1 if segments in doubt can be looked for; the scan takes one worker."""
    if not permits:
        return 0
    return int(database.segments().checkable().exists() or list_scan.is_under_way())


def adopt(remotes: Sequence[RemoteSegment], scan: Scan) -> int:
    """Link rows in doubt to segments of the same content that never belonged to a row.

    They are linked one to one: a segment that fits several rows goes to the row whose attempt was
    nearest to its creation.

    Returns:
        How many were linked.
    """
    by_digest: dict[str, list[RemoteSegment]] = defaultdict(list)
    for remote in remotes:
        by_digest[listed_fingerprint(remote.name, remote.description)].append(remote)
    waiting: dict[str, list[Segment]] = defaultdict(list)
    alike = _considered(scan).filter(listed_digest__in=by_digest)
    for row in alike.only("listed_digest", "sent_at"):
        waiting[row.listed_digest].append(row)
    if not waiting:
        return 0
    candidates = [remote.id for digest in waiting for remote in by_digest[digest]]
    linked = database.segments().filter(bunce_id__in=candidates).order_by()
    taken = {*linked.values_list("bunce_id", flat=True), *linking.buried(candidates)}
    count = 0
    for digest, rows in waiting.items():
        pairs = sorted(
            (distance, row.pk, remote.id)
            for row in rows
            for remote in by_digest[digest]
            if remote.id not in taken and (distance := _distance(row, remote)) <= NEAR
        )
        by_pk = {row.pk: row for row in rows}
        by_id = {remote.id: remote for remote in by_digest[digest]}
        for _seconds, pk, bunce_id in pairs:
            if pk not in by_pk or bunce_id not in by_id:
                continue
            adoption = _adopt(by_pk[pk], by_id[bunce_id])
            count += adoption == Adoption.DONE
            # Only what prevented this pair is left out of later ones: a row that finds no segment
            # counts as absent, and would be created again.
            if adoption != Adoption.ROW_RESOLVED:
                del by_id[bunce_id]
            if adoption != Adoption.SEGMENT_TAKEN:
                del by_pk[pk]
    return count


def _distance(row: Segment, remote: RemoteSegment) -> timedelta:
    return distance(row.sent_at, remote)


def distance(sent_at: datetime | None, remote: RemoteSegment) -> timedelta:
    """Return the time between attempt and creation; 0 if Bunce does not say when that was."""
    if remote.created_at is None or sent_at is None:
        return timedelta(0)
    return abs(remote.created_at - sent_at)


class Adoption(Enum):
    """The result of trying to link a row to a segment."""

    DONE = auto()
    ROW_RESOLVED = auto()
    SEGMENT_TAKEN = auto()


def _adopt(row: Segment, remote: RemoteSegment) -> Adoption:
    now = DatabaseNow()
    try:
        with database.atomic():
            # Read again and locked: an edit made since then has to be pushed after the adoption.
            current = (
                database.segments()
                .locked()
                .filter(pk=row.pk, status=Status.IN_DOUBT, listed_digest=row.listed_digest)
                .only(*Segment.UPDATE_FIELDS, *("sent_digest", "listed_digest"), *events.WATCHED)
                .first()
            )
            if current is None:
                return Adoption.ROW_RESOLVED
            values = transitions.after_adoption(
                current, remote, environment=conf.environment, now=now
            )
            segments = database.segments()
            segments.filter(pk=row.pk).update_sync_fields(**values)
            events.announce(current, values)
            _doubtful_calls([row.pk]).update(
                decision=Decision.ADOPTED, decided_at=now, bunce_id=remote.id
            )
            # It may be recorded as the second segment of another row; now it is this row's own.
            others = segments.filter(bunce_duplicate_id=remote.id)
            if keys := list(others.values_list("pk", flat=True)):
                segments.filter(pk__in=keys).update_sync_fields(**transitions.without_duplicate())
    except IntegrityError:
        if not database.segments().filter(bunce_id=remote.id).exists():
            raise  # it must not count as absent, or it would be created again
        # Another row took it: its worker recorded the response after the query above.
        return Adoption.SEGMENT_TAKEN
    return Adoption.DONE


def _resolve_absent(scan: Scan) -> None:
    """Send the segments again that Bunce's whole list does not have, or reject them.

    A segment that Bunce refused as a possible duplicate of its own earlier create is rejected for
    good, unless it was edited since: the duplicate is not ours.
    """
    now = DatabaseNow()
    # Rows that other transactions hold stay in doubt until the next scan: waiting for several rows
    # at once could deadlock with an import.
    absent = list(_considered(scan).lock_available().values_list("pk", flat=True))
    if not absent:
        return
    rows = database.segments().filter(pk__in=absent)
    # Bunce reported a failure twice, and both times the list did not contain the segment.
    failed = Q(last_code="says_failed") & Exists(_failed_before(OuterRef("pk")))
    refused = set(
        rows.filter(Q(last_code__in=REFUSED_CONTENT) | failed).values_list("pk", flat=True)
    )
    # Rows that change alike are updated together.
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    changes: dict[tuple[Any, ...], dict[str, Any]] = {}
    # One after the other: together, the descriptions of many rows fill the memory.
    found = rows.only(*Segment.UPDATE_FIELDS, "sent_digest", "attempts", *events.WATCHED)
    for row in found.iterator(chunk_size=CHUNK):
        is_refused = row.pk in refused
        group = (row.content_fingerprint != row.sent_digest, is_refused, row.attempts)
        groups[group].append(row.pk)
        if group not in changes:
            changes[group] = transitions.after_absence(row, refused=is_refused, now=now)
        events.announce(row, changes[group])
    for group, keys in groups.items():
        database.segments().filter(pk__in=keys).update_sync_fields(**changes[group])
    _doubtful_calls(absent).update(decision=Decision.ABSENT, decided_at=now)
    logger.info(
        "%d segments in doubt are not in Bunce",
        len(absent),
        extra=event(LogEvent.SEGMENTS_ABSENT, count=len(absent)),
    )


def _considered(scan: Scan) -> SegmentQuerySet:
    doubtful = database.segments().here().filter(status=Status.IN_DOUBT)
    return doubtful.filter(due_at__lte=scan.started_at)


def _doubtful_calls(segment_ids: Iterable[int]) -> QuerySet[ApiCall]:
    """Return the creates of unknown outcome that are unresolved."""
    return database.calls_here().filter(
        segment_id__in=segment_ids,
        operation=Operation.CREATE,
        outcome__in=UNRESOLVED,
        decision="",
    )


def _failed_before(pk: Any) -> QuerySet[ApiCall]:
    """Return the creates of a row that Bunce called failures and whose segment was not listed."""
    return database.calls().filter(
        segment_id=pk,
        operation=Operation.CREATE,
        code="says_failed",
        decision=Decision.ABSENT,
    )


def _was_disturbed(scan: Scan) -> bool:
    """Return whether an update of ours may have moved a segment to a page that was read before.

    That takes a list of several pages whose order an update can change, such as one by name.
    """
    if scan.pages < 2 or scan.by_creation:
        return False
    # An update with a response took effect up to that response, one without it maybe later.
    answered = Q(started_at__gte=scan.started_at - timedelta(seconds=conf.request_deadline))
    unanswered = Q(
        started_at__gte=scan.started_at - timedelta(seconds=conf.GRACE),
        outcome__in=(*UNRESOLVED, Outcome.UNDER_WAY),
    )
    updates = database.calls_here().filter(operation=Operation.UPDATE)
    return updates.filter(answered | unanswered).exclude(outcome=Outcome.NOT_SENT).exists()


def _is_list_expected() -> bool:
    doubtful = database.segments().here().filter(status=Status.IN_DOUBT)
    return doubtful.exists() or database.import_runs().filter(finished_at=None).exists()


LISTS: Final = OperationRows(
    Operation.LIST,
    condition=Q(status=Status.IN_DOUBT),
    waiting=lambda: database.segments().checkable(),
    is_expected=_is_list_expected,
    requeue=lambda state: 0,  # the rows are still in doubt
)
RECONCILE: Final = Kind(
    name="reconcile",
    label=_("to look up in Bunce's list"),
    workers_needed=workers_needed,
    run=run,
    operations=(LISTS,),
    report="read %s of Bunce's list",
    noun="page",
    count_due=partial(count_waiting, LISTS),
)

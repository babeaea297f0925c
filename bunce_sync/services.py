"""The public functions of the app. The admin and the REST API change segments through them.

The rules about what may be done are here; permissions are the caller's responsibility.
No function makes a request to Bunce: it writes rows, and a worker is woken after the commit.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import Token
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from asgiref.sync import sync_to_async
from celery import Task
from django.db import DatabaseError, connections, transaction
from django.db.models import Q

from bunce_sync import database, transitions
from bunce_sync.choices import Status
from bunce_sync.conf import conf
from bunce_sync.exceptions import BunceSyncError, NotFound
from bunce_sync.fingerprint import LISTED_FIELDS
from bunce_sync.functions import DatabaseNow
from bunce_sync.holding import current_hold
from bunce_sync.models import ImportRun, PushHold, Segment, SegmentQuerySet
from bunce_sync.publisher import publisher
from bunce_sync.sync import importer, linking, shared_state
from bunce_sync.sync.reconcile import RECONCILE
from bunce_sync.sync.refresh import REFRESH as REFRESH_WORK
from bunce_sync.sync.rehome import Rehome, Verdict
from bunce_sync.tasks import push_segment, work

#: Segments that one query changes.
BATCH_SIZE: Final = 500
#: The states in which a segment cannot be deleted: its request is unresolved.
UNDELETABLE: Final = (Status.SENDING, Status.IN_DOUBT)


class SegmentsBusy(BunceSyncError):
    """Segments cannot be deleted, because their requests to Bunce are unresolved.

    Args:
        segments: those segments.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        super().__init__(segments)
        self.segments = segments


class SegmentsChanged(BunceSyncError):
    """Segments were changed since they were read, so the changes were not stored."""


class AlreadySaved(BunceSyncError):
    """The same segments were stored before."""


@dataclass(frozen=True, slots=True)
class SegmentAction:
    """An action that a person can request for segments.

    Attributes:
        name: one word, used in URLs and forms.
        fits: whether the action makes sense for a segment in its current state.
        candidates: the condition for segments it would change, without those already requested.
        run: request the action; takes segments, returns how many rows changed.
    """

    name: str
    fits: Callable[[Segment], bool]
    candidates: Q
    run: Callable[[SegmentQuerySet], int]

    def applies(self, segment: Segment) -> bool:
        """Return whether the action would change a segment, or have it looked for in Bunce."""
        return segment.is_here and self.fits(segment)


def create_segment(**fields: Any) -> Segment:
    """Store a segment, which a worker then creates in Bunce.

    Args:
        fields: the fields named in ``Segment.CREATE_FIELDS``.
    """
    return database.segments().create(**fields)


def create_segments(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Store several segments, with one INSERT where the database returns the keys.

    One message wakes a worker, which then works through all segments that are due.

    Args:
        rows: the fields of each segment, as for ``create_segment``.

    Returns:
        The ids, in the order of ``rows``.
    """
    segments = database.segments()
    with transaction.atomic(using=database.alias()):
        if connections[database.alias()].features.can_return_rows_from_bulk_insert:
            made = segments.bulk_create(Segment(**fields) for fields in rows)
        else:  # MySQL, unlike MariaDB, does not return the keys of an INSERT of many rows
            made = [segments.create(**fields) for fields in rows]
        ids = [segment.pk for segment in made]
        if ids:
            _publish_after_commit(push_segment, ids[0])
    return ids


def save_segments(
    new: Sequence[Segment],
    changed: Sequence[tuple[Segment, Mapping[str, Any]]],
    *,
    once: str = "",
) -> None:
    """Store new segments and changes of others: all of them, or none.

    One message wakes a worker, which then works through all segments that are due. As in other
    bulk operations of Django, the signals of a save are not sent, except for subclasses of the
    model with tables of their own.

    Args:
        new: of one model, not stored yet.
        changed: each with the names of the fields to store, and the values they had when the
            segment was read.
        once: identifies the call; another one with the same text stores nothing.

    Raises:
        SegmentsChanged: one of these fields has another value now, or can no longer change.
        AlreadySaved: ``once`` was used before.
    """
    with transaction.atomic(using=database.alias()):
        if once:
            _use_once(once)
        for start in range(0, len(changed), BATCH_SIZE):
            _lock_unchanged(changed[start : start + BATCH_SIZE])
        if _are_plain([*new, *(segment for segment, _before in changed)]):
            database.segments().bulk_create(new, batch_size=BATCH_SIZE)
            _update(changed)
            if new or changed:
                _publish_after_commit(push_segment)
        else:
            with no_push():  # which wakes workers once, at its end
                for segment in new:
                    segment.save(using=database.alias(), force_insert=True)
                for segment, before in changed:
                    names = [*before, "updated_at"]
                    segment.save(using=database.alias(), update_fields=names)


def _use_once(text: str) -> None:
    digest = hashlib.sha256(text.encode()).hexdigest()
    _key, is_new = database.idempotency_keys().get_or_create(
        digest=digest, defaults={"body_digest": ""}
    )
    if not is_new:
        raise AlreadySaved


def _lock_unchanged(changed: Sequence[tuple[Segment, Mapping[str, Any]]]) -> None:
    """Lock segments.

    Raises:
        SegmentsChanged: they differ from what was read.
    """
    ids = [segment.id for segment, _before in changed]
    names = {name for _segment, before in changed for name in before}
    rows = SegmentQuerySet(type(changed[0][0]), using=database.alias()).filter(id__in=ids)
    rows = rows.only("bunce_id", "status", *names).locked().order_by("id")
    stored = {row.id: row for row in rows}
    for segment, before in changed:
        row = stored.get(segment.id)
        if row is None or _values_of(row, before) != before:
            raise SegmentsChanged
        if row.all_customers_fixed and Segment.CREATE_ONLY_FIELDS & before.keys():
            raise SegmentsChanged


def _values_of(segment: Segment, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of fields by name; of a relation, the key."""
    fields: Any = segment._meta
    return {name: getattr(segment, fields.get_field(name).attname) for name in names}


def _are_plain(segments: Iterable[Segment]) -> bool:
    """Return whether bulk operations can store the segments, and give new ones their keys."""
    returns_keys = connections[database.alias()].features.can_return_rows_from_bulk_insert
    return returns_keys and all(one._meta.concrete_model is Segment for one in segments)


def _update(changed: Sequence[tuple[Segment, Mapping[str, Any]]]) -> None:
    """Store changes, with one query for many segments that change in the same fields."""
    groups: dict[frozenset[str], list[Segment]] = {}
    for segment, before in changed:
        groups.setdefault(frozenset(before), []).append(segment)
    rows = database.segments()
    for names, segments in groups.items():
        rows.bulk_update(segments, sorted(names), batch_size=BATCH_SIZE)


def delete_segments(segments: SegmentQuerySet) -> int:
    """Delete all of these segments, or none. Bunce keeps them: its API cannot delete.

    Returns:
        How many were deleted.

    Raises:
        SegmentsBusy: at least one of them has an unresolved request.
    """
    with transaction.atomic(using=database.alias()):
        # While the rows are locked, no worker can claim them. SQLite locks the whole database.
        keys = list(
            segments.values_list("id", flat=True)
        )  # a subclass may have its own primary key
        rows = list(
            database.segments().filter(pk__in=keys).without_long_fields().locked().order_by("pk")
        )
        if busy := [row for row in rows if not can_delete(row)]:
            raise SegmentsBusy(busy)
        # Use the caller's model, so that rows of a subclass are deleted too.
        segments.model._base_manager.using(database.alias()).filter(id__in=keys).delete()
    return len(rows)


def can_delete(segment: Segment) -> bool:
    """Return whether a segment can be deleted in its current state."""
    return segment.status not in UNDELETABLE


def push_now(segments: SegmentQuerySet) -> int:
    """Make waiting segments due now.

    Returns:
        How many rows changed.
    """
    rows = segments.here().filter(status=Status.PENDING)
    return _mark(rows, transitions.push_requested(now=DatabaseNow()), push_segment)


def retry(segments: SegmentQuerySet) -> int:
    """Make rejected segments pending, and read those again that Bunce did not have.

    Returns:
        How many rows changed.
    """
    keys = list(segments.values_list("id", flat=True))
    rows = database.segments().here().filter(pk__in=keys, status=Status.REJECTED)
    # A read showed that they are gone: there is nothing to send that could show it once more.
    gone = rows.filter(_GONE).only(*Segment.UPDATE_FIELDS, "settled")
    unread = [row.pk for row in gone.iterator(chunk_size=BATCH_SIZE) if not row.unsettled_fields]
    return _mark(
        rows.exclude(pk__in=unread), transitions.requeued(now=DatabaseNow()), push_segment
    ) + refresh(rows.filter(pk__in=unread))


def refresh(segments: SegmentQuerySet) -> int:
    """Request a read of these segments from Bunce.

    For segments in doubt this does not shorten the grace period: Bunce may still be working on
    their create. After it they are looked up in Bunce's list without being requested.

    Returns:
        How many rows changed.
    """
    if segments.filter(status=Status.IN_DOUBT).exists():
        _publish_after_commit(work, RECONCILE.name)
    rows = segments.here().filter(bunce_id__isnull=False)
    return _mark(rows, transitions.refresh_requested(now=DatabaseNow()), work, REFRESH_WORK.name)


def push_ours(segments: SegmentQuerySet) -> int:
    """Replace what Bunce has by the whole content here, for segments that differ there.

    Returns:
        How many rows changed.
    """
    rows = segments.here().filter(_DIFFERENT)
    return _mark(rows, transitions.ours_pushed(now=DatabaseNow()), push_segment)


def take_theirs(segments: SegmentQuerySet) -> int:
    """Replace the content here by what Bunce has, as last read, for segments that differ there.

    The rows are saved one by one, so that the site's receivers and versioning apps notice.

    Args:
        segments: of ``Segment`` or of the site's model that extends it, which is then saved.

    Returns:
        How many rows changed.
    """
    with transaction.atomic(using=database.alias()):
        keys = list(segments.values_list("id", flat=True))
        here = database.segments().here().filter(_DIFFERENT, pk__in=keys)
        locked = list(here.locked().order_by("pk").values_list("pk", flat=True))
        rows = segments.model._base_manager.using(database.alias()).filter(id__in=locked)
        taken = list(rows.order_by("id"))
        for row in taken:
            row.set_stored(**transitions.held_content(row))
            values = transitions.theirs_taken(row)
            # First, so that the save finds nothing to send.
            database.segments().filter(pk=row.id).update_sync_fields(**values)
            row.save(using=database.alias(), update_fields=[*LISTED_FIELDS])
    return len(taken)


def create_again(segments: SegmentQuerySet) -> int:
    """Create segments in Bunce again that it does not have any more.

    Their old ids are given up, and an import leaves them out if they reappear.

    Returns:
        How many rows changed.
    """
    with transaction.atomic(using=database.alias()):
        keys = list(segments.values_list("id", flat=True))
        rows = database.segments().here().filter(_GONE, pk__in=keys).locked().order_by("pk")
        gone = dict(rows.values_list("pk", "bunce_id"))
        ids = {str(bunce_id): None for bunce_id in gone.values()}
        linking.bury(ids, environment=conf.environment)
        linking.release(gone)
        changes = transitions.created_again(now=DatabaseNow())
        return _mark(database.segments().filter(pk__in=[*gone]), changes, push_segment)


# Imports and links


def request_import(
    *, by: str = "", adopt: bool = False, include_deleted: bool = False
) -> ImportRun:
    """Have a worker import all segments of the account; see ``sync.importer``.

    Args:
        by: who asks, to be shown.
        adopt: link segments that wait to be created to segments of the same content in Bunce.
            Until the import ends no segment is created.
        include_deleted: also import segments that were deleted here.

    Returns:
        The import. While one is open, it is that one, and does what is asked for as well.
    """
    with transaction.atomic(using=database.alias()):
        run = importer.request(by=by, adopt=adopt, include_deleted=include_deleted)
        _publish_after_commit(work, importer.IMPORT.name)
    return run


def cancel_import() -> bool:
    """End the open import; what it did stays. Return whether there was one."""
    with transaction.atomic(using=database.alias()):
        ended = database.import_runs().filter(finished_at=None)
        count = ended.update(finished_at=DatabaseNow(), cancelled=True)
        if count:
            _publish_after_commit(push_segment)  # it may have held creates back
    return bool(count)


def adoptable(segments: SegmentQuerySet) -> list[tuple[Segment, Segment]]:
    """Return the waiting segments for which an imported one has the same content.

    Args:
        segments: only these are considered.

    Returns:
        Pairs of a segment that waits to be created and an untouched imported one, each in one pair
        at most.
    """
    keys = list(segments.values_list("id", flat=True))
    rows = linking.waiting().filter(pk__in=keys).order_by("pk")
    pairs = []
    used: set[int] = set()
    for some in _batches(rows.iterator(chunk_size=BATCH_SIZE)):
        imported: dict[str, list[Segment]] = {}
        digests = {row.listed_fingerprint for row in some}
        same = linking.untouched_imports().filter(listed_digest__in=digests)
        for row in same.order_by("pk"):
            if row.is_untouched_import and row.pk not in used:
                imported.setdefault(row.listed_fingerprint, []).append(row)
        for row in some:
            if found := imported.get(row.listed_fingerprint):
                pairs.append((row, found.pop(0)))
                used.add(pairs[-1][1].pk)
    return pairs


def _batches(rows: Iterator[Segment]) -> Iterator[list[Segment]]:
    while some := list(islice(rows, BATCH_SIZE)):
        yield some


def adopt(pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Give the segments of imported rows to waiting rows; the imported rows are deleted.

    Args:
        pairs: the keys of the rows, as from ``adoptable``. Pairs that have changed since, or whose
            imported row other rows refer to, are left alone.

    Returns:
        The keys of the rows that were linked.
    """
    linked = []
    for pk, imported_pk in pairs:
        with transaction.atomic(using=database.alias()):
            if linking.take_over(pk, imported_pk):
                linked.append(pk)
    return linked


# Environments and accounts


def rehome(move: Rehome) -> Iterator[Counter[Verdict]]:
    """Move segments to the current environment or account, and wake workers at the end.

    Args:
        move: which has read the list.

    Yields:
        After each transaction, how many segments were moved in it.
    """
    try:
        yield from move.apply()
    finally:
        publisher.publish(push_segment)


def accept_key() -> None:
    """Accept the API key as one of this site's account, and wake workers."""
    shared_state.read()  # the row must exist
    shared_state.accept_key()
    publisher.publish(push_segment)


# Holds


def pause(*, reason: str, by: str) -> PushHold:
    """Pause all pushes: nothing is created or changed in Bunce until ``resume``; reads go on.

    Requests that are under way are completed. A pause that is in force already gets the new reason.

    Args:
        reason: why, to be shown.
        by: who pauses, to be shown.
    """
    values = {"reason": reason.strip()[:500], "by": by[:255]}
    hold, _created = database.holds().update_or_create(pauses_all=True, defaults=values)
    return hold


def resume() -> bool:
    """End the pause, and wake workers; return whether there was one."""
    with transaction.atomic(using=database.alias()):
        ended = bool(database.holds().filter(pauses_all=True).delete()[0])
        if ended:
            _publish_after_commit(push_segment)
    return ended


class no_push(AbstractContextManager[None], AbstractAsyncContextManager[None]):  # noqa: N801
    """Hold the segments that are saved inside, by any path, until the block ends.

    Use it with ``with``, or with ``async with`` in a coroutine. When the block ends, workers are
    woken once, however many segments there are. Other segments are not affected. A block inside
    another one belongs to that. If the process dies, its segments stay held: ``bunce_status``
    shows them, and ``bunce_resume --hold ID`` releases them.

    Args:
        reason: what the block is for, to be shown.
    """

    def __init__(self, reason: str = "") -> None:
        self._reason = reason
        self._hold: PushHold | None = None
        self._token: Token[int | None] | None = None

    def __enter__(self) -> None:
        if current_hold.get() is None:
            self._begin(self._create())

    def __exit__(self, *exception: object) -> None:
        if (hold := self._end()) is not None:
            _end_block(hold)

    async def __aenter__(self) -> None:
        if current_hold.get() is None:
            self._begin(await sync_to_async(self._create)())

    async def __aexit__(self, *exception: object) -> None:
        if (hold := self._end()) is not None:
            await sync_to_async(_end_block)(hold)

    def _create(self) -> PushHold:
        return database.holds().create(reason=self._reason[:500], by=process_name())

    def _begin(self, hold: PushHold) -> None:
        self._hold, self._token = hold, current_hold.set(hold.pk)

    def _end(self) -> PushHold | None:
        hold, self._hold = self._hold, None
        if self._token is not None:
            current_hold.reset(self._token)
            self._token = None
        return hold


def _end_block(hold: PushHold) -> None:
    """Release what a block holds, as far as its transaction can still write."""
    try:
        # In a transaction that is about to be rolled back the hold goes with it.
        if not database.connection().needs_rollback:
            release_hold(hold.pk)
    except PushHold.DoesNotExist:
        pass  # a person released it meanwhile
    except DatabaseError:
        # PostgreSQL writes nothing in a transaction in which a query failed.
        if not database.connection().in_atomic_block:
            raise


def release_hold(pk: int) -> int:
    """End the hold of a ``no_push()`` block; return how many segments it held.

    Raises:
        PushHold.DoesNotExist: there is no such hold, or it is the pause.
    """
    with transaction.atomic(using=database.alias()):
        hold = database.holds().get(pk=pk, pauses_all=None)
        held = database.segments().filter(hold=hold)
        count = held.update_sync_fields(hold=None)
        hold.delete()
        if count:
            _publish_after_commit(push_segment)
    return count


def process_name() -> str:
    """Return which process this is: user, host and process id."""
    return f"{user_at_host()}, process {os.getpid()}"


def is_running(process: str) -> bool:
    """Return whether a process of this host, as ``process_name`` named it, is still running."""
    where, _separator, number = process.partition(", process ")
    same_host = where.rpartition("@")[2] == socket.gethostname()
    if not (number.isdecimal() and same_host) or os.name == "nt":  # where kill() really kills
        return False
    try:
        os.kill(int(number), 0)
    except PermissionError:  # it is another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


def user_at_host() -> str:
    """Return who runs this process, and on which host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run as a user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


# What callers want to know


def requests_resume_in() -> float | None:
    """Return in how many seconds requests to Bunce resume, or None if they are not paused."""
    state, now = shared_state.read()
    if state.blocked_until is None or state.blocked_until <= now:
        return None
    return (state.blocked_until - now).total_seconds()


def database_time() -> datetime:
    """Return the database's current time, on which all stored timestamps are based."""
    return shared_state.now()


def resolved_in(segment: Segment) -> float | None:
    """Return in how many seconds an unresolved segment is processed next, or None if resolved."""
    until = {
        Status.SENDING: segment.lease_until,
        Status.IN_DOUBT: segment.due_at,
    }.get(Status(segment.status))
    if until is None:
        return None
    return max(0.0, (until - shared_state.read()[1]).total_seconds())


_DIFFERENT: Final = Q(status=Status.SYNCED, last_code__in=Segment.DIFFERING)


#: Segments that Bunce does not have any more.
_GONE: Final = Q(status=Status.REJECTED, last_code=NotFound.code, bunce_id__isnull=False)


def _is_different(segment: Segment) -> bool:
    return segment.status == Status.SYNCED and segment.last_code in Segment.DIFFERING


def _is_gone(segment: Segment) -> bool:
    linked = segment.bunce_id is not None
    return linked and segment.status == Status.REJECTED and segment.last_code == NotFound.code


PUSH: Final = SegmentAction(
    name="push",
    fits=lambda segment: segment.status == Status.PENDING,
    candidates=Q(status=Status.PENDING, due_at__gt=DatabaseNow()),
    run=push_now,
)
PUSH_OURS: Final = SegmentAction(
    name="push_ours", fits=_is_different, candidates=_DIFFERENT, run=push_ours
)
TAKE_THEIRS: Final = SegmentAction(
    name="take_theirs", fits=_is_different, candidates=_DIFFERENT, run=take_theirs
)
CREATE_AGAIN: Final = SegmentAction(
    name="create_again", fits=_is_gone, candidates=_GONE, run=create_again
)
RETRY: Final = SegmentAction(
    name="retry",
    fits=lambda segment: segment.status == Status.REJECTED,
    candidates=Q(status=Status.REJECTED),
    run=retry,
)
REFRESH: Final = SegmentAction(
    name="refresh",
    fits=lambda segment: segment.bunce_id is not None or segment.status == Status.IN_DOUBT,
    candidates=Q(bunce_id__isnull=False, refresh_requested_at__isnull=True),
    run=refresh,
)
ACTIONS: Final = (PUSH, RETRY, REFRESH, PUSH_OURS, TAKE_THEIRS, CREATE_AGAIN)


def _mark(
    rows: SegmentQuerySet, changes: Mapping[str, Any], task: Task[Any, Any], *args: Any
) -> int:
    rows = rows.using(database.alias())
    with transaction.atomic(using=database.alias()):
        # In one order: two people who select the same rows would otherwise block each other.
        keys = list(rows.locked().order_by("pk").values_list("pk", flat=True))
        count = rows.filter(pk__in=keys).update_sync_fields(**changes) if keys else 0
        if count:
            _publish_after_commit(task, *(args or [keys[0]]))
    return count


def _publish_after_commit(task: Task[Any, Any], *args: Any) -> None:
    transaction.on_commit(
        lambda: publisher.publish(task, *args), using=database.alias(), robust=True
    )

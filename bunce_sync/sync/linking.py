"""Links between rows and segments that Bunce has already, outside of pushes and reconciliation.

Each function changes a row only if it is still as expected when it is locked. Most of them leave
a row alone that another transaction holds.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import Exists, OuterRef, ProtectedError, Q, QuerySet, RestrictedError
from django.db.models.deletion import Collector

from bunce_sync import database, transitions
from bunce_sync.choices import UNRESOLVED, Decision, Operation, Outcome, Status
from bunce_sync.client import RemoteSegment
from bunce_sync.conf import conf
from bunce_sync.fingerprint import LISTED_FIELDS
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import ApiCall, Segment, SegmentQuerySet, Tombstone
from bunce_sync.results import REFUSED_CONTENT
from bunce_sync.sync import events

logger = logging.getLogger(__name__)

#: The columns with Bunce's own values, which a row takes over together with the segment.
BUNCE_FIELDS: Final = (
    *("bunce_id", "bunce_name", "bunce_description", "bunce_type", "bunce_all_customers"),
    *("bunce_conditions", "bunce_customers_count", "bunce_created_at", "bunce_updated_at"),
)
#: Rows whose fingerprints are written with one transaction.
BATCH: Final = 500


def waiting() -> SegmentQuerySet:
    """Return rows that wait to be created and of which no create ever reached Bunce.

    Among them are those that Bunce refused, perhaps because it has such a segment already. Creates
    of a segment that the row gave up on purpose do not count.
    """
    rows = database.segments().here()
    refused = Q(status=Status.REJECTED, last_code__in=REFUSED_CONTENT)
    rows = rows.filter(Q(status=Status.PENDING) | refused, bunce_id=None)
    return rows.filter(~Exists(creates_that_may_have_arrived(OuterRef("pk"))))


def creates_that_may_have_arrived(pk: Any) -> QuerySet[ApiCall]:
    """Return creates with this key that may have reached Bunce, and were not given up since."""
    arrived = (Outcome.CONFIRMED, Outcome.DUPLICATE, Outcome.UNDER_WAY, *UNRESOLVED)
    calls = database.calls_here().filter(segment_id=pk, operation=Operation.CREATE)
    return calls.filter(outcome__in=arrived).exclude(decision=Decision.RELEASED)


def untouched_imports() -> SegmentQuerySet:
    """Return imported rows whose content is what Bunce has, and that were never sent.

    A row may have been edited all the same; see ``Segment.is_untouched_import``.
    """
    rows = database.segments().here().filter(imported_at__isnull=False, sent_at=None)
    return rows.filter(status=Status.SYNCED, last_code="")


def fingerprint_waiting() -> None:
    """Write the fingerprint of each waiting row, by which ``find_waiting`` finds it.

    Other rows get it when they are claimed. Call it outside of transactions.
    """
    rows = waiting().order_by("pk").only(*LISTED_FIELDS, "listed_digest")
    last = 0
    while some := list(rows.filter(pk__gt=last)[:BATCH]):
        last = some[-1].pk
        changed = [row for row in some if row.listed_digest != row.listed_fingerprint]
        with database.atomic():
            free = database.segments().filter(pk__in=[row.pk for row in changed])
            locked = {*free.lock_available().values_list("pk", flat=True)} if changed else set()
            writable = [row for row in changed if row.pk in locked]
            for row in writable:
                row.listed_digest = row.listed_fingerprint
            database.segments().write_sync_fields(writable, ["listed_digest"], seen=False)


def find_waiting(digests: Collection[str]) -> dict[str, list[int]]:
    """Return the keys of waiting rows by their fingerprints, oldest first.

    Args:
        digests: fingerprints to look for, of segments in Bunce.
    """
    found: dict[str, list[int]] = {}
    if digests:
        rows = waiting().filter(listed_digest__in=digests).order_by("pk")
        for pk, digest in rows.values_list("pk", "listed_digest"):
            found.setdefault(digest, []).append(pk)
    return found


def link_waiting(pk: int, fingerprint: str, values: Mapping[str, Any]) -> bool:
    """Link a waiting row to a segment in Bunce; return whether it still waited.

    Call it in a transaction.

    Args:
        fingerprint: the row is linked only if this is still its content.
        values: of the ``BUNCE_FIELDS``.
    """
    fields = (*Segment.CREATE_FIELDS, "status", "last_code", "settled")
    row = waiting().filter(pk=pk).lock_available().only(*fields).first()
    if row is None or row.listed_fingerprint != fingerprint:
        return False
    changes = transitions.linked(row, values, environment=conf.environment, now=DatabaseNow())
    database.segments().filter(pk=pk).update_sync_fields(**changes)
    events.announce(row, changes)
    return True


def link_late(call: ApiCall, remote: RemoteSegment) -> bool:
    """Link the row of a create of unknown outcome to its segment, which was found after all.

    The row was judged absent, and waits to be created again or needs attention.

    Returns:
        Whether the row was linked; not if it is in doubt, being sent, or linked already.
    """
    try:
        with transaction.atomic(using=database.alias()):
            rows = database.segments().filter(pk=call.segment_id or 0, bunce_id=None)
            rows = rows.filter(status__in=(Status.PENDING, Status.REJECTED)).lock_available()
            row = rows.only(*Segment.CREATE_FIELDS, "status", "last_code", "settled").first()
            if row is None:
                return False
            values = transitions.after_late_find(
                row, remote, call.body or {}, environment=call.environment, now=DatabaseNow()
            )
            database.segments().filter(pk=row.pk).update_sync_fields(**values)
            database.calls().filter(pk=call.pk).update(
                decision=Decision.ADOPTED, decided_at=DatabaseNow(), bunce_id=remote.id
            )
            events.announce(row, values)
    except IntegrityError:
        if not database.segments().filter(bunce_id=remote.id).exists():
            raise
        return False  # a push has recorded it meanwhile
    return True


def take_over(pk: int, imported_pk: int) -> bool:
    """Give the segment of an untouched imported row to a waiting row with the same content.

    The imported row is deleted, unless other rows of the site refer to it. Call it in a
    transaction.

    Returns:
        Whether that was done.
    """
    both = database.segments().filter(pk__in=(pk, imported_pk)).lock_available()
    locked = {row.pk: row for row in both}
    imported = locked.get(imported_pk)
    if pk not in locked or imported is None:
        return False
    if not imported.is_untouched_import or imported.last_code:
        return False  # edited here or in Bunce
    values = {name: getattr(imported, name) for name in BUNCE_FIELDS}
    fingerprint = imported.listed_fingerprint
    if locked[pk].listed_fingerprint != fingerprint or not waiting().filter(pk=pk).exists():
        return False
    return _delete_unreferenced(imported) and link_waiting(pk, fingerprint, values)


def give_way(bunce_id: str, *, to: int) -> bool:
    """Take a segment from an imported row, because Bunce confirmed that another row created it.

    That happens when Bunce stores another content than was sent, so that the import could not
    recognize the segment. The imported row is deleted if it was never touched, else it needs
    attention; an update of it that is under way changes nothing here. Call it in a transaction.

    Args:
        to: the key of the row that created the segment.

    Returns:
        Whether the segment is free now.
    """
    rows = database.segments().locked().filter(bunce_id=bunce_id, imported_at__isnull=False)
    row = rows.exclude(pk=to).first()
    if row is None:
        return False
    if not (row.is_untouched_import and _delete_unreferenced(row)):
        values = transitions.given_way(bunce_id)
        database.segments().filter(pk=row.pk).update_sync_fields(**values)
        events.announce(row, values)
    return True


def bury(ids: Mapping[str, int | None], *, environment: str) -> None:
    """Note that segments in Bunce have no row here on purpose, so that no import makes one.

    Args:
        ids: the row by Bunce's id; None for one that is deleted.
    """
    # Not an upsert: MariaDB and MySQL cannot name the constraint.
    database.tombstones().filter(bunce_id__in=[*ids], environment=environment).delete()
    database.tombstones().bulk_create(
        [
            Tombstone(environment=environment, bunce_id=bunce_id, segment_id=pk)
            for bunce_id, pk in ids.items()
        ],
        ignore_conflicts=True,
    )


def buried(ids: Iterable[str]) -> dict[str, int | None]:
    """Return those of the segments in Bunce that have no row here on purpose, as for ``bury``."""
    found = database.tombstones().filter(
        bunce_id__in=[*ids], environment__in=("", conf.environment)
    )
    return dict(found.values_list("bunce_id", "segment_id"))


def release(keys: Iterable[int]) -> None:
    """Note that rows give up their segments here. Call it in the transaction that does so.

    Otherwise the next push would find the ids in the call log and restore them, or the response to
    an update that is still under way would.
    """
    unfinished = Q(operation=Operation.UPDATE, outcome__in=(Outcome.UNDER_WAY, *UNRESOLVED))
    calls = database.calls_here().filter(
        Q(operation=Operation.CREATE) | unfinished, segment_id__in=[*keys]
    )
    calls.exclude(decision=Decision.RELEASED).update(
        decision=Decision.RELEASED, decided_at=DatabaseNow()
    )


def _delete_unreferenced(row: Segment) -> bool:
    """Delete a row, without a tombstone; return False if other rows refer to it."""
    using = database.alias()
    collector = Collector(using=using, origin=row)
    try:
        collector.collect([row])
    except (ProtectedError, RestrictedError):
        return False
    others = sum(len(found) for found in collector.data.values()) - 1
    others += sum(len(found) for found in collector.field_updates.values())
    others += sum(found.exists() for found in collector.fast_deletes)
    if others:
        return False
    row.given_away = True
    try:
        with transaction.atomic(using=using):
            row.delete(using=using)
    except (OperationalError, InterfaceError):
        raise  # not about this row: the page is read again
    except Exception as error:
        # A receiver of the site, or a foreign key that the database checks. It must not stop an
        # import, which would come to the same row again.
        logger.exception(
            "Segment %s could not be deleted to give way to another row",
            row.pk,
            extra=event(LogEvent.INTERNAL_ERROR, segment_id=row.pk, error=type(error).__name__),
        )
        return False
    return True

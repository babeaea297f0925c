"""Services of imports, links and environments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from django.db import transaction

from bunce_sync import database
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ImportRun, Segment, SegmentQuerySet
from bunce_sync.publisher import publisher
from bunce_sync.services.publishing import publish_after_commit
from bunce_sync.services.segments import BATCH_SIZE
from bunce_sync.sync import importer, linking, shared_state
from bunce_sync.sync.rehome import Rehome, Verdict
from bunce_sync.tasks import push_segment, work


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
        publish_after_commit(work, importer.IMPORT.name)
    return run


def cancel_import() -> bool:
    """End the open import; what it did stays. Return whether there was one."""
    with transaction.atomic(using=database.alias()):
        ended = database.import_runs().filter(finished_at=None)
        count = ended.update(finished_at=DatabaseNow(), cancelled=True)
        if count:
            publish_after_commit(push_segment)  # it may have held creates back
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

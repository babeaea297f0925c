"""Audiences: the comparison of their querysets with the members of their segments.

A comparison makes no request. It writes which members are wanted; ``customers`` sends them. It
runs as a whole, in bounded memory, and begins again if its process dies: what it wrote by then is
right, and removals come last.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.db import IntegrityError
from django.db.models import Max, Q
from django.utils.translation import gettext_lazy as _

from bunce_sync import audiences, clocks, database, signals
from bunce_sync.audiences import Audience
from bunce_sync.customer_entries import CustomerEntry
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import CustomerSync, MemberQuerySet
from bunce_sync.models.customer_sync import ensure_queues
from bunce_sync.models.forgotten import forgotten_among
from bunce_sync.models.member_queryset import BATCH
from bunce_sync.sync import customers, events, shared_state
from bunce_sync.sync.budget import Budget, Kind, Progress

logger = logging.getLogger(__name__)

#: Seconds after which another worker may begin a comparison again that shows no progress, and
#: how often a running one shows it.
LEASE: Final = 300.0
HEARTBEAT: Final = 20.0
#: Over how many seconds removals are added up.
BRAKE_SECONDS: Final = 86_400.0
#: Seconds after which a comparison is repeated that failed.
RETRY: Final = 300.0
#: Examples of members that ``plan`` shows, and that are kept of held removals.
EXAMPLES: Final = 5
HELD_EXAMPLES: Final = 10
#: Members of which so many are new change what PostgreSQL has to know about them.
MANY: Final = 10_000
#: Keys in one block of a ``KeySet``.
_BLOCK_BITS: Final = 16


class KeySet:
    """A set of primary keys that takes about one bit for each of them, if they are dense."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}
        self._count = 0

    def add(self, key: int) -> bool:
        """Add a key; return whether it is new."""
        block = self._blocks.get(key >> _BLOCK_BITS)
        if block is None:
            block = self._blocks[key >> _BLOCK_BITS] = bytearray(1 << (_BLOCK_BITS - 3))
        rest = key & ((1 << _BLOCK_BITS) - 1)
        bit = 1 << (rest & 7)
        if block[rest >> 3] & bit:
            return False
        block[rest >> 3] |= bit
        self._count += 1
        return True

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        block = self._blocks.get(key >> _BLOCK_BITS)
        rest = key & ((1 << _BLOCK_BITS) - 1)
        return block is not None and bool(block[rest >> 3] & (1 << (rest & 7)))


@dataclass(slots=True)
class Difference:
    """What a comparison found.

    Attributes:
        counts: of members to ``add``, to update (``change``) and to ``remove``, those that are
            ``unchanged``, and rows and customers that were left out: ``unusable``, ``suppressed``,
            ``forgotten``.
        examples: some identifiers of each of the first three.
        held: the removals are too many, or all of the members.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(
        default_factory=lambda: {"add": [], "change": [], "remove": []}
    )
    held: bool = False


class AudienceFailed(Exception):
    """The code of an audience raised an exception, which is the cause."""


class RunLost(Exception):
    """Another process has begun the comparison again."""


def ensure(audience: Audience) -> CustomerSync:
    """Return the sync of an audience's segment; both are created at first.

    The segment gets the name and the description of the class.
    """
    key = audience.get_key()
    content = {"name": str(audience.name), "description": str(audience.description) or None}
    syncs = database.customer_syncs().select_related("segment")
    sync = syncs.filter(key=key).first()
    if sync is None:
        try:
            with database.atomic():
                segment = database.segments().create(**content)
                database.customer_syncs().create(segment_id=segment.pk, key=key)
                ensure_queues(segment.pk, using=database.alias())
        except IntegrityError:
            pass  # another process was quicker
        sync = syncs.get(key=key)
    segment = sync.segment
    if changed := [name for name, value in content.items() if getattr(segment, name) != value]:
        for name in changed:
            setattr(segment, name, content[name])
        segment.save(using=database.alias(), update_fields=changed)
    return sync


def run(budget: Budget) -> Progress:
    """Compare the audiences that are due, until the budget is used up.

    A comparison that has begun is completed.
    """
    compared = 0
    for audience in due_audiences():
        if budget.out_of_time:
            return Progress(compared, more=True)
        with suppress(AudienceFailed):  # logged and stored by ``compare``
            compared += compare(audience) is not None
    return Progress(compared)


def due_audiences() -> list[Audience]:
    """Return the audiences whose querysets are to be compared now."""
    everyone = audiences.all_audiences()
    if not everyone:
        return []
    now = shared_state.now()
    free = Q(run_lease_until=None) | Q(run_lease_until__lte=DatabaseNow())
    syncs = {sync.key: sync for sync in database.customer_syncs().exclude(key=None).filter(free)}
    known = {*database.customer_syncs().exclude(key=None).values_list("key", flat=True)}
    due = []
    for audience in everyone:
        key = audience.get_key()
        sync = syncs.get(key)
        if key not in known:
            due += [audience] if audience.interval is not None else []
        elif sync and (
            sync.run_requested_at is not None
            # One that failed is repeated, even one that was only asked for.
            or (
                (audience.interval is not None or sync.run_error)
                and (not sync.next_run_at or sync.next_run_at <= now)
            )
        ):
            due.append(audience)
    return due


def compare(
    audience: Audience, *, progress: Callable[[Counter[str]], None] | None = None
) -> Difference | None:
    """Compare the queryset of an audience with its members, and write which are wanted.

    Args:
        progress: called now and then with the counts so far; an exception in it ends the
            comparison.

    Returns:
        What was found; None if another process is comparing.

    Raises:
        AudienceFailed: the queryset, or other code of the audience, failed; nothing was removed.
    """
    sync = ensure(audience)
    comparison = _Comparison(audience, sync, progress)
    if not comparison.take_lease():
        return None
    try:
        difference = comparison.run()
    except RunLost:
        return None
    except AudienceFailed as failed:
        cause = failed.__cause__
        # Without its text and traceback, which may quote customers. ``bunce_audiences`` shows them.
        logger.error(
            "Audience %s could not be compared: %s",
            audience.get_key(),
            type(cause).__name__,
            extra=event(
                LogEvent.AUDIENCE_FAILED, audience=audience.get_key(), error=type(cause).__name__
            ),
        )
        comparison.end(failed=type(cause).__name__)
        raise
    except BaseException:
        comparison.release()
        raise
    comparison.end(difference)
    return difference


def plan(
    audience: Audience, *, progress: Callable[[Counter[str]], None] | None = None
) -> Difference:
    """Return what a comparison would find now, without writing anything.

    Args:
        progress: as for ``compare``.

    Raises:
        AudienceFailed: the queryset, or other code of the audience, failed.
    """
    sync = database.customer_syncs().filter(key=audience.get_key()).first()
    return _Comparison(audience, sync, progress).look()


@dataclass(slots=True)
class _Found:
    """Customers of the queryset, looked up among the members.

    Attributes:
        unchanged: how many are members as they should be.
        differing: those that are members with something else, or were not wanted.
        missing: those that are no members.
    """

    unchanged: int = 0
    differing: list[CustomerEntry] = field(default_factory=list)
    missing: list[CustomerEntry] = field(default_factory=list)


class _Comparison:
    """One comparison of an audience."""

    def __init__(
        self,
        audience: Audience,
        sync: CustomerSync | None,
        progress: Callable[[Counter[str]], None] | None,
    ) -> None:
        self.audience = audience
        self.sync = sync
        self.difference = Difference()
        self.seen = KeySet()
        self.token = uuid.uuid4()
        self._progress = progress
        self._writes = False
        self.last_pk = self._members().aggregate(last=Max("pk"))["last"] or 0
        self._shown_at = clocks.monotonic()

    # The lease

    def take_lease(self) -> bool:
        free = Q(run_lease_until=None) | Q(run_lease_until__lte=DatabaseNow())
        syncs = database.customer_syncs().filter(free, key=self.audience.get_key())
        return bool(
            syncs.update(
                run_token=self.token,
                run_lease_until=DatabaseNow() + timedelta(seconds=LEASE),
                run_requested_at=None,
            )
        )

    def show_progress(self, *, now: bool = False) -> None:
        """Extend the lease, from time to time.

        Raises:
            RunLost: it ended, and another process has it.
        """
        if not now and clocks.monotonic() < self._shown_at + HEARTBEAT:
            return
        self._shown_at = clocks.monotonic()
        until = DatabaseNow() + timedelta(seconds=LEASE)
        if not self._mine().update(run_lease_until=until):
            raise RunLost

    def release(self) -> None:
        self._mine().update(run_token=None, run_lease_until=None, run_requested_at=DatabaseNow())

    def _mine(self) -> Any:
        return database.customer_syncs().filter(key=self.audience.get_key(), run_token=self.token)

    # Comparing

    def run(self) -> Difference:
        """Write which members are wanted."""
        if self.sync is None:
            raise RunLost
        self._writes = True
        counts = self.difference.counts
        members, segment_id = database.members(), self.sync.pk
        for entries in self._wanted():
            found = self._see(entries)
            counts["unchanged"] += found.unchanged
            if found.missing:
                members.insert_missing(segment_id, found.missing)
                counts["add"] += len(found.missing)
            if found.differing:
                done = members.want(segment_id, found.differing)
                counts["change"] += done["changed"]
            self.show_progress()
        self.show_progress(now=True)
        if counts["add"] >= MANY:
            members.update_statistics()
        self._remove()
        self.difference.counts = +counts
        return self.difference

    def look(self) -> Difference:
        """Count what ``run`` would write."""
        counts, examples = self.difference.counts, self.difference.examples
        added: set[str] = set()
        for entries in self._wanted():
            found = self._see(entries)
            counts["unchanged"] += found.unchanged
            counts["change"] += len(found.differing)
            new = [one.identifier for one in found.missing if one.identifier not in added]
            added.update(new)
            counts["add"] += len(new)
            for kind, some in (
                ("add", new),
                ("change", [entry.identifier for entry in found.differing]),
            ):
                examples[kind] += some[: EXAMPLES - len(examples[kind])]
        for unseen in self._unseen():
            counts["remove"] += len(unseen)
            room = EXAMPLES - len(examples["remove"])
            examples["remove"] += [identifier for _pk, identifier in unseen[:room]]
        self.difference.held = self._exceeds(counts["remove"])
        self.difference.counts = +counts
        return self.difference

    def _wanted(self) -> Iterator[dict[str, CustomerEntry]]:
        """Yield the customers of the queryset, without those who were forgotten."""
        counts = self.difference.counts
        parts = self.audience.read(counts)
        while True:
            try:
                entries = next(parts, None)
            except Exception as error:
                raise AudienceFailed from error
            if entries is None:
                return
            for identifier in forgotten_among([*entries], using=database.alias()):
                del entries[identifier]
                counts["forgotten"] += 1
            if entries:
                yield entries
            if self._progress is not None:
                self._progress(counts)

    def _see(self, entries: dict[str, CustomerEntry]) -> _Found:
        """Look customers up among the members, and note which members are in the queryset."""
        found = _Found()
        known: set[str] = set()
        identifiers = sorted(entries)
        for start in range(0, len(identifiers), BATCH):
            some = self._members().filter(identifier__in=identifiers[start : start + BATCH])
            fields = ("pk", "identifier", "wanted", "profile_digest", "is_email")
            for pk, identifier, wanted, digest, is_email in some.values_list(*fields):
                known.add(identifier)
                entry = entries[identifier]
                same = wanted and digest == entry.digest and is_email == entry.is_email
                # Not those that this comparison inserted: a customer may occur repeatedly.
                is_new = pk <= self.last_pk and self.seen.add(pk)
                if not same:
                    found.differing.append(entry)
                elif is_new:
                    found.unchanged += 1
        found.missing = [entries[one] for one in identifiers if one not in known]
        return found

    def _unseen(self) -> Iterator[list[tuple[int, str]]]:
        """Yield the members that are wanted and not in the queryset, some at a time."""
        members = self._members().filter(pk__lte=self.last_pk)
        # All that were seen are wanted by now, except by ``look``, which wrote nothing.
        if members.filter(wanted=True).count() == len(self.seen) and self._writes:
            return
        last = ""
        while True:
            rows = members.filter(identifier__gt=last).order_by("identifier")
            some = list(rows.values_list("pk", "identifier", "wanted")[:BATCH])
            if not some:
                return
            last = some[-1][1]
            unseen = [(pk, one) for pk, one, wanted in some if wanted and pk not in self.seen]
            if unseen:
                yield unseen

    def _members(self) -> MemberQuerySet:
        if self.sync is None:
            return database.members().none()
        return database.members().filter(segment_id=self.sync.pk)

    def _remove(self) -> None:
        """Remove the members that are not in the queryset, unless they are too many."""
        number, examples = 0, list[int]()
        for some in self._unseen():
            number += len(some)
            examples += [pk for pk, _identifier in some[: HELD_EXAMPLES - len(examples)]]
        sync = self._mine().get()
        confirmed = sync.confirmed_removals is not None and number <= sync.confirmed_removals
        if self._exceeds(number) and not confirmed:
            self.difference.held = True
            self._hold(sync, number, examples)
            return
        if number:
            # Noted first: killed in between, the brake counts too many rather than too few.
            self._note_removals(number)
            for some in self._unseen():
                self.show_progress()
                with database.atomic():
                    members = database.members().filter(pk__in=[pk for pk, _identifier in some])
                    self.difference.counts["remove"] += members.unwant_all()
        if sync.held_at is not None or sync.confirmed_removals is not None:
            self._mine().update(held_at=None, held_examples=[], confirmed_removals=None)

    # The brake

    def _exceeds(self, number: int) -> bool:
        """Return whether so many removals need the consent of a person."""
        if self.sync is None or not number:
            return False
        counts = self.difference.counts
        remaining = counts["unchanged"] + counts["change"]
        if not remaining and not counts["add"]:
            return True  # an empty queryset is rather a mistake
        recent = sum(count for _at, count in self._recent())
        total = recent + number
        before = remaining + total
        audience = self.audience
        return total > audience.max_removals and total > audience.max_removal_share * before

    def _recent(self) -> list[list[float]]:
        now = shared_state.now().timestamp()
        removals = database.customer_syncs().values_list("removals", flat=True)
        return [
            one for one in removals.get(key=self.audience.get_key()) if one[0] > now - BRAKE_SECONDS
        ]

    def _note_removals(self, number: int) -> None:
        removals = self._recent()
        removals.append([shared_state.now().timestamp(), number])
        self._mine().update(removals=removals)

    def _hold(self, sync: CustomerSync, number: int, examples: list[int]) -> None:
        counts = self.difference.counts
        remaining = counts["unchanged"] + counts["change"]
        self._mine().update(
            held_at=sync.held_at or DatabaseNow(),
            held_removals=number,
            held_members=remaining + number,
            held_examples=examples,
            held_empty=not remaining and not counts["add"],
            confirmed_removals=None,
        )
        if sync.held_at is None:
            logger.warning(
                "Audience %s is held: %d of %d members would be removed",
                *(sync.key, number, remaining + number),
                extra=event(
                    LogEvent.AUDIENCE_HELD,
                    audience=sync.key,
                    segment_id=sync.pk,
                    count=number,
                    total=remaining + number,
                ),
            )
            with database.atomic():
                events.send_after_commit(signals.removals_held, sync.pk)

    # The end

    def end(self, difference: Difference | None = None, *, failed: str = "") -> None:
        """Write what was found, release the lease and schedule the next comparison."""
        interval = self.audience.interval
        wait = interval
        if failed and (interval is None or interval.total_seconds() > RETRY):
            wait = timedelta(seconds=RETRY)
        with database.atomic():
            if not self._mine().update(
                run_token=None,
                run_lease_until=None,
                last_run_at=DatabaseNow(),
                next_run_at=None if wait is None else DatabaseNow() + wait,
                run_error=failed[:200],
                **({"counts": dict(difference.counts)} if difference else {}),
            ):
                return
            if difference is not None and self.sync is not None:
                customers.note_if_all_sent(self.sync.pk)


def workers_needed(permits: int) -> int:
    """Return 1 if an audience is due; each is compared by one worker."""
    return int(bool(due_audiences()))


AUDIENCES: Final = Kind(
    name="audiences",
    label=_("audiences to compare"),
    workers_needed=workers_needed,
    run=run,
    operations=(),
    report="compared %s",
    noun="audience",
    count_due=lambda: len(due_audiences()),
)

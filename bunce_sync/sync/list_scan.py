"""The resumable walk over Bunce's list, page by page, apart from what is done with a page.

Its progress is written after each page, so it survives a kill at any point, and a lease keeps
several processes from scanning at once. A ``PageHandler`` says what the pages are for and which
row keeps the progress: reconciliation and each import have a walk of their own.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, Self, get_args

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.expressions import CombinedExpression

from bunce_sync import database
from bunce_sync.choices import Operation
from bunce_sync.client import Page, Position, RemoteSegment, RequestRecord
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.results import REFUSED_CONTENT, Result
from bunce_sync.sync import account, circuit_breaker, shared_state
from bunce_sync.sync.attempt import Attempt, client
from bunce_sync.sync.budget import Budget, Progress, attempt_each
from bunce_sync.sync.circuit_breaker import OperationPaused, OperationRows

logger = logging.getLogger(__name__)

#: A scan that made no progress for longer starts over: the list has changed too much since.
STALE = timedelta(hours=1)
#: Rows of a page at least, when Bunce refuses the configured size.
SMALLEST_PAGE = 10
#: Seconds of the lease beyond one request, for the wait for its slot.
LEASE_MARGIN = 10.0
FIRST_PAGE = Position()

#: How the times of creation changed from one segment to the next so far.
Order = Literal["unknown", "falling", "rising", "none"]


@dataclass(frozen=True, slots=True)
class Scan:
    """How far a scan is, and what it shows of the list's order.

    Attributes:
        started_at: the database's time; rows that were ready by then are considered.
        kept_at: when the progress was last written.
        environment: ``conf.environment``; a position in one list means nothing in another.
        position: the page to read next.
        pages: pages read so far.
        order: of the times of creation; ``none`` once they went both ways, one was missing, or the
            same segment came twice in a row, so that rows have moved.
        last_created: the creation time of the last segment read.
        last_id: its id.
    """

    started_at: datetime
    kept_at: datetime
    environment: str
    position: Position = FIRST_PAGE
    pages: int = 0
    order: Order = "unknown"
    last_created: datetime | None = None
    last_id: str = ""

    @property
    def by_creation(self) -> bool:
        """Whether all that was read came in the order of creation, which no update changes."""
        return self.order in ("falling", "rising")

    def after(self, page: Page) -> Scan:
        """Return the scan with one page more."""
        order, last, last_id = self.order, self.last_created, self.last_id
        for segment in page.segments:
            created = segment.created_at
            if created is None or segment.id == last_id:
                order = "none"
            elif last is not None and created != last:
                step: Order = "rising" if created > last else "falling"
                order = step if order in ("unknown", step) else "none"
            last, last_id = created or last, segment.id
        return replace(
            self,
            position=page.next or self.position,
            pages=self.pages + 1,
            order=order,
            last_created=last,
            last_id=last_id,
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object to store, for ``from_json``."""
        return {
            "started_at": self.started_at.isoformat(),
            "kept_at": self.kept_at.isoformat(),
            "environment": self.environment,
            "position": self.position.to_json(),
            "pages": self.pages,
            "order": self.order,
            "last_created": self.last_created and self.last_created.isoformat(),
            "last_id": self.last_id,
        }

    @classmethod
    def from_json(cls, value: Any) -> Self | None:
        """Return the scan that was kept; None when another release kept it in its own way."""
        try:
            last = value["last_created"]
            scan = cls(
                started_at=datetime.fromisoformat(value["started_at"]),
                kept_at=datetime.fromisoformat(value["kept_at"]),
                environment=value["environment"],
                position=Position.from_json(value["position"]),
                pages=value["pages"],
                order=value["order"],
                last_created=datetime.fromisoformat(last) if last else None,
                last_id=value["last_id"],
            )
        except (KeyError, TypeError, ValueError):
            return None
        return scan if scan.order in get_args(Order) else None


class PageHandler(Protocol):
    """What is done with the pages of a scan."""

    @property
    def rows(self) -> OperationRows:
        """The segments the scan is for."""

    @property
    def store(self) -> QuerySet[Any]:
        """The row that keeps the progress and the lease, which has the three ``scan`` fields."""

    @property
    def is_atomic(self) -> bool:
        """Whether a page is used and the progress written in one transaction."""

    def is_wanted(self) -> bool:
        """Return whether a new scan is to begin."""

    def on_page(self, segments: Sequence[RemoteSegment], scan: Scan, *, asked_at: datetime) -> None:
        """Use one page; repeating a page does no harm.

        Args:
            scan: the progress before the page.
            asked_at: the database's time before the page was requested.
        """

    def may_stop(self, scan: Scan) -> bool:
        """Return whether nothing that may be on later pages is needed.

        Called after ``on_page``, in the same transaction if the handler is atomic.
        """

    def must_restart(self, scan: Scan) -> bool:
        """Return whether a segment may have moved between pages, so that the end proves nothing."""

    def on_end(self, scan: Scan) -> None:
        """Handle the end of the scan. Runs in the transaction that ends it."""


class ListPage(Attempt[Page]):
    """One page of Bunce's list."""

    # One worker scans, and pushes would crowd it out.
    must_wait = True

    def __init__(self, position: Position, rows: OperationRows, *, any_key: bool = False) -> None:
        self.rows = rows
        self.position = position
        self.any_key = any_key
        super().__init__(f"/segments?page={position.page}&per_page={position.per_page}")

    def send(self, record: RequestRecord) -> Page:
        return client().list_page(self.position, record=record)


class Reading:
    """A walk over the whole list by one process, which keeps no progress for others.

    For commands that only look: a preview of an import, or what belongs to which account.

    Args:
        rows: the segments it is for.
        any_key: read even with a key that may belong to another account.

    Attributes:
        scan: how far it is.
        ended: whether the whole list was read.
    """

    def __init__(self, rows: OperationRows, *, any_key: bool = False) -> None:
        self.rows = rows
        self.any_key = any_key
        self.ended = False
        now = shared_state.now()
        self.scan = Scan(
            started_at=now,
            kept_at=now,
            environment=conf.environment,
            position=Position(per_page=shared_state.page_size()),
        )

    def read_page(self, budget: Budget) -> tuple[Sequence[RemoteSegment], datetime] | None:
        """Read the next page.

        Returns:
            Its segments, and the database's time before it was requested; None if it could not be
            read, so that the next call tries it again.

        Raises:
            ConfigurationError, NoPermit: no request was made.
        """
        attempt = ListPage(self.scan.position, self.rows, any_key=self.any_key)
        result = attempt.run(budget)
        if attempt.value is None or result is None or not result.succeeded:
            smaller = result and _with_smaller_pages(self.scan, result)
            if smaller:
                circuit_breaker.forget(Operation.LIST)
                self.scan = smaller
            return None
        _remember_page_size(self.scan)
        self.scan = self.scan.after(attempt.value)
        self.ended = attempt.value.next is None
        return attempt.value.segments, attempt.call.started_at


class Walk:
    """One process's lease on the scan.

    Attributes:
        scan: its progress; None when there is nothing to scan or another process has the lease.
    """

    def __init__(self, handler: PageHandler) -> None:
        self.handler = handler
        self.token = uuid.uuid4()
        self.scan: Scan | None = None
        self._rest = 0.0

    def begin(self) -> None:
        """Take the lease, and resume the scan or begin one."""
        free = Q(scan_lease_until__isnull=True) | Q(scan_lease_until__lte=DatabaseNow())
        free_store = self.handler.store.filter(free)
        if not free_store.update(scan_token=self.token, scan_lease_until=_lease_end()):
            return
        now = shared_state.now()  # not before: the last holder of the lease may have gone on
        kept = self._mine().values_list("scan", flat=True).get()
        scan = Scan.from_json(kept) if kept else None
        first = Position(per_page=shared_state.page_size())
        if (
            scan
            and timedelta(0) <= now - scan.kept_at < STALE
            # A position is counted in pages of this size, in the list of this environment.
            and (scan.position.per_page, scan.environment) == (first.per_page, conf.environment)
        ):
            self.scan = scan
        elif self.handler.is_wanted():
            self.scan = Scan(
                started_at=now, kept_at=now, environment=conf.environment, position=first
            )
        else:
            self._mine().update(scan=None)

    def read_page(self, budget: Budget) -> bool:
        """Read and use one page; ``scan`` is None once there is no further page to read.

        Returns:
            Whether a page was read.

        Raises:
            NoPermit: no request may be made now.
        """
        if self.scan is None:
            return False
        attempt = ListPage(self.scan.position, self.handler.rows)
        try:
            result = attempt.run(budget)
        except OperationPaused:
            self.scan = None
            return False
        if attempt.value is None or result is None or not result.succeeded:
            self._after_failure(result)
            return False
        self.use_page(attempt.value, asked_at=attempt.call.started_at)
        return True

    def use_page(self, page: Page, *, asked_at: datetime) -> None:
        """Hand a page to the handler, and write the progress; or end or restart the scan.

        Args:
            asked_at: the database's time before the page was requested.
        """
        if self.scan is None:
            return
        _remember_page_size(self.scan)
        if self.handler.is_atomic:
            with database.atomic():
                self._use_page(self.scan, page, asked_at)
        else:
            self._use_page(self.scan, page, asked_at)

    def _use_page(self, scan: Scan, page: Page, asked_at: datetime) -> None:
        self.handler.on_page(page.segments, scan, asked_at=asked_at)
        scan = self.scan = scan.after(page)
        if self.handler.may_stop(scan):
            self._end(scan)
        elif page.next is None:
            if self.handler.must_restart(scan):
                self._restart()
            else:
                self._end(scan)
        elif not self._keep(scan, asked_at):
            self.scan = None  # the lease ended, and another process has it
            if self.handler.is_atomic:
                transaction.set_rollback(True, using=database.alias())

    def release(self) -> None:
        """Give the lease back."""
        rest = DatabaseNow() + timedelta(seconds=self._rest) if self._rest else None
        self._mine().update(scan_token=None, scan_lease_until=rest)

    def _keep(self, scan: Scan, asked_at: datetime) -> bool:
        """Write the progress; return False if another process has the lease."""
        self.scan = replace(scan, kept_at=asked_at)
        kept = self._mine().update(scan=self.scan.to_json(), scan_lease_until=_lease_end())
        return bool(kept)

    def _end(self, scan: Scan) -> None:
        self.scan = None
        with nullcontext() if self.handler.is_atomic else database.atomic():
            self.handler.on_end(scan)
            # Segments first, the shared row last, as in a push: the other order could deadlock.
            if not self._mine().update(scan=None):
                transaction.set_rollback(True, using=database.alias())

    def _restart(self) -> None:
        """Start over after a while."""
        logger.info(
            "Bunce's list changed its order while it was read; it will be read once more",
            extra=event(LogEvent.LIST_CHANGED),
        )
        self._mine().update(scan=None)
        self.scan, self._rest = None, conf.GRACE

    def _after_failure(self, result: Result | None) -> None:
        """Try smaller pages, or stop; the circuit breaker decides when the list is read again."""
        scan = self.scan
        if scan is None or result is None:
            self.scan = None
            return
        smaller = _with_smaller_pages(scan, result)
        if smaller is not None:
            circuit_breaker.forget(Operation.LIST)
        elif result.may_concern_operation(Operation.LIST):
            logger.warning(
                "Bunce's list of segments cannot be used: %s",
                result.code,
                extra=event(
                    LogEvent.LIST_UNUSABLE, code=result.code, http_status=result.http_status
                ),
            )
            self._mine().update(scan=None)
        self.scan = smaller

    def _mine(self) -> QuerySet[Any]:
        return self.handler.store.filter(scan_token=self.token)


def run(handler: PageHandler, budget: Budget) -> Progress:
    """Continue the scan, or begin one, until it ends or the budget is used up.

    Returns:
        How many pages were read, as requests.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    if not account.is_known(budget):
        return Progress()
    walk = Walk(handler)
    walk.begin()
    try:
        pages, stop = attempt_each(
            iter(lambda: walk.scan, None), lambda _: walk.read_page(budget), budget
        )
    finally:
        walk.release()
    return Progress(pages, more=stop is not None and stop.more)


def is_under_way() -> bool:
    """Return whether a scan has begun and not ended."""
    return database.sync_state().filter(scan__isnull=False).exists()


def _lease_end() -> CombinedExpression:
    return DatabaseNow() + timedelta(seconds=conf.request_deadline + LEASE_MARGIN)


def _with_smaller_pages(scan: Scan, result: Result) -> Scan | None:
    """Return the scan from its beginning with pages of half the size, if this size was refused.

    That shows at the first page; a later refusal has another reason. Pages do not become so small
    that a few hidden segments could make two of them empty.
    """
    size = scan.position.per_page
    smaller = max(SMALLEST_PAGE, size // 2)
    if result.code not in REFUSED_CONTENT or scan.pages or smaller >= size:
        return None
    logger.info(
        "Bunce refused a list of %d segments a page; trying %d",
        size,
        smaller,
        extra=event(LogEvent.LIST_PAGE_LOWERED, count=smaller),
    )
    return Scan(
        started_at=scan.started_at,
        kept_at=scan.kept_at,
        environment=scan.environment,
        position=Position(per_page=smaller),
    )


def _remember_page_size(scan: Scan) -> None:
    """Store the size of a page that Bunce accepted, if it refuses the configured one."""
    size = scan.position.per_page
    if scan.pages == 0 and size < conf.PAGE_SIZE:
        database.sync_state().update(list_page={"size": size})

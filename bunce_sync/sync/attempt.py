"""The life cycle of one request to Bunce: reserve, perform, record.

Every request is an ``Attempt``. No transaction is open while a request is: ``reserve`` and
``record`` are two short transactions, and the request is made between them.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from django.db import InterfaceError, InternalError, OperationalError

from bunce_sync import database, tracing
from bunce_sync.choices import Outcome, Reason
from bunce_sync.client import BunceClient, RequestRecord, shared_client
from bunce_sync.conf import conf
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import ApiCall
from bunce_sync.results import PERMIT_EXPIRED, Result, result_of
from bunce_sync.sync import circuit_breaker, clock, rate_limiter, shared_state
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.circuit_breaker import OperationRows
from bunce_sync.sync.rate_limiter import NoPermit, Permit

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The length of ``ApiCall.path``; an id of 255 unusual characters is longer once it is quoted.
PATH_LENGTH = 300
#: Seconds before each further attempt to record a result: the server may restart, or a transaction
#: of the site may hold the row for longer than the site's lock timeout.
RECORD_PAUSES = (0.0, 1.0, 5.0)


class Attempt(ABC, Generic[T]):
    """One request and its bookkeeping. Subclasses say what is requested and what it changes.

    Attributes:
        rows: the operation, and the segments for which it is made.
        path: below Bunce's base address, for the call log.
        segment_id: the segment the request is about, if it is about one.
        body: what is sent; it contains no key.
        value: what the client returned, after a successful ``perform``.
        call, permit, is_probe: set by ``reserve``.
    """

    rows: OperationRows
    #: Whether the result says something about its operation as a whole.
    reports_operation: bool = True
    #: Whether it only examines: with a key or an address of this process alone, a failure must not
    #: pause the requests of the workers.
    examines: bool = False
    #: Whether it may be made with a key that is not known to belong to the account of this site.
    any_key: bool = False
    #: Queue for a slot even if enough others are waiting.
    must_wait: bool = False
    #: Leave half of the window to creates and updates of segments.
    gives_way: bool = False

    #: See ``RECORD_PAUSES``, which is the default.
    record_pauses: Sequence[float] | None = None

    #: Of a create, see ``ApiCall.listed_digest``.
    listed_digest: str = ""
    call: ApiCall
    permit: Permit
    is_probe: bool = False
    value: T | None = None

    def __init__(
        self,
        path: str,
        *,
        segment_id: int | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.segment_id = segment_id
        self.body = body

    def run(self, budget: Budget) -> Result | None:
        """Reserve, perform and record.

        Returns:
            The result; None if the lease was not available.

        Raises:
            ConfigurationError, NoPermit: no request was made.
        """
        result = None
        for _ in range(2):
            if not self.reserve(budget):
                break
            result = self.record(self.perform(budget))
            if result.code != PERMIT_EXPIRED:
                break
            # Connecting outlasted the permit. The connection is open now, so try again at once.
        if result is not None:
            budget.outcomes[result.outcome] += 1
        return result

    def reserve(self, budget: Budget) -> bool:
        """Transaction 1: take the lease and a permit, and write the call log row.

        Returns:
            False if the lease was not available.

        Raises:
            ConfigurationError, NoPermit: nothing was written.
        """
        client()  # fail on an unusable setting before anything is leased
        try:
            with database.atomic():
                if not self.lease():
                    return False
                self.is_probe = self.admit()
                self.permit = rate_limiter.take_permit(
                    self.rows.operation,
                    max_wait=budget.wait_left,
                    must_wait=self.must_wait,
                    any_key=self.any_key or self.examines,
                    gives_way=self.gives_way,
                )
                self.call = database.calls().create(
                    segment_id=self.segment_id,
                    operation=self.rows.operation,
                    path=self.path[:PATH_LENGTH],
                    body=self.body,
                    listed_digest=self.listed_digest,
                    started_at=self.permit.slot,
                )
        except clock.ClockJumped as jumped:
            clock.recover_from_clock_jump(jumped, window=rate_limiter.counted_window())
            raise NoPermit(0.0, Reason.CLOCK) from jumped
        return True

    def perform(self, budget: Budget) -> Result:
        """Wait for the slot and make the request. Every error becomes a result."""
        if self.permit.wait:
            budget.wait(self.permit.wait)
            if shared_state.is_paused() or self.is_held():
                return Result(Outcome.NOT_SENT, code=PERMIT_EXPIRED)
        with tracing.request_span(
            self.rows.operation, base_url=conf.base_url, segment_id=self.segment_id
        ) as span:
            result = self._request()
            span.note(result)
        return result

    def _request(self) -> Result:
        record = self.permit.record
        try:
            self.value = self.send(record)
        except Exception as error:
            result = result_of(error, sent=record.sent, operation=self.rows.operation)
            if result.code == "internal":
                logger.exception(
                    "Request %s %s failed by an internal error",
                    record,
                    self.path,
                    extra=event(
                        LogEvent.INTERNAL_ERROR,
                        operation=self.rows.operation.value,
                        segment_id=self.segment_id,
                        error=type(error).__name__,
                    ),
                )
            return result
        return self.confirmed(self.value)

    def record(self, result: Result) -> Result:
        """Transaction 2: write the result to the call log, the rows, the limiter and breakers.

        Recording late, after the lease ended, or twice does no harm.

        Returns:
            The result as recorded.
        """
        for pause in RECORD_PAUSES if self.record_pauses is None else self.record_pauses:
            try:
                result = self._record(result)
                break
            except (OperationalError, InterfaceError, InternalError):
                # The connection broke, perhaps at the commit, or a lock was not available, or the
                # server ended the session of a process that was frozen (InternalError). Bunce's
                # response is known only here, so try again on a new connection; if that keeps
                # failing, the lease ends and the sweep repairs.
                logger.warning(
                    "Recording the result of %s again, on a new connection",
                    self.path,
                    extra=event(
                        LogEvent.RECORDED_AGAIN,
                        operation=self.rows.operation.value,
                        segment_id=self.segment_id,
                    ),
                )
                database.connection().close()
                time.sleep(pause)
        else:
            result = self._record(result)
        self._log(result)
        if result.shared:
            circuit_breaker.requeue_refused(self.rows)
        return result

    def _log(self, result: Result) -> None:
        operation, duration = self.rows.operation, self.permit.record.duration
        # Without Bunce's message, which may quote the content.
        logger.log(
            logging.DEBUG if result.succeeded else logging.INFO,
            "%s %s: %s",
            operation.label,
            self.path,
            result.code or result.outcome.label,
            extra=event(
                LogEvent.RESULT,
                operation=operation.value,
                segment_id=self.segment_id,
                outcome=result.outcome.value,
                code=result.code,
                http_status=result.http_status,
                duration_ms=None if duration is None else round(duration * 1000),
            ),
        )

    def _record(self, result: Result) -> Result:
        with database.atomic():
            result = self.prepare(result)
            if self.reports_operation:
                shared = circuit_breaker.report_operation(
                    result, self.call, self.permit, is_probe=self.is_probe
                )
                result = replace(result, shared=shared)
            result = self.save(result)
            duration = self.permit.record.duration
            database.calls().filter(pk=self.call.pk).update(
                outcome=result.outcome,
                code=result.code,
                message=result.detail,
                http_status=result.http_status,
                duration_ms=None if duration is None else round(duration * 1000),
                bunce_id=result.segment.id if result.segment else "",
            )
            if self.examines and not self.concerns_the_sync(result):
                if self.permit.is_probe:
                    shared_state.end_probe()
                return result
            rate_limiter.report(self.permit, result)
            circuit_breaker.report_outage(self.permit, result, segment_id=self.segment_id)
        return result

    # What subclasses define

    def concerns_the_sync(self, result: Result) -> bool:
        """Return whether a result of a request that ``examines`` begins or ends a pause."""
        return result.succeeded or result.outcome == Outcome.RATE_LIMITED

    def lease(self) -> bool:
        """Take the lease on what the request is for; return whether it was available.

        Runs in transaction 1.
        """
        return True

    def admit(self) -> bool:
        """Return whether the request is the probe of its paused operation.

        Runs in transaction 1.

        Raises:
            OperationPaused: the operation is paused, and this request may not probe.
        """
        if not self.reports_operation:
            return False
        return circuit_breaker.admit(self.rows, segment_id=self.segment_id)

    def is_held(self) -> bool:
        """Return whether the request must not be made after the wait for its slot."""
        return False

    @abstractmethod
    def send(self, record: RequestRecord) -> T:
        """Make the request with the shared client and return what it returns."""

    def confirmed(self, value: T) -> Result:
        """Return the result of a success."""
        return Result(Outcome.CONFIRMED, http_status=self.permit.record.http_status)

    def prepare(self, result: Result) -> Result:
        """Lock the rows the result concerns; return the result, changed if they say so.

        Runs first in transaction 2.
        """
        return result

    def save(self, result: Result) -> Result:
        """Write the rows the result concerns; return the result as it is to be logged.

        Runs in transaction 2.
        """
        return result


def client() -> BunceClient:
    """Return this process's client for the site's settings.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used, even one that is only
            needed after the request.
    """
    conf.check()
    return shared_client(
        base_url=conf.base_url,
        api_key=conf.API_KEY,
        connect_timeout=conf.CONNECT_TIMEOUT,
        read_timeout=conf.READ_TIMEOUT,
    )

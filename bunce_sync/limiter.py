"""The rate limit of Bunce, for other requests that this site makes to Bunce.

Bunce counts all requests of an IP address together. Code that sends events or messages to Bunce
itself takes a permit for each request, so that it and the sync keep the one limit::

    from bunce_sync import limiter

    with limiter.permit(wait=10) as permit:
        response = requests.post("https://api.bunce.so/v1/…", timeout=20)
        permit.report(response)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from django.db import Error as AnyDatabaseError

from bunce_sync import clocks
from bunce_sync.choices import Operation, Outcome
from bunce_sync.client import RequestRecord
from bunce_sync.client.redaction import one_line
from bunce_sync.client.responses import parse_retry_after
from bunce_sync.conf import conf
from bunce_sync.log_events import LogEvent, event
from bunce_sync.results import PERMIT_EXPIRED, Result
from bunce_sync.sync import circuit_breaker, push, rate_limiter, shared_state
from bunce_sync.sync.attempt import PATH_LENGTH, Attempt
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.rate_limiter import NoPermit

logger = logging.getLogger(__name__)

__all__ = ["NoPermit", "Permit", "Response", "permit"]


class Response(Protocol):
    """What a permit reads of a response; those of requests and httpx have it."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; their names in any case."""


class Permit:
    """The right to send one request to Bunce within a second."""

    def __init__(self) -> None:
        self.result = Result(Outcome.UNKNOWN, code="not_reported")

    @property
    def is_reported(self) -> bool:
        """Whether ``report`` was called."""
        return self.result.code != "not_reported"

    def report(self, response: Response) -> None:
        """Report Bunce's response: after a 429 all requests pause, also those of the sync."""
        if self.result.outcome == Outcome.RATE_LIMITED:
            return  # whatever came after it
        status = _status(response)
        if status in (425, 429):
            self.result = Result(
                Outcome.RATE_LIMITED,
                code="rate_limited",
                http_status=status,
                retry_after=parse_retry_after(_headers(response)),
            )
        elif 200 <= status < 300:
            self.result = Result(Outcome.CONFIRMED, http_status=status)
        elif 400 <= status < 500:
            self.result = Result(Outcome.REJECTED, code="rejected", http_status=status)
        else:
            code = "server_error" if status >= 500 else "unexpected_status"
            self.result = Result(Outcome.UNKNOWN, code=code, http_status=status or None)


def _status(response: Any) -> int:
    """Return the status of a response; 0 if it has none. A mistake here must not lose a 429."""
    try:
        return int(response.status_code)
    except (AttributeError, TypeError, ValueError):
        return 0


def _headers(response: Any) -> dict[str, str]:
    """Return the headers that matter, whatever the case of their names and the type of values."""
    headers = getattr(response, "headers", None)
    if not isinstance(headers, Mapping):
        return {}
    known = {"retry-after": "Retry-After", "date": "Date"}
    found = {str(name).lower(): str(value) for name, value in headers.items()}
    return {title: found[name] for name, title in known.items() if name in found}


class _SiteRequest(Attempt[None]):
    """A request that code of the site makes; the sync only gives the permit and records it."""

    reports_operation = False
    #: It may have another key, and be about something else than segments.
    examines = True
    must_wait = True
    #: A request of the site's visitors may wait for it.
    record_pauses = (0.0,)

    def __init__(self, label: str) -> None:
        self.rows = circuit_breaker.no_rows(Operation.SITE)
        super().__init__(one_line(str(label), PATH_LENGTH))

    def lease(self) -> bool:
        self.gives_way = conf.RATE_LIMIT is not None and push.is_any_due()
        return True

    def concerns_the_sync(self, result: Result) -> bool:
        return result.outcome == Outcome.RATE_LIMITED

    def send(self, record: RequestRecord) -> None:
        raise NotImplementedError  # the site's code makes the request


@contextmanager
def permit(*, wait: float = 0.0, label: str = "") -> Iterator[Permit]:
    """Wait for a permit, and count the request that the block makes.

    Make exactly one request in the block, at once, without a retry of its own. While segments wait
    to be sent, these requests, reads and customers use at most half of the limit together.

    Args:
        wait: seconds to wait for a permit at most.
        label: what is requested, for the call log: no key and no customer.

    Raises:
        NoPermit: none within ``wait``; its attribute ``wait`` has the seconds after which it is
            worth trying again.
        ConfigurationError: the key is missing or a setting cannot be used.
        RuntimeError: a transaction is open. It would keep every other request waiting.
    """
    request = _SiteRequest(label)
    ends = clocks.monotonic() + wait
    while not _reserve(request, ends):
        pass
    granted = Permit()
    began = clocks.monotonic()
    try:
        yield granted
    except BaseException as error:
        response = getattr(error, "response", None)
        if not granted.is_reported and response is not None:
            granted.report(response)  # as after raise_for_status() of requests or httpx
        if not granted.is_reported:
            detail = type(error).__name__
            granted.result = Result(Outcome.UNKNOWN, code="not_reported", detail=detail)
        raise
    finally:
        request.permit.record.duration = clocks.monotonic() - began
        _record(request, granted.result)


def _reserve(request: _SiteRequest, ends: float) -> bool:
    """Reserve the request and wait for its slot; return False to try again.

    Raises:
        NoPermit: none until ``ends``, by the clock of the process.
    """
    left = max(0.0, ends - clocks.monotonic())
    # A slot is at most this far away; what is further is asked for again.
    budget = Budget(left, wait_seconds=min(left, rate_limiter.LONGEST_SPACING))
    try:
        request.reserve(budget)
    except NoPermit as denied:
        if denied.wait > left or budget.out_of_time:
            raise
        time.sleep(min(denied.wait, left))
        return False
    may_begin = False
    try:
        budget.wait(request.permit.wait)
        may_begin = not shared_state.is_paused() and not request.permit.record.too_late
    finally:
        if not may_begin:  # also when interrupted, or no other request could probe
            _record(request, Result(Outcome.NOT_SENT, code=PERMIT_EXPIRED))
    return may_begin


def _record(request: _SiteRequest, result: Result) -> None:
    """Record a result; log a failure. Raised, it would make the site repeat its request."""
    try:
        request.record(result)
    except AnyDatabaseError as error:
        logger.exception(
            "A request of the site could not be recorded; it counts as under way for a while",
            extra=event(LogEvent.INTERNAL_ERROR, operation="site", error=type(error).__name__),
        )

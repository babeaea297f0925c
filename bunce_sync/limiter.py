"""The rate limit of Bunce, for other requests that this site makes to Bunce.

Bunce counts all requests of an IP address together. Code that sends events or messages to Bunce
itself takes a permit for each request, so that it and the sync keep the one limit::

    from bunce_sync import limiter

    with limiter.permit(wait=10) as permit:
        response = requests.post("https://api.bunce.so/v1/…", timeout=20)
        permit.report(response)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from bunce_sync import clocks
from bunce_sync.choices import Operation, Outcome
from bunce_sync.client import RequestRecord
from bunce_sync.client.responses import parse_retry_after
from bunce_sync.conf import conf
from bunce_sync.results import PERMIT_EXPIRED, Result
from bunce_sync.sync import circuit_breaker, push, rate_limiter, shared_state
from bunce_sync.sync.attempt import Attempt
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.rate_limiter import NoPermit

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

    def report(self, response: Response) -> None:
        """Report Bunce's response: after a 429 all requests pause, also those of the sync."""
        status = response.status_code
        if status in (425, 429):
            retry_after = parse_retry_after(response.headers)
            self.result = Result(
                Outcome.RATE_LIMITED,
                code="rate_limited",
                http_status=status,
                retry_after=retry_after,
            )
        elif status >= 500:
            self.result = Result(Outcome.UNKNOWN, code="server_error", http_status=status)
        elif status >= 400:
            self.result = Result(Outcome.REJECTED, code="rejected", http_status=status)
        else:
            self.result = Result(Outcome.CONFIRMED, http_status=status)


class _SiteRequest(Attempt[None]):
    """A request that code of the site makes; the sync only gives the permit and records it."""

    reports_operation = False
    #: It may be about something else than segments: only a 429 concerns the requests of the sync.
    examines = True
    must_wait = True

    def __init__(self, label: str) -> None:
        self.rows = circuit_breaker.no_rows(Operation.SITE)
        super().__init__(label)

    def lease(self) -> bool:
        self.gives_way = conf.RATE_LIMIT is not None and push.is_any_due()
        return True

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
        if granted.result.code == "not_reported":
            granted.result = Result(
                Outcome.UNKNOWN, code="not_reported", detail=type(error).__name__
            )
        raise
    finally:
        request.permit.record.duration = clocks.monotonic() - began
        request.record(granted.result)


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
    budget.wait(request.permit.wait)
    if shared_state.is_paused():
        request.record(Result(Outcome.NOT_SENT, code=PERMIT_EXPIRED))
        return False
    return True

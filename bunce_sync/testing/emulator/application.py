"""The emulated service without its network: authentication, faults and logging."""

from __future__ import annotations

import asyncio
import json
import math
import random
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Condition, RLock
from types import EllipsisType
from typing import Any, Self

from .api import PREFIX, SegmentsApi
from .clock import monotonic
from .clock import now as current_time
from .fault_responses import LIMIT_MESSAGE, FaultPlan, response_after, response_instead
from .http import Delivery, HttpError, Request, Response, Router, Routes
from .options import FAULTS_BEFORE, SCRIPT_METHODS, Faults, Options
from .rate_limiter import RateLimiter
from .store import CustomerTotals, Store, StoredCustomer, StoredSegment

KEPT_REQUESTS = 20_000
_POLL_SECONDS = 0.05  # how often ``wait_for`` repeats a predicate without a new request


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One API request as the server received it; it never holds the key.

    Args:
        at: the arrival on the monotonic clock, in seconds.
        time: the arrival, aware, in UTC.
        status: the status of the response; None if none was sent.
        fault: the fault that was injected, if any.
        raw_body: the bytes of the body.
    """

    at: float
    time: datetime
    method: str
    path: str
    query: str
    status: int | None
    fault: str | None
    client: str
    user_agent: str
    raw_body: bytes

    @property
    def body(self) -> dict[str, object] | None:
        """The body, or None if it is not a JSON object."""
        try:
            value = json.loads(self.raw_body)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


class Application:
    """Bunce's behaviour and data. All methods are thread-safe; lists are snapshots.

    Args:
        options: how Bunce behaves.
        faults: what fails.
        seed: for the random choice of faults and for shuffled lists.
    """

    def __init__(self, options: Options, faults: Faults, seed: int = 0) -> None:
        self._changed = Condition(RLock())
        self._initial = (options, faults, seed)
        self._generation = 0
        self._changes = 0
        self._clear()

    def _clear(self) -> None:
        with self._changed:
            self._options, faults, seed = self._initial
            self._plan = FaultPlan(faults, seed)
            self._store = Store()
            self._callbacks: dict[str, deque[Callable[[], object] | None]] = {
                name: deque() for name in SCRIPT_METHODS
            }
            self._limiter = RateLimiter()
            self._requests: deque[LoggedRequest] = deque(maxlen=KEPT_REQUESTS)
            self._served = 0
            self._pending_writes = 0
            self._generation += 1
            api = SegmentsApi(self._store, lambda: self._options, random.Random(seed))
            self._router = Router({**api.routes(), **self._own_routes()})
            self._announce()

    def _own_routes(self) -> Routes:
        """Return the handlers of the pages that are not part of Bunce's API."""
        return {}

    # Data and figures

    @property
    def segments(self) -> list[StoredSegment]:
        """All segments, in the order in which they were stored."""
        with self._changed:
            return list(self._store.segments.values())

    def segment(self, segment_id: str) -> StoredSegment:
        """Return one segment.

        Raises:
            KeyError: there is no such segment.
        """
        with self._changed:
            return self._store.segments[segment_id]

    @property
    def customers(self) -> list[StoredCustomer]:
        """All customers, in the order in which they were stored."""
        with self._changed:
            return list(self._store.customers.values())

    @property
    def customer_count(self) -> int:
        """The number of customers."""
        return len(self._store.customers)

    def newest(self, count: int) -> list[StoredSegment]:
        """Return the segments created last, newest first."""
        with self._changed:
            return self._store.newest(count)

    def members(self, segment_id: str) -> list[StoredCustomer]:
        """Return the customers in a segment, in the order in which they were added to it.

        Raises:
            KeyError: there is no such segment.
        """
        with self._changed:
            return self._store.members(segment_id)

    def newest_members(self, segment_id: str, count: int) -> list[StoredCustomer]:
        """Return the customers added to a segment last, newest first.

        Raises:
            KeyError: there is no such segment.
        """
        with self._changed:
            return self._store.newest_members(segment_id, count)

    def member_ids(self, segment_id: str) -> set[str]:
        """Return who is in a segment: the customer_id of each, or the email without one.

        Raises:
            KeyError: there is no such segment.
        """
        with self._changed:
            return self._store.member_ids(segment_id)

    def customer_totals(self, segment_id: str) -> CustomerTotals:
        """Return the numbers of requests for a segment's customers, and of entries in them.

        Raises:
            KeyError: there is no such segment.
        """
        with self._changed:
            return self._store.customer_totals[segment_id]

    @property
    def duplicates(self) -> list[list[StoredSegment]]:
        """The groups of segments with the same content, each oldest first."""
        with self._changed:
            return self._store.duplicates()

    @property
    def duplicate_count(self) -> int:
        """The number of surplus segments: all but the first of each content."""
        return self._store.duplicate_count

    @property
    def requests(self) -> list[LoggedRequest]:
        """The API requests, oldest first; the last 20,000 of them."""
        with self._changed:
            return list(self._requests)

    def customer_requests(
        self, segment_id: str | None = None, method: str | None = None
    ) -> list[LoggedRequest]:
        """Return the requests that add or remove customers, from ``requests``.

        Args:
            segment_id: of one segment; of all if it is None.
            method: ``POST`` for those that add, ``DELETE`` for those that remove; both if it is
                None.
        """
        methods = ("POST", "DELETE") if method is None else (method,)
        ending = "/customers" if segment_id is None else f"/{segment_id}/customers"
        return [
            request
            for request in self.requests
            if request.method in methods and request.path.rstrip("/").endswith(ending)
        ]

    @property
    def served(self) -> int:
        """The number of API requests, whatever their outcome."""
        return self._served

    @property
    def limited(self) -> int:
        """The number of requests refused by the rate limit."""
        return self._limiter.limited

    @property
    def blocked(self) -> dict[str, int]:
        """The addresses that are blocked now, with the remaining seconds."""
        with self._changed:
            return self._limiter.blocked()

    def recent(self, seconds: float = 60.0) -> int:
        """Return the number of counted requests in the last ``seconds``."""
        with self._changed:
            return self._limiter.recent(seconds)

    def worst_window(self, seconds: float = 60.0) -> int:
        """Return the highest number of counted requests from one address in any ``seconds``.

        All requests with an accepted key count, from their arrival, including those that the
        limit refused.
        """
        with self._changed:
            return self._limiter.worst_window(seconds)

    @property
    def pending_writes(self) -> int:
        """The number of ``late_store`` calls that are not carried out yet."""
        return self._pending_writes

    @property
    def injected(self) -> Counter[str]:
        """How often each fault of the current plan was injected."""
        with self._changed:
            return self._plan.injected.copy()

    @property
    def scripted(self) -> int:
        """The number of script entries left, of all methods together."""
        with self._changed:
            return self._plan.scripted

    @property
    def options(self) -> Options:
        """The current options."""
        return self._options

    @property
    def faults(self) -> Faults:
        """The current faults."""
        return self._plan.faults

    @property
    def seed(self) -> int:
        """The seed of the current faults."""
        return self._plan.seed

    def wait_for(self, predicate: Callable[[Self], object], timeout: float = 10.0) -> None:
        """Wait until a predicate is true; it is called after every request, and regularly.

        Args:
            predicate: called with this emulator; it may make requests.
            timeout: in seconds.

        Raises:
            TimeoutError: it did not become true in time.
        """
        deadline = monotonic() + timeout
        while True:
            seen = self._changes
            if predicate(self):
                return
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"not true within {timeout:g} s: {len(self.segments)} segments, "
                    f"{self.served} requests, the last: {self.requests[-3:]}"
                )
            with self._changed:
                self._changed.wait_for(lambda: self._changes != seen, min(left, _POLL_SECONDS))  # noqa: B023

    # Changes

    def add_segment(
        self,
        name: str,
        description: str | None = None,
        *,
        type: str | None = None,  # noqa: A002 - Bunce's field name
        all_customers: bool = False,
        created_at: datetime | None = None,
        id: str | None = None,  # noqa: A002 - Bunce's field name
    ) -> StoredSegment:
        """Store a segment as a person would in Bunce's dashboard; any text is accepted.

        Args:
            type: ``automatic``, ``manual`` or any other text; if it is None, it depends on
                ``all_customers``.
            created_at: an aware datetime; now if it is None.
            id: a UUID, for example of a segment that was removed or that another emulator has;
                a new one if it is None.

        Raises:
            ValueError: ``created_at`` has no time zone, or ``id`` is not a UUID or is in use.
        """
        if created_at is not None and created_at.tzinfo is None:
            raise ValueError("created_at must be aware")
        if id is not None:
            id = str(uuid.UUID(id))  # noqa: A001 - Bunce's field name
        with self._changed:
            if id in self._store.segments:
                raise ValueError(f"id {id} is in use")
            segment = self._store.add_segment(
                name,
                description,
                type=type,
                all_customers=all_customers,
                created_at=created_at,
                segment_id=id,
            )
            self._announce()
        return segment

    def add_segments(
        self, count: int, name: str = "Segment {n}", description: str | None = None
    ) -> list[StoredSegment]:
        """Store many segments at once, created one second apart, the last one now.

        A hundred thousand take about a second.

        Args:
            name: ``{n}`` in it becomes the number of the segment, from 1.

        Raises:
            ValueError: ``count`` is negative.
        """
        if count < 0:
            raise ValueError("the number of segments must not be negative")
        names = [name.replace("{n}", str(number)) for number in range(1, count + 1)]
        with self._changed:
            segments = self._store.add_segments(names, description)
            self._announce()
        return segments

    def change_segment(
        self,
        segment_id: str,
        *,
        name: str | EllipsisType = ...,
        description: str | EllipsisType | None = ...,
    ) -> StoredSegment:
        """Change a segment as a person would in Bunce's dashboard; any text is accepted.

        Args:
            name, description: what is not given stays as it is.

        Raises:
            KeyError: there is no such segment.
        """
        given = {"name": name, "description": description}
        changes = {
            field: text for field, text in given.items() if not isinstance(text, EllipsisType)
        }
        with self._changed:
            segment = self._store.update_segment(segment_id, changes)
            self._announce()
        return segment

    def remove_segment(self, segment_id: str) -> StoredSegment:
        """Remove a segment, which Bunce's API cannot do, and return it; its customers stay.

        Raises:
            KeyError: there is no such segment.
        """
        with self._changed:
            segment = self._store.remove_segment(segment_id)
            self._announce()
        return segment

    def add_members(self, segment_id: str, identifiers: Iterable[str]) -> None:
        """Add customers to a segment as a person would in Bunce's dashboard.

        Args:
            identifiers: the customer_id or email of each. Those that Bunce does not have are
                created; an ``@`` makes it an email.

        Raises:
            KeyError: there is no such segment.
        """
        with self._changed:
            self._store.add_members(segment_id, identifiers)
            self._announce()

    def remove_members(self, segment_id: str, identifiers: Iterable[str]) -> None:
        """Remove customers from a segment as a person would in Bunce's dashboard.

        Args:
            identifiers: the customer_id or email of each; unknown ones are ignored.

        Raises:
            KeyError: there is no such segment.
        """
        with self._changed:
            self._store.remove_customers(segment_id, identifiers)
            self._announce()

    def set_faults(
        self,
        faults: Faults | None = None,
        *,
        seed: int | None = None,
        script: Iterable[str | None] | Mapping[str, Iterable[str | None]] = (),
    ) -> None:
        """Replace all faults and drop all scripts.

        Args:
            faults: the new faults; none if it is None.
            seed: for their random choice; the current seed, from its start, if it is None.
            script: for the next creates, or a script for each method, see ``script``.

        Raises:
            ValueError: the script names an unknown fault or method; then nothing changes.
        """
        plan = FaultPlan(faults or Faults(), self.seed if seed is None else seed)
        scripts = script if isinstance(script, Mapping) else {"POST": script}
        for method, names in scripts.items():
            plan.extend_script(names, method)
        with self._changed:
            self._plan = plan

    def script(self, names: Iterable[str | None], method: str = "POST") -> None:
        """Set the faults of the next calls, one each and in order; None lets a call pass.

        Args:
            names: the faults, appended to those already scripted.
            method: ``POST`` for creates, ``PATCH`` for updates, ``GET`` for reads and lists,
                ``POST customers`` and ``DELETE customers`` for the calls for a segment's
                customers. Each has its own queue.

        Raises:
            ValueError: a fault or the method is unknown; then nothing changes.
        """
        with self._changed:
            self._plan.extend_script(names, method)

    def before_next(
        self, callbacks: Iterable[Callable[[], object] | None], method: str = "GET"
    ) -> None:
        """Set what to do right before the next calls, one callback each and in order.

        So data, options or faults change at a known place between two requests, for example
        between two pages of a list::

            bunce.before_next([None, lambda: bunce.remove_segment(first.id)])

        Args:
            callbacks: appended to those already set; None does nothing before a call. They run in
                the emulator's thread, while other requests wait. An error in one is logged and
                closes the connection without a response.
            method: ``GET`` for reads and lists, ``POST`` for creates, ``PATCH`` for updates. Each
                has its own queue, as have ``POST customers`` and ``DELETE customers``, the calls
                for a segment's customers. Those that the key or the rate limit refuses use up no
                callback.

        Raises:
            ValueError: the method is unknown.
        """
        if method not in SCRIPT_METHODS:
            raise ValueError(f"method must be one of {', '.join(SCRIPT_METHODS)}; not {method!r}")
        with self._changed:
            self._callbacks[method].extend(callbacks)

    def set(self, **changes: Any) -> None:
        """Change some of the ``Options``.

        Raises:
            ValueError: a value is out of range; then nothing changes.
        """
        with self._changed:
            self._options = replace(self._options, **changes)
            self._announce()

    def reset(self) -> None:
        """Delete all data and restore the initial options and faults.

        Pending writes, scripts and callbacks are dropped.
        """
        self._clear()

    # Requests

    def handle(self, request: Request) -> Response:
        """Respond to a request and log it; called in the thread of the event loop."""
        is_api = request.path.startswith(f"{PREFIX}/")
        if not is_api and self._router.has_path(request.path):
            return self._router.respond(request)
        with self._changed:
            if is_api:
                response, fault = self._call_api(request)
            else:
                response, fault = self._router.respond(request), None
            self._log(request, response, fault)
        return response

    def _call_api(self, request: Request) -> tuple[Response, str | None]:
        outage = self._options.outage
        if outage == "hold":
            seconds = self._plan.faults.hold_seconds
            return Response(None, delivery=Delivery.HOLD, seconds=seconds), "outage_hold"
        if outage is not None:
            return Response(None, delivery=Delivery.RESET), f"outage_{outage}"
        try:
            self._authenticate(request)
            self._check_rate(request.client)
            about_customers = request.path.rstrip("/").endswith("customers")
            about = " customers" if about_customers else ""
            self._call_back(f"{request.method}{about}")
            call = self._router.find(request)
        except HttpError as error:
            return error.response, None
        fault = self._plan.draw(request.method, about_customers=about_customers)
        if fault is None:
            return call(), None
        if fault == "late_store":
            self._call_later(call)
        if fault in FAULTS_BEFORE:
            return response_instead(fault, self._plan), fault
        return response_after(fault, call(), self._plan), fault

    def _authenticate(self, request: Request) -> None:
        given, key = request.headers.get("x-authorization", ""), self._options.key
        if not (given.startswith("sk_test_") if key is None else given == key):
            raise HttpError(401, "Unauthorized: the API key is missing or not valid")

    def _check_rate(self, client: str) -> None:
        wait = self._limiter.admit(
            client,
            limit=self._options.rate_limit,
            window=self._options.rate_window,
            block_seconds=self._options.block_seconds,
        )
        if wait is not None:
            raise HttpError(429, LIMIT_MESSAGE, (("Retry-After", str(math.ceil(wait))),))

    def _call_back(self, method: str) -> None:
        """Run the callback for this call, if any."""
        callbacks = self._callbacks.get(method)
        callback = callbacks.popleft() if callbacks else None
        if callback is not None:
            callback()

    def _call_later(self, call: Callable[[], Response]) -> None:
        generation = self._generation
        self._pending_writes += 1

        def run() -> None:
            with self._changed:
                if generation == self._generation:
                    self._pending_writes -= 1
                    call()
                    self._announce()

        asyncio.get_running_loop().call_later(self._plan.faults.late_seconds, run)

    def _log(self, request: Request, response: Response, fault: str | None) -> None:
        self._served += 1
        self._requests.append(
            LoggedRequest(
                at=monotonic(),
                time=current_time(),
                method=request.method,
                path=request.path,
                query=request.query,
                status=response.status,
                fault=fault,
                client=request.client,
                user_agent=request.headers.get("user-agent", ""),
                raw_body=request.body,
            )
        )
        self._announce()

    def _announce(self) -> None:
        """Wake the threads in ``wait_for``; the caller holds the lock."""
        self._changes += 1
        self._changed.notify_all()

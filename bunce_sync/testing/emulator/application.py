"""The way of one request through the emulator: who may call, what fails, what is noted."""

from __future__ import annotations

import json
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Condition, RLock
from time import monotonic, time
from typing import Protocol

from .api import PREFIX, Call, SegmentsApi
from .fault_responses import LIMIT_MESSAGE, answer_after, answer_instead
from .faults import BEFORE, FaultPlan, Faults
from .limits import RateLimiter
from .messages import Answer, Delivery, Request, Response, failure
from .options import Options
from .state import Store

KEPT_REQUESTS = 20_000


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """One API request as the server saw it; it never holds the key.

    Args:
        at: the arrival on the monotonic clock, in seconds.
        wall: the arrival in seconds since the epoch.
        status: of the answer; None when none was sent.
        fault: what was done to it on purpose, if anything.
        raw_body: the bytes of the body.
    """

    at: float
    wall: float
    method: str
    path: str
    query: str
    status: int | None
    fault: str | None
    client: str
    user_agent: str
    raw_body: bytes

    @property
    def time(self) -> datetime:
        """The arrival as an aware moment in UTC."""
        return datetime.fromtimestamp(self.wall, UTC)

    @property
    def body(self) -> dict[str, object] | None:
        """The body, or None when it is no JSON object."""
        try:
            value = json.loads(self.raw_body)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


class Pages(Protocol):
    """Answers what is not the API: the front page, control and health."""

    def answer(self, request: Request) -> Response | None:
        """Return the answer, or None when the path is not one of these."""


class Application:
    """Everything behind the connections.

    ``handle`` runs in the server's thread; other threads read and change the fields while they
    hold ``changed``. Every change is announced to those who wait for one.

    Args:
        options: how to behave.
        faults: what goes wrong.
        seed: for the faults' chance.
        later: calls a function after some seconds, in the server's thread.
    """

    def __init__(
        self,
        options: Options,
        faults: Faults,
        seed: int,
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.changed = Condition(RLock())
        self.pages: Pages | None = None
        self._later = later
        self._first = (options, faults, seed)
        self.generation = 0
        self.changes = 0
        self.clear()

    def clear(self) -> None:
        """Go back to how everything was at the start; late stores of before never happen."""
        with self.changed:
            self.options, faults, seed = self._first
            self.plan = FaultPlan(faults, seed)
            self.store = Store()
            self.limiter = RateLimiter()
            self.requests: deque[StoredRequest] = deque(maxlen=KEPT_REQUESTS)
            self.served = 0
            self.unsettled = 0
            self.generation += 1
            shuffler = random.Random(seed)
            self.api = SegmentsApi(self.store, lambda: self.options, shuffler)
            self.announce()

    def announce(self) -> None:
        """Wake those who wait for a change; the caller holds ``changed``."""
        self.changes += 1
        self.changed.notify_all()

    def wait_for_change(self, seen: int, seconds: float) -> None:
        """Return when there was a change after the one numbered ``seen``, or after a while."""
        with self.changed:
            self.changed.wait_for(lambda: self.changes != seen, seconds)

    def handle(self, request: Request) -> Answer:
        """Answer one request and note it down."""
        if self.pages is not None:
            page = self.pages.answer(request)
            if page is not None:
                return Answer(page)
        with self.changed:
            answer, fault = self._answer(request)
            self._note(request, answer, fault)
        return answer

    def refuse(self, request: Request, status: int, message: str) -> Response:
        """Answer a request that could not be read to its end, and note it down."""
        response = failure(status, message)
        with self.changed:
            self._note(request, Answer(response), None)
        return response

    def _answer(self, request: Request) -> tuple[Answer, str | None]:
        options = self.options
        if not request.path.startswith(f"{PREFIX}/"):
            return Answer(failure(404, f"Cannot {request.method} {request.path}")), None
        if options.outage == "hold":
            silence = self.plan.faults.hold_seconds
            return Answer(None, Delivery.HOLD, seconds=silence), "outage_hold"
        if options.outage is not None:
            return Answer(None, Delivery.RESET), f"outage_{options.outage}"
        if not self.api.authorized(request):
            return Answer(failure(401, "Unauthorized: the API key is missing or not valid")), None
        wait = self.limiter.admit(
            request.client,
            limit=options.rate_limit,
            window=options.rate_window,
            block_seconds=options.block_seconds,
        )
        if wait is not None:
            headers = (("Retry-After", str(math.ceil(wait))),)
            return Answer(failure(429, LIMIT_MESSAGE, headers)), None
        call = self.api.match(request)
        if isinstance(call, Response):
            return Answer(call), None
        fault = self.plan.draw(request.method, about_customers=call.about_customers)
        if fault is None:
            return Answer(call.run()), None
        if fault == "late_store":
            self._run_late(call)
        if fault in BEFORE:
            return answer_instead(fault, self.plan), fault
        return answer_after(fault, call.run(), self.plan), fault

    def _run_late(self, call: Call) -> None:
        generation = self.generation
        self.unsettled += 1

        def run() -> None:
            with self.changed:
                if generation == self.generation:
                    self.unsettled -= 1
                    call.run()
                    self.announce()

        self._later(self.plan.faults.late_seconds, run)

    def _note(self, request: Request, answer: Answer, fault: str | None) -> None:
        self.served += 1
        self.requests.append(
            StoredRequest(
                at=monotonic(),
                wall=time(),
                method=request.method,
                path=request.path,
                query=request.query,
                status=answer.response.status if answer.response else None,
                fault=fault,
                client=request.client,
                user_agent=request.headers.get("user-agent", ""),
                raw_body=request.body,
            )
        )
        self.announce()

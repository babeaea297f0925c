"""The choice of a fault for each call, and the response that each fault gives."""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import get_args

from .clock import now as current_time
from .http import HTML, Delivery, Headers, Response, dump, failure, proxy_page
from .options import FAULT_NAMES, SCRIPT_METHODS, Faults, RetryAfter, Shape

LIMIT_MESSAGE = "You have reached maximum request limit."
_FARTHEST_DATE = 100 * 365 * 86400  # seconds; later dates may not be representable


class FaultPlan:
    """Chooses the fault of each call. Not thread-safe: the caller holds a lock.

    Args:
        faults: the probabilities.
        seed: the same seed and the same order of arrivals give the same faults.
    """

    def __init__(self, faults: Faults, seed: int = 0) -> None:
        self.faults = faults
        self.seed = seed
        self.random = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self._scripts: dict[str, deque[str | None]] = {name: deque() for name in SCRIPT_METHODS}
        self._thresholds: list[tuple[float, str]] = []
        total = 0.0
        for name, probability in faults.in_force().items():
            total += probability
            self._thresholds.append((total, name))

    @property
    def scripted(self) -> int:
        """The number of script entries left, of all methods together."""
        return sum(len(script) for script in self._scripts.values())

    def extend_script(self, names: Iterable[str | None], method: str = "POST") -> None:
        """Append faults for the next calls with a method; None lets a call pass.

        Raises:
            ValueError: a fault or the method is unknown; then nothing is appended.
        """
        if method not in SCRIPT_METHODS:
            raise ValueError(f"method must be one of {', '.join(SCRIPT_METHODS)}; not {method!r}")
        names = list(names)
        for name in names:
            if name is not None and name not in FAULT_NAMES:
                raise ValueError(f"unknown fault {name!r}; known: {', '.join(FAULT_NAMES)}")
        self._scripts[method].extend(names)

    def draw(self, method: str, *, about_customers: bool) -> str | None:
        """Return the fault for a call, or None.

        Args:
            method: the HTTP method of the call.
            about_customers: whether the call is for a segment's customers. Such calls have
                scripts of their own.
        """
        name: str | None = None
        script = self._scripts.get(f"{method} customers" if about_customers else method)
        if script:
            name = script.popleft()
        elif (
            self._thresholds
            and method in self.faults.methods
            and (self.faults.customer_calls or not about_customers)
        ):
            point = self.random.random()
            name = next((name for limit, name in self._thresholds if point < limit), None)
        if name is not None:
            self.injected[name] += 1
        return name


def response_instead(fault: str, plan: FaultPlan) -> Response:
    """Return the response to a call that is not carried out, or is carried out later."""
    faults = plan.faults
    match fault:
        case "reset_before":
            return Response(None, delivery=Delivery.RESET)
        case "hold_before":
            return Response(None, delivery=Delivery.HOLD, seconds=faults.hold_seconds)
        case "late_store":
            return Response(None, delivery=Delivery.CLOSE)
        case "error_before":
            return failure(500, "Something went wrong")
        case "html_502":
            return proxy_page(502)
        case "limit_429":
            return failure(429, LIMIT_MESSAGE, _retry_after(plan))
        case "redirect":
            return failure(302, "Found", (("Location", "/v1/segments"),))
        case "unauthorized":
            return failure(401, "Unauthorized")
        case "forbidden":
            return failure(403, "You are not allowed to do this.")
        case "unavailable":
            return failure(503, "Service unavailable", _retry_after(plan))
        case "name_taken":
            body = {"success": False, "message": "Name already taken", "data": None}
            return Response(200, dump(body))
        case "bad_request":
            return failure(400, "name taken")
        case _:
            raise ValueError(f"{fault} does not act before the call")


def response_after(fault: str, response: Response, plan: FaultPlan) -> Response:
    """Return what the client gets after a call was carried out with a response."""
    faults = plan.faults
    refused = response.status is None or response.status >= 300
    match fault:
        case "lost_answer":
            return Response(None, delivery=Delivery.CLOSE)
        case "hold_after":
            return Response(None, delivery=Delivery.HOLD, seconds=faults.hold_seconds)
        case "error_after":
            return failure(500, "Something went wrong")
        case "cut_json":
            return replace(response, delivery=Delivery.CUT)
        case "wrong_shape":
            return response if refused else _misshapen(response, faults.shape, plan.random)
        case "no_content":
            return response if refused else Response(204)
        case "trickle":
            return replace(response, delivery=Delivery.TRICKLE, seconds=faults.trickle_seconds)
        case "too_large":
            return replace(response, delivery=Delivery.FLOOD, padding=faults.large_bytes)
        case _:
            raise ValueError(f"{fault} does not act after the call")


def _retry_after(plan: FaultPlan) -> Headers:
    kind = plan.faults.retry_after
    if kind == "any":
        kind = plan.random.choice([each for each in get_args(RetryAfter) if each != "any"])
    seconds = plan.faults.retry_seconds
    if kind == "none":
        return ()
    if kind == "rubbish":
        return (("Retry-After", "soon"),)
    if kind == "date":
        moment = current_time() + timedelta(seconds=min(seconds, _FARTHEST_DATE))
        return (("Retry-After", format_datetime(moment, usegmt=True)),)
    return (("Retry-After", str(seconds)),)


def _misshapen(response: Response, shape: Shape, chance: random.Random) -> Response:
    """Return a response with the same status and an undocumented body."""
    if shape == "any":
        shape = chance.choice([each for each in get_args(Shape) if each != "any"])
    if shape == "empty":
        return Response(response.status)
    if shape == "not_json":
        return Response(response.status, b"<html><body>Created</body></html>", HTML)
    envelope = json.loads(response.body)
    data = envelope["data"] if isinstance(envelope["data"], dict) else {}
    body: object
    match shape:
        case "list":
            body = {**envelope, "data": [data]}
        case "no_data":
            body = {name: value for name, value in envelope.items() if name != "data"}
        case "null_data":
            body = {**envelope, "data": None}
        case "no_id":
            body = {**envelope, "data": {key: data[key] for key in data if key != "id"}}
        case "empty_id":
            body = {**envelope, "data": {**data, "id": ""}}
        case "number_id":
            body = {**envelope, "data": {**data, "id": 7}}
        case "not_object":
            body = [envelope]
        case _:  # "failed": a successful status with an unsuccessful body
            body = {"success": False, "message": "Something went wrong", "data": None}
    return Response(response.status, dump(body))

"""Everything that can go wrong between a client and Bunce, on demand and reproducibly."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

from .options import number

RetryAfter = Literal["none", "seconds", "date", "rubbish", "any"]
Shape = Literal[
    "any", "list", "no_data", "null_data", "no_id", "empty_id", "number_id", "not_object", "failed",
    "empty", "not_json",
]  # fmt: skip

# What happens without the call being carried out, at least not now.
BEFORE = (
    "reset_before", "hold_before", "error_before", "html_502", "late_store", "limit_429",
    "redirect", "unauthorized", "forbidden", "unavailable", "name_taken", "bad_request",
)  # fmt: skip
# What happens to the answer once the call has been carried out.
AFTER = (
    "lost_answer", "hold_after", "error_after", "cut_json", "wrong_shape", "trickle", "too_large",
    "no_content",
)  # fmt: skip
NAMES = BEFORE + AFTER
METHODS = ("GET", "POST", "PATCH", "DELETE")
SCRIPT_METHODS = ("POST", "PATCH", "GET")  # creates; updates; reads and lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The probability of each fault, from 0 to 1, and how each behaves.

    A call suffers one fault at most, so the probabilities together must not exceed 1.

    Args:
        reset_before: the connection is reset; nothing is stored.
        hold_before: no answer for ``hold_seconds``, then closed; nothing is stored.
        error_before: 500; nothing is stored.
        html_502: 502 with a page of HTML, as a proxy gives; nothing is stored.
        late_store: closed at once without an answer, stored ``late_seconds`` later.
        limit_429: 429 with a Retry-After as ``retry_after`` says; nothing is stored.
        redirect: 302 to another address; nothing is stored.
        unauthorized: 401 although the key is right; nothing is stored.
        forbidden: 403 with "You are not allowed to do this."; nothing is stored.
        unavailable: 503 with a Retry-After as ``retry_after`` says; nothing is stored.
        name_taken: 200 whose body says ``"success": false`` and "Name already taken"; nothing
            is stored.
        bad_request: 400 with "name taken"; nothing is stored.
        lost_answer: stored, then closed without an answer.
        hold_after: stored, then no answer for ``hold_seconds``, then closed.
        error_after: stored, then 500.
        cut_json: stored; the answer ends in the middle of its body.
        wrong_shape: stored; the answer succeeds but is not the one documented, see ``shape``.
        trickle: stored; the answer comes one byte each ``trickle_seconds``.
        too_large: stored; the right answer behind ``large_bytes`` of blanks.
        no_content: stored, then 204 without a body; a refused call keeps its own answer.
        methods: the HTTP methods that suffer faults.
        customer_calls: whether the three calls about a segment's customers suffer them too.
        hold_seconds: also the length of the silence in an outage of the kind ``hold``.
        trickle_head: whether the head of the answer trickles too, or only the body.
        retry_after: what ``limit_429`` and ``unavailable`` send: ``none``, ``seconds``, ``date``,
            ``rubbish``, or ``any`` of these by chance.
        retry_seconds: the wait in ``seconds`` and ``date``; it can be very long, but a date is at
            most a century ahead.
        shape: which wrong shape, or ``any`` of them by chance.

    Raises:
        ValueError: a value is out of range; the message says which and why.
    """

    reset_before: float = 0.0
    hold_before: float = 0.0
    error_before: float = 0.0
    html_502: float = 0.0
    late_store: float = 0.0
    limit_429: float = 0.0
    redirect: float = 0.0
    unauthorized: float = 0.0
    forbidden: float = 0.0
    unavailable: float = 0.0
    name_taken: float = 0.0
    bad_request: float = 0.0
    lost_answer: float = 0.0
    hold_after: float = 0.0
    error_after: float = 0.0
    cut_json: float = 0.0
    wrong_shape: float = 0.0
    trickle: float = 0.0
    too_large: float = 0.0
    no_content: float = 0.0
    methods: frozenset[str] = frozenset({"POST"})
    customer_calls: bool = False
    hold_seconds: float = 60.0
    late_seconds: float = 2.0
    trickle_seconds: float = 0.5
    trickle_head: bool = False
    large_bytes: int = 50_000_000
    retry_after: RetryAfter = "seconds"
    retry_seconds: int = 2
    shape: Shape = "any"

    def __post_init__(self) -> None:
        for name in NAMES:
            number(name, getattr(self, name))
        if sum(getattr(self, name) for name in NAMES) > 1 + 1e-9:
            raise ValueError("the probabilities of all faults together must not exceed 1")
        object.__setattr__(self, "methods", _methods(self.methods))
        for name in ("hold_seconds", "late_seconds", "trickle_seconds", "retry_seconds"):
            number(name, getattr(self, name))
        for name in ("large_bytes", "retry_seconds"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be a whole number")
        if self.large_bytes < 0:
            raise ValueError("large_bytes must not be negative")
        for name in ("customer_calls", "trickle_head"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false")
        for name, known in (("retry_after", get_args(RetryAfter)), ("shape", get_args(Shape))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Faults:
        """Make a plan from names and values, as they come from a command line or in JSON.

        Raises:
            ValueError: a name is unknown or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(f"unknown fault or option {name!r}; known: {', '.join(known)}")
        return cls(**values)  # type: ignore[arg-type]  # checked in __post_init__

    def in_force(self) -> dict[str, float]:
        """Return the faults that can happen, with their probabilities."""
        return {name: getattr(self, name) for name in NAMES if getattr(self, name)}

    def as_dict(self) -> dict[str, object]:
        """Return all values, fit for JSON and for ``from_mapping``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "methods": sorted(self.methods)}


class FaultPlan:
    """Draws the fault each call suffers. Not thread-safe: the caller has a lock.

    Args:
        faults: the probabilities.
        seed: the same seed and the same order of arrivals give the same faults.
    """

    def __init__(self, faults: Faults, seed: int = 0) -> None:
        self.faults = faults
        self.seed = seed
        self.random = random.Random(seed)
        self.suffered: Counter[str] = Counter()
        self._scripts: dict[str, deque[str | None]] = {name: deque() for name in SCRIPT_METHODS}
        self._thresholds: list[tuple[float, str]] = []
        total = 0.0
        for name, probability in faults.in_force().items():
            total += probability
            self._thresholds.append((total, name))

    @property
    def scripted(self) -> int:
        """The number of entries that are still to come, of all methods together."""
        return sum(len(script) for script in self._scripts.values())

    def extend_script(self, names: Iterable[str | None], method: str = "POST") -> None:
        """Append faults for the next calls, one each and in order; None lets one pass.

        Args:
            names: the faults.
            method: which calls: ``POST`` for creates, ``PATCH`` for updates, ``GET`` for reads
                and lists. Each has a queue of its own.

        Raises:
            ValueError: a fault or the method is unknown; then nothing is appended.
        """
        if method not in SCRIPT_METHODS:
            raise ValueError(f"method must be one of {', '.join(SCRIPT_METHODS)}; not {method!r}")
        names = list(names)
        for name in names:
            if name is not None and name not in NAMES:
                raise ValueError(f"unknown fault {name!r}; known: {', '.join(NAMES)}")
        self._scripts[method].extend(names)

    def draw(self, method: str, *, about_customers: bool) -> str | None:
        """Return the fault for a call, or None.

        Args:
            method: the HTTP method of the call.
            about_customers: whether the call is about a segment's customers: such calls follow
                no script.
        """
        name: str | None = None
        script = None if about_customers else self._scripts.get(method)
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
            self.suffered[name] += 1
        return name


def _methods(value: object) -> frozenset[str]:
    if not isinstance(value, set | frozenset | list | tuple) or not value:
        raise ValueError("methods must be a list of HTTP methods")
    for method in value:
        if method not in METHODS:
            raise ValueError(f"methods must be some of {', '.join(METHODS)}; not {method!r}")
    return frozenset(value)

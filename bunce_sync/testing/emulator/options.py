"""Everything that can be configured: how Bunce behaves, and what fails."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

Paging = Literal["page", "page_meta", "cursor", "ignore_page", "clamp"]
Layout = Literal["flat", "nested", "nested_rows"]
Order = Literal["newest", "oldest", "random", "shuffled"]
Times = Literal["plain", "iso", "none"]
StoredName = Literal["as_sent", "upper", "collapse", "keep_old"]
Outage = Literal["reset", "hold", "refuse"]
RetryAfter = Literal["none", "seconds", "date", "rubbish", "any"]
Shape = Literal[
    "any", "list", "no_data", "null_data", "no_id", "empty_id", "number_id", "not_object", "failed",
    "empty", "not_json",
]  # fmt: skip

#: Faults that prevent or delay the call.
FAULTS_BEFORE = (
    "reset_before", "hold_before", "error_before", "html_502", "late_store", "limit_429",
    "redirect", "unauthorized", "forbidden", "unavailable", "name_taken", "bad_request",
)  # fmt: skip
#: Faults of the response, after the call was carried out.
FAULTS_AFTER = (
    "lost_answer", "hold_after", "error_after", "cut_json", "wrong_shape", "trickle", "too_large",
    "no_content",
)  # fmt: skip
FAULT_NAMES = FAULTS_BEFORE + FAULTS_AFTER
#: The values of the options that have a fixed set of them.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "stored_name": get_args(StoredName),
    "paging": get_args(Paging),
    "layout": get_args(Layout),
    "order": get_args(Order),
    "times": get_args(Times),
    "outage": get_args(Outage),
    "retry_after": get_args(RetryAfter),
    "shape": get_args(Shape),
}
METHODS = ("GET", "POST", "PATCH", "DELETE")
#: Creates, updates, reads and lists; then the calls for a segment's customers.
SCRIPT_METHODS = ("POST", "PATCH", "GET", "POST customers", "DELETE customers")
CUSTOMERS_LIMIT_STATUSES = (413, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How Bunce behaves, apart from faults.

    Args:
        key: the only API key to accept; None accepts any that begins with ``sk_test_``.
        rate_limit: requests an address may make in a window; None for no limit.
        rate_window: the length of the window in seconds.
        block_seconds: how long an address that exceeded the limit is blocked.
        unique_names: whether two segments may not have the same name.
        taken_names: a create with exactly one of these names is refused with 400 "name taken".
        plan_limit: a create is refused with 403 "You have reached the limit of your plan." when
            at least this many segments are stored; None for no limit. Segments added with
            ``Emulator.add_segment`` count but are never refused.
        blocked_text: a create or update whose name contains exactly this text is refused with
            403 and an HTML page, as by a firewall in front of Bunce; None blocks nothing.
        stored_name: how the name of a create or update is stored:
            ``as_sent``: unchanged;
            ``upper``: in upper case;
            ``collapse``: each run of whitespace becomes one space;
            ``keep_old``: an update succeeds and changes the description but not the name;
            creates are stored as sent.
        refused_customers: a call that adds one of these customers, given by customer_id or email,
            or removes one, is refused with 422 and a message that names it, such as
            "customers[3].email is not valid: foo@"; nothing of the call is stored.
        refused_customer_text: the same for customers whose customer_id or email contains this
            text; None refuses none.
        customers_limit: a call with more customers is refused, see ``customers_limit_status``;
            None for no limit.
        customers_limit_status: 413, or 422 with "The customers field must not have more than …
            items.".
        customers_plan_limit: calls that add customers are refused with 422 "You have reached the
            limit of your plan." when at least this many are stored; None for no limit.
        paging: how lists are paged:
            ``page``: by page number, without ``meta``;
            ``page_meta``: by page number, with numbers and ``has_next_page`` in ``meta``;
            ``cursor``: ``meta`` has ``next_page_cursor``, and ``page`` is ignored; a cursor stays
            valid if its segment is removed;
            ``ignore_page``: without ``meta``; every page is the first one;
            ``clamp``: without ``meta``; a page past the end is the last one again.
        layout: where lists have their rows, and ``meta`` if there is any:
            ``flat``: rows in ``data``, ``meta`` next to ``data``;
            ``nested``: rows in ``data.data``, ``meta`` in ``data.meta``;
            ``nested_rows``: rows in ``data.data``, ``meta`` next to the outer ``data``.
        page_cap: the maximum number of rows on a page, whatever ``per_page`` says; None for no cap.
        max_per_page: a larger ``per_page`` is refused with 422 "per_page must be at most …";
            None accepts any and returns at most 100 rows.
        hide_every: lists leave out every N-th segment, in the order of storing. Pages become
            shorter, totals still count it, and it can be read by its id. None hides nothing.
        empty_page: the number of a page that is empty although rows follow on later pages;
            None for none. This and ``hide_every`` have no effect if ``paging`` is ``cursor``.
        order: of a list: ``newest`` or ``oldest`` first, ``random`` but the same each time, or
            ``shuffled`` for each call.
        times: what responses show as ``created_at`` and ``updated_at``:
            ``plain``: "2024-12-05 08:30:16", in UTC;
            ``iso``: "2024-12-05T08:30:16.000Z";
            ``none``: null.
        outage: what every API request gets: ``reset`` (the connection is reset), ``hold`` (no
            response for ``Faults.hold_seconds``) or ``refuse`` (connections are refused); None
            for no outage.

    Raises:
        ValueError: a value is out of range; the message says which and why.
    """

    key: str | None = None
    rate_limit: int | None = 500
    rate_window: float = 60.0
    block_seconds: float = 60.0
    unique_names: bool = False
    taken_names: Sequence[str] = ()
    plan_limit: int | None = None
    blocked_text: str | None = None
    stored_name: StoredName = "as_sent"
    refused_customers: Sequence[str] = ()
    refused_customer_text: str | None = None
    customers_limit: int | None = None
    customers_limit_status: int = 413
    customers_plan_limit: int | None = None
    paging: Paging = "page"
    layout: Layout = "flat"
    page_cap: int | None = None
    max_per_page: int | None = None
    hide_every: int | None = None
    empty_page: int | None = None
    order: Order = "newest"
    times: Times = "plain"
    outage: Outage | None = None

    def __post_init__(self) -> None:
        _text("key", self.key)
        for name in ("rate_limit", "page_cap", "max_per_page", "hide_every", "empty_page"):
            _whole(name, getattr(self, name), 1)
        _whole("plan_limit", self.plan_limit, 0)
        _whole("customers_limit", self.customers_limit, 1)
        _whole("customers_plan_limit", self.customers_plan_limit, 0)
        if self.customers_limit_status not in CUSTOMERS_LIMIT_STATUSES:
            raise ValueError("customers_limit_status must be 413 or 422")
        _number("rate_window", self.rate_window, above=0)
        _number("block_seconds", self.block_seconds)
        if not isinstance(self.unique_names, bool):
            raise ValueError("unique_names must be true or false")
        for name in ("taken_names", "refused_customers"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        for name in ("blocked_text", "refused_customer_text"):
            _text(name, getattr(self, name))
        for name in ("stored_name", "paging", "layout", "order", "times"):
            _one_of(name, getattr(self, name))
        if self.outage is not None:
            _one_of("outage", self.outage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The probability of each fault, from 0 to 1, and how each behaves.

    A call gets one fault at most, so the sum of the probabilities must not exceed 1.

    Args:
        reset_before: the connection is reset; nothing is stored.
        hold_before: no response for ``hold_seconds``, then closed; nothing is stored.
        error_before: 500; nothing is stored.
        html_502: 502 with an HTML page, as from a proxy; nothing is stored.
        late_store: closed at once without a response, stored ``late_seconds`` later.
        limit_429: 429 with a Retry-After, see ``retry_after``; nothing is stored.
        redirect: 302 to another address; nothing is stored.
        unauthorized: 401 although the key is valid; nothing is stored.
        forbidden: 403 with "You are not allowed to do this."; nothing is stored.
        unavailable: 503 with a Retry-After, see ``retry_after``; nothing is stored.
        name_taken: 200 whose body has ``"success": false`` and "Name already taken"; nothing
            is stored.
        bad_request: 400 with "name taken"; nothing is stored.
        lost_answer: stored, then closed without a response.
        hold_after: stored, then no response for ``hold_seconds``, then closed.
        error_after: stored, then 500.
        cut_json: stored; the response ends in the middle of its body.
        wrong_shape: stored; a successful response in an undocumented shape, see ``shape``.
        trickle: stored; the body is sent one byte every ``trickle_seconds``.
        too_large: stored; the correct response after ``large_bytes`` of whitespace.
        no_content: stored, then 204 without a body; a refused call keeps its response.
        methods: the HTTP methods that can get faults.
        customer_calls: whether the calls for a segment's customers can get faults too.
        hold_seconds: also applies to an outage of the kind ``hold``.
        retry_after: the header that ``limit_429`` and ``unavailable`` send: ``none``,
            ``seconds``, ``date``, ``rubbish``, or ``any`` of these at random.
        retry_seconds: the wait in ``seconds`` and ``date``; a date is at most a century ahead.
        shape: one of the wrong shapes, or ``any`` of them at random.

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
    large_bytes: int = 50_000_000
    retry_after: RetryAfter = "seconds"
    retry_seconds: int = 2
    shape: Shape = "any"

    def __post_init__(self) -> None:
        for name in FAULT_NAMES:
            _number(name, getattr(self, name))
        if sum(getattr(self, name) for name in FAULT_NAMES) > 1 + 1e-9:
            raise ValueError("the probabilities of all faults together must not exceed 1")
        object.__setattr__(self, "methods", _methods(self.methods))
        for name in ("hold_seconds", "late_seconds", "trickle_seconds", "retry_seconds"):
            _number(name, getattr(self, name))
        for name in ("large_bytes", "retry_seconds"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be a whole number")
        if self.large_bytes < 0:
            raise ValueError("large_bytes must not be negative")
        if not isinstance(self.customer_calls, bool):
            raise ValueError("customer_calls must be true or false")
        _one_of("retry_after", self.retry_after)
        _one_of("shape", self.shape)

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Faults:
        """Return the faults from names and values, as in JSON.

        Raises:
            ValueError: a name is unknown or a value is out of range.
        """
        check_names(values, FAULTS_FIELDS)
        return cls(**values)  # type: ignore[arg-type]  # checked in __post_init__

    def in_force(self) -> dict[str, float]:
        """Return the faults with a probability above 0."""
        return {name: getattr(self, name) for name in FAULT_NAMES if getattr(self, name)}

    def as_dict(self) -> dict[str, object]:
        """Return all values as ``from_mapping`` takes them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "methods": sorted(self.methods)}


OPTIONS_FIELDS = tuple(field.name for field in fields(Options))
FAULTS_FIELDS = tuple(field.name for field in fields(Faults))


def check_names(names: Iterable[str], known: Sequence[str]) -> None:
    """Check the names of options.

    Raises:
        ValueError: one is unknown.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"unknown option {name!r}; known: {', '.join(known)}")


def _number(name: str, value: object, *, above: float | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number")
    if above is None and value < 0:
        raise ValueError(f"{name} must not be negative")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be more than {above:g}")


def _whole(name: str, value: object, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}, or null")


def _text(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"{name} must be a text that is not empty, or null")


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} must be a list of texts")
    return tuple(value)


def _one_of(name: str, value: object) -> None:
    if value not in CHOICES[name]:
        raise ValueError(f"{name} must be one of {', '.join(CHOICES[name])}; not {value!r}")


def _methods(value: object) -> frozenset[str]:
    if not isinstance(value, set | frozenset | list | tuple) or not value:
        raise ValueError("methods must be a list of HTTP methods")
    for method in value:
        if method not in METHODS:
            raise ValueError(f"methods must be some of {', '.join(METHODS)}; not {method!r}")
    return frozenset(value)

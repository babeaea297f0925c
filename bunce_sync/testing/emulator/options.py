"""How the emulated Bunce behaves, apart from its faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypedDict, get_args

Paging = Literal["page", "page_meta", "cursor", "nested", "ignore_page", "clamp"]
Order = Literal["newest", "oldest", "random", "shuffled"]
StoredName = Literal["as_sent", "upper", "collapse", "keep_old"]
Outage = Literal["reset", "hold", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What can be set when the emulator starts and changed while it runs.

    Args:
        key: the only API key to accept; None accepts any that begins with ``sk_test_``.
        rate_limit: requests an address may make in a window; None for no limit.
        rate_window: the length of the window in seconds.
        block_seconds: how long an address that went past the limit is shut out.
        unique_names: whether two segments may not have the same name.
        taken_names: a create with exactly one of these names is refused with 400 "name taken".
            Any sequence of texts is accepted, also a list from JSON; it is kept as a tuple.
        plan_limit: a create is refused with 403 "You have reached the limit of your plan." when
            at least this many segments are stored; None for no limit. Segments added with
            ``Emulator.add_segment`` count but are never refused.
        blocked_text: a create or update whose name contains exactly this text is refused with
            403 and a page of HTML, as a firewall in front of Bunce does; None blocks nothing.
        stored_name: how the name of a create or update is stored, and answered from then on:
            ``as_sent``: unchanged;
            ``upper``: in capitals;
            ``collapse``: each run of whitespace becomes one space;
            ``keep_old``: an update is answered with 200 but the name stays as it was, while its
            description changes; creates are stored as sent.
        paging: how lists are paged:
            ``page``: rows in ``data``, nothing else;
            ``page_meta``: the same with page numbers in ``meta`` beside it;
            ``cursor``: ``meta`` beside ``data`` carries ``next_page_cursor``, ``page`` is ignored;
            ``nested``: rows in ``data.data`` and ``meta`` inside ``data``;
            ``ignore_page``: every page is the first one;
            ``clamp``: a page past the end is the last one again.
        page_cap: a list gives at most this many rows a page, whatever ``per_page`` says, and
            counts its pages accordingly; None for no such cap.
        max_per_page: a ``per_page`` above it is refused with 422 "per_page must be at most …";
            None accepts any but gives at most 100 rows.
        hide_every: every segment whose place in the order of storing is a multiple of this is
            missing from lists. It is dropped after the page was cut, so pages come short while
            totals still count it; it can still be read by its id. None hides nothing.
        empty_page: the page of this number comes empty although rows follow; they move to the
            later pages, so that each page after it has the rows of the one before. None for
            none. This and ``hide_every`` have no effect when ``paging`` is ``cursor``.
        order: of a list: ``newest`` or ``oldest`` first, ``random`` but the same each time, or
            ``shuffled`` anew for each call.
        clock_offset: seconds added to every time in an answer, since the zone of Bunce's
            ``created_at`` is not documented.
        idle_seconds: how long an unused connection is kept open; None for ever.
        outage: what happens to every API request: ``reset``, ``hold`` (silence until
            ``hold_seconds`` of the faults have passed) or ``refuse`` (nobody listens);
            None for none.

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
    paging: Paging = "page"
    page_cap: int | None = None
    max_per_page: int | None = None
    hide_every: int | None = None
    empty_page: int | None = None
    order: Order = "newest"
    clock_offset: float = 0.0
    idle_seconds: float | None = None
    outage: Outage | None = None

    def __post_init__(self) -> None:
        if self.key is not None and (not isinstance(self.key, str) or not self.key):
            raise ValueError("key must be a text that is not empty, or nothing")
        for name in ("rate_limit", "page_cap", "max_per_page", "hide_every", "empty_page"):
            _whole(name, getattr(self, name), 1)
        _whole("plan_limit", self.plan_limit, 0)
        number("rate_window", self.rate_window, above=0)
        number("block_seconds", self.block_seconds)
        number("clock_offset", self.clock_offset, above=-math.inf)
        if self.idle_seconds is not None:
            number("idle_seconds", self.idle_seconds)
        if not isinstance(self.unique_names, bool):
            raise ValueError("unique_names must be true or false")
        object.__setattr__(self, "taken_names", _texts("taken_names", self.taken_names))
        if self.blocked_text is not None and (
            not isinstance(self.blocked_text, str) or not self.blocked_text
        ):
            raise ValueError("blocked_text must be a text that is not empty, or nothing")
        _one_of("stored_name", self.stored_name, get_args(StoredName))
        _one_of("paging", self.paging, get_args(Paging))
        _one_of("order", self.order, get_args(Order))
        if self.outage is not None:
            _one_of("outage", self.outage, get_args(Outage))


OPTION_NAMES = tuple(field.name for field in fields(Options))


class OptionChanges(TypedDict, total=False):
    """The same as ``Options``, for calls that give only some of them."""

    key: str | None
    rate_limit: int | None
    rate_window: float
    block_seconds: float
    unique_names: bool
    taken_names: Sequence[str]
    plan_limit: int | None
    blocked_text: str | None
    stored_name: StoredName
    paging: Paging
    page_cap: int | None
    max_per_page: int | None
    hide_every: int | None
    empty_page: int | None
    order: Order
    clock_offset: float
    idle_seconds: float | None
    outage: Outage | None


def number(name: str, value: object, *, above: float | None = None) -> None:
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
        raise ValueError(f"{name} must be a whole number from {least}, or nothing")


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} must be a list of texts")
    return tuple(value)


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; not {value!r}")

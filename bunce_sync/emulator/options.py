"""How the emulated Bunce behaves, apart from its faults."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, TypedDict, get_args

Paging = Literal["page", "page_meta", "cursor", "nested", "ignore_page", "clamp"]
Order = Literal["newest", "oldest", "random", "shuffled"]
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
        paging: how lists are paged:
            ``page``: rows in ``data``, nothing else;
            ``page_meta``: the same with page numbers in ``meta`` beside it;
            ``cursor``: ``meta`` beside ``data`` carries ``next_page_cursor``, ``page`` is ignored;
            ``nested``: rows in ``data.data`` and ``meta`` inside ``data``;
            ``ignore_page``: every page is the first one;
            ``clamp``: a page past the end is the last one again.
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
    paging: Paging = "page"
    order: Order = "newest"
    clock_offset: float = 0.0
    idle_seconds: float | None = None
    outage: Outage | None = None

    def __post_init__(self) -> None:
        if self.key is not None and (not isinstance(self.key, str) or not self.key):
            raise ValueError("key must be a text that is not empty, or nothing")
        if self.rate_limit is not None and (not _is_int(self.rate_limit) or self.rate_limit < 1):
            raise ValueError("rate_limit must be a whole number from 1, or nothing for no limit")
        number("rate_window", self.rate_window, above=0)
        number("block_seconds", self.block_seconds)
        number("clock_offset", self.clock_offset, above=-math.inf)
        if self.idle_seconds is not None:
            number("idle_seconds", self.idle_seconds)
        if not isinstance(self.unique_names, bool):
            raise ValueError("unique_names must be true or false")
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
    paging: Paging
    order: Order
    clock_offset: float
    idle_seconds: float | None
    outage: Outage | None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def number(name: str, value: object, *, above: float | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number")
    if above is None and value < 0:
        raise ValueError(f"{name} must not be negative")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be more than {above:g}")


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; not {value!r}")

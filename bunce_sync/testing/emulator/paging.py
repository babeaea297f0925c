"""The pages of the segment list, in each of the styles that Bunce's documentation allows for."""

from __future__ import annotations

import base64
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from .http import HttpError, Response, success
from .options import Layout, Options
from .store import Store, StoredSegment

DEFAULT_PER_PAGE = 20
MAX_PER_PAGE = 100
# The documentation names the field in the response but not the query parameter.
CURSOR_PARAMETERS = ("next_page_cursor", "page_cursor", "cursor")
_MESSAGE = "Segments fetched successfully"


def list_segments(
    store: Store,
    query: str,
    options: Options,
    shuffler: random.Random,
    describe: Callable[[StoredSegment], dict[str, object]],
) -> Response:
    """Respond to ``GET /segments``.

    Args:
        query: the query string, still encoded.
        shuffler: draws the order if it is ``shuffled``.
        describe: returns the JSON object of a segment.

    Raises:
        HttpError: 422 if ``page``, ``per_page`` or the cursor is not valid.
    """
    parameters = {name: values[-1] for name, values in parse_qs(query).items()}
    page = _positive(parameters, "page", 1)
    per_page = _per_page(parameters, options)
    total = len(store.segments)

    if options.paging == "cursor":
        start = _after_cursor(store, parameters, options)
        ids = _slice(store, options, shuffler, start, per_page)
        rows = [describe(store.segments[segment_id]) for segment_id in ids]
        has_next = start + per_page < total
        cursor = _cursor(store.segments[ids[-1]], start + len(ids)) if has_next else None
        meta = {"next_page_cursor": cursor, "has_next_page": has_next, "per_page": per_page}
        return _page(rows, meta, options.layout)

    pages = -(-total // per_page)
    empty = options.empty_page
    if empty is not None and empty <= pages:
        pages += 1
    else:
        empty = None  # a page past the end is empty anyway
    pages = max(1, pages)
    number = page
    if options.paging == "ignore_page":
        number = 1
    elif options.paging == "clamp":
        number = min(page, pages)
    ids = []
    if number != empty:
        before = number - 1 if empty is None or number < empty else number - 2
        ids = _slice(store, options, shuffler, before * per_page, per_page)
    segments = [store.segments[segment_id] for segment_id in ids]
    every = options.hide_every
    rows = [describe(each) for each in segments if every is None or each.number % every]

    if options.paging != "page_meta":
        return _page(rows, None, options.layout)
    has_next = page < pages
    meta = {
        "page": page,
        "per_page": per_page,
        "total": total,
        "total_pages": pages,
        "has_next_page": has_next,
        "next_page": page + 1 if has_next else None,
    }
    return _page(rows, meta, options.layout)


def _page(
    rows: list[dict[str, object]], meta: Mapping[str, object] | None, layout: Layout
) -> Response:
    """Return the response with rows and ``meta``, if any, where the layout puts them."""
    more: dict[str, Any] = {} if meta is None else {"meta": meta}
    if layout == "nested":
        return success({"data": rows, **more}, _MESSAGE)
    return success(rows if layout == "flat" else {"data": rows}, _MESSAGE, **more)


def _per_page(parameters: Mapping[str, str], options: Options) -> int:
    per_page = _positive(parameters, "per_page", DEFAULT_PER_PAGE)
    limit = options.max_per_page
    if limit is None:
        per_page = min(per_page, MAX_PER_PAGE)
    elif per_page > limit:
        if "per_page" in parameters:
            raise HttpError(422, f"per_page must be at most {limit}")
        per_page = limit
    return per_page if options.page_cap is None else min(per_page, options.page_cap)


def _positive(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) < 1:
        raise HttpError(422, f"{name} must be a positive whole number")
    return int(text)


def _slice(
    store: Store, options: Options, shuffler: random.Random, start: int, count: int
) -> Sequence[str]:
    """Return the ids at some places of the ordered list."""
    total = len(store.segments)
    stop = min(start + count, total)
    if start >= stop:
        return []
    if options.order == "newest":
        return [store.by_age[total - 1 - place][2] for place in range(start, stop)]
    if options.order == "oldest":
        return [store.by_age[place][2] for place in range(start, stop)]
    if options.order == "random":
        return store.by_id[start:stop]  # the ids are random themselves
    return shuffler.sample(store.by_id, stop - start)  # any part of a shuffled list is a sample


def _cursor(last: StoredSegment, place: int) -> str:
    """Return a cursor: what lists sort the last segment by, and its place for shuffled lists."""
    values = (int(last.created_at.timestamp()), last.number, last.id, place)
    return base64.urlsafe_b64encode(" ".join(map(str, values)).encode()).decode()


def _after_cursor(store: Store, parameters: Mapping[str, str], options: Options) -> int:
    """Return the place after the cursor's segment, even if segments were added or removed."""
    text = next((parameters[name] for name in CURSOR_PARAMETERS if parameters.get(name)), None)
    if text is None:
        return 0
    try:
        values = base64.b64decode(text, b"-_", validate=True).decode()
        created_at, number, segment_id, place = values.split(" ")
        last = (datetime.fromtimestamp(int(created_at), UTC), int(number), segment_id)
        shuffled_place = int(place)
    except (ValueError, OverflowError, OSError):
        raise HttpError(422, "next_page_cursor is not valid") from None
    match options.order:
        case "newest":
            return len(store.by_age) - bisect_left(store.by_age, last)
        case "oldest":
            return bisect_right(store.by_age, last)
        case "random":
            return bisect_right(store.by_id, segment_id)
        case _:
            return shuffled_place

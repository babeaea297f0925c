"""A page of the list of segments, in each of the styles Bunce's sources speak of."""

from __future__ import annotations

import base64
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import islice
from urllib.parse import parse_qs

from .messages import Response, success
from .options import Options
from .state import Store, StoredSegment
from .validation import InvalidError

DEFAULT_PER_PAGE = 20
MAX_PER_PAGE = 100
# The name of the parameter is not documented; that of the field in the answer is.
CURSOR_PARAMETERS = ("next_page_cursor", "page_cursor", "cursor")
_MESSAGE = "Segments fetched successfully"


def list_segments(
    store: Store,
    query: str,
    options: Options,
    shuffler: random.Random,
    describe: Callable[[StoredSegment], dict[str, object]],
) -> Response:
    """Answer ``GET /segments``.

    Args:
        query: the query string, not decoded.
        shuffler: draws the order when it is ``shuffled``.
        describe: turns a segment into what an answer says of it.

    Raises:
        InvalidError: ``page``, ``per_page`` or the cursor cannot be read.
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
        cursor = _cursor(ids[-1], start + len(ids)) if has_next else None
        meta = {"next_page_cursor": cursor, "has_next_page": has_next, "per_page": per_page}
        return success(rows, _MESSAGE, meta=meta)

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
    if number == empty:
        ids = []
    else:
        before = number - 1 if empty is None or number < empty else number - 2
        ids = _slice(store, options, shuffler, before * per_page, per_page)
    hidden = _hidden(store, options)
    rows = [describe(store.segments[each]) for each in ids if each not in hidden]

    if options.paging in ("page_meta", "nested"):
        has_next = page < pages
        meta = {
            "page": page,
            "per_page": per_page,
            "total": total,
            "total_pages": pages,
            "has_next_page": has_next,
            "next_page": page + 1 if has_next else None,
        }
        if options.paging == "nested":
            return success({"data": rows, "meta": meta}, _MESSAGE)
        return success(rows, _MESSAGE, meta=meta)
    return success(rows, _MESSAGE)


def _per_page(parameters: dict[str, str], options: Options) -> int:
    per_page = _positive(parameters, "per_page", DEFAULT_PER_PAGE)
    limit = options.max_per_page
    if limit is None:
        per_page = min(per_page, MAX_PER_PAGE)
    elif per_page > limit:
        if "per_page" in parameters:
            raise InvalidError(f"per_page must be at most {limit}")
        per_page = limit
    return per_page if options.page_cap is None else min(per_page, options.page_cap)


def _hidden(store: Store, options: Options) -> set[str]:
    """Return the ids of the segments that lists leave out."""
    if options.hide_every is None:
        return set()
    return set(islice(store.segments, options.hide_every - 1, None, options.hide_every))


def _positive(parameters: dict[str, str], name: str, default: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) < 1:
        raise InvalidError(f"{name} must be a positive whole number")
    return int(text)


def _slice(
    store: Store, options: Options, shuffler: random.Random, start: int, count: int
) -> Sequence[str]:
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
    return shuffler.sample(store.by_id, total)[start:stop]


def _cursor(last_id: str, place: int) -> str:
    """Return a cursor: the last segment seen, and its place for an order that has no other."""
    return base64.urlsafe_b64encode(f"{last_id}:{place}".encode()).decode()


def _after_cursor(store: Store, parameters: dict[str, str], options: Options) -> int:
    """Return the place behind the cursor's segment, wherever that segment is by now."""
    text = next((parameters[name] for name in CURSOR_PARAMETERS if parameters.get(name)), None)
    if text is None:
        return 0
    try:
        last_id, _, place = base64.b64decode(text, b"-_", validate=True).decode().partition(":")
        last, number = store.segments[last_id], int(place)
    except (ValueError, KeyError):
        raise InvalidError("next_page_cursor is not valid") from None
    if options.order == "random":
        return bisect_right(store.by_id, last_id)
    if options.order == "shuffled":
        return number
    place_by_age = bisect_left(store.by_age, last.created_at, key=lambda entry: entry[0])
    while store.by_age[place_by_age][2] != last_id:  # others of the same second
        place_by_age += 1
    if options.order == "oldest":
        return place_by_age + 1
    return len(store.by_age) - place_by_age

"""Where Bunce's list continues and where it ends, in every style of paging its sources mention.

A segment that is missing from a list that was read to its end is created again. So the end must be
certain. It is exactly one of:

- ``has_next_page: false``;
- a cursor was followed and there is no further one, unless ``has_next_page`` is true;
- two empty pages in a row, unless ``has_next_page`` is true on the second (an error);
- the last page is repeated: a page and the one before it are the same at the same time. Where
  all pages are the same, that is an end only with ``next_page_cursor: null``: a list with cursors
  that has one page.

A short page, a single empty page, a page count or a total prove nothing: a server may limit its
page size, or filter rows after paging.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from ..exceptions import UnusableResponse
from ..fingerprint import clean
from .responses import parse_bool, read_listed_segment
from .types import RemoteSegment

DEFAULT_PER_PAGE: Final = 100
MAX_PER_PAGE: Final = 1000
MAX_PAGES: Final = 100_000
MAX_CURSOR_LENGTH: Final = 4000

MAX_REPEATS: Final = 3
"""How often the same rows may be repeated after an empty page."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list, by default the first page, with what the previous pages have shown.

    The last six attributes detect servers that repeat pages. Digests replace ids and cursors to
    keep a stored position small.

    Attributes:
        page: the number of the page, from 1; also counted when a cursor is followed.
        cursor: the cursor to continue with, from Bunce.
        per_page: rows to request.
        last_ids: a digest of the ids on the last page that had rows, in any order.
        after_empty: whether the previous page had no rows.
        rereading: whether the page is read a second time because the one after it was the same.
        repeats: how often the rows of ``last_ids`` were repeated after an empty page.
        first_id: a digest of the first id on page 1, or on a later page that had moved down from
            there. A page that still contains it is page 1: the server ignores ``page``.
        earlier_cursor: a digest of an earlier cursor, to detect cursors that form a cycle.
    """

    page: int = 1
    cursor: str | None = field(default=None, repr=False)
    per_page: int = DEFAULT_PER_PAGE
    last_ids: str = ""
    after_empty: bool = False
    rereading: bool = False
    repeats: int = 0
    first_id: str = ""
    earlier_cursor: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object to store, for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Position:
        """Return the position that was stored.

        Raises:
            ValueError: it is not a position, or another release stored it in another format.
        """
        try:
            position = cls(**value)
        except TypeError:
            raise ValueError("not a stored position") from None
        types = {name: type(default) for name, default in asdict(cls()).items() if name != "cursor"}
        if (
            any(type(getattr(position, name)) is not kind for name, kind in types.items())
            or not isinstance(position.cursor, str | None)
            or position.page < 1
            or not 1 <= position.per_page <= MAX_PER_PAGE
        ):
            raise ValueError("not a stored position")
        return position


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list.

    Attributes:
        segments: its rows, in Bunce's order, about which nothing is documented.
        next: where the list continues; ``None`` at its end.
    """

    segments: tuple[RemoteSegment, ...]
    next: Position | None


def query_parameters(position: Position) -> dict[str, str]:
    """Return the query parameters that request a page.

    The Node SDK uses ``cursor`` for other lists; for segments no parameter is documented.
    """
    place = {"page": str(position.page)} if position.cursor is None else {"cursor": position.cursor}
    return {**place, "per_page": str(position.per_page)}


def read_page(content: Any, position: Position, *, http_status: int | None) -> Page:
    """Return the page in a response.

    Args:
        content: the decoded body.
        position: which page was requested.
        http_status: the status of the response, for the error.

    Raises:
        UnusableResponse: it is not a list, or a row cannot be read (``wrong_shape``), or the list
            cannot be followed to its end (``paging``).
    """
    rows, places = _rows_and_places(content)
    if rows is None:
        raise UnusableResponse(
            "the response has no list of segments", code="wrong_shape", http_status=http_status
        )
    segments = tuple(read_listed_segment(row, http_status=http_status) for row in rows)
    has_next = _has_next_page(places)
    if has_next is False:
        return Page(segments, None)
    try:
        cursor, is_null = _cursor(places)
        if cursor is not None or position.cursor is not None:
            following = _after_cursor(segments, position, cursor, has_next)
        else:
            following = _after_number(segments, position, has_next, is_null)
        if following is not None and following.page > MAX_PAGES:
            raise _paging_error(f"more than {MAX_PAGES} pages")
    except UnusableResponse as error:
        error.http_status = http_status
        raise
    return Page(segments, following)


def walk(
    fetch: Callable[[Position], Page], position: Position | None = None
) -> Iterator[RemoteSegment]:
    """Yield every segment once, page after page, to the end of the list.

    Args:
        fetch: returns the page at a position.
        position: where to start; by default at the first page.

    Raises:
        UnusableResponse: from ``fetch``.
    """
    known: set[str] = set()
    following: Position | None = position or Position()
    while following is not None:
        page = fetch(following)
        for segment in page.segments:
            if segment.id not in known:
                known.add(segment.id)
                yield segment
        following = page.next


def _after_cursor(
    segments: tuple[RemoteSegment, ...],
    position: Position,
    cursor: str | None,
    has_next: bool | None,
) -> Position | None:
    """Return where a list with cursors continues; ``None`` at its end."""
    if cursor is None and has_next is not True:
        return None
    ids = _page_digest(segments)
    repeated = bool(segments) and ids == position.last_ids and not position.after_empty
    if cursor is None or cursor == position.cursor or repeated:
        raise _paging_error("the cursor does not lead to another page")
    here = _digest(cursor)
    if here == position.earlier_cursor:
        raise _paging_error("the cursors form a cycle")
    page = position.page + 1 + position.rereading
    # Brent's algorithm finds a cycle of any length: one cursor is remembered, at growing distances.
    remembered = page & (page - 1) == 0
    return Position(
        page=page,
        cursor=cursor,
        per_page=position.per_page,
        last_ids=ids if segments else position.last_ids,
        after_empty=not segments,
        earlier_cursor=here if remembered else position.earlier_cursor,
    )


def _after_number(
    segments: tuple[RemoteSegment, ...],
    position: Position,
    has_next: bool | None,
    cursor_is_null: bool,
) -> Position | None:
    """Return where a list with page numbers continues; ``None`` at its end.

    Args:
        cursor_is_null: there is a ``next_page_cursor``, and it is null.
    """
    if position.rereading:
        return _after_rereading(segments, position, has_next, cursor_is_null)
    following = replace(position, page=position.page + 1, after_empty=not segments)
    if not segments:
        if position.after_empty and has_next is True:
            raise _paging_error("has_next_page is true, but the pages are empty")
        return None if position.after_empty else following
    ids = _page_digest(segments)
    following = replace(following, last_ids=ids, first_id=_first_id(segments, position))
    if ids != position.last_ids:
        return replace(following, repeats=0)
    if position.after_empty:
        # With an empty page between them, the two pages were not the same at the same time. Two
        # pages of new segments may have pushed the rows down, or the server is faulty.
        if position.repeats >= MAX_REPEATS:
            raise _paging_error("the same rows are repeated after each empty page")
        return replace(following, repeats=position.repeats + 1)
    # Either the server repeats its last page past the end, or new segments have pushed down the
    # whole previous page, which is then a different one now.
    return replace(following, page=position.page - 1, rereading=True)


def _after_rereading(
    segments: tuple[RemoteSegment, ...],
    position: Position,
    has_next: bool | None,
    cursor_is_null: bool,
) -> Position | None:
    """Return where the list continues after a page was read twice; ``None`` at its end."""
    if _page_digest(segments) != position.last_ids:
        # New segments had pushed its rows down to the next page, which was already read.
        return replace(
            position,
            page=position.page + 2,
            rereading=False,
            repeats=0,
            first_id=_first_id(segments, position),
        )
    # Both pages are the same at the same time: this server repeats the last page past the end.
    if has_next is True:
        raise _paging_error("all pages are the same, but has_next_page is true")
    if (position.page == 1 or _contains(segments, position.first_id)) and not cursor_is_null:
        # It is page 1 each time: the server ignores ``page``, and there may be more rows.
        raise _paging_error("all pages are the same")
    return None


def _first_id(segments: tuple[RemoteSegment, ...], position: Position) -> str:
    """Return the ``first_id`` of the next position.

    A server that ignores ``page`` returns page 1 each time. If segments are created meanwhile, the
    pages differ, but the first id of the previous page is still among them.
    """
    is_first = position.page == 1 or (position.after_empty and not position.last_ids)
    if segments and (
        (is_first and not position.first_id) or _contains(segments, position.first_id)
    ):
        return _digest(segments[0].id)
    return position.first_id


def _contains(segments: tuple[RemoteSegment, ...], first_id: str) -> bool:
    return bool(first_id) and any(_digest(segment.id) == first_id for segment in segments)


def _rows_and_places(content: Any) -> tuple[list[Any] | None, list[Mapping[str, Any]]]:
    """Return the rows in ``data`` or ``data.data``, and the objects that may describe paging."""
    if not isinstance(content, dict):
        return None, []
    data = content.get("data")
    inside = data if isinstance(data, dict) else {}
    rows = inside.get("data") if isinstance(data, dict) else data
    places = (content.get("meta"), inside.get("meta"), inside, content)
    return (
        rows if isinstance(rows, list) else None,
        [place for place in places if isinstance(place, dict)],
    )


def _has_next_page(places: list[Mapping[str, Any]]) -> bool | None:
    """Return ``has_next_page``; True when two places contradict each other."""
    flags = [parse_bool(place.get("has_next_page")) for place in places]
    return True if True in flags else False if False in flags else None


def _cursor(places: list[Mapping[str, Any]]) -> tuple[str | None, bool]:
    """Return the cursor, and whether it is null.

    Raises:
        UnusableResponse: the cursor cannot be followed, so the rest of the list cannot be read.
    """
    named = [place["next_page_cursor"] for place in places if "next_page_cursor" in place]
    given = next((one for one in named if one), None)
    if given is None:
        return None, bool(named)
    if isinstance(given, str) and clean(given) == given and len(given) <= MAX_CURSOR_LENGTH:
        return given, False
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given), False
    raise _paging_error("the cursor cannot be read")


def _paging_error(detail: str) -> UnusableResponse:
    """Return the error for a list that cannot be followed to its end."""
    return UnusableResponse(detail, code="paging")


def _page_digest(segments: tuple[RemoteSegment, ...]) -> str:
    return _digest("\n".join(sorted(segment.id for segment in segments)))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

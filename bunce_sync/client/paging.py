"""Where a list continues and where it ends, in every style of paging that Bunce's sources mention.

From a list that was read to its end it is concluded that a segment does not exist, and then it
is created. So the end must be proven. It is exactly one of:

- ``has_next_page: false``;
- a cursor was followed and no further one is given, unless ``has_next_page`` is true;
- two empty pages in a row, unless ``has_next_page`` is true on the second (an error);
- the last page is repeated: a page and the one before it are the same at the same time. Where
  each page is the same, that is an end only with ``next_page_cursor: null``: a list with cursors
  that has one page.

A short page, a single empty page, a page count or a total prove nothing: a server may cap its
pages, or filter them after paging.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from ..exceptions import UnusableResponse
from ..fingerprint import clean
from .parse import flag_of, listed_segment
from .types import RemoteSegment

DEFAULT_PER_PAGE: Final = 100
MAX_PER_PAGE: Final = 1000
MAX_PAGES: Final = 100_000

MAX_RETURNS: Final = 3
"""How often the same rows may come again after an empty page."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list; the first page unless said otherwise.

    Attributes:
        page: the number of the page, from 1; counted also when a cursor is followed.
        cursor: what Bunce gave to continue with.
        per_page: rows to ask for.
        seen: a digest of the ids on the last page that had rows, to notice a server that repeats
            itself, be it in another order.
        empty: the page read before had no rows.
        again: the page is read once more, as the one after it was the same.
        returns: how often the rows of ``seen`` came again after an empty page.
        top: a digest of the first id on page 1, or on a later page that had moved down from there:
            a page that still holds it is page 1, and the server ignores ``page``.
        mark: a digest of an earlier cursor, to notice cursors that go round in a circle.
    """

    page: int = 1
    cursor: str | None = field(default=None, repr=False)
    per_page: int = DEFAULT_PER_PAGE
    seen: str = ""
    empty: bool = False
    again: bool = False
    returns: int = 0
    top: str = ""
    mark: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object to store, for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Position:
        """Return the position that was stored.

        Raises:
            ValueError: it is not one, or another release stored it in its own way.
        """
        try:
            position = cls(**value)
        except TypeError:
            raise ValueError("not a stored position") from None
        if (
            any(
                type(getattr(position, name)) is not int for name in ("page", "per_page", "returns")
            )
            or any(type(getattr(position, name)) is not bool for name in ("empty", "again"))
            or any(type(getattr(position, name)) is not str for name in ("seen", "top", "mark"))
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


def query_of(position: Position) -> dict[str, str]:
    """Return the parameters that ask for this page.

    ``cursor`` is named so by the Node SDK's other lists; for segments none is documented.
    """
    place = {"page": str(position.page)} if position.cursor is None else {"cursor": position.cursor}
    return {**place, "per_page": str(position.per_page)}


def page_of(content: Any, position: Position, *, http_status: int | None) -> Page:
    """Return the page in an answer.

    Args:
        content: the decoded answer.
        position: which page was asked for.
        http_status: the status of the answer, for the error.

    Raises:
        UnusableResponse: not a list or a row that cannot be read (``wrong_shape``), or the list
            cannot be followed to its end (``paging``).
    """
    rows, places = _rows_and_places(content)
    if rows is None:
        raise UnusableResponse(
            "the answer has no list of segments", code="wrong_shape", http_status=http_status
        )
    segments = tuple(listed_segment(row, http_status=http_status) for row in rows)
    more = _promise(places)
    if more is False:
        return Page(segments, None)
    try:
        cursor, ended = _cursor(places)
        if cursor is not None or position.cursor is not None:
            following = _after_cursor(segments, position, cursor, more)
        else:
            following = _after_number(segments, position, more, ended)
        if following is not None and following.page > MAX_PAGES:
            raise _lost(f"more than {MAX_PAGES} pages")
    except UnusableResponse as error:
        error.http_status = http_status
        raise
    return Page(segments, following)


def walk(
    fetch: Callable[[Position], Page], position: Position | None = None
) -> Iterator[RemoteSegment]:
    """Yield every segment once, page after page, to the end of the list.

    Args:
        fetch: gives the page at a position.
        position: where to begin; the first page when not given.

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
    segments: tuple[RemoteSegment, ...], position: Position, cursor: str | None, more: bool | None
) -> Position | None:
    """Return where a list with cursors continues; ``None`` at its end."""
    if cursor is None and more is not True:
        return None
    seen = _page_digest(segments)
    repeated = bool(segments) and seen == position.seen and not position.empty
    if cursor is None or cursor == position.cursor or repeated:
        raise _lost("the cursor leads nowhere")
    here = _digest(cursor)
    if here == position.mark:
        raise _lost("the cursors go round in a circle")
    page = position.page + 1 + position.again
    # Brent's way to find a circle of any length: one cursor is remembered, at growing distances.
    remembered = page & (page - 1) == 0
    return Position(
        page=page,
        cursor=cursor,
        per_page=position.per_page,
        seen=seen if segments else position.seen,
        empty=not segments,
        mark=here if remembered else position.mark,
    )


def _after_number(
    segments: tuple[RemoteSegment, ...], position: Position, more: bool | None, ended: bool
) -> Position | None:
    """Return where a list with page numbers continues; ``None`` at its end.

    Args:
        ended: there is a ``next_page_cursor``, and it is null.
    """
    if position.again:
        return _after_second_look(segments, position, more, ended)
    following = replace(position, page=position.page + 1, empty=not segments)
    if not segments:
        if position.empty and more is True:
            raise _lost("more is promised, but there are empty pages only")
        return None if position.empty else following
    seen = _page_digest(segments)
    following = replace(following, seen=seen, top=_top(segments, position))
    if seen != position.seen:
        return replace(following, returns=0)
    if position.empty:
        # An empty page lies between, so these are not two pages that are the same at once. Two
        # pages' worth of new segments may have pushed the rows down, or the server is not sound.
        if position.returns >= MAX_RETURNS:
            raise _lost("the same rows come again after each empty page")
        return replace(following, returns=position.returns + 1)
    # The server repeats its last page past its end; or new segments have pushed down the whole
    # page that was read just before: then it is another one by now.
    return replace(following, page=position.page - 1, again=True)


def _after_second_look(
    segments: tuple[RemoteSegment, ...], position: Position, more: bool | None, ended: bool
) -> Position | None:
    """Return where the list continues after a page was read again; ``None`` at its end."""
    if _page_digest(segments) != position.seen:
        # Its rows have moved on to the page that was read before this second look.
        return replace(
            position, page=position.page + 2, again=False, returns=0, top=_top(segments, position)
        )
    # Both pages are the same at the same time: past its end, this server repeats the last page.
    if more is True:
        raise _lost("each page is the same, and more is promised")
    if (position.page == 1 or _holds(segments, position.top)) and not ended:
        # It was page 1 all the time: the server ignores the number, and there may be more rows.
        raise _lost("each page is the same")
    return None


def _top(segments: tuple[RemoteSegment, ...], position: Position) -> str:
    """Return the ``top`` for the following position.

    A server that ignores ``page`` gives page 1 each time, though not the same when segments are
    created meanwhile: the first id of the page before is still on it.
    """
    first = position.page == 1 or (position.empty and not position.seen)
    if segments and ((first and not position.top) or _holds(segments, position.top)):
        return _digest(segments[0].id)
    return position.top


def _holds(segments: tuple[RemoteSegment, ...], top: str) -> bool:
    return bool(top) and any(_digest(segment.id) == top for segment in segments)


def _rows_and_places(content: Any) -> tuple[list[Any] | None, list[Mapping[str, Any]]]:
    """Return the rows in ``data`` or ``data.data``; the objects that may speak of paging."""
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


def _promise(places: list[Mapping[str, Any]]) -> bool | None:
    """Return ``has_next_page``; where two places contradict each other, there is more."""
    flags = [flag_of(place.get("has_next_page")) for place in places]
    return True if True in flags else False if False in flags else None


def _cursor(places: list[Mapping[str, Any]]) -> tuple[str | None, bool]:
    """Return the cursor that is given, and whether one is given as null instead.

    Raises:
        UnusableResponse: it cannot be followed, so there is more that cannot be read.
    """
    named = [place["next_page_cursor"] for place in places if "next_page_cursor" in place]
    given = next((one for one in named if one), None)
    if given is None:
        return None, bool(named)
    if isinstance(given, str) and clean(given) == given:
        return given, False
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given), False
    raise _lost("the cursor cannot be read")


def _lost(detail: str) -> UnusableResponse:
    """Return the error for a list that cannot be followed to its end."""
    return UnusableResponse(detail, code="paging")


def _page_digest(segments: tuple[RemoteSegment, ...]) -> str:
    return _digest("\n".join(sorted(segment.id for segment in segments)))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

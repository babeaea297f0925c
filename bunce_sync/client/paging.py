"""Where a list goes on, in every style of paging that Bunce's sources mention.

From a list that was read to its end it is concluded that a segment does not exist, and then it
is created. So an end is only believed when nothing speaks against it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from ..exceptions import UnusableAnswer
from .parse import listed_segment
from .types import RemoteSegment

DEFAULT_PER_PAGE: Final = 20
"""Bunce's documented page size. No cap on ``per_page`` can sensibly be lower."""

MAX_PAGES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list; the first page unless said otherwise.

    Attributes:
        page: the number of the page, from 1; counted also when a cursor is followed.
        cursor: what Bunce gave to continue with.
        size: rows of the largest page so far: a server may give fewer than asked for.
        seen: a digest of the ids on the page read before, to notice a server that repeats itself,
            be it in another order.
        again: the page is read once more, as the one after it was the same.
    """

    page: int = 1
    cursor: str | None = None
    size: int = 0
    seen: str = ""
    again: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object to store, for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Position:
        """The position that was stored.

        Raises:
            ValueError: it is not one.
        """
        try:
            position = cls(**value)
        except TypeError:
            raise ValueError("not a stored position") from None
        if (
            type(position.page) is not int
            or type(position.size) is not int
            or not isinstance(position.cursor, str | None)
            or not isinstance(position.seen, str)
            or type(position.again) is not bool
            or position.page < 1
        ):
            raise ValueError("not a stored position")
        return position


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list.

    Attributes:
        segments: its rows, in Bunce's order, about which nothing is documented.
        next: where the list goes on; ``None`` at its end.
    """

    segments: tuple[RemoteSegment, ...]
    next: Position | None


def query_of(position: Position, per_page: int) -> dict[str, str]:
    """The parameters that ask for this page.

    ``cursor`` is named so by the Node SDK's other lists; for segments none is documented.
    """
    place = {"page": str(position.page)} if position.cursor is None else {"cursor": position.cursor}
    return {**place, "per_page": str(per_page)}


def page_of(content: Any, position: Position, per_page: int, *, http_status: int | None) -> Page:
    """The page in an answer.

    Args:
        content: the decoded answer.
        position: which page was asked for.
        per_page: how many rows were asked for.
        http_status: the status of the answer, for the error.

    Raises:
        UnusableAnswer: not a list or a row that cannot be read (``wrong_shape``), or the list
            cannot be followed to its end (``paging``).
    """
    rows, meta = _rows_and_meta(content)
    if rows is None:
        raise UnusableAnswer(
            "the answer has no list of segments", code="wrong_shape", http_status=http_status
        )
    segments = tuple(listed_segment(row, http_status=http_status) for row in rows)
    seen = _digest(segments)
    cursor = meta.get("next_page_cursor")
    cursor = str(cursor) if isinstance(cursor, str | int) and cursor else None
    more = meta.get("has_next_page")
    repeated = bool(segments) and seen == position.seen
    following = Position(
        # What was read again was only the page before the last one.
        page=position.page + 1 + position.again,
        cursor=cursor,
        size=max(position.size, len(segments)),
        seen=position.seen if position.again else seen,
    )
    end = Page(segments, None)
    if more is False:
        return end
    if cursor is not None or position.cursor is not None:
        if cursor is None and more is not True:
            return end
        if cursor is None or cursor == position.cursor or repeated:
            raise _lost("the cursor leads nowhere", http_status)
    elif not segments:
        return end
    elif repeated and position.again:
        # Both pages are the same at the same time: past its end, this server repeats the last
        # page, unless it knows but one or says that there are more.
        if position.page == 1 or more is True:
            raise _lost("each page is the same", http_status)
        return end
    elif repeated:
        # Or new segments have pushed down the whole page that was read just now: then it is
        # another one by now.
        following = replace(following, page=position.page - 1, again=True)
    elif (
        not position.again and more is not True and len(segments) < _full(meta, position, per_page)
    ):
        return end
    if following.page > MAX_PAGES:
        raise _lost(f"more than {MAX_PAGES} pages", http_status)
    return Page(segments, following)


def walk(fetch: Callable[[Position], Page]) -> Iterator[RemoteSegment]:
    """Every segment once, page after page, to the end of the list.

    Args:
        fetch: gives the page at a position.

    Raises:
        UnusableAnswer: from ``fetch``; or the cursors go round in a circle (``paging``).
    """
    known: set[str] = set()
    cursors: set[str] = set()
    position: Position | None = Position()
    while position is not None:
        page = fetch(position)
        for segment in page.segments:
            if segment.id not in known:
                known.add(segment.id)
                yield segment
        position = page.next
        if position is not None and position.cursor is not None:
            if position.cursor in cursors:
                raise _lost("the cursors go round in a circle", None)
            cursors.add(position.cursor)


def _full(meta: Mapping[str, Any], position: Position, per_page: int) -> int:
    """How many rows a page has at least when it is not the last.

    The largest page so far is the measure, and for the first page the documented page size, or
    what the server says of its pages if that is less. If it says more, that proves nothing: it may
    repeat what was asked, and have a cap all the same.
    """
    told = meta.get("per_page")
    if not isinstance(told, int) or isinstance(told, bool) or told <= 0:
        told = per_page
    return max(position.size, min(told, DEFAULT_PER_PAGE))


def _rows_and_meta(content: Any) -> tuple[list[Any] | None, Mapping[str, Any]]:
    """The rows in ``data`` or ``data.data``; what is said of paging, beside or inside."""
    if not isinstance(content, dict):
        return None, {}
    data = content.get("data")
    inside = data if isinstance(data, dict) else {}
    rows = inside.get("data") if isinstance(data, dict) else data
    meta: dict[str, Any] = {}
    for place in (inside, inside.get("meta"), content.get("meta")):
        if isinstance(place, dict):
            meta |= place
    return (rows if isinstance(rows, list) else None), meta


def _digest(segments: tuple[RemoteSegment, ...]) -> str:
    ids = "\n".join(sorted(segment.id for segment in segments))
    return hashlib.blake2b(ids.encode(), digest_size=8).hexdigest()


def _lost(detail: str, http_status: int | None) -> UnusableAnswer:
    return UnusableAnswer(detail, code="paging", http_status=http_status)

"""A list is followed to its end in every style of paging, and the end must be certain."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bunce_sync.client import BunceClient, Page, Position, RequestRecord
from bunce_sync.client.paging import MAX_PAGES, MAX_REPEATS, query_parameters, read_page, walk
from bunce_sync.exceptions import UnusableResponse
from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.emulator.options import Layout, Paging
from tests.emulator_client import LIST_STYLES

from .raw_server import Peer, RawServer, Script, http

KEY = "sk_test_6fP1xVnZk2QeLw"

Content = dict[str, Any]
Server = Callable[[int, str | None, int], Content]


def rows(first: int, stop: int) -> list[Content]:
    return [{"id": f"id-{number}", "name": f"{number}"} for number in range(first, stop)]


def read(server: Server, per_page: int = 100) -> tuple[list[str], list[int]]:
    """Return the ids that a scan by ``list_page`` finds, and the numbers of the pages it read."""
    ids: list[str] = []
    pages: list[int] = []
    position: Position | None = Position(per_page=per_page)
    while position is not None:
        pages.append(position.page)
        assert position.per_page == per_page
        content = json.loads(json.dumps(server(position.page, position.cursor, per_page)))
        page = read_page(content, position, http_status=200)
        ids += [segment.id for segment in page.segments]
        position = page.next and Position.from_json(json.loads(json.dumps(page.next.to_json())))
    return ids, pages


def refused(server: Server) -> tuple[str, list[int]]:
    """Return why the list of this server cannot be read, and the pages that were requested."""
    asked: list[int] = []

    def counting(page: int, cursor: str | None, per_page: int) -> Content:
        asked.append(page)
        return server(page, cursor, per_page)

    with pytest.raises(UnusableResponse) as caught:
        read(counting)
    assert (type(caught.value), caught.value.code) == (UnusableResponse, "paging")
    assert caught.value.http_status == 200
    return caught.value.detail, asked


def all_ids(total: int) -> list[str]:
    return [f"id-{number}" for number in range(total)]


def numbered(total: int, /, cap: int = 100, **meta: Any) -> Server:
    """A server that returns pages by number, at most ``cap`` rows at a time."""

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        size = min(cap, per_page)
        found = rows((page - 1) * size, min(page * size, total))
        return {"data": found, **({"meta": meta} if meta else {})}

    return server


def from_table(*pages: Content) -> Server:
    """Return a server with these responses for its pages, and the last one for further pages."""
    return lambda page, cursor, per_page: pages[min(page, len(pages)) - 1]


@pytest.mark.parametrize(
    ("total", "pages"),
    [(0, 2), (1, 3), (19, 3), (20, 3), (99, 3), (100, 3), (101, 4), (250, 5)],
)
def test_pages_by_number_end_with_two_empty_pages(total: int, pages: int) -> None:
    assert read(numbered(total)) == (all_ids(total), list(range(1, pages + 1)))


@pytest.mark.parametrize("cap", [1, 7, 10, 50])
@pytest.mark.parametrize("total", [0, 1, 9, 10, 50, 90, 100])
def test_server_that_returns_fewer_rows_than_requested_is_read_to_its_end(
    total: int, cap: int
) -> None:
    for per_page in (20, 100):
        assert read(numbered(total, cap=cap), per_page)[0] == all_ids(total)


@pytest.mark.parametrize(
    "meta",
    [
        {"per_page": 10, "page": 1},
        {"per_page": 100, "total": 10},
        {"last_page": 1, "total_pages": 1, "current_page": 1},
        {"next_page": None, "links": {"next": None}},
        {"has_next_page": "perhaps"},
        {"has_next_page": None},
    ],
)
def test_other_paging_fields_do_not_end_the_list(meta: Content) -> None:
    assert read(numbered(35, cap=10, **meta))[0] == all_ids(35)


def filtered(total: int, hidden: Callable[[int], bool], **meta: Any) -> Server:
    """Return a server that filters each page after paging."""

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        found = rows((page - 1) * 20, min(page * 20, total))
        shown = [row for number, row in enumerate(found, (page - 1) * 20) if not hidden(number)]
        return {"data": shown, **({"meta": meta} if meta else {})}

    return server


@pytest.mark.parametrize("empty", [0, 20, 40, 60, 80])
def test_server_that_filters_after_paging_is_read_to_its_end(empty: int) -> None:
    """One page of 20 is empty, the others have 19 rows each."""

    def hidden(number: int) -> bool:
        return empty <= number < empty + 20 or number % 20 == 7

    expected = [f"id-{number}" for number in range(100) if not hidden(number)]
    assert read(filtered(100, hidden))[0] == expected
    assert [one.id for one in walk(fetching(filtered(100, hidden)))] == expected


def test_each_second_page_may_be_empty() -> None:
    found, pages = read(filtered(200, lambda number: number // 20 % 2 == 1))
    assert len(found) == 100
    assert pages == list(range(1, 12))


def test_after_an_empty_page_that_promises_more_reading_continues_until_false() -> None:
    server = from_table(
        {"data": rows(0, 5), "meta": {"has_next_page": True}},
        {"data": [], "meta": {"has_next_page": True}},
        {"data": rows(5, 8), "meta": {"has_next_page": False}},
    )
    assert read(server) == (all_ids(8), [1, 2, 3])


def test_two_empty_pages_do_not_end_the_list_when_the_second_promises_more() -> None:
    empty = {"data": [], "meta": {"has_next_page": True}}
    detail, asked = refused(from_table({"data": rows(0, 5)}, empty))
    assert "has_next_page is true" in detail
    assert asked == [1, 2, 3]


@pytest.mark.parametrize("no", [False, 0, "false", "0", " False "])
def test_has_next_page_false_is_the_end(no: object) -> None:
    assert read(numbered(100, has_next_page=no)) == (all_ids(100), [1])
    assert read(lambda *asked: {"data": rows(0, 3), "has_next_page": no}) == (all_ids(3), [1])


@pytest.mark.parametrize("yes", [True, 1, "true", "1"])
def test_has_next_page_true_is_followed(yes: object) -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        found = {1: rows(0, 5), 2: rows(5, 7), 3: rows(7, 8)}[page]
        return {"data": found, "meta": {"has_next_page": yes if page < 3 else 0, "per_page": 100}}

    assert read(server) == (all_ids(8), [1, 2, 3])
    looping = from_table({"data": rows(0, 5)}, {"data": [], "meta": {"has_next_page": yes}})
    assert refused(looping)[1] == [1, 2, 3]


def test_where_two_places_contradict_each_other_there_is_more() -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        data = {"data": rows(page * 5 - 5, page * 5), "has_next_page": page < 3}
        return {"data": data, "meta": {"has_next_page": False}}

    assert read(server) == (all_ids(15), [1, 2, 3])

    def null_beside(page: int, cursor: str | None, per_page: int) -> Content:
        inside = {"next_page_cursor": "a" if cursor is None else None}
        start = 0 if cursor is None else 5
        data = {"data": rows(start, start + 5), "meta": inside}
        return {"data": data, "meta": {"next_page_cursor": None}}

    assert read(null_beside) == (all_ids(10), [1, 2])


def with_cursor(total: int, shape: Callable[[list[Content], Content], Content]) -> Server:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        start = int(cursor or 0)
        stop = min(start + 7, total)
        more = stop < total
        meta = {"next_page_cursor": str(stop) if more else None, "has_next_page": more}
        return shape(rows(start, stop), meta)

    return server


SHAPES: dict[str, Callable[[list[Content], Content], Content]] = {
    "meta beside": lambda found, meta: {"data": found, "meta": meta},
    "meta inside": lambda found, meta: {"data": {"data": found, "meta": meta}},
    "rows inside, meta beside": lambda found, meta: {"data": {"data": found}, "meta": meta},
    "all inside": lambda found, meta: {"data": {"data": found, **meta}},
    "all on top": lambda found, meta: {"data": found, **meta},
    "cursor only": lambda found, meta: {
        "data": found,
        "meta": {"next_page_cursor": meta["next_page_cursor"]},
    },
    "end without a null cursor": lambda found, meta: {
        "data": found,
        "meta": {"next_page_cursor": meta["next_page_cursor"]} if meta["has_next_page"] else {},
    },
    "number as cursor": lambda found, meta: {
        "data": found,
        "meta": {"next_page_cursor": meta["next_page_cursor"] and int(meta["next_page_cursor"])},
    },
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("total", [0, 1, 7, 8, 30])
def test_cursor_is_followed_in_every_shape(shape: str, total: int) -> None:
    server = with_cursor(total, SHAPES[shape])
    if total in (1, 7) and shape == "end without a null cursor":
        assert refused(server) == ("all pages are the same", [1, 2, 1])  # no cursor was ever seen
    else:
        assert list(dict.fromkeys(read(server)[0])) == all_ids(total)
    assert len(read(with_cursor(30, SHAPES[shape]))[1]) == 5


def test_list_of_one_page_with_a_null_cursor_ends_though_it_ignores_the_page() -> None:
    server = from_table({"data": rows(0, 5), "meta": {"next_page_cursor": None}})
    assert read(server)[1] == [1, 2, 1]


def test_null_cursor_does_not_end_the_list_when_more_is_promised() -> None:
    meta = {"next_page_cursor": None, "has_next_page": True}
    assert refused(from_table({"data": rows(0, 5), "meta": meta}))[1] == [1, 2, 1]


def test_null_cursor_beside_numbered_pages_does_not_end_the_list() -> None:
    assert read(numbered(35, cap=10, next_page_cursor=None))[0] == all_ids(35)


@pytest.mark.parametrize("cursor", [True, 1.5, ["a"], {"a": 1}, "\ud800", "a\0", "a" * 4001])
def test_cursor_that_cannot_be_read_is_refused(cursor: object) -> None:
    def server(page: int, asked: str | None, per_page: int) -> Content:
        return {"data": rows(0, 5), "meta": {"next_page_cursor": cursor if asked else "a"}}

    assert refused(server) == ("the cursor cannot be read", [1, 2])


def test_after_an_empty_page_with_a_cursor_reading_continues() -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        found = {None: rows(0, 3), "a": [], "b": rows(3, 5)}[cursor]
        following = {None: "a", "a": "b", "b": None}[cursor]
        return {"data": found, "meta": {"next_page_cursor": following}}

    assert read(server) == (all_ids(5), [1, 2, 3])
    assert [one.id for one in walk(fetching(server))] == all_ids(5)


def test_rows_repeated_after_an_empty_page_with_a_cursor_are_not_an_error() -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        found = {None: rows(0, 3), "a": [], "b": rows(0, 3), "c": rows(3, 5)}[cursor]
        following = {None: "a", "a": "b", "b": "c", "c": None}[cursor]
        return {"data": found, "meta": {"next_page_cursor": following}}

    assert list(dict.fromkeys(read(server)[0])) == all_ids(5)


def fetching(server: Server) -> Callable[[Position], Page]:
    def fetch(position: Position) -> Page:
        content = server(position.page, position.cursor, 100)
        return read_page(content, position, http_status=200)

    return fetch


@pytest.mark.parametrize(
    ("server", "pages"),
    [
        (lambda page, cursor, per_page: {"data": rows(0, 100)}, [1, 2, 1]),
        (lambda page, cursor, per_page: {"data": rows(0, 50)}, [1, 2, 1]),
        (lambda page, cursor, per_page: {"data": rows(0, 100)[:: (-1) ** page]}, [1, 2, 1]),
        (
            lambda page, cursor, per_page: {
                "data": rows(min(page, 3) * 5, min(page, 3) * 5 + 5),
                "meta": {"per_page": 5, "has_next_page": True},
            },
            [1, 2, 3, 4, 3],
        ),
        (
            lambda page, cursor, per_page: {
                "data": rows(0, 5),
                "meta": {"next_page_cursor": "a"},
            },
            [1, 2],
        ),
        (
            lambda page, cursor, per_page: {
                "data": rows(0, 5),
                "meta": {"next_page_cursor": f"{page}"},
            },
            [1, 2],
        ),
        (
            lambda page, cursor, per_page: {
                "data": rows(page * 5, page * 5 + 5),
                "meta": {"next_page_cursor": f"{min(page, 2)}"},
            },
            [1, 2, 3],
        ),
        (
            lambda page, cursor, per_page: {
                "data": rows(page, page + 5),
                "meta": {"next_page_cursor": None if cursor else "a", "has_next_page": True},
            },
            [1, 2],
        ),
    ],
    ids=[
        "page ignored",
        "page ignored, capped",
        "page ignored, shuffled",
        "more promised forever",
        "same cursor",
        "cursor ignored",
        "same cursor, other rows",
        "cursor lost",
    ],
)
def test_list_whose_end_cannot_be_proven_is_refused_early(server: Server, pages: list[int]) -> None:
    assert refused(server)[1] == pages


@pytest.mark.parametrize("created_before", [{2}, {3}, {4}, {2, 3}, {2, 4}, set(range(2, 9))])
@pytest.mark.parametrize("by", [1, 7, 19])
def test_server_that_ignores_the_page_is_detected_while_segments_are_created(
    created_before: set[int], by: int
) -> None:
    """It shows the newest 20 of 300, whatever page is requested, so pages may differ."""
    asked = new = 0

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        nonlocal asked, new
        asked += 1
        new += by * (asked in created_before)
        return {"data": rows(-new + 300, -new + 320)}

    detail, pages = refused(server)
    assert detail == "all pages are the same"
    assert len(pages) <= 12


@pytest.mark.parametrize("at", [1, 2, 3])
def test_server_that_ignores_the_page_is_detected_despite_one_empty_page(at: int) -> None:
    asked = 0

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        nonlocal asked
        asked += 1
        return {"data": [] if asked == at else rows(0, 20)}

    assert refused(server)[0] == "all pages are the same"


def test_rows_repeated_after_an_empty_page_do_not_end_the_list() -> None:
    """Two pages' worth of new segments pushed the rows of page 5 down, behind an empty page."""
    first = [{"data": rows(number * 5, number * 5 + 5)} for number in range(5)]
    nothing: Content = {"data": []}
    rest = [nothing, {"data": rows(20, 25)}, {"data": rows(25, 30)}, nothing]
    found, pages = read(from_table(*first, *rest))
    assert list(dict.fromkeys(found)) == all_ids(30)
    assert pages == list(range(1, 11))


def test_rows_repeated_after_every_empty_page_are_refused_early() -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        return {"data": [] if page % 2 == 0 and page > 4 else rows(min(page, 5), min(page, 5) + 1)}

    detail, asked = refused(server)
    assert detail == "the same rows are repeated after each empty page"
    assert asked == list(range(1, 6 + 2 * (MAX_REPEATS + 1)))


def test_list_may_repeat_rows_often_if_it_continues_after_them() -> None:
    pages: list[Content] = []
    for start in range(0, 50, 5):
        pages += [{"data": rows(start, start + 5)}, {"data": []}, {"data": rows(start, start + 5)}]
    found, _ = read(from_table(*pages, {"data": []}))
    assert list(dict.fromkeys(found)) == all_ids(50)


def test_server_that_repeats_its_last_page_may_have_an_empty_page_before() -> None:
    server = from_table({"data": rows(0, 5)}, {"data": []}, {"data": rows(5, 8)})
    assert read(server)[1] == [1, 2, 3, 4, 3]


@pytest.mark.parametrize("pushed", [{2}, {3}, {2, 3, 4}, {3, 4, 5, 7}, set(range(2, 12))])
def test_new_segments_that_push_down_a_whole_page_are_not_taken_for_the_end(
    pushed: set[int],
) -> None:
    """Before each of these requests, a full page of new segments is inserted at the top."""
    asked = new = 0

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        nonlocal asked, new
        asked += 1
        new += asked in pushed
        start = (page - 1 - new) * 100
        return {"data": [{"id": f"{n}", "name": "x"} for n in range(start, min(start + 100, 350))]}

    assert {f"{n}" for n in range(350)} <= {one.id for one in walk(fetching(server))}


@pytest.mark.parametrize("pushed", [{2}, {3, 4}, {2, 3, 4}, set(range(2, 9))])
@pytest.mark.parametrize("by", [1, 4, 10, 25])
@pytest.mark.parametrize("clamps", [False, True])
def test_no_segment_is_missed_when_new_ones_push_rows_down(
    pushed: set[int], by: int, clamps: bool
) -> None:
    """Before each of these requests, new segments are inserted at the top of pages of ten."""
    asked = new = 0

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        nonlocal asked, new
        asked += 1
        new += by * (asked in pushed)
        last = (45 + new - 1) // 10
        start = (min(page - 1, last) if clamps else page - 1) * 10 - new
        return {"data": [{"id": f"{n}", "name": "x"} for n in range(start, min(start + 10, 45))]}

    assert {f"{n}" for n in range(45)} <= {one.id for one in walk(fetching(server))}


@pytest.mark.parametrize("last", [1, 50, 100])
@pytest.mark.parametrize("shuffled", [False, True])
def test_repeating_the_last_page_ends_the_list(last: int, shuffled: bool) -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        start = min(page - 1, 2) * 100
        found = rows(start, start + (last if start == 200 else 100))
        return {"data": found[:: (-1) ** page] if shuffled else found}

    assert set(read(server)[0]) == set(all_ids(200 + last))
    assert read(server)[1] == [1, 2, 3, 4, 3]
    assert {one.id for one in walk(fetching(server))} == set(all_ids(200 + last))


def test_last_page_that_grows_is_recognized_as_the_same_page() -> None:
    """Oldest first, a segment is created between the two reads of the last page."""
    asked = 0

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        nonlocal asked
        asked += 1
        start = min(page - 1, 1) * 10
        return {"data": rows(start, min(start + 10, 14 + (asked > 3)))}

    found, pages = read(server)
    assert list(dict.fromkeys(found)) == all_ids(15)
    assert pages == [1, 2, 3, 2, 4, 5, 4]


def test_endless_list_is_refused() -> None:
    with pytest.raises(UnusableResponse, match="pages"):
        read_page({"data": rows(0, 100)}, Position(MAX_PAGES), http_status=200)


def test_every_segment_is_returned_once_although_rows_move_while_reading() -> None:
    """New segments on top push rows from one page to the next."""

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        start = (page - 1) * 28
        return {"data": rows(start, min(start + 30, 70))}

    assert [one.id for one in walk(fetching(server))] == all_ids(70)


@pytest.mark.parametrize("length", [2, 3, 7, 50])
@pytest.mark.parametrize("before", [0, 5])
def test_cursors_that_form_a_cycle_are_refused(length: int, before: int) -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        here = int(cursor or 0)
        following = here + 1 if here + 1 < before + length else before
        return {
            "data": rows(here * 5, here * 5 + 5),
            "meta": {"next_page_cursor": f"{following}", "has_next_page": True},
        }

    detail, asked = refused(server)
    assert detail == "the cursors form a cycle"
    assert len(asked) <= 3 * (before + length)


def test_many_cursors_are_followed() -> None:
    assert read(with_cursor(2000, SHAPES["meta beside"]))[0] == all_ids(2000)


@pytest.mark.parametrize(
    "row",
    [
        None,
        5,
        [],
        {},
        {"name": "x"},
        {"id": "", "name": "x"},
        {"id": "a b", "name": "x"},
        {"id": "abc"},
        {"id": "abc", "name": 5},
        {"id": "abc", "name": "x", "description": 5},
    ],
)
def test_row_that_cannot_be_read_makes_the_page_unusable(row: object) -> None:
    with pytest.raises(UnusableResponse) as caught:
        read_page({"data": [*rows(0, 3), row]}, Position(), http_status=200)
    assert caught.value.code == "wrong_shape"


@pytest.mark.parametrize(
    "content",
    [None, [], "x", {}, {"data": None}, {"data": {}}, {"data": {"0": {"id": "a"}}}, {"data": "x"}],
)
def test_response_without_a_list_is_refused(content: object) -> None:
    with pytest.raises(UnusableResponse) as caught:
        read_page(content, Position(), http_status=200)
    assert caught.value.code == "wrong_shape"


def test_query_parameters() -> None:
    assert query_parameters(Position()) == {"page": "1", "per_page": "100"}
    assert query_parameters(Position(3, "a b/=", 50)) == {"cursor": "a b/=", "per_page": "50"}


@pytest.mark.parametrize(
    "stored",
    [
        {"page": 0},
        {"page": "1"},
        {"page": True},
        {"page": 1, "cursor": 5},
        {"page": 1, "last_ids": None},
        {"page": 1, "rereading": 1},
        {"page": 1, "after_empty": None},
        {"page": 1, "repeats": "1"},
        {"page": 1, "first_id": None},
        {"page": 1, "earlier_cursor": 5},
        {"page": 1, "other": 1},
        {"per_page": 0},
        {"per_page": 1001},
        {"per_page": True},
        {"per_page": "100"},
        {"per_page": None},
        {"page": 3, "cursor": None, "size": 20, "last_ids": "ab", "rereading": False},
        [],
        "page",
        None,
    ],
)
def test_invalid_stored_position_is_refused(stored: Any) -> None:
    if stored == []:
        stored = [1]
    with pytest.raises(ValueError, match="not a stored position"):
        Position.from_json(stored)


def test_stored_position_is_read_back() -> None:
    position = Position(7, "c", 1000, "ab", True, True, 2, "first", "earlier")
    assert Position.from_json(json.loads(json.dumps(position.to_json()))) == position
    assert Position.from_json({}) == Position()


# Over HTTP


def serving(server: Server) -> Script:
    """Return a script that responds to ``GET /segments`` as this server does."""

    def script(peer: Peer) -> None:
        while request := peer.request():
            query = parse_qs(urlsplit(request.split()[1].decode()).query)
            page, per_page = int(query.get("page", ["1"])[0]), int(query["per_page"][0])
            cursor = query.get("cursor", [None])[0]
            peer.send(http(200, server(page, cursor, per_page)))

    return script


@pytest.mark.parametrize("per_page", [100, 20])
def test_90_segments_by_10_oldest_first_without_paging_fields(per_page: int) -> None:
    with (
        RawServer(serving(numbered(90, cap=10))) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        assert [one.id for one in client.list_segments(per_page=per_page)] == all_ids(90)
    assert all(f"per_page={per_page} ".encode() in one for one in server.requests)
    assert len(server.requests) == 11


def test_page_size_is_part_of_the_position() -> None:
    with (
        RawServer(serving(with_cursor(20, SHAPES["meta beside"]))) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        page = client.list_page(Position(per_page=7))
        assert page.next is not None
        page = client.list_page(page.next)
    assert page.next is not None
    assert (page.next.cursor, page.next.per_page) == ("14", 7)
    assert [one.split()[1] for one in server.requests] == [
        b"/v1/segments?page=1&per_page=7",
        b"/v1/segments?cursor=7&per_page=7",
    ]


@pytest.fixture(scope="module")
def bunce() -> Iterator[Emulator]:
    with Emulator(rate_limit=None) as emulator:
        yield emulator


@pytest.mark.parametrize(("paging", "layout"), LIST_STYLES)
@pytest.mark.parametrize("count", [0, 5, 250])
def test_emulated_list_is_read_to_its_end(
    bunce: Emulator, paging: Paging, layout: Layout, count: int
) -> None:
    bunce.reset()
    bunce.set(paging=paging, layout=layout)
    bunce.add_segments(count)
    with BunceClient(base_url=bunce.base_url, api_key=KEY) as client:
        if paging == "clamp" and count == 5:
            # With one page only, it looks like a server that ignores the page.
            with pytest.raises(UnusableResponse, match="all pages are the same"):
                list(client.list_segments())
            return
        found = list(client.list_segments())
        small = list(client.list_segments(per_page=50))
    assert {one.id for one in found} == {one.id for one in bunce.segments}
    assert len(found) == len(small) == count


def test_emulated_list_that_ignores_the_page_is_refused(bunce: Emulator) -> None:
    bunce.reset()
    bunce.set(paging="ignore_page")
    bunce.add_segments(150)
    client = BunceClient(base_url=bunce.base_url, api_key=KEY)
    with client, pytest.raises(UnusableResponse) as caught:
        list(client.list_segments())
    assert caught.value.code == "paging"


def test_caller_can_limit_the_rate_of_page_requests(bunce: Emulator) -> None:
    bunce.reset()
    bunce.add_segments(45)
    records: list[RequestRecord] = []
    with BunceClient(base_url=bunce.base_url, api_key=KEY) as client:

        def fetch(position: Position) -> Page:
            records.append(RequestRecord(send_within=60))
            return client.list_page(position, record=records[-1])

        assert len(list(client.list_segments(per_page=20, fetch=fetch))) == 45
    assert [(one.method, one.path, one.http_status) for one in records] == [
        ("GET", "/segments", 200)
    ] * 5

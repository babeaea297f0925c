"""A list is followed to its end in every style of paging, and an end is not believed lightly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest

from bunce_sync.client import BunceClient, Exchange, Page, Position
from bunce_sync.client.paging import MAX_PAGES, page_of, query_of, walk
from bunce_sync.emulator import Emulator
from bunce_sync.emulator.options import Paging
from bunce_sync.exceptions import UnusableAnswer

KEY = "sk_test_6fP1xVnZk2QeLw"

Content = dict[str, Any]
Server = Callable[[int, str | None, int], Content]


def rows(first: int, stop: int) -> list[Content]:
    return [{"id": f"id-{number}", "name": f"{number}"} for number in range(first, stop)]


def read(server: Server, per_page: int = 100) -> tuple[list[str], int]:
    """The ids that a scan by ``list_page`` finds, as the server is asked; and how many pages."""
    ids: list[str] = []
    pages = 0
    position: Position | None = Position()
    while position is not None:
        pages += 1
        content = json.loads(json.dumps(server(position.page, position.cursor, per_page)))
        page = page_of(content, position, per_page, http_status=200)
        ids += [segment.id for segment in page.segments]
        position = page.next and Position.from_json(json.loads(json.dumps(page.next.to_json())))
    return ids, pages


def all_ids(total: int) -> list[str]:
    return [f"id-{number}" for number in range(total)]


def numbered(total: int, cap: int = 100, **meta: Any) -> Server:
    """A server that gives pages by number, at most ``cap`` rows at a time."""

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        size = min(cap, per_page)
        found = rows((page - 1) * size, min(page * size, total))
        return {"data": found, **({"meta": meta} if meta else {})}

    return server


@pytest.mark.parametrize(
    ("total", "pages"), [(0, 1), (1, 1), (19, 1), (20, 2), (99, 2), (100, 2), (101, 2), (250, 3)]
)
def test_pages_by_number_without_a_word_on_paging(total: int, pages: int) -> None:
    """A page counts as short when it has less than the one before, or than Bunce's default."""
    assert read(numbered(total)) == (all_ids(total), pages)


@pytest.mark.parametrize("total", [0, 1, 30, 50, 51, 149, 150])
def test_server_that_gives_fewer_rows_than_asked_for_is_read_to_its_end(total: int) -> None:
    assert read(numbered(total, cap=50))[0] == all_ids(total)


@pytest.mark.parametrize(("total", "pages"), [(0, 1), (19, 1), (30, 2), (50, 2), (51, 2), (100, 3)])
def test_page_is_short_by_the_largest_so_far_or_the_documented_size(total: int, pages: int) -> None:
    assert read(numbered(total, cap=50, per_page=50)) == (all_ids(total), pages)


def test_page_may_be_as_small_as_the_server_tells() -> None:
    assert read(numbered(25, cap=10, per_page=10)) == (all_ids(25), 3)


def test_server_that_repeats_the_size_asked_for_and_gives_fewer_is_read_to_its_end() -> None:
    assert read(numbered(120, cap=50, per_page=100))[0] == all_ids(120)


def test_end_that_is_told_is_believed() -> None:
    assert read(numbered(100, has_next_page=False)) == (all_ids(100), 1)


def test_short_page_is_not_the_end_when_more_is_told() -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        found = {1: rows(0, 5), 2: rows(5, 7), 3: rows(7, 8)}[page]
        return {"data": found, "meta": {"has_next_page": page < 3, "per_page": 100}}

    assert read(server) == (all_ids(8), 3)


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
    "number as cursor": lambda found, meta: {
        "data": found,
        "meta": {"next_page_cursor": meta["next_page_cursor"] and int(meta["next_page_cursor"])},
    },
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("total", [0, 1, 7, 8, 30])
def test_cursor_is_followed_wherever_it_stands(shape: str, total: int) -> None:
    assert read(with_cursor(total, SHAPES[shape]))[0] == all_ids(total)


def test_empty_page_with_a_cursor_goes_on() -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        found = {None: rows(0, 3), "a": [], "b": rows(3, 5)}[cursor]
        following = {None: "a", "a": "b", "b": None}[cursor]
        return {"data": found, "meta": {"next_page_cursor": following}}

    assert read(server) == (all_ids(5), 3)
    assert [one.id for one in walk(fetching(server))] == all_ids(5)


def fetching(server: Server) -> Callable[[Position], Page]:
    def fetch(position: Position) -> Page:
        content = server(position.page, position.cursor, 100)
        return page_of(content, position, 100, http_status=200)

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
        "more promised for ever",
        "same cursor",
        "cursor ignored",
        "cursor lost",
    ],
)
def test_list_whose_end_cannot_be_proven_is_refused_soon(server: Server, pages: list[int]) -> None:
    asked: list[int] = []

    def counting(page: int, cursor: str | None, per_page: int) -> Content:
        asked.append(page)
        return server(page, cursor, per_page)

    with pytest.raises(UnusableAnswer) as caught:
        read(counting)
    assert caught.value.code == "paging"
    assert asked == pages


@pytest.mark.parametrize("pushed", [{2}, {3}, {2, 3, 4}, {3, 4, 5, 7}, set(range(2, 12))])
def test_new_segments_that_push_down_a_whole_page_are_not_taken_for_the_end(
    pushed: set[int],
) -> None:
    """Before each of these requests a page full of new segments has come on top."""
    asked = new = 0

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        nonlocal asked, new
        asked += 1
        new += asked in pushed
        start = (page - 1 - new) * 100
        return {"data": [{"id": f"{n}", "name": "x"} for n in range(start, min(start + 100, 350))]}

    assert {f"{n}" for n in range(350)} <= {one.id for one in walk(fetching(server))}


def test_server_that_repeats_its_last_page_has_come_to_its_end() -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        start = min(page - 1, 2) * 100
        return {"data": rows(start, start + 100)}

    assert list(dict.fromkeys(read(server)[0])) == all_ids(300)
    assert [one.id for one in walk(fetching(server))] == all_ids(300)


def test_list_without_end_is_refused_at_last() -> None:
    with pytest.raises(UnusableAnswer, match="pages"):
        page_of({"data": rows(0, 100)}, Position(MAX_PAGES), 100, http_status=200)


def test_every_segment_comes_once_though_rows_move_on_while_reading() -> None:
    """New segments on top push rows from one page to the next."""

    def server(page: int, cursor: str | None, per_page: int) -> Content:
        start = (page - 1) * 28
        return {"data": rows(start, min(start + 30, 70))}

    assert [one.id for one in walk(fetching(server))] == all_ids(70)


def test_cursors_that_go_round_in_a_circle_are_refused() -> None:
    def server(page: int, cursor: str | None, per_page: int) -> Content:
        start = 5 if cursor == "b" else 0
        return {
            "data": rows(start, start + 5),
            "meta": {"next_page_cursor": "a" if cursor == "b" else "b"},
        }

    with pytest.raises(UnusableAnswer, match="circle") as caught:
        list(walk(fetching(server)))
    assert caught.value.code == "paging"


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
def test_row_that_cannot_be_read_spoils_the_page(row: object) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        page_of({"data": [*rows(0, 3), row]}, Position(), 100, http_status=200)
    assert caught.value.code == "wrong_shape"


@pytest.mark.parametrize(
    "content",
    [None, [], "x", {}, {"data": None}, {"data": {}}, {"data": {"0": {"id": "a"}}}, {"data": "x"}],
)
def test_answer_without_a_list_is_refused(content: object) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        page_of(content, Position(), 100, http_status=200)
    assert caught.value.code == "wrong_shape"


def test_what_is_asked_for() -> None:
    assert query_of(Position(), 100) == {"page": "1", "per_page": "100"}
    assert query_of(Position(3, "a b/="), 50) == {"cursor": "a b/=", "per_page": "50"}


@pytest.mark.parametrize(
    "stored",
    [
        {"page": 0},
        {"page": "1"},
        {"page": True},
        {"page": 1, "cursor": 5},
        {"page": 1, "size": None},
        {"page": 1, "seen": None},
        {"page": 1, "other": 1},
    ],
)
def test_stored_position_of_another_kind_is_refused(stored: Content) -> None:
    with pytest.raises(ValueError, match="not a stored position"):
        Position.from_json(stored)


# Over HTTP


@pytest.fixture(scope="module")
def bunce() -> Iterator[Emulator]:
    with Emulator(rate_limit=None) as emulator:
        yield emulator


@pytest.mark.parametrize("paging", [one for one in get_args(Paging) if one != "ignore_page"])
@pytest.mark.parametrize("count", [0, 5, 250])
def test_emulated_list_is_read_to_its_end(bunce: Emulator, paging: Paging, count: int) -> None:
    bunce.reset()
    bunce.set(paging=paging)
    for number in range(count):
        bunce.add_segment(f"Segment {number}")
    with BunceClient(base_url=bunce.base_url, api_key=KEY) as client:
        found = list(client.list_segments())
        small = list(client.list_segments(per_page=50))
    assert {one.id for one in found} == {one.id for one in bunce.segments}
    assert len(found) == len(small) == count


def test_emulated_list_that_ignores_the_page_is_refused(bunce: Emulator) -> None:
    bunce.reset()
    bunce.set(paging="ignore_page")
    for number in range(150):
        bunce.add_segment(f"Segment {number}")
    client = BunceClient(base_url=bunce.base_url, api_key=KEY)
    with client, pytest.raises(UnusableAnswer) as caught:
        list(client.list_segments())
    assert caught.value.code == "paging"


def test_caller_may_put_each_page_through_a_gate_of_its_own(bunce: Emulator) -> None:
    bunce.reset()
    for number in range(45):
        bunce.add_segment(f"Segment {number}")
    exchanges: list[Exchange] = []
    with BunceClient(base_url=bunce.base_url, api_key=KEY) as client:

        def fetch(position: Position) -> Page:
            exchanges.append(Exchange(send_within=60))
            return client.list_page(position, per_page=20, exchange=exchanges[-1])

        assert len(list(client.list_segments(fetch=fetch))) == 45
    assert [(one.method, one.path, one.http_status) for one in exchanges] == [
        ("GET", "/segments", 200)
    ] * 3

"""The emulator pages its lists in each of the configurable styles."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.emulator.options import Layout, Order, Paging
from tests.emulator_client import Api

START = datetime(2024, 12, 5, 8, 0, 0, tzinfo=UTC)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator with segments 0 to 24, five created in each second."""
    with Emulator(order="oldest") as emulator:
        for number in range(25):
            emulator.add_segment(f"{number}", created_at=START + timedelta(seconds=number // 5))
        yield emulator


@pytest.fixture
def api(emulator: Emulator) -> Iterator[Api]:
    with Api(emulator) as api:
        yield api


def names(rows: list[dict[str, Any]]) -> list[int]:
    return [int(row["name"]) for row in rows]


def get(api: Api, **query: object) -> dict[str, Any]:
    response = api("GET", "/segments", params=query)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_a_page_has_twenty_rows_by_default(api: Api) -> None:
    body = get(api)
    assert names(body["data"]) == list(range(20))
    assert "meta" not in body
    assert names(get(api, page=2)["data"]) == list(range(20, 25))
    assert names(get(api, page=3)["data"]) == []
    assert names(get(api, page=2, per_page=7)["data"]) == list(range(7, 14))


def test_a_page_has_a_hundred_rows_at_most(emulator: Emulator, api: Api) -> None:
    for number in range(25, 130):
        emulator.add_segment(f"{number}")
    assert len(get(api, per_page=1000)["data"]) == 100


@pytest.mark.parametrize("parameter", ["page", "per_page"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "²", "9" * 10])
def test_a_page_must_be_a_positive_number(api: Api, parameter: str, value: str) -> None:
    response = api("GET", "/segments", params={parameter: value})
    assert response.status_code == 422
    assert parameter in response.json()["message"]


def test_page_numbers_can_be_next_to_the_rows(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="page_meta")
    first, last = get(api), get(api, page=2)
    assert first["meta"] == {
        "page": 1, "per_page": 20, "total": 25, "total_pages": 2, "has_next_page": True,
        "next_page": 2,
    }  # fmt: skip
    assert (last["meta"]["has_next_page"], last["meta"]["next_page"]) == (False, None)
    assert names(first["data"] + last["data"]) == list(range(25))


def rows_and_meta(body: dict[str, Any], layout: Layout) -> tuple[list[dict[str, Any]], Any]:
    """Return what is where the layout says, and check that nothing else is there."""
    assert set(body) - {"success", "message", "data", "meta"} == set()
    if layout == "flat":
        return body["data"], body.get("meta")
    data = body["data"]
    assert set(data) - ({"data", "meta"} if layout == "nested" else {"data"}) == set()
    if layout == "nested":
        assert "meta" not in body
        return data["data"], data.get("meta")
    return data["data"], body.get("meta")


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("paging", get_args(Paging))
def test_rows_and_meta_can_be_in_each_place_in_every_style(
    emulator: Emulator, api: Api, paging: Paging, layout: Layout
) -> None:
    emulator.set(paging=paging)
    expected = get(api, per_page=10)
    emulator.set(layout=layout)
    found, meta = rows_and_meta(get(api, per_page=10), layout)
    assert found == expected["data"]
    assert names(found) == list(range(10))
    assert meta == expected.get("meta")
    assert (meta is not None) == (paging in ("page_meta", "cursor"))


@pytest.mark.parametrize("order", ["oldest", "newest", "random"])
@pytest.mark.parametrize("parameter", ["next_page_cursor", "page_cursor", "cursor"])
def test_cursors_lead_through_all_rows_once(
    emulator: Emulator, api: Api, order: Order, parameter: str
) -> None:
    emulator.set(paging="cursor", order=order)
    seen = []
    body = get(api, per_page=7)
    while True:
        seen += names(body["data"])
        if not body["meta"]["has_next_page"]:
            break
        body = get(api, per_page=7, **{parameter: body["meta"]["next_page_cursor"]})
    assert body["meta"]["next_page_cursor"] is None
    assert sorted(seen) == list(range(25))
    assert len(seen) == 25


def test_new_segments_do_not_shift_cursors(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="cursor", order="newest")
    first = get(api, per_page=5)
    emulator.add_segment("99")
    second = get(api, per_page=5, cursor=first["meta"]["next_page_cursor"])
    assert names(first["data"]) == [24, 23, 22, 21, 20]
    assert names(second["data"]) == [19, 18, 17, 16, 15]


@pytest.mark.parametrize("order", ["oldest", "newest", "random"])
def test_a_cursor_stays_valid_when_its_segment_is_removed(
    emulator: Emulator, api: Api, order: Order
) -> None:
    emulator.set(paging="cursor", order=order)
    everything = names(get(api, per_page=25)["data"])
    first = get(api, per_page=5)
    for row in first["data"][3:]:
        emulator.remove_segment(row["id"])
    second = get(api, per_page=5, cursor=first["meta"]["next_page_cursor"])
    assert names(first["data"] + second["data"]) == everything[:10]


def test_with_cursors_the_page_number_is_ignored(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="cursor")
    assert get(api, page=2) == get(api)


@pytest.mark.parametrize("cursor", ["x", "eHl6", "MSAyIDM=", "OTk5OTk5OTk5OTk5OTk5IDEgeCAx"])
def test_an_unknown_cursor_is_a_422(emulator: Emulator, api: Api, cursor: str) -> None:
    emulator.set(paging="cursor")
    assert api("GET", "/segments", params={"cursor": cursor}).status_code == 422


def test_a_server_may_ignore_the_page(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="ignore_page")
    assert names(get(api, page=7)["data"]) == list(range(20))


def test_a_server_may_return_the_last_page_past_the_end(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="clamp")
    assert names(get(api, page=9)["data"]) == list(range(20, 25))
    emulator.reset()
    emulator.set(paging="clamp")
    assert get(api, page=9)["data"] == []


def test_lists_have_the_configured_order(emulator: Emulator, api: Api) -> None:
    emulator.set(order="newest")
    assert names(get(api, per_page=25)["data"]) == list(range(24, -1, -1))

    emulator.set(order="random")
    once = names(get(api, per_page=25)["data"])
    assert sorted(once) == list(range(25))
    assert once != list(range(25))
    assert names(get(api, per_page=10, page=2)["data"]) == once[10:20]

    emulator.set(order="shuffled")
    shuffled = [names(get(api, per_page=25)["data"]) for _ in range(3)]
    assert all(sorted(each) == list(range(25)) for each in shuffled)
    assert len({tuple(each) for each in shuffled}) == 3


def test_a_segment_added_with_an_earlier_time_is_sorted_in(emulator: Emulator, api: Api) -> None:
    emulator.add_segment("99", created_at=START - timedelta(days=1))
    assert names(get(api, per_page=2)["data"]) == [99, 0]


def walk(api: Api, pages: int, **query: object) -> list[list[int]]:
    """Return the names on the first pages."""
    return [names(get(api, page=page, **query)["data"]) for page in range(1, pages + 1)]


def test_a_cap_shortens_pages_whatever_is_requested(emulator: Emulator, api: Api) -> None:
    emulator.set(page_cap=10)
    expected = [list(range(10)), list(range(10, 20)), list(range(20, 25)), []]
    assert walk(api, 4, per_page=100) == walk(api, 4) == expected
    assert names(get(api, page=2, per_page=7)["data"]) == list(range(7, 14))
    emulator.set(paging="page_meta")
    assert get(api, page=3, per_page=100)["meta"] == {
        "page": 3, "per_page": 10, "total": 25, "total_pages": 3, "has_next_page": False,
        "next_page": None,
    }  # fmt: skip


def test_a_cap_applies_to_cursors_too(emulator: Emulator, api: Api) -> None:
    emulator.set(page_cap=10, paging="cursor")
    first = get(api, per_page=20)
    second = get(api, per_page=20, cursor=first["meta"]["next_page_cursor"])
    assert names(first["data"] + second["data"]) == list(range(20))


@pytest.mark.parametrize("paging", ["page", "cursor"])
def test_a_per_page_above_the_limit_is_a_422(emulator: Emulator, api: Api, paging: Paging) -> None:
    emulator.set(max_per_page=15, paging=paging)
    refused = api("GET", "/segments", params={"per_page": 16})
    assert refused.status_code == 422
    assert refused.json() == {"success": False, "message": "per_page must be at most 15"}
    assert len(get(api, per_page=15)["data"]) == 15
    assert len(get(api)["data"]) == 15  # the default is not refused
    emulator.set(page_cap=5)
    assert len(get(api, per_page=15)["data"]) == 5
    assert api("GET", "/segments", params={"per_page": 16}).status_code == 422


def test_a_limit_for_per_page_may_be_above_a_hundred(emulator: Emulator, api: Api) -> None:
    for number in range(25, 130):
        emulator.add_segment(f"{number}")
    emulator.set(max_per_page=120)
    assert len(get(api, per_page=120)["data"]) == 120


def test_hidden_segments_make_pages_shorter(emulator: Emulator, api: Api) -> None:
    emulator.set(hide_every=10)
    assert walk(api, 3) == [
        [number for number in range(20) if number not in (9, 19)],
        list(range(20, 25)),
        [],
    ]
    hidden = emulator.segments[9]
    assert api("GET", f"/segments/{hidden.id}").json()["data"]["name"] == "9"
    emulator.set(paging="page_meta")
    body = get(api, page=2, per_page=10)
    assert names(body["data"]) == list(range(10, 19))
    assert (body["meta"]["total"], body["meta"]["total_pages"]) == (25, 3)
    emulator.set(paging="cursor")
    assert len(get(api, per_page=25)["data"]) == 25


@pytest.mark.parametrize("order", ["newest", "oldest", "random", "shuffled"])
def test_the_same_segments_stay_hidden(emulator: Emulator, api: Api, order: Order) -> None:
    emulator.set(hide_every=10, order=order)
    emulator.add_segment("99", created_at=START - timedelta(days=1))  # first by its time
    api("PATCH", f"/segments/{emulator.segments[3].id}", {"description": "changed"})
    seen = names(get(api, per_page=100)["data"])
    assert set(range(25)) - set(seen) == {9, 19}
    assert len(seen) == 24


def test_the_same_segments_stay_hidden_when_others_are_removed(
    emulator: Emulator, api: Api
) -> None:
    emulator.set(hide_every=10)
    for removed in ("2", "10"):
        emulator.remove_segment(next(one.id for one in emulator.segments if one.name == removed))
    for number in range(25, 31):
        emulator.add_segment(f"{number}")
    seen = names(get(api, per_page=100)["data"])
    assert set(range(31)) - set(seen) == {2, 10, 9, 19, 29}


def test_a_page_in_the_middle_of_a_list_can_be_empty(emulator: Emulator, api: Api) -> None:
    emulator.set(empty_page=2)
    expected = [list(range(10)), [], list(range(10, 20)), list(range(20, 25)), []]
    assert walk(api, 5, per_page=10) == expected
    emulator.set(paging="page_meta")
    metas = [get(api, page=page, per_page=10)["meta"] for page in range(1, 6)]
    assert [meta["total_pages"] for meta in metas] == [4] * 5
    assert [meta["next_page"] for meta in metas] == [2, 3, 4, None, None]
    emulator.set(paging="clamp")
    assert walk(api, 5, per_page=10) == [*expected[:4], expected[3]]
    emulator.set(paging="cursor")
    assert names(get(api, page=2, per_page=10)["data"]) == list(range(10))


def test_the_empty_page_can_be_the_first_or_past_the_end(emulator: Emulator, api: Api) -> None:
    emulator.set(empty_page=1)
    assert walk(api, 3) == [[], list(range(20)), list(range(20, 25))]
    emulator.set(paging="ignore_page")
    assert walk(api, 2) == [[], []]
    emulator.set(paging="page_meta", empty_page=3)
    assert walk(api, 3) == [list(range(20)), list(range(20, 25)), []]
    assert get(api, page=2)["meta"]["has_next_page"] is False
    emulator.reset()
    emulator.set(paging="page_meta", empty_page=1)
    assert get(api)["meta"]["has_next_page"] is False

"""The local Bunce pages its lists in each of the styles its sources speak of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bunce_sync.emulator import Emulator
from bunce_sync.emulator.options import Order
from tests.emulator_client import Api

START = datetime(2024, 12, 5, 8, 0, 0, tzinfo=UTC)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A Bunce with segments 0 to 24; of each five, all are of the same second."""
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
    answer = api("GET", "/segments", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_page_has_twenty_rows_unless_asked_otherwise(api: Api) -> None:
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
def test_a_page_that_is_no_positive_number_is_a_422(api: Api, parameter: str, value: str) -> None:
    answer = api("GET", "/segments", params={parameter: value})
    assert answer.status_code == 422
    assert parameter in answer.json()["message"]


def test_page_numbers_can_stand_beside_the_rows(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="page_meta")
    first, last = get(api), get(api, page=2)
    assert first["meta"] == {
        "page": 1, "per_page": 20, "total": 25, "total_pages": 2, "has_next_page": True,
        "next_page": 2,
    }  # fmt: skip
    assert (last["meta"]["has_next_page"], last["meta"]["next_page"]) == (False, None)
    assert names(first["data"] + last["data"]) == list(range(25))


def test_rows_and_page_numbers_can_be_nested(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="nested")
    body = get(api, page=2)
    assert names(body["data"]["data"]) == list(range(20, 25))
    assert body["data"]["meta"]["has_next_page"] is False
    assert "meta" not in body


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


def test_cursors_are_not_shifted_by_what_is_created_meanwhile(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="cursor", order="newest")
    first = get(api, per_page=5)
    emulator.add_segment("99")
    second = get(api, per_page=5, cursor=first["meta"]["next_page_cursor"])
    assert names(first["data"]) == [24, 23, 22, 21, 20]
    assert names(second["data"]) == [19, 18, 17, 16, 15]


def test_with_cursors_the_page_number_is_ignored(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="cursor")
    assert get(api, page=2) == get(api)


@pytest.mark.parametrize("cursor", ["x", "eHl6", "OWRhNjdjYWE6MQ=="])
def test_a_cursor_that_bunce_never_gave_is_a_422(emulator: Emulator, api: Api, cursor: str) -> None:
    emulator.set(paging="cursor")
    assert api("GET", "/segments", params={"cursor": cursor}).status_code == 422


def test_a_server_may_ignore_the_page(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="ignore_page")
    assert names(get(api, page=7)["data"]) == list(range(20))


def test_a_server_may_answer_with_the_last_page_past_the_end(emulator: Emulator, api: Api) -> None:
    emulator.set(paging="clamp")
    assert names(get(api, page=9)["data"]) == list(range(20, 25))
    emulator.reset()
    emulator.set(paging="clamp")
    assert get(api, page=9)["data"] == []


def test_lists_come_in_the_order_that_is_set(emulator: Emulator, api: Api) -> None:
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


def test_a_segment_added_with_an_earlier_time_takes_its_place(emulator: Emulator, api: Api) -> None:
    emulator.add_segment("99", created_at=START - timedelta(days=1))
    assert names(get(api, per_page=2)["data"]) == [99, 0]

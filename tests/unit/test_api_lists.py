"""Lists: filters, orders, and pages that neither skip nor repeat."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from bunce_sync.models import ApiCall, Segment
from tests.unit.api_client import ALL, client_for, get, is_problem, user_with
from tests.unit.core import fresh, make

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def client() -> APIClient:
    return client_for(user_with(*ALL))


def add(name: str, *, updated_at: datetime | None = None, **fields: Any) -> Segment:
    segment = make(name, **fields)
    if updated_at is not None:
        # The app's own querysets date every write by the database's clock.
        QuerySet(Segment).filter(pk=segment.pk).update(updated_at=updated_at)
    return fresh(segment)


def names(client: APIClient, **query: Any) -> list[str]:
    response = get(client, "segments/", query)
    assert response.status_code == 200, response.content
    return [row["name"] for row in response.json()["results"]]


def walk(client: APIClient, address: str, link: str = "next") -> list[list[Any]]:
    """The pages from an address on, each as its ids."""
    pages = []
    while address:
        page = client.get(address).json()
        pages.append([row["id"] for row in page["results"]])
        address = page[link]
    return pages


# Filters


def test_by_status_one_or_several(client: APIClient) -> None:
    add("P")
    add("R", status="rejected")
    add("S", status="synced", bunce_id="1")
    assert names(client, status="rejected") == ["R"]
    assert names(client, status=["synced", "pending"]) == ["S", "P"]


def test_by_type_name_and_bunce_id_exactly(client: APIClient) -> None:
    add("A", bunce_type="manual", bunce_id="id-1")
    add("B", bunce_type="automatic")
    assert names(client, type="manual") == ["A"]
    assert names(client, type="man") == []
    assert names(client, name="B") == ["B"]
    assert names(client, bunce_id="id-1") == ["A"]


def test_by_a_part_of_the_texts_or_a_whole_id(client: APIClient) -> None:
    add("Newsletter")
    add("B", description="reads the newsletter")
    add("C", bunce_id="news-1")
    assert names(client, search="NEWS") == ["B", "Newsletter"]
    assert names(client, search="news-1") == ["C"]
    assert names(client, search="100%") == []


@pytest.mark.parametrize("field", ["created", "updated", "bunce_created"])
def test_by_dates_from_and_until_just_before(client: APIClient, field: str) -> None:
    for hour in range(3):
        add(str(hour), **{f"{field}_at": START + timedelta(hours=hour)})
    noon = START + timedelta(hours=1)
    for moment in (
        noon.isoformat(),
        "2026-01-31T13:00:00Z",
        "2026-01-31T13:00:00",
        "2026-01-31T14:00:00+01:00",
        "2026-01-31T14:00:00 01:00",  # a plus that was not written %2B
    ):
        assert set(names(client, **{f"{field}_since": moment})) == {"1", "2"}
        assert names(client, **{f"{field}_before": moment}) == ["0"]
    assert names(client, **{f"{field}_before": "2026-01-31"}) == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "lost"}, "status"),
        ({"created_since": "yesterday"}, "created_since"),
        ({"created_since": "2026-13-01"}, "created_since"),
        ({"updated_since": "0001-01-01T00:00:00+14:00"}, "updated_since"),
        ({"updated_since": "9999-12-31T23:59:59-14:00"}, "updated_since"),
        ({"search": "a\0b"}, "search"),
        ({"name": "x" * 256}, "name"),
        ({"page_size": "0"}, "page_size"),
        ({"page_size": "501"}, "page_size"),
        ({"page_size": "9" * 5000}, "page_size"),
        ({"page_size": "ten"}, "page_size"),
        ({"ordering": "description"}, "ordering"),
        ({"ordering": "--name"}, "ordering"),
        ({"staus": "pending"}, "staus"),
        ({"updated_since": ""}, "updated_since"),
        ({"status": ["pending", ""]}, "status"),
        ({"search": "  "}, "search"),
        ({"cursor": ""}, "cursor"),
        ({"name": ["a", "b"]}, "name"),
        ({"updated_since": ["2026-01-01", "2026-01-02"]}, "updated_since"),
        ({"page_size": ["1", "1"]}, "page_size"),
        ({"cursor": "rubbish"}, "cursor"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused(
    client: APIClient, query: dict[str, Any], field: str
) -> None:
    problem = is_problem(get(client, "segments/", query), 400, "invalid")
    assert list(problem["errors"]) == [field]


def test_a_slip_in_a_parameters_name_is_told_with_the_right_one(client: APIClient) -> None:
    problem = is_problem(get(client, "segments/", {"staus": "pending"}), 400)
    assert "status" in problem["errors"]["staus"][0]


# Orders and pages


@pytest.mark.parametrize("field", ["created_at", "updated_at", "name"])
@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10])
def test_pages_hold_every_row_once_in_order_both_ways(
    client: APIClient, field: str, sign: str, size: int
) -> None:
    values: list[Any] = ["b", "a", "c", "b", "b", "a", "ü"]
    for value in values:
        moment = START + timedelta(days=ord(value))
        add(value, **({} if field == "name" else {field: moment}))
    expected = list(
        Segment.objects.order_by(f"{sign}{field}", f"{sign}pk").values_list("pk", flat=True)
    )
    address = f"/api/segments/?ordering={sign}{field}&page_size={size}"
    pages = walk(client, address)
    assert [pk for page in pages for pk in page] == expected
    assert all(len(page) == size for page in pages[:-1])
    last = address
    while following := client.get(last).json()["next"]:
        last = following
    back = walk(client, last, "previous")
    assert list(reversed(back)) == pages


def test_the_newest_stand_first_unless_another_order_is_asked_for(client: APIClient) -> None:
    for name in "abc":
        add(name)
    assert names(client) == ["c", "b", "a"]
    assert names(client, ordering="name") == ["a", "b", "c"]


def test_rows_that_come_and_go_meanwhile_neither_hide_nor_repeat_others(client: APIClient) -> None:
    rows = [add(str(number)) for number in range(6)]
    page = get(client, "segments/", {"page_size": 2}).json()
    add("new")
    rows[4].delete()
    following = client.get(page["next"]).json()
    assert [row["name"] for row in following["results"]] == ["3", "2"]


def test_a_page_whose_rows_are_gone_leads_back_to_the_first(client: APIClient) -> None:
    for number in range(3):
        add(str(number))
    page = get(client, "segments/", {"page_size": 2}).json()
    Segment.objects.all().delete()
    empty = client.get(page["next"]).json()
    assert (empty["results"], empty["next"]) == ([], None)
    assert "cursor" not in empty["previous"]


def test_a_filter_stays_on_from_page_to_page(client: APIClient) -> None:
    for number in range(4):
        add(str(number), status="rejected" if number % 2 else "pending")
    address = "/api/segments/?status=rejected&page_size=1"
    assert len(walk(client, address)) == 2


def test_a_cursor_is_good_for_its_own_order_only(client: APIClient) -> None:
    for number in range(3):
        add(str(number))
    following = get(client, "segments/", {"page_size": 1}).json()["next"]
    is_problem(client.get(f"{following}&ordering=name"), 400)


@pytest.mark.parametrize(
    "place",
    [
        ["-created_at", False, "2026-01-31T12:00:00", 1],
        ["-created_at", False, "soon", 1],
        ["-created_at", False, 5, 1],
        ["-created_at", False, "2026-01-31T12:00:00+00:00", 2**63],
        ["-created_at", False, "2026-01-31T12:00:00+00:00", -1],
        ["-created_at", False, "2026-01-31T12:00:00+00:00", True],
        ["-created_at", False, "2026-01-31T12:00:00+00:00", 1.5],
        ["-created_at", 0, "2026-01-31T12:00:00+00:00", 1],
        ["-created_at", False, "0001-01-01T00:00:00+14:00", 1],
        ["-created_at", False, "9999-12-31T23:59:59-14:00", 1],
        ["-created_at", False],
        {"a": 1, "b": 2, "c": 3, "d": 4},
        None,
        "abcd",
        ["name", False, "a\0", 1],
        ["name", False, "\ud800", 1],
    ],
)
def test_a_forged_cursor_is_refused(client: APIClient, place: Any) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")
    ordering = place[0] if isinstance(place, list) else "-created_at"
    query = {"cursor": cursor, "ordering": ordering}
    assert list(is_problem(get(client, "segments/", query), 400)["errors"]) == ["cursor"]


def test_a_cursor_is_a_moment_in_whatever_zone_it_is_written(client: APIClient) -> None:
    add("before", created_at=START - timedelta(days=2))
    add("after", created_at=START)
    place = ["-created_at", False, f"{START:%Y-%m-%dT%H:%M:%S}+23:59:59.999999", 1]
    cursor = base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")
    assert names(client, cursor=cursor) == ["before"]


def test_a_long_list_of_calls_comes_in_pages(client: APIClient) -> None:
    segment = add("VIP")
    now = timezone.now()
    for _ in range(5):
        ApiCall.objects.create(segment=segment, operation="create", started_at=now)
    pages = walk(client, f"/api/segments/{segment.pk}/calls/?page_size=2")
    assert [len(page) for page in pages] == [2, 2, 1]
    ids = [pk for page in pages for pk in page]
    assert ids == sorted(ids, reverse=True)
    is_problem(get(client, f"segments/{segment.pk}/calls/", {"ordering": "name"}), 400)


def test_a_page_takes_one_query_however_many_rows_it_has(client: APIClient) -> None:
    counts = []
    for number in range(30):
        add(str(number))
    for size in (1, 30):
        with CaptureQueriesContext(connection) as queries:
            names(client, page_size=size, status=["pending", "synced"])
        counts.append([query["sql"] for query in queries if "bunce_sync_segment" in query["sql"]])
    assert [len(found) for found in counts] == [1, 1]
    assert "COUNT" not in counts[0][0]
    assert "DISTINCT" not in counts[0][0]

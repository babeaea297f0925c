"""Lists: filters, and pages that neither skip nor repeat rows."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

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
    """Return the pages from an address on, each as a list of ids."""
    pages = []
    while address:
        page = client.get(address).json()
        pages.append([row["id"] for row in page["results"]])
        address = page[link]
    return pages


# Filters


def test_filter_by_one_or_several_statuses(client: APIClient) -> None:
    add("P")
    add("R", status="rejected")
    add("S", status="synced", bunce_id="1")
    assert names(client, status="rejected") == ["R"]
    assert names(client, status=["synced", "pending"]) == ["S", "P"]


def test_filter_by_exact_type_name_and_bunce_id(client: APIClient) -> None:
    add("A", bunce_type="manual", bunce_id="id-1")
    add("B", bunce_type="automatic")
    assert names(client, type="manual") == ["A"]
    assert names(client, type="man") == []
    assert names(client, name="B") == ["B"]
    assert names(client, bunce_id="id-1") == ["A"]


def test_search_by_part_of_a_text_or_the_exact_id(client: APIClient) -> None:
    add("Newsletter")
    add("B", description="reads the newsletter")
    add("C", bunce_id="news-1")
    assert names(client, search="NEWS") == ["B", "Newsletter"]
    assert names(client, search="news-1") == ["C"]
    assert names(client, search="100%") == []


@pytest.mark.parametrize("field", ["created", "updated", "bunce_created"])
def test_filter_by_time_since_and_before(client: APIClient, field: str) -> None:
    for hour in range(3):
        add(str(hour), **{f"{field}_at": START + timedelta(hours=hour)})
    noon = START + timedelta(hours=1)
    for time in (noon.isoformat(), "2026-01-31T13:00:00Z", "2026-01-31T14:00:00+01:00"):
        assert set(names(client, **{f"{field}_since": time})) == {"1", "2"}
        assert names(client, **{f"{field}_before": time}) == ["0"]
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
        ({"cursor": "rubbish"}, "cursor"),
        ({"cursor": "ü"}, "cursor"),
    ],
)
def test_an_invalid_filter_is_refused(client: APIClient, query: dict[str, Any], field: str) -> None:
    problem = is_problem(get(client, "segments/", query), 400, "invalid")
    assert list(problem["errors"]) == [field]


def test_unknown_parameters_are_ignored(client: APIClient) -> None:
    add("VIP")
    assert names(client, utm_source="x", page_size="") == ["VIP"]


# Pages


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10])
def test_pages_contain_every_row_once_newest_first_in_both_directions(
    client: APIClient, size: int
) -> None:
    expected = [add(str(number)).pk for number in range(7)][::-1]
    address = f"/api/segments/?page_size={size}"
    pages = walk(client, address)
    assert [pk for page in pages for pk in page] == expected
    assert all(len(page) == size for page in pages[:-1])
    last = address
    while following := client.get(last).json()["next"]:
        last = following
    back = walk(client, last, "previous")
    assert sorted(pk for page in back for pk in page) == sorted(expected)


def test_rows_added_or_deleted_meanwhile_neither_hide_nor_repeat_others(client: APIClient) -> None:
    rows = [add(str(number)) for number in range(6)]
    page = get(client, "segments/", {"page_size": 2}).json()
    add("new")
    rows[4].delete()
    following = client.get(page["next"]).json()
    assert [row["name"] for row in following["results"]] == ["3", "2"]


def test_a_page_whose_rows_were_deleted_links_back(client: APIClient) -> None:
    for number in range(3):
        add(str(number))
    page = get(client, "segments/", {"page_size": 2}).json()
    Segment.objects.all().delete()
    empty = client.get(page["next"]).json()
    assert (empty["results"], empty["next"]) == ([], None)
    add("new")
    assert [row["name"] for row in client.get(empty["previous"]).json()["results"]] == ["new"]


def test_links_keep_the_filter(client: APIClient) -> None:
    for number in range(4):
        add(str(number), status="rejected" if number % 2 else "pending")
    address = "/api/segments/?status=rejected&page_size=1"
    assert len(walk(client, address)) == 2


@pytest.mark.parametrize(
    "place", ["p=abc", "p=", "p=1.5", "p=%00", "p=7&r=x", "p=7&o=x", "p=" + "9" * 5000]
)
def test_a_forged_cursor_is_refused(client: APIClient, place: str) -> None:
    cursor = base64.b64encode(place.encode()).decode()
    problem = is_problem(get(client, "segments/", {"cursor": cursor}), 400, "invalid")
    assert list(problem["errors"]) == ["cursor"]


@pytest.mark.parametrize("place", ["p=-1", f"p={10**30}", f"p={-(10**30)}&r=1", "p=٣"])
def test_a_cursor_beyond_every_id_gives_a_page(client: APIClient, place: str) -> None:
    cursor = base64.b64encode(quote(place, safe="=&").encode()).decode()
    assert get(client, "segments/", {"cursor": cursor}).status_code == 200


def test_listing_the_changes_since_the_last_listing_misses_none(client: APIClient) -> None:
    for name in "abc":
        add(name)
    page = get(client, "segments/", {"page_size": 2}).json()
    assert page["as_of"].endswith("Z")
    # Changed after it was listed, while the walk continues.
    Segment.objects.filter(name="c").update(description="New")
    following = client.get(page["next"]).json()
    assert following["as_of"] >= page["as_of"]
    assert "c" in names(client, updated_since=page["as_of"])


def test_a_long_list_of_calls_comes_in_pages(client: APIClient) -> None:
    segment = add("VIP")
    now = timezone.now()
    for _ in range(5):
        ApiCall.objects.create(segment=segment, operation="create", started_at=now)
    pages = walk(client, f"/api/segments/{segment.pk}/calls/?page_size=2")
    assert [len(page) for page in pages] == [2, 2, 1]
    ids = [pk for page in pages for pk in page]
    assert ids == sorted(ids, reverse=True)


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

"""Many segments in one request: all or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from bunce_sync.models import Segment
from bunce_sync.publisher import publisher
from tests.unit.api_client import ALL, client_for, is_problem, post, user_with

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> APIClient:
    return client_for(user_with(*ALL))


def rows(count: int) -> dict[str, Any]:
    return {"segments": [{"name": f"Segment {number}"} for number in range(count)]}


def test_all_are_stored_and_returned_in_order(client: APIClient) -> None:
    body = {"segments": [{"name": "B"}, {"name": " A ", "description": "x"}, {"name": "B"}]}
    response = post(client, "segments/bulk/", body)
    assert response.status_code == 201
    answer = response.json()
    assert answer["count"] == 3
    assert [row["name"] for row in answer["segments"]] == ["B", "A", "B"]
    assert [row["id"] for row in answer["segments"]] == sorted(
        Segment.objects.values_list("pk", flat=True)
    )
    assert Segment.objects.due().count() == 3


def test_with_an_invalid_row_none_is_stored_and_every_error_is_named(
    client: APIClient,
) -> None:
    body = {
        "segments": [
            {"name": "A"},
            {"name": " "},
            7,
            {"description": True},
            {"name": "B", "status": "synced"},
        ]
    }
    problem = is_problem(post(client, "segments/bulk/", body), 400, "invalid")
    assert list(problem["errors"]) == [
        "segments.1.name",
        "segments.2",
        "segments.3.name",
        "segments.3.description",
        "segments.4.status",
    ]
    assert not Segment.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "segments"),
        ({"segments": []}, "segments"),
        ({"segments": None}, "segments"),
        ({"segments": {"name": "A"}}, "segments"),
        ({"segments": [{"name": "A"}], "dry_run": True}, "dry_run"),
        ([{"name": "A"}], "non_field_errors"),
        (rows(1001), "segments"),
    ],
)
def test_a_body_of_another_shape_is_refused(client: APIClient, body: Any, field: str) -> None:
    assert list(is_problem(post(client, "segments/bulk/", body), 400)["errors"]) == [field]
    assert not Segment.objects.exists()


@pytest.mark.parametrize("returns_ids", [True, False])
def test_a_thousand_segments_take_as_many_queries_and_messages_as_two(
    client: APIClient,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Callable[..., Any],
    returns_ids: bool,
) -> None:
    # MySQL, unlike MariaDB, does not return the ids of a bulk insert: rows are inserted one by one.
    features = type(connection.features)
    monkeypatch.setattr(features, "can_return_rows_from_bulk_insert", returns_ids)
    published: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        publisher, "publish", lambda task, *args: published.append((task.name, *args))
    )
    post(client, "segments/bulk/", rows(1))  # caches the user's permissions
    counts = []
    for count in (2, 1000):
        with (
            django_capture_on_commit_callbacks(execute=True),
            CaptureQueriesContext(connection) as queries,
        ):
            response = post(client, "segments/bulk/", rows(count), Idempotency_Key=str(count))
        answer = response.json()
        ids = [row["id"] for row in answer["segments"]]
        assert answer["count"] == count
        assert [row["name"] for row in answer["segments"]] == [
            row["name"] for row in rows(count)["segments"]
        ]
        assert ids == sorted(Segment.objects.filter(pk__gte=ids[0]).values_list("pk", flat=True))
        message = ("bunce_sync.push_segment", ids[0])
        # Rows inserted one by one publish as saves do, before the one message for all.
        assert (published if returns_ids else published[-1:]) == [message]
        published.clear()
        # SQLite takes a bounded number of values in one INSERT; other databases take all.
        counts.append(sum(not query["sql"].startswith("INSERT") for query in queries))
    if returns_ids:
        assert counts[0] == counts[1] <= 9
    assert Segment.objects.due().filter(bunce_id=None).count() == 1003


def test_a_body_larger_than_the_site_allows_is_refused(client: APIClient) -> None:
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000):
        is_problem(post(client, "segments/bulk/", rows(100)), 413, "too_large")
        assert post(client, "segments/bulk/", rows(2)).status_code == 201
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None):
        assert post(client, "segments/bulk/", rows(100)).status_code == 201

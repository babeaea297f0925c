"""The customers of a segment over REST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from bunce_sync import audiences
from bunce_sync.audiences import Audience
from bunce_sync.models import (
    CustomerSync,
    ForgottenCustomer,
    IdempotencyKey,
    Member,
    PushHold,
    Segment,
)
from bunce_sync.sync import customers
from bunce_sync.sync.budget import Budget
from bunce_sync.testing.emulator import Emulator

from .api_client import ALL, JSON, client_for, get, is_problem, post
from .api_client import user_with as new_user
from .core import make
from .test_customers import ids, in_bunce, statuses

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> APIClient:
    return client_for(new_user(*ALL, name="service"))


def remove(client: APIClient, path: str, body: Any, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.delete(f"/api/{path}", json.dumps(body), content_type=JSON, headers=named)


def customers_url(segment: Segment) -> str:
    return f"http://testserver/api/segments/{segment.pk}/customers"


def identifiers() -> set[str]:
    return {*Member.objects.filter(wanted=True).values_list("identifier", flat=True)}


@contextmanager
def the_audience(name: str) -> Iterator[None]:
    """Register an audience with this key."""

    class Staff(Audience):
        key = name

    audiences.register(Staff)
    try:
        yield
    finally:
        audiences.unregister(Staff)


def test_customers_are_added_and_removed(bunce: Emulator, client: APIClient) -> None:
    segment = in_bunce(bunce)
    path = f"segments/{segment.pk}/customers/"
    body = {"customers": ["c-1", 2, {"customer_id": "c-3", "first_name": "Ann"}]}
    for expected in ({"added": 3}, {"unchanged": 3}):
        response = post(client, path, body)
        assert response.status_code == 202
        zeros = {"added": 0, "changed": 0, "unchanged": 0, "forgotten": 0}
        assert response.json() == {**zeros, **expected, "customers_url": customers_url(segment)}
    customers.run(Budget(30))
    assert bunce.member_ids(str(segment.bunce_id)) == {"c-1", "2", "c-3"}
    for expected in ({"removed": 2, "unchanged": 1}, {"removed": 0, "unchanged": 3}):
        response = remove(client, path, {"customers": ["c-1", {"customer_id": "c-3"}, "x"]})
        assert response.status_code == 202
        assert response.json() == {**expected, "customers_url": customers_url(segment)}
    status = client.get(response.json()["customers_url"])
    assert status.json() == {
        "members": 1, "in_bunce": 1, "to_add": 0, "to_remove": 2, "refused": 0, "audience": None,
        "compared_at": None, "next_comparison_at": None,
        "held_removals": 0, "bunce_counts": None, "problems": [],
    }  # fmt: skip


def test_the_status_shows_when_the_audience_is_compared(client: APIClient) -> None:
    segment = make("A")
    at = datetime(2026, 5, 1, tzinfo=UTC)
    times = {"last_run_at": at, "next_run_at": at + timedelta(hours=1)}
    CustomerSync.objects.create(segment=segment, key="staff", **times)
    path = f"segments/{segment.pk}/customers/"
    with the_audience("staff"):
        status = get(client, path).json()
        assert status["compared_at"].startswith("2026-05-01T")
        assert status["next_comparison_at"] is not None
        assert status["audience"] == "staff"
    # Its class is gone, so nothing compares it.
    assert get(client, path).json()["next_comparison_at"] is None


def test_a_repeat_with_the_same_key_undoes_nothing(client: APIClient) -> None:
    segment = make("A")
    path = f"segments/{segment.pk}/customers/"
    body = {"customers": ["c-1", "c-2"]}
    first = post(client, path, body, Idempotency_Key="a")
    assert "Idempotent-Replayed" not in first
    remove(client, path, {"customers": ["c-1"]}, Idempotency_Key="b")
    again = post(client, path, body, Idempotency_Key="a")
    assert (again.status_code, again.json()) == (202, first.json())
    assert again["Idempotent-Replayed"] == "true"
    assert identifiers() == {"c-2"}
    post(client, path, {"customers": ["c-1"]})
    again = remove(client, path, {"customers": ["c-1"]}, Idempotency_Key="b")
    assert again.json()["removed"] == 1
    assert identifiers() == {"c-1", "c-2"}


def test_a_key_stands_for_one_request(client: APIClient) -> None:
    segment, other = make("A"), make("B")
    path = f"segments/{segment.pk}/customers/"
    post(client, path, {"customers": ["c-1", "ann@example.com"]}, Idempotency_Key="a")
    # The same in another form:
    body: Any = {"customers": [{"customer_id": " c-1"}, {"email": "Ann@example.com"}]}
    assert "Idempotent-Replayed" in post(client, path, body, Idempotency_Key="a")
    for response in (
        post(client, path, {"customers": ["c-1"]}, Idempotency_Key="a"),
        remove(client, path, body, Idempotency_Key="a"),
        post(client, f"segments/{other.pk}/customers/", body, Idempotency_Key="a"),
        post(client, "segments/", {"name": "C"}, Idempotency_Key="a"),
    ):
        is_problem(response, 422, "idempotency_key_reused")


def test_a_refused_request_does_not_use_up_its_key(client: APIClient) -> None:
    segment = make("A", add_all_customers=True)
    path = f"segments/{segment.pk}/customers/"
    is_problem(post(client, path, {"customers": ["c-1"]}, Idempotency_Key="a"), 409)
    assert not IdempotencyKey.objects.exists()


def test_a_key_keeps_no_digest_that_could_be_guessed(client: APIClient, settings: Settings) -> None:
    path = f"segments/{make('A').pk}/customers/"
    body = {"customers": ["ann@example.com"]}
    stored: list[str] = []
    for secret in ("one", "two"):
        settings.SECRET_KEY = secret
        IdempotencyKey.objects.all().delete()
        post(client, path, body, Idempotency_Key="a")
        stored += IdempotencyKey.objects.values_list("body_digest", flat=True)
    assert len({*stored}) == 2
    # A rotation of the key is no other body.
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "three", ["two"]
    assert "Idempotent-Replayed" in post(client, path, body, Idempotency_Key="a")


def test_a_segment_may_have_no_customers(client: APIClient) -> None:
    response = get(client, f"segments/{make('A').pk}/customers/")
    assert response.status_code == 200
    assert response.json()["members"] == 0
    assert not CustomerSync.objects.exists()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], "customers"),
        (["c"] * 1001, "customers"),
        (["c-1", ""], "customers.1"),
        (["c-1", True], "customers.1"),
        ([{"customer_id": "c-1"}, {"name": "secret"}], "customers.1"),
        ([{"email": None}], "customers.0"),
        (["a\x00b"], "customers.0"),
        ("c-1", "customers"),
    ],
)
def test_invalid_customers_are_named_by_position(client: APIClient, value: Any, field: str) -> None:
    response = post(client, f"segments/{make('A').pk}/customers/", {"customers": value})
    problem = is_problem(response, 400)
    assert list(problem["errors"]) == [field]
    assert "secret" not in json.dumps(problem)
    assert not Member.objects.exists()


def test_unknown_fields_are_refused(client: APIClient) -> None:
    path = f"segments/{make('A').pk}/customers/"
    assert list(is_problem(post(client, path, {"customer": []}), 400)["errors"]) == ["customer"]


def test_customers_of_an_audience_cannot_be_changed(client: APIClient) -> None:
    segment = make("A")
    CustomerSync.objects.create(segment=segment, key="staff")
    for response in (
        post(client, f"segments/{segment.pk}/customers/", {"customers": ["c"]}),
        remove(client, f"segments/{segment.pk}/customers/", {"customers": ["c"]}),
    ):
        problem = is_problem(response, 409)
        assert problem["code"] == "customers_not_by_hand"
        assert problem["detail"] == "The customers come from the audience staff."


def test_forgotten_customers_are_counted(client: APIClient) -> None:
    ForgottenCustomer.objects.create(digest=ForgottenCustomer.digests_of("c-1")[0])
    response = post(client, f"segments/{make('A').pk}/customers/", {"customers": ids(3)})
    assert (response.json()["added"], response.json()["forgotten"]) == (2, 1)


def test_refused_customers_are_listed_with_bunces_words(bunce: Emulator, client: APIClient) -> None:
    segment = in_bunce(bunce)
    bunce.set(refused_customers=["c-1"])
    segment.add_customers(ids(3))
    customers.run(Budget(30))
    assert statuses(segment)["c-1"] == "refused"
    path = f"segments/{segment.pk}/customers/"
    [row] = get(client, f"{path}refused/").json()["results"]
    assert (row["identifier"], row["wanted"]) == ("c-1", True)
    assert "is not valid: c-1" in row["last_error"]
    status = get(client, path).json()
    assert status["refused"] == 1
    assert status["problems"][0]["summary"] == "Customers that Bunce refused: 1."


@pytest.mark.parametrize("pk", ["0", "99", str(2**63)])
def test_a_segment_that_does_not_exist_is_not_found(client: APIClient, pk: str) -> None:
    for path in (f"segments/{pk}/customers/", f"segments/{pk}/customers/refused/"):
        is_problem(get(client, path), 404)


def test_each_call_needs_its_permissions() -> None:
    segment = make("A")
    path = f"segments/{segment.pk}/customers/"
    viewer = client_for(new_user("view_segment", name="viewer"))
    writer = client_for(new_user("change_customers", name="writer"))
    assert get(viewer, path).status_code == 200
    is_problem(get(viewer, f"{path}refused/"), 403)
    is_problem(post(viewer, path, {"customers": ["c"]}), 403)
    is_problem(remove(viewer, path, {"customers": ["c"]}), 403)
    is_problem(get(writer, path), 403)
    assert post(writer, path, {"customers": ["c"]}).status_code == 202
    assert remove(writer, path, {"customers": ["c"]}).status_code == 202
    is_problem(get(client_for(None), path), 401)


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"status": "pending", "bunce_id": None}, "The segment is not in Bunce yet."),
        ({"status": "rejected", "last_code": "not_found"}, "No longer in Bunce."),
        ({"environment": "https://api.bunce.so live"}, "Belongs to live (api.bunce.so)."),
        ({"hold": True}, "Held since it was saved in a no_push() block."),
    ],
)
def test_it_is_said_why_customers_wait_for_their_segment(
    bunce: Emulator, client: APIClient, values: dict[str, Any], cause: str
) -> None:
    segment = in_bunce(bunce)
    path = f"segments/{segment.pk}/customers/"
    post(client, path, {"customers": ["c-1"]})
    assert get(client, path).json()["problems"] == []
    if "hold" in values:
        values = {"hold": PushHold.objects.create(by="a load")}
    Segment.objects.filter(pk=segment.pk).update_sync_fields(**values)
    [problem] = get(client, path).json()["problems"]
    assert problem["summary"] == "The customers wait for their segment."
    assert problem["cause"] == cause

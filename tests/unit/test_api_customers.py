"""The customers of a segment over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from bunce_sync.models import CustomerSync, ForgottenCustomer, Member
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


def remove(client: APIClient, path: str, body: Any) -> Any:
    return client.delete(f"/api/{path}", json.dumps(body), content_type=JSON)


def test_customers_are_added_and_removed(bunce: Emulator, client: APIClient) -> None:
    segment = in_bunce(bunce)
    path = f"segments/{segment.pk}/customers/"
    body = {"customers": ["c-1", 2, {"customer_id": "c-3", "first_name": "Ann"}]}
    for expected in ({"added": 3}, {"unchanged": 3}):
        response = post(client, path, body)
        assert response.status_code == 202
        zeros = {"added": 0, "changed": 0, "unchanged": 0, "forgotten": 0}
        assert response.json() == {**zeros, **expected}
    customers.run(Budget(30))
    assert bunce.member_ids(str(segment.bunce_id)) == {"c-1", "2", "c-3"}
    for expected in ({"removed": 2, "unchanged": 1}, {"removed": 0, "unchanged": 3}):
        response = remove(client, path, {"customers": ["c-1", {"customer_id": "c-3"}, "x"]})
        assert (response.status_code, response.json()) == (202, expected)
    assert get(client, path).json() == {
        "members": 1, "in_bunce": 1, "to_add": 0, "to_remove": 2, "refused": 0, "audience": None,
        "held_removals": 0, "bunce_counts": None, "problems": [],
    }  # fmt: skip


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

"""The emulator's calls for a segment's customers: what it refuses, its faults, and its page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from bunce_sync.testing.emulator import Emulator, Faults
from tests.emulator_client import Api


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(rate_limit=None) as emulator:
        yield emulator


@pytest.fixture
def api(emulator: Emulator) -> Iterator[Api]:
    with Api(emulator) as api:
        yield api


@pytest.fixture
def segment_id(emulator: Emulator) -> str:
    return emulator.add_segment("VIP").id


def add(api: Api, segment_id: str, *ids: str) -> requests.Response:
    body = {"customers": [{"customer_id": one} for one in ids]}
    return api("POST", f"/segments/{segment_id}/customers", body)


def remove(api: Api, segment_id: str, *ids: str) -> requests.Response:
    return api("DELETE", f"/segments/{segment_id}/customers", {"customers": [*ids]})


def test_a_refused_customer_is_named_and_nothing_is_stored(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    emulator.set(refused_customers=["b"])
    response = add(api, segment_id, "a", "b")
    assert response.status_code == 422
    assert response.json()["message"] == "customers[1].customer_id is not valid: b"
    assert emulator.customers == []
    response = remove(api, segment_id, "a", "b")
    assert response.status_code == 422
    assert response.json()["message"] == "customers[1] is not valid: b"


def test_customers_can_be_refused_by_a_part_of_an_identifier(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    emulator.set(refused_customer_text="@bad.")
    path = f"/segments/{segment_id}/customers"
    customers = [{"email": "a@good.example"}, {"customer_id": "b", "email": "b@bad.example"}]
    response = api("POST", path, {"customers": customers})
    assert response.status_code == 422
    assert response.json()["message"] == "customers[1].email is not valid: b@bad.example"
    assert emulator.customers == []
    assert add(api, segment_id, "c@bad.example").status_code == 422
    assert remove(api, segment_id, "c@bad.example").status_code == 422
    names = {"first_name": "@bad.", "email": None}
    assert api("POST", path, {"customers": [{"customer_id": "d", **names}]}).status_code == 200
    emulator.set(refused_customer_text=None)
    assert api("POST", path, {"customers": customers}).status_code == 200
    assert emulator.member_ids(segment_id) == {"a@good.example", "b", "d"}


@pytest.mark.parametrize("status", [413, 422])
def test_too_many_customers_are_refused(
    emulator: Emulator, api: Api, segment_id: str, status: int
) -> None:
    emulator.set(customers_limit=2, customers_limit_status=status)
    assert add(api, segment_id, "a", "b", "c").status_code == status
    assert remove(api, segment_id, "a", "b", "c").status_code == status
    assert add(api, segment_id, "a", "b").status_code == 200


def test_the_plan_may_be_full(emulator: Emulator, api: Api, segment_id: str) -> None:
    emulator.set(customers_plan_limit=1)
    assert add(api, segment_id, "a").status_code == 200
    response = add(api, segment_id, "b")
    assert response.status_code == 422
    assert response.json()["message"] == "You have reached the limit of your plan."
    assert remove(api, segment_id, "a").status_code == 200


@pytest.mark.parametrize(
    "values",
    [
        {"customers_limit": 0},
        {"customers_plan_limit": -1},
        {"customers_limit_status": 400},
        {"refused_customers": "a"},
        {"refused_customer_text": ""},
    ],
)
def test_impossible_limits_are_refused(emulator: Emulator, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        emulator.set(**values)


def test_calls_for_customers_have_scripts_of_their_own(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    emulator.script(["error_before"], method="POST customers")
    emulator.script(["error_after"], method="DELETE customers")
    api("POST", "/segments", {"name": "Other"}).raise_for_status()
    assert add(api, segment_id, "a").status_code == 500
    assert emulator.member_ids(segment_id) == set()
    assert add(api, segment_id, "a").status_code == 200
    assert remove(api, segment_id, "a").status_code == 500
    assert emulator.member_ids(segment_id) == set()


def test_a_late_call_takes_effect_after_its_connection_ended(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    emulator.set_faults(Faults(late_seconds=0.2))
    emulator.script(["late_store"], method="POST customers")
    with pytest.raises(requests.ConnectionError):
        add(api, segment_id, "a")
    assert emulator.member_ids(segment_id) == set()
    emulator.wait_for(lambda bunce: bunce.member_ids(segment_id) == {"a"}, timeout=10)


def test_members_are_changed_as_in_the_dashboard(emulator: Emulator, segment_id: str) -> None:
    emulator.add_members(segment_id, ["a", "b"])
    emulator.remove_members(segment_id, ["a", "unknown"])
    assert emulator.member_ids(segment_id) == {"b"}
    assert emulator.segment(segment_id).customers_count == 1


def test_a_page_shows_the_customers_of_a_segment(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    front = requests.get(emulator.url, timeout=10).text
    path = f"/dashboard/{segment_id}/customers"
    assert f'<a href="{path}">0</a>' in front
    assert "No customers yet." in requests.get(f"{emulator.url}{path}", timeout=10).text
    add(api, segment_id, *(f"c-{place:03}" for place in range(100)), "<b>")
    emulator.add_members(segment_id, ["c-001"])  # already there: keeps its place
    page = requests.get(f"{emulator.url}{path}", timeout=10).text
    assert "The newest 100 of 101 customers" in page
    assert page.index("&lt;b&gt;") < page.index("c-099") < page.index("c-001")
    assert "c-000" not in page
    remove(api, segment_id, "c-000")
    page = requests.get(f"{emulator.url}{path}", timeout=10).text
    assert "Customers, newest first" in page
    assert "c-001" in page


def test_the_page_of_an_unknown_segment_is_a_404(emulator: Emulator) -> None:
    path = "/dashboard/9da67caa-b803-4691-a2b6-bdcd58008aaf/customers"
    assert requests.get(f"{emulator.url}{path}", timeout=10).status_code == 404


def test_members_are_in_the_order_in_which_they_were_added(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    other = emulator.add_segment("Other").id
    add(api, other, "b", "a")
    add(api, segment_id, "a", "b", "c")
    remove(api, segment_id, "a")
    add(api, segment_id, "a", "b")
    assert [one.customer_id for one in emulator.members(segment_id)] == ["b", "c", "a"]
    assert [one.customer_id for one in emulator.newest_members(segment_id, 2)] == ["a", "c"]
    assert emulator.customer_count == 3

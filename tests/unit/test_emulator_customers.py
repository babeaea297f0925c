"""The emulator's calls for a segment's customers: what it refuses, its faults, and its page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from bunce_sync.testing.emulator import CustomerTotals, Emulator, Faults
from bunce_sync.testing.emulator.options import FAULTS_AFTER, FAULTS_BEFORE
from tests.emulator_client import Api

UNKNOWN = "9da67caa-b803-4691-a2b6-bdcd58008aaf"
#: Faults whose response is not the correct one, or takes effect later.
LOST = ("reset_before", "hold_before", "late_store", "lost_answer", "hold_after", "cut_json")


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


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("scripted", [True, False])
@pytest.mark.parametrize("fault", FAULTS_BEFORE + FAULTS_AFTER)
def test_each_fault_applies_to_customers_before_or_after_the_effect(
    emulator: Emulator, api: Api, segment_id: str, fault: str, method: str, scripted: bool
) -> None:
    emulator.add_members(segment_id, ["b"])
    values = {"hold_seconds": 0.1, "late_seconds": 0.1, "trickle_seconds": 0.0, "large_bytes": 999}
    if scripted:
        emulator.set_faults(Faults.from_mapping(values), script={f"{method} customers": [fault]})
    else:
        more = {fault: 1.0, "methods": [method], "customer_calls": True}
        emulator.set_faults(Faults.from_mapping({**values, **more}))
    before, after = {"b"}, {"a", "b"} if method == "POST" else set()
    call, customer = (add, "a") if method == "POST" else (remove, "b")
    try:
        response = call(api, segment_id, customer)
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        assert fault in LOST
    else:
        assert fault not in LOST
        succeeds = fault in ("wrong_shape", "trickle", "too_large", "no_content", "name_taken")
        assert response.ok is (succeeds or fault == "redirect")
    assert emulator.injected == {fault: 1}
    assert emulator.requests[-1].fault == fault
    if fault == "late_store":
        assert emulator.pending_writes == 1
        emulator.wait_for(lambda bunce: bunce.pending_writes == 0)
    took_effect = fault in (*FAULTS_AFTER, "late_store")
    assert emulator.member_ids(segment_id) == (after if took_effect else before)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_late_call_takes_effect_after_its_connection_ended(
    emulator: Emulator, api: Api, segment_id: str, method: str
) -> None:
    emulator.set_faults(Faults(late_seconds=0.3), script={f"{method} customers": ["late_store"]})
    call, opposite = (add, remove) if method == "POST" else (remove, add)
    with pytest.raises(requests.ConnectionError):
        call(api, segment_id, "a")
    assert opposite(api, segment_id, "a").status_code == 200
    assert emulator.member_ids(segment_id) == (set() if method == "POST" else {"a"})
    emulator.wait_for(lambda bunce: bunce.pending_writes == 0)
    assert emulator.member_ids(segment_id) == ({"a"} if method == "POST" else set())


@pytest.mark.parametrize("end", [Emulator.reset, lambda bunce: bunce.remove_segment(UNKNOWN)])
def test_a_late_call_for_a_segment_that_is_gone_does_nothing(
    emulator: Emulator, api: Api, end: Callable[[Emulator], object]
) -> None:
    faults, script = Faults(late_seconds=0.1), {"POST customers": ["late_store"]}
    emulator.add_segment("A", id=UNKNOWN)
    emulator.set_faults(faults, script=script)
    with pytest.raises(requests.ConnectionError):
        add(api, UNKNOWN, "a")
    end(emulator)
    other = emulator.add_segment("B").id
    emulator.set_faults(faults, script=script)
    with pytest.raises(requests.ConnectionError):
        add(api, other, "b")
    emulator.wait_for(lambda bunce: bunce.member_ids(other) == {"b"})  # later than the first
    assert emulator.pending_writes == 0
    assert [one.customer_id for one in emulator.customers] == ["b"]


def test_calls_for_customers_get_random_faults_only_if_they_are_included(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    emulator.set_faults(Faults(error_before=1, methods=frozenset({"POST", "DELETE"})))
    assert add(api, segment_id, "a").status_code == 200
    assert remove(api, segment_id, "a").status_code == 200
    emulator.set_faults(Faults(error_before=1, customer_calls=True))
    assert add(api, segment_id, "a").status_code == 500
    assert remove(api, segment_id, "a").status_code == 200  # ``methods`` has only POST


def test_callbacks_run_before_calls_for_customers(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    seen: list[set[str]] = []

    def see() -> None:
        seen.append(emulator.member_ids(segment_id))

    emulator.before_next([see, lambda: emulator.set(outage="reset")], method="POST customers")
    emulator.before_next([see], method="DELETE customers")
    add(api, segment_id, "a")
    remove(api, segment_id, "a")
    assert seen == [set(), {"a"}]


# What tests read and change


def test_members_are_changed_as_in_the_dashboard(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    path = f"/segments/{segment_id}/customers"
    known = {"customer_id": "a", "email": "a@x.example"}
    api("POST", path, {"customers": [known, {"customer_id": "user@site"}]})
    remove(api, segment_id, "a", "user@site")
    emulator.add_members(segment_id, ["a@x.example", "user@site", "b", "c@x.example"])
    assert emulator.member_ids(segment_id) == {"a", "user@site", "b", "c@x.example"}
    assert len(emulator.customers) == 4
    [new] = [one for one in emulator.members(segment_id) if one.email == "c@x.example"]
    assert new.customer_id is None
    emulator.remove_members(segment_id, ["a@x.example", "user@site", "unknown"])
    assert emulator.member_ids(segment_id) == {"b", "c@x.example"}
    assert emulator.segment(segment_id).customers_count == 2
    assert len(emulator.requests) == 2
    for change in (emulator.add_members, emulator.remove_members):
        with pytest.raises(KeyError):
            change(UNKNOWN, ["a"])


def test_many_members_can_be_compared(emulator: Emulator, segment_id: str) -> None:
    ids = {f"c-{number}" for number in range(20_000)}
    emulator.add_members(segment_id, ids)
    assert emulator.member_ids(segment_id) == ids
    emulator.remove_members(segment_id, ids)
    assert emulator.member_ids(segment_id) == set()
    assert emulator.customer_count == 20_000


def test_requests_and_their_entries_are_counted_if_they_took_effect(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    assert emulator.customer_totals(segment_id) == CustomerTotals()
    emulator.script([None, "error_before", "error_after"], method="POST customers")
    for _ in range(3):
        add(api, segment_id, "a", "b")
    remove(api, segment_id, "unknown", "a", "b")
    emulator.set(customers_limit=1)
    add(api, segment_id, "a", "b")
    emulator.add_members(segment_id, ["d"])
    emulator.remove_members(segment_id, ["d"])
    totals = CustomerTotals(add_requests=2, add_entries=4, remove_requests=1, remove_entries=3)
    assert emulator.customer_totals(segment_id) == totals
    emulator.remove_segment(segment_id)
    with pytest.raises(KeyError):
        emulator.customer_totals(segment_id)


def test_requests_for_customers_are_found_in_the_log(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    other = api.create("Other")["id"]
    add(api, segment_id, "a")
    remove(api, segment_id, "a")
    add(api, other, "a")
    api("POST", f"/segments/{other}/all-customers", {})
    methods = [request.method for request in emulator.customer_requests()]
    assert methods == ["POST", "DELETE", "POST"]
    [found] = emulator.customer_requests(segment_id, "DELETE")
    assert found.body == {"customers": ["a"]}
    assert len(emulator.customer_requests(segment_id)) == 2


def test_members_can_be_read_and_changed_over_http(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    url = f"{emulator.url}/control/segments/{segment_id}/customers"
    ids = {"customers": ["b", "a@x.example"]}
    assert requests.post(url, json=ids, timeout=10).status_code == 204
    add(api, segment_id, "c")
    assert requests.delete(url, json={"customers": ["b"]}, timeout=10).status_code == 204
    assert requests.get(url, timeout=10).json() == {
        "customers": ["a@x.example", "c"],
        "add_requests": 1, "add_entries": 1, "remove_requests": 0, "remove_entries": 0,
    }  # fmt: skip
    for method in ("POST", "DELETE"):
        assert requests.request(method, url, json={"customers": [1]}, timeout=10).status_code == 422
    unknown = url.replace(segment_id, UNKNOWN)
    for method in ("GET", "POST", "DELETE"):
        assert requests.request(method, unknown, json=ids, timeout=10).status_code == 404


def test_scripts_for_customers_can_be_set_over_http(
    emulator: Emulator, api: Api, segment_id: str
) -> None:
    script = {"POST customers": [None, "error_before"], "GET": ["forbidden"]}
    response = requests.put(f"{emulator.url}/control/faults", json={"script": script}, timeout=10)
    assert response.status_code == 200
    assert emulator.scripted == 3
    assert [add(api, segment_id, "a").status_code for _ in range(3)] == [200, 500, 200]


# The page


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
    assert "<dt>Customers</dt><dd>101</dd>" in page
    figures = re.findall(r"<dd>(\d+) <span class=\"soft\">with (\d+) customers</span>", page)
    assert figures == [("1", "101"), ("0", "0")]
    remove(api, segment_id, "c-000")
    page = requests.get(f"{emulator.url}{path}", timeout=10).text
    assert "Customers, newest first" in page
    assert "c-001" in page


def test_the_page_of_an_unknown_segment_is_a_404(emulator: Emulator) -> None:
    url = f"{emulator.url}/dashboard/{UNKNOWN}/customers"
    assert requests.get(url, timeout=10).status_code == 404


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

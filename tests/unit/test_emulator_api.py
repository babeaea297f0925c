"""The emulator implements Bunce's API as documented."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.emulator.options import StoredName, Times
from tests.emulator_client import Api

UNKNOWN = "9da67caa-b803-4691-a2b6-bdcd58008aaf"
TIMES = ("created_at", "updated_at")


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def api(emulator: Emulator) -> Iterator[Api]:
    with Api(emulator) as api:
        yield api


def test_a_created_segment_is_returned_in_full_and_stored(emulator: Emulator, api: Api) -> None:
    before = datetime.now(UTC).replace(microsecond=0)

    response = api("POST", "/segments", {"name": "VIP", "description": "The best"})

    assert response.status_code == 201
    body = response.json()
    assert body["success"] is True
    assert body["message"] == "Segment created successfully"
    data = body["data"]
    assert uuid.UUID(data["id"])
    created = datetime.strptime(data["created_at"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert before <= created <= datetime.now(UTC)
    assert data == {
        "id": data["id"],
        "name": "VIP",
        "description": "The best",
        "conditions": None,
        "type": "manual",
        "all_customers": 0,
        "customers_count": 0,
        "created_at": data["created_at"],
        "updated_at": data["created_at"],
    }
    (stored,) = emulator.segments
    assert (stored.id, stored.name, stored.created_at) == (data["id"], "VIP", created)
    assert stored.description == "The best"


def test_a_missing_description_is_null_and_an_empty_one_stays_empty(api: Api) -> None:
    assert api.create()["description"] is None
    assert api.create(description=None)["description"] is None
    assert api.create(description="")["description"] == ""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name is required and must be present"),
        ({"name": None}, "name is required and must be present"),
        ({"name": ""}, "name is required and must be present"),
        ({"name": " \t\n"}, "name is required and must not be blank"),
        ({"name": 7}, "name must be a string"),
        ({"name": ["A"]}, "name must be a string"),
        ({"name": "x" * 256}, "name must not be longer than 255 characters"),
        ({"name": "A", "description": 7}, "description must be a string"),
        ({"name": "A", "add_all_customers": "true"}, "add_all_customers must be a boolean"),
        ({"name": "A", "add_all_customers": 1}, "add_all_customers must be a boolean"),
    ],
)
def test_bad_values_are_refused_with_422_and_nothing_is_stored(
    emulator: Emulator, api: Api, body: dict[str, Any], message: str
) -> None:
    response = api("POST", "/segments", body)

    assert response.status_code == 422
    assert response.json() == {"success": False, "message": message}
    assert emulator.segments == []


def test_a_name_of_255_characters_is_accepted(api: Api) -> None:
    assert api.create("ü" * 255)["name"] == "ü" * 255


@pytest.mark.parametrize("body", [b"{", b'"A"', b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_a_json_object_is_a_400(api: Api, body: bytes) -> None:
    response = api("POST", "/segments", data=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["success"] is False


def test_another_content_type_than_json_is_a_400(api: Api) -> None:
    response = api(
        "POST", "/segments", data=b'{"name": "A"}', headers={"Content-Type": "text/plain"}
    )
    assert response.status_code == 400
    assert response.json()["message"] == "Content-Type must be application/json"


def test_a_segment_can_be_read_back(api: Api) -> None:
    created = api.create("A")
    response = api("GET", f"/segments/{created['id'].upper()}")
    assert response.status_code == 200
    assert response.json()["data"] == created


@pytest.mark.parametrize(
    ("times", "form"),
    [
        ("plain", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"),
        ("iso", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z"),
        ("none", "None"),
    ],
)
def test_times_have_the_configured_form_in_every_response(
    emulator: Emulator, api: Api, times: Times, form: str
) -> None:
    emulator.set(times=times)
    created = api.create()
    updated = api("PATCH", f"/segments/{created['id']}", {"name": "B"}).json()["data"]
    read = api("GET", f"/segments/{created['id']}").json()["data"]
    (listed,) = api("GET", "/segments").json()["data"]
    shown = [row[name] for row in (created, updated, read, listed) for name in TIMES]
    assert [re.fullmatch(form, str(time)) is not None for time in shown] == [True] * 8


def test_an_update_changes_what_it_names_and_nothing_else(api: Api) -> None:
    created = api.create("A", description="before")

    renamed = api("PATCH", f"/segments/{created['id']}", {"name": "B"}).json()["data"]
    assert (renamed["name"], renamed["description"]) == ("B", "before")

    emptied = api("PATCH", f"/segments/{created['id']}", {"description": None}).json()["data"]
    assert (emptied["name"], emptied["description"]) == ("B", None)
    assert emptied["created_at"] == created["created_at"]


@pytest.mark.parametrize("body", [{"name": None}, {"name": ""}, {"name": "x" * 256}, {"name": 1}])
def test_an_update_with_a_bad_value_is_a_422(api: Api, body: dict[str, Any]) -> None:
    created = api.create("A")
    assert api("PATCH", f"/segments/{created['id']}", body).status_code == 422
    assert api("GET", f"/segments/{created['id']}").json()["data"] == created


CALLS_ON_A_SEGMENT = [
    ("GET", ""),
    ("PATCH", ""),
    ("POST", "/customers"),
    ("DELETE", "/customers"),
    ("POST", "/all-customers"),
]


@pytest.mark.parametrize(("method", "rest"), CALLS_ON_A_SEGMENT)
def test_an_id_that_is_not_a_uuid_is_a_400_and_an_unknown_one_a_404(
    api: Api, method: str, rest: str
) -> None:
    not_uuid = api(method, f"/segments/seven{rest}", {})
    assert not_uuid.status_code == 400
    assert not_uuid.json() == {"success": False, "message": "ID param is not valid UUID"}

    unknown = api(method, f"/segments/{UNKNOWN}{rest}", {})
    assert unknown.status_code == 404
    assert unknown.json() == {"success": False, "message": "Segment not found"}


@pytest.mark.parametrize("path", ["/segment", "/", "/segments/x/y", "/segments/x/customers/z"])
def test_an_unknown_path_is_a_404(api: Api, path: str) -> None:
    assert api("GET", path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/v2/segments", "/segments", "/v1", "/v10/segments", "/v1//segments"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_base_path_is_a_404_in_json(
    emulator: Emulator, api: Api, method: str, path: str
) -> None:
    response = api.session.request(method, emulator.url + path, json={"name": "A"}, timeout=10)
    assert (response.status_code, response.headers["Content-Type"]) == (404, "application/json")
    assert response.json() == {"success": False, "message": f"Cannot {method} {path}"}
    assert emulator.segments == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/segments", "POST, GET"),
        ("DELETE", f"/segments/{UNKNOWN}", "GET, PATCH"),
        ("GET", f"/segments/{UNKNOWN}/customers", "POST, DELETE"),
        ("HEAD", "/segments", "POST, GET"),
    ],
)
def test_a_wrong_method_is_a_405_that_lists_the_allowed_ones(
    api: Api, method: str, path: str, allowed: str
) -> None:
    response = api(method, path)
    assert response.status_code == 405
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize("key", [None, "", "sk_live_abc", "Bearer sk_test_abc", "SK_TEST_abc"])
def test_a_key_that_is_not_accepted_is_a_401(emulator: Emulator, key: str | None) -> None:
    with Api(emulator, key) as stranger:
        response = stranger("POST", "/segments", {"name": "A"})
    assert response.status_code == 401
    assert response.json()["success"] is False
    assert emulator.segments == []


def test_a_configured_key_is_the_only_one_accepted() -> None:
    with (
        Emulator(key="sk_test_mine") as emulator,
        Api(emulator, "sk_test_mine") as mine,
        Api(emulator, "sk_test_other") as other,
    ):
        assert mine("GET", "/segments").status_code == 200
        assert other("GET", "/segments").status_code == 401


def test_names_may_repeat_unless_configured_to_be_unique(emulator: Emulator, api: Api) -> None:
    first, second = api.create("A"), api.create("A")
    assert first["id"] != second["id"]

    emulator.set(unique_names=True)
    taken = api("POST", "/segments", {"name": "A"})
    assert (taken.status_code, taken.json()["message"]) == (422, "name has already been taken")
    third = api.create("B")
    assert api("PATCH", f"/segments/{third['id']}", {"name": "A"}).status_code == 422
    assert api("PATCH", f"/segments/{third['id']}", {"name": "B"}).status_code == 200
    api("PATCH", f"/segments/{third['id']}", {"name": "C"})
    api.create("B")  # free again


def test_a_blocked_text_in_a_name_is_refused_with_an_html_page(
    emulator: Emulator, api: Api
) -> None:
    segment = api.create("A")
    emulator.set(blocked_text="<script")
    path = f"/segments/{segment['id']}"
    refused = {"name": "An <script> here", "description": "B"}
    for response in (api("POST", "/segments", refused), api("PATCH", path, refused)):
        assert response.status_code == 403
        assert response.headers["Content-Type"].startswith("text/html")
        assert "<title>403 Forbidden</title>" in response.text
    assert emulator.segments[0].description is None
    assert [each.name for each in emulator.segments] == ["A"]

    # Only names count, and only the exact text.
    assert api("PATCH", path, {"description": "<script"}).status_code == 200
    api.create("<SCRIPT")
    emulator.set(blocked_text=None)
    api.create("<script")


def test_a_plan_limits_the_number_of_segments(emulator: Emulator, api: Api) -> None:
    emulator.set(plan_limit=2)
    emulator.add_segment("by hand")
    segment = api.create("A")

    refused = api("POST", "/segments", {"name": "B"})

    assert refused.status_code == 403
    assert refused.json() == {
        "success": False,
        "message": "You have reached the limit of your plan.",
    }
    assert len(emulator.segments) == 2
    assert api("POST", "/segments", {}).status_code == 422
    assert api("PATCH", f"/segments/{segment['id']}", {"name": "C"}).status_code == 200
    emulator.set(plan_limit=3)
    api.create("B")
    emulator.set(plan_limit=None)
    api.create("B")
    emulator.reset()
    emulator.set(plan_limit=0)
    assert api("POST", "/segments", {"name": "A"}).status_code == 403


def test_taken_names_are_refused_exactly_and_only_for_creates(emulator: Emulator, api: Api) -> None:
    emulator.set(taken_names=["VIP", "New"])
    for name in ("VIP", "New"):
        refused = api("POST", "/segments", {"name": name})
        assert refused.status_code == 400
        assert refused.json() == {"success": False, "message": "name taken"}
    assert emulator.segments == []
    segment = api.create("vip")
    assert api("PATCH", f"/segments/{segment['id']}", {"name": "VIP"}).status_code == 200


@pytest.mark.parametrize(
    ("kind", "created", "updated"),
    [
        ("as_sent", " Very \t important  Ümläut", "B  c"),
        ("upper", " VERY \t IMPORTANT  ÜMLÄUT", "B  C"),
        ("collapse", " Very important Ümläut", "B c"),
        ("keep_old", " Very \t important  Ümläut", " Very \t important  Ümläut"),
    ],
)
def test_names_can_be_stored_differently_than_sent(
    emulator: Emulator, api: Api, kind: StoredName, created: str, updated: str
) -> None:
    emulator.set(stored_name=kind)
    segment = api.create(" Very \t important  Ümläut")
    path = f"/segments/{segment['id']}"
    assert segment["name"] == emulator.segments[0].name == created

    response = api("PATCH", path, {"name": "B  c", "description": "D"})

    assert response.status_code == 200
    for data in (response.json()["data"], api("GET", path).json()["data"]):
        assert (data["name"], data["description"]) == (updated, "D")
    assert api("PATCH", path, {"name": ""}).status_code == 422
    assert api("PATCH", path, {"name": "x" * 256}).status_code == 422


def test_names_are_unique_as_they_are_stored(emulator: Emulator, api: Api) -> None:
    emulator.set(stored_name="upper", unique_names=True)
    api.create("vip")
    assert api("POST", "/segments", {"name": "Vip"}).status_code == 422


def test_customers_are_created_or_updated_by_adding_them(emulator: Emulator, api: Api) -> None:
    segment = api.create()
    path = f"/segments/{segment['id']}/customers"

    added = api(
        "POST",
        path,
        {"customers": [{"customer_id": "c1", "first_name": "Ada"}, {"email": "bob@example.org"}]},
    )
    assert (added.status_code, added.json()["data"]) == (200, None)
    api(
        "POST",
        path,
        {
            "customers": [
                {"customer_id": "c1", "last_name": "Lovelace"},
                {
                    "customer_id": "c2",
                    "email": "bob@example.org",
                    "devices": [{"device_type": "x"}],
                },
            ]
        },
    )

    ada, bob = emulator.customers
    assert (ada.customer_id, ada.first_name, ada.last_name) == ("c1", "Ada", "Lovelace")
    assert (bob.customer_id, bob.email) == ("c2", "bob@example.org")
    assert bob.devices == ({"device_type": "x"},)
    assert api("GET", f"/segments/{segment['id']}").json()["data"]["customers_count"] == 2


def test_customers_are_removed_by_id_or_email_and_unknown_ones_are_ignored(
    emulator: Emulator, api: Api
) -> None:
    segment = api.create()
    path = f"/segments/{segment['id']}/customers"
    api("POST", path, {"customers": [{"customer_id": c} for c in ("c1", "c2")]})
    api("POST", path, {"customers": [{"email": "bob@example.org"}]})

    removed = api("DELETE", path, {"customers": ["c1", "bob@example.org", "unknown"]})

    assert (removed.status_code, removed.json()["data"]) == (200, None)
    assert [each.customer_id for each in emulator.members(segment["id"])] == ["c2"]
    assert len(emulator.customers) == 3  # out of the segment, not out of Bunce


def test_all_customers_can_be_added_at_once_or_with_the_create(
    emulator: Emulator, api: Api
) -> None:
    segment = api.create()
    api("POST", f"/segments/{segment['id']}/customers", {"customers": [{"customer_id": "c1"}]})

    full = api.create(add_all_customers=True)
    assert (full["all_customers"], full["customers_count"], full["type"]) == (1, 1, "automatic")

    filled = api.create()
    assert api("POST", f"/segments/{filled['id']}/all-customers", {}).json()["data"] is None
    data = api("GET", f"/segments/{filled['id']}").json()["data"]
    assert (data["all_customers"], data["customers_count"]) == (1, 1)
    assert len(emulator.members(filled["id"])) == 1


@pytest.mark.parametrize(
    ("method", "customers", "message"),
    [
        ("POST", None, "customers is required and must be present"),
        ("POST", [], "customers must not be empty"),
        ("POST", {"customer_id": "c"}, "customers must be an array"),
        ("POST", ["c1"], "customers[0] must be an object"),
        ("POST", [{"first_name": "A"}], "customers[0] must have a customer_id or an email"),
        ("POST", [{"customer_id": ""}], "customers[0] must have a customer_id or an email"),
        ("POST", [{"customer_id": 7}], "customers[0].customer_id must be a string"),
        ("POST", [{"email": "a", "devices": 1}], "customers[0].devices must be an array"),
        ("DELETE", None, "customers is required and must be present"),
        ("DELETE", [{"customer_id": "c"}], "customers[0] must be a customer_id or an email"),
    ],
)
def test_bad_customers_are_refused_and_none_of_them_is_stored(
    emulator: Emulator, api: Api, method: str, customers: object, message: str
) -> None:
    segment = api.create()
    response = api(method, f"/segments/{segment['id']}/customers", {"customers": customers})
    assert (response.status_code, response.json()["message"]) == (422, message)
    assert emulator.customers == []


def test_a_segment_can_be_added_as_in_the_dashboard(emulator: Emulator, api: Api) -> None:
    moment = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
    added = emulator.add_segment("A", "by hand", created_at=moment, type="automatic")

    data = api("GET", f"/segments/{added.id}").json()["data"]
    assert data["created_at"] == "2024-12-05 08:30:16"
    assert (data["type"], data["description"]) == ("automatic", "by hand")
    with pytest.raises(ValueError, match="aware"):
        emulator.add_segment("B", created_at=moment.replace(tzinfo=None))


def test_segments_with_the_same_content_are_found(emulator: Emulator, api: Api) -> None:
    first = emulator.add_segment("A", None)
    other = emulator.add_segment("A", "other")
    again = emulator.add_segment(" A ", "")
    assert emulator.duplicates == [[first, again]]
    assert emulator.duplicate_count == 1

    api("PATCH", f"/segments/{other.id}", {"description": " "})
    assert [len(group) for group in emulator.duplicates] == [3]
    assert emulator.duplicate_count == 2

    for segment in (first, again):
        api("PATCH", f"/segments/{segment.id}", {"name": segment.id})
    assert (emulator.duplicates, emulator.duplicate_count) == ([], 0)


def test_each_api_request_is_logged_without_the_key(emulator: Emulator, api: Api) -> None:
    api("POST", "/segments", {"name": "A"}, headers={"User-Agent": "tests/1"})
    api("GET", "/segments?page=2")
    api("POST", "/segments", {"name": ""})

    create, listing, refused = emulator.requests
    assert (create.method, create.path, create.status) == ("POST", "/v1/segments", 201)
    assert (create.body, create.user_agent, create.client) == (
        {"name": "A"}, "tests/1", "127.0.0.1",
    )  # fmt: skip
    assert create.fault is None
    assert create.time.tzinfo is UTC
    assert create.at <= listing.at
    assert (listing.query, listing.body) == ("page=2", None)
    assert refused.status == 422
    assert "sk_test" not in repr(emulator.requests)

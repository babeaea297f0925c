"""Access to the REST API: closed by default, and every permission is both enough and needed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.cache import cache
from django.test import override_settings
from rest_framework.permissions import BasePermission
from rest_framework.settings import api_settings
from rest_framework.test import APIClient

from bunce_sync import services
from bunce_sync.api.throttling import BunceThrottle
from bunce_sync.models import Segment
from tests.unit.api_client import ALL, JSON, client_for, get, is_problem, user_with

pytestmark = pytest.mark.django_db

#: Every operation: method, path, status of success, required permissions.
OPERATIONS = [
    ("GET", "segments/", 200, {"view_segment"}),
    ("POST", "segments/", 201, {"add_segment"}),
    ("POST", "segments/bulk/", 201, {"add_segment"}),
    ("GET", "segments/{id}/", 200, {"view_segment"}),
    ("PATCH", "segments/{id}/", 204, {"change_segment"}),
    ("DELETE", "segments/{id}/", 204, {"delete_segment"}),
    ("GET", "segments/{id}/calls/", 200, {"view_segment", "view_apicall"}),
    ("POST", "segments/{id}/push/", 202, {"view_segment", "push_segment"}),
    ("POST", "segments/{id}/retry/", 202, {"view_segment", "push_segment"}),
    ("POST", "segments/{id}/refresh/", 202, {"view_segment", "push_segment"}),
    ("POST", "segments/{id}/create-again/", 202, {"view_segment", "push_segment"}),
    (
        *("POST", "segments/{id}/take-theirs/", 200),
        {"view_segment", "push_segment", "change_segment"},
    ),
    ("GET", "segments/{id}/customers/", 200, {"view_segment"}),
    ("POST", "segments/{id}/customers/", 202, {"change_customers"}),
    ("DELETE", "segments/{id}/customers/", 202, {"change_customers"}),
    ("GET", "segments/{id}/customers/refused/", 200, {"view_segment", "view_member"}),
    ("GET", "imports/", 200, {"view_segment"}),
    ("POST", "imports/", 202, {"push_segment"}),
    ("DELETE", "imports/", 204, {"push_segment"}),
    ("GET", "pause/", 200, {"view_segment"}),
    ("PUT", "pause/", 200, {"pause_push"}),
    ("DELETE", "pause/", 204, {"pause_push"}),
    ("GET", "status/", 200, {"view_segment"}),
    ("GET", "schema/", 200, {"view_segment"}),
    ("GET", "docs/", 200, {"view_segment"}),
]
BODIES = {
    "segments/": {"name": "New"},
    "segments/bulk/": {"segments": [{"name": "New"}]},
    "segments/{id}/": {"description": "New"},
    "segments/{id}/customers/": {"customers": ["c-1"]},
    "pause/": {"reason": "Moving house"},
}
#: The state in which an action applies to a segment.
STATES: dict[str, dict[str, str]] = {
    "retry": {"status": "rejected"},
    "refresh": {"status": "synced"},
    "take-theirs": {"status": "synced", "last_code": "drift", "bunce_name": "VIP"},
    "create-again": {"status": "rejected", "last_code": "not_found"},
}
each_operation = pytest.mark.parametrize(("method", "path", "status", "needed"), OPERATIONS)


@pytest.fixture(autouse=True)
def no_counted_requests() -> None:
    """Clear the throttle's counts of other tests, whose users have the same ids."""
    cache.clear()


def call(client: APIClient, method: str, path: str) -> Any:
    """Make a request that succeeds if it is allowed."""
    segment = Segment.objects.create(name="VIP")
    if state := STATES.get(path.rstrip("/").rpartition("/")[2]):
        Segment.objects.filter(pk=segment.pk).update_sync_fields(
            bunce_id=f"id-{segment.pk}", **state
        )
    if path.startswith("imports"):
        services.request_import()
    if path.startswith("pause"):
        services.pause(reason="Moving", by="ada")
    empty = method == "GET" or (method == "DELETE" and not path.rstrip("/").endswith("customers"))
    body = "" if empty else json.dumps(BODIES.get(path.rstrip("/") + "/", {}))
    return client.generic(method, f"/api/{path.format(id=segment.pk)}", body, content_type=JSON)


def test_every_operation_of_the_description_is_tested_here() -> None:
    described = {
        (method.upper(), path.lstrip("/"))
        for path, operations in get(client_for(user_with("view_segment")), "schema/")
        .json()["paths"]
        .items()
        for method in operations
    }
    assert described <= {(method, path) for method, path, _status, _needed in OPERATIONS}


@each_operation
def test_the_required_permissions_are_enough(
    method: str, path: str, status: int, needed: set[str]
) -> None:
    assert call(client_for(user_with(*needed)), method, path).status_code == status


@each_operation
def test_each_of_the_required_permissions_is_needed(
    method: str, path: str, status: int, needed: set[str]
) -> None:
    for number, missing in enumerate(sorted(needed)):
        user = user_with(*({*ALL} - {missing}), name=f"service {number}")
        is_problem(call(client_for(user), method, path), 403, "permission_denied")
        assert list(Segment.objects.values_list("name", "description")) == [("VIP", None)] * (
            number + 1
        )


@each_operation
def test_only_a_user_who_may_view_segments_sees_one(
    method: str, path: str, status: int, needed: set[str]
) -> None:
    """The others' responses to writes contain the new ids, and nothing of what is stored."""
    segment = Segment.objects.create(name="VIP", description="A secret of the site")
    Segment.objects.filter(pk=segment.pk).update_sync_fields(status="rejected", last_error="Secret")
    client = client_for(user_with(*({*ALL} - {"view_segment"})))
    empty = method == "GET" or (method == "DELETE" and not path.rstrip("/").endswith("customers"))
    body = "" if empty else json.dumps(BODIES.get(path, {}))
    for sent in (body, body and "{}"):
        address = f"/api/{path.format(id=segment.pk)}"
        response = client.generic(method, address, sent, content_type=JSON)
        shown = response.content.lower()
        assert "ETag" not in response
        for text in (b"secret", b"vip", b"status_", b"bunce_id", b"description"):
            assert text not in shown or response.status_code >= 400, shown
        if "view_segment" in needed:
            is_problem(response, 403, "permission_denied")
        elif response.status_code == 201:
            created = Segment.objects.latest("pk")
            one = {"id": created.pk}
            expected = {"count": 1, "segments": [one]} if "bulk" in path else one
            assert response.json() == expected


@each_operation
def test_every_operation_requires_authentication(
    method: str, path: str, status: int, needed: set[str]
) -> None:
    response = call(client_for(None), method, path)
    is_problem(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"] == "Token"
    assert Segment.objects.get().name == "VIP"


@each_operation
def test_an_inactive_superuser_is_refused(
    method: str, path: str, status: int, needed: set[str]
) -> None:
    user = user_with()
    user.is_superuser, user.is_active = True, False
    is_problem(call(client_for(user), method, path), 403)


def test_a_token_authenticates() -> None:
    from rest_framework.authtoken.models import Token

    token = Token.objects.create(user=user_with("view_segment"))
    assert get(APIClient(), "status/", Authorization=f"Token {token.key}").status_code == 200
    is_problem(get(APIClient(), "status/", Authorization="Token wrong"), 401)


@pytest.mark.parametrize("setting", [[], ["rest_framework.permissions.AllowAny"]])
def test_it_stays_closed_where_the_sites_defaults_are_open(setting: list[str]) -> None:
    with override_settings(REST_FRAMEWORK={"DEFAULT_PERMISSION_CLASSES": setting}):
        assert call(client_for(None), "GET", "segments/").status_code in (401, 403)
        is_problem(call(client_for(user_with()), "GET", "segments/"), 403)


class OnlyTheBoss(BasePermission):
    """A site's own rule."""

    message = "Ask the boss."

    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(request.user.username == "boss")


def test_the_sites_own_permissions_apply_too() -> None:
    path = f"{__name__}.OnlyTheBoss"
    with override_settings(REST_FRAMEWORK={"DEFAULT_PERMISSION_CLASSES": [path]}):
        problem = is_problem(get(client_for(user_with(*ALL)), "segments/"), 403)
        assert problem["detail"] == "Ask the boss."
        assert get(client_for(user_with(*ALL, name="boss")), "segments/").status_code == 200


class NotTheVips(BasePermission):
    """A site's own rule for some of the segments."""

    message = "Not this one."

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        assert isinstance(obj, Segment)
        return obj.name != "VIP"


def test_the_sites_object_permissions_apply_too() -> None:
    path = f"{__name__}.NotTheVips"
    of_one = [operation for operation in OPERATIONS if "{id}" in operation[1]]
    assert len(of_one) == 13
    with override_settings(REST_FRAMEWORK={"DEFAULT_PERMISSION_CLASSES": [path]}):
        for method, path, _status, _needed in of_one:
            client = client_for(user_with(*ALL, name=method + path))
            problem = is_problem(call(client, method, path), 403, "permission_denied")
            assert problem["detail"] == "Not this one."
        assert Segment.objects.filter(name="VIP", description=None).count() == len(of_one)
        other = Segment.objects.create(name="Other")
        assert get(client, f"segments/{other.pk}/").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "segments/", "GET, HEAD, POST"),
        ("PUT", "segments/{id}/", "GET, HEAD, PATCH, DELETE"),
        ("GET", "segments/{id}/push/", "POST"),
        ("GET", "segments/bulk/", "POST"),
        ("POST", "status/", "GET, HEAD"),
        ("PUT", "imports/", "GET, HEAD, POST, DELETE"),
        ("POST", "pause/", "GET, HEAD, PUT, DELETE"),
        ("OPTIONS", "segments/", "GET, HEAD, POST"),
        ("TRACE", "segments/", "GET, HEAD, POST"),
    ],
)
def test_other_methods_are_refused(method: str, path: str, allowed: str) -> None:
    response = call(client_for(user_with(*ALL)), method, path)
    is_problem(response, 405, "method_not_allowed")
    assert {*response["Allow"].split(", ")} == {*allowed.split(", ")}


def test_the_throttle_is_on_when_a_rate_is_set() -> None:
    client = client_for(user_with(*ALL))
    for _ in range(5):
        assert get(client, "segments/").status_code == 200
    rates = {**api_settings.DEFAULT_THROTTLE_RATES, "bunce_sync": "2/min"}
    with override_settings(REST_FRAMEWORK={"DEFAULT_THROTTLE_RATES": rates}):
        for _ in range(2):
            assert get(client, "segments/").status_code == 200
        response = get(client, "status/")
        is_problem(response, 429, "throttled")
        assert 0 < int(response["Retry-After"]) <= 60


class OfTheSite(BunceThrottle):
    """A subclass that the site uses for all of its views."""


@pytest.mark.parametrize("throttle", [BunceThrottle, OfTheSite])
def test_the_throttle_counts_once_where_the_site_names_it_too(throttle: type[Any]) -> None:
    client = client_for(user_with(*ALL))
    setting = {
        "DEFAULT_THROTTLE_RATES": {"bunce_sync": "4/min"},
        "DEFAULT_THROTTLE_CLASSES": [f"{throttle.__module__}.{throttle.__name__}"],
    }
    with override_settings(REST_FRAMEWORK=setting):
        seen = [get(client, "segments/").status_code for _ in range(5)]
    assert seen == [200, 200, 200, 200, 429]

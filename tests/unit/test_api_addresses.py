"""Where the API answers: with or without a slash, under any prefix, and where it has nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path, re_path
from rest_framework.permissions import BasePermission
from rest_framework.test import APIClient

from bunce_sync.models import Segment
from tests.unit.api_client import ALL, JSON, client_for, get, is_problem, post, user_with
from tests.unit.test_api_access import BODIES, OPERATIONS, call

pytestmark = pytest.mark.django_db


def of_the_sites_own(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the site's own")


#: A site that has the API in several places, and more than the API under one of them.
urlpatterns = [
    path("api/", include("bunce_sync.api.urls")),
    path("api/mine/", of_the_sites_own),
    path("api/status/mine/", of_the_sites_own),
    path("deep/down/rest/", include("bunce_sync.api.urls", namespace="deep")),
    path("<slug:tenant>/api/", include("bunce_sync.api.urls", namespace="tenant")),
    re_path(r"^(?P<version>v\d)/rest/", include("bunce_sync.api.urls", namespace="versioned")),
]
several_places = override_settings(ROOT_URLCONF=__name__)


@pytest.fixture
def client() -> APIClient:
    return client_for(user_with(*ALL))


@pytest.mark.parametrize(("method", "path_", "status", "_needed"), OPERATIONS)
def test_every_operation_answers_without_the_last_slash_too(
    client: APIClient, method: str, path_: str, status: int, _needed: set[str]
) -> None:
    segment = Segment.objects.create(name="VIP")
    if "retry" in path_:
        Segment.objects.filter(pk=segment.pk).update_sync_fields(status="rejected")
    body = "" if method in ("GET", "DELETE") else json.dumps(BODIES.get(path_, {}))
    address = f"/api/{path_.format(id=segment.pk)}".removesuffix("/")
    response = client.generic(method, address, body, content_type=JSON)
    assert response.status_code == status


def test_the_address_that_is_told_has_the_slash(client: APIClient) -> None:
    response = client.post("/api/segments", json.dumps({"name": "VIP"}), content_type=JSON)
    assert response["Location"] == f"/api/segments/{Segment.objects.get().pk}/"


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("word", ["1/nope/", "1/nope", "bulk/1/", "/", "1/push/now/?a=b"])
def test_an_address_below_the_segments_that_does_not_exist_is_told_in_json(
    client: APIClient, method: str, word: str
) -> None:
    response = client.generic(method, f"/api/segments/{word}", "", content_type=JSON)
    is_problem(response, 404, "not_found")


def test_somebody_unknown_is_not_told_which_addresses_exist() -> None:
    is_problem(get(client_for(None), "segments/1/nope/"), 401, "not_authenticated")


@several_places
@pytest.mark.parametrize("address", ["/api/mine/", "/api/status/mine/"])
def test_what_else_a_site_has_under_the_prefix_is_left_alone(
    client: APIClient, address: str
) -> None:
    assert client.get(address).content == b"the site's own"


@several_places
@pytest.mark.parametrize("prefix", ["/deep/down/rest", "/acme/api", "/v2/rest"])
def test_it_works_wherever_a_site_puts_it(client: APIClient, prefix: str) -> None:
    segments = f"{prefix}/segments/"
    made = client.post(segments, json.dumps({"name": "VIP"}), content_type=JSON)
    location = made["Location"]
    assert location == f"{segments}{made.json()['id']}/"
    assert client.get(location).json() == made.json()
    assert client.patch(location, json.dumps({"name": "B"}), content_type=JSON).status_code == 200
    assert client.post(f"{location}push/").status_code == 202
    Segment.objects.update_sync_fields(status="rejected")
    assert client.post(f"{location}retry/").status_code == 202
    assert client.get(f"{location}calls/").status_code == 200
    rows = json.dumps({"segments": [{"name": "C"}]})
    assert client.post(f"{segments}bulk/", rows, content_type=JSON).status_code == 201
    page = client.get(segments, {"page_size": 1}).json()
    assert page["next"].startswith(f"http://testserver{segments}?")
    assert client.get(page["next"]).json()["results"]
    assert client.get(f"{prefix}/status/").status_code == 200
    assert client.get(f"{prefix}/schema/").json()["servers"] == [{"url": prefix}]
    assert f'data-schema="{prefix}/schema/"' in client.get(f"{prefix}/docs/").content.decode()
    is_problem(client.get(f"{location}nope/"), 404, "not_found")
    assert client.delete(location).status_code == 204


class OfTheTenant(BasePermission):
    """A site's own rule, which looks at the site's own part of the address."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(view.kwargs.get("tenant") == "acme")


@several_places
@override_settings(REST_FRAMEWORK={"DEFAULT_PERMISSION_CLASSES": [f"{__name__}.OfTheTenant"]})
def test_the_sites_permissions_see_the_values_in_the_prefix(client: APIClient) -> None:
    assert client.get("/acme/api/segments/").status_code == 200
    is_problem(client.get("/other/api/segments/"), 403)


def test_options_tells_the_methods_and_nothing_else(client: APIClient) -> None:
    response = call(client, "OPTIONS", "segments/")
    assert (response.status_code, response.content) == (204, b"")
    assert response["Allow"] == "GET, POST, HEAD, OPTIONS"


@pytest.mark.parametrize("path_", ["segments/", "status/", "schema/", "docs/"])
@pytest.mark.parametrize("kind", ["json", "xml"])
def test_an_address_does_not_choose_a_format(client: APIClient, path_: str, kind: str) -> None:
    problem = is_problem(get(client, path_, {"format": kind}), 400, "invalid")
    assert list(problem["errors"]) == ["format"]


@pytest.mark.parametrize(("method", "path_", "_status", "_needed"), OPERATIONS)
def test_no_operation_ignores_a_parameter(
    client: APIClient, method: str, path_: str, _status: int, _needed: set[str]
) -> None:
    segment = Segment.objects.create(name="VIP")
    address = f"/api/{path_.format(id=segment.pk)}?dry_run=1"
    body = "" if method in ("GET", "DELETE") else json.dumps(BODIES.get(path_, {}))
    response = client.generic(method, address, body, content_type=JSON)
    assert list(is_problem(response, 400, "invalid")["errors"]) == ["dry_run"]
    assert list(Segment.objects.values_list("name", "description")) == [("VIP", None)]


def test_a_method_that_does_not_exist_is_refused_whatever_follows(client: APIClient) -> None:
    is_problem(post(client, "status/?dry_run=1"), 405, "method_not_allowed")

"""The URLs of the API: with or without a slash, under any prefix, and those that do not exist."""

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
from tests.unit.api_client import ALL, JSON, client_for, get, is_problem, user_with
from tests.unit.test_api_access import OPERATIONS, call

pytestmark = pytest.mark.django_db


def site_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("of the site")


#: A site that includes the API several times, and has other URLs under one of the prefixes.
urlpatterns = [
    path("api/", include("bunce_sync.api.urls")),
    path("api/mine/", site_view),
    path("api/status/mine/", site_view),
    path("deep/down/rest/", include("bunce_sync.api.urls", namespace="deep")),
    path("<slug:tenant>/api/", include("bunce_sync.api.urls", namespace="tenant")),
    re_path(r"^(?P<version>v\d)/rest/", include("bunce_sync.api.urls", namespace="versioned")),
]
several_places = override_settings(ROOT_URLCONF=__name__)


@pytest.fixture
def client() -> APIClient:
    return client_for(user_with(*ALL))


@pytest.mark.parametrize(("method", "path_"), [operation[:2] for operation in OPERATIONS])
def test_every_operation_works_without_the_trailing_slash(
    client: APIClient, method: str, path_: str
) -> None:
    assert 200 <= call(client, method, path_.removesuffix("/")).status_code < 300


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("word", ["1/nope/", "1/nope", "bulk/1/", "/", "1/push/now/?a=b"])
def test_an_unknown_path_below_the_segments_is_a_problem(
    client: APIClient, method: str, word: str
) -> None:
    response = client.generic(method, f"/api/segments/{word}", "", content_type=JSON)
    is_problem(response, 404, "not_found")


def test_an_unknown_path_requires_authentication() -> None:
    is_problem(get(client_for(None), "segments/1/nope/"), 401, "not_authenticated")


@several_places
@pytest.mark.parametrize("address", ["/api/mine/", "/api/status/mine/"])
def test_the_sites_other_urls_under_the_prefix_work(client: APIClient, address: str) -> None:
    assert client.get(address).content == b"of the site"


@several_places
@pytest.mark.parametrize("prefix", ["/deep/down/rest", "/acme/api", "/v2/rest"])
def test_it_works_under_any_prefix(client: APIClient, prefix: str) -> None:
    segments = f"{prefix}/segments/"
    made = client.post(segments, json.dumps({"name": "VIP"}), content_type=JSON)
    location = made["Location"]
    assert location == f"{segments}{made.json()['id']}"
    assert client.get(location).json() == made.json()
    assert client.patch(location, json.dumps({"name": "B"}), content_type=JSON).status_code == 200
    assert client.post(f"{location}/push/").status_code == 202
    Segment.objects.update_sync_fields(status="rejected")
    assert client.post(f"{location}/retry/").status_code == 202
    assert client.get(f"{location}/calls/").status_code == 200
    rows = json.dumps({"segments": [{"name": "C"}]})
    assert client.post(f"{segments}bulk/", rows, content_type=JSON).status_code == 201
    page = client.get(segments, {"page_size": 1}).json()
    assert page["next"].startswith(f"http://testserver{segments}?")
    assert client.get(page["next"]).json()["results"]
    assert client.get(f"{prefix}/status/").status_code == 200
    assert client.get(f"{prefix}/schema/").json()["servers"] == [{"url": prefix}]
    assert f'data-schema="{prefix}/schema"' in client.get(f"{prefix}/docs/").content.decode()
    is_problem(client.get(f"{location}/nope/"), 404, "not_found")
    assert client.delete(location).status_code == 204


class OfTheTenant(BasePermission):
    """A permission of the site that depends on a value in its prefix."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(view.kwargs.get("tenant") == "acme")


@several_places
@override_settings(REST_FRAMEWORK={"DEFAULT_PERMISSION_CLASSES": [f"{__name__}.OfTheTenant"]})
def test_the_sites_permissions_see_the_values_in_the_prefix(client: APIClient) -> None:
    assert client.get("/acme/api/segments/").status_code == 200
    is_problem(client.get("/other/api/segments/"), 403)

"""The problems that the API responds with."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import connection
from django.http import Http404, HttpRequest
from django.test import override_settings
from django.urls import include, path
from rest_framework.exceptions import (
    APIException,
    NotAuthenticated,
    PermissionDenied,
    ValidationError,
)
from rest_framework.permissions import IsAdminUser
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from bunce_sync.api.permissions import SegmentPermissions
from bunce_sync.api.problems import field_map
from bunce_sync.models import Segment
from tests.unit.api_client import ALL, JSON, client_for, get, is_problem, user_with

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> APIClient:
    return client_for(user_with(*ALL))


def send(client: APIClient, body: Any, content_type: str = JSON) -> Any:
    return client.generic("POST", "/api/segments/", body, content_type=content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"name=VIP",
        b'{"name": NaN}',
        b'{"name": Infinity}',
        b'{"name": "\xff"}',
        '{"name": "VIP"}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"name": ' + b"9" * 5000 + b"}",
        b"\0",
    ],
)
def test_a_body_that_is_not_json_is_refused_without_being_quoted(
    client: APIClient, body: bytes
) -> None:
    problem = is_problem(send(client, body), 400, "parse_error")
    assert "VIP" not in problem["detail"]


@pytest.mark.parametrize("body", [b"", b"null", b"7", b'"VIP"', b"[]", b'[{"name": "VIP"}]'])
def test_a_body_that_is_not_an_object_is_refused(client: APIClient, body: bytes) -> None:
    is_problem(send(client, body), 400, "invalid")


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
def test_other_content_types_are_refused(client: APIClient, content_type: str) -> None:
    is_problem(send(client, b'{"name": "VIP"}', content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "base64", "no-such"])
def test_a_body_is_utf_8_whatever_its_header_says(client: APIClient, charset: str) -> None:
    body = '{"name": "Käse"}'.encode()
    assert send(client, body, f"{JSON}; charset={charset}").status_code == 201
    assert Segment.objects.get().name == "Käse"


def test_only_json_is_served(client: APIClient) -> None:
    is_problem(get(client, "segments/", Accept="text/csv"), 406, "not_acceptable")


def in_the_sites_style(exc: Exception, context: Any) -> Response:
    return Response({"the site says": "no"}, 418)


class OfTheSite(APIView):
    """A REST framework view of the site."""

    permission_classes = [IsAdminUser]

    def get(self, request: Any) -> Response:
        return Response()


urlpatterns = [
    path("api/", include("bunce_sync.api.urls")),
    path("own/", OfTheSite.as_view()),
]


def test_the_sites_own_views_keep_their_error_style(client: APIClient) -> None:
    style = {"EXCEPTION_HANDLER": f"{__name__}.in_the_sites_style"}
    with override_settings(ROOT_URLCONF=__name__, REST_FRAMEWORK=style):
        theirs = client.get("/own/")
        assert (theirs.status_code, theirs.json()) == (418, {"the site says": "no"})
        is_problem(get(client, "segments/0/"), 404, "not_found")


class SiteError(APIException):
    status_code = 499
    default_detail = "The site has had enough."
    default_code = "enough"


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (SiteError(), 499, {"title": "Error", "code": "enough"}),
        (SiteError(""), 499, {"detail": "Error"}),
        (PermissionDenied("Ask the boss.", "boss"), 403, {"code": "boss"}),
        (
            PermissionDenied(["Not now.", "Not here."]),
            403,
            {"errors": {"non_field_errors": ["Not now.", "Not here."]}},
        ),
        (
            PermissionDenied({"reason": "Not now.", "where": ["Not here."]}),
            403,
            {
                "code": "permission_denied",
                "errors": {"reason": ["Not now."], "where": ["Not here."]},
            },
        ),
        (
            # As djangorestframework-simplejwt does.
            NotAuthenticated({"detail": "The token has expired.", "messages": [{"a": "b"}]}),
            401,
            {"detail": "The token has expired.", "code": "not_authenticated"},
        ),
        (PermissionDenied({}), 403, {"detail": "Forbidden", "errors": {}}),
        (DjangoPermissionDenied(), 403, {"code": "permission_denied"}),
        (Http404("No such tenant"), 404, {"detail": "No such tenant"}),
        (ValidationError([{"a": ["b", {"c": "d"}]}, "e"]), 400, {"code": "invalid"}),
        (ValidationError({"a": [{"b": "c"}, {}]}), 400, {"errors": {"a.0.b": ["c"]}}),
    ],
)
def test_the_sites_own_errors_are_problems_whatever_their_shape(
    client: APIClient,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    expected: dict[str, Any],
) -> None:
    def refuse(*args: Any) -> None:
        raise error

    monkeypatch.setattr(SegmentPermissions, "has_permission", refuse)
    problem = is_problem(get(client, "segments/"), status)
    assert problem.items() >= expected.items()


def test_errors_of_the_same_field_do_not_hide_each_other() -> None:
    errors = {"a": {"b": ["one"]}, "a.b": ["two"], "c": {"non_field_errors": ["three"]}}
    assert field_map(errors) == {"a.b": ["one", "two"], "c": ["three"]}


# Unexpected errors


@pytest.fixture
def broken(client: APIClient, monkeypatch: pytest.MonkeyPatch) -> APIClient:
    """A client of an API whose status view writes a row and then fails."""

    def fail(*args: Any) -> None:
        Segment.objects.create(name="half done")
        raise RuntimeError("sk_live_secret")

    monkeypatch.setattr("bunce_sync.api.status.get_status", fail)
    client.raise_request_exception = False
    return client


def test_an_unexpected_error_is_a_problem_without_internals(broken: APIClient) -> None:
    response = get(broken, "status/")
    problem = is_problem(response, 500, "internal")
    assert problem.keys() == {"type", "title", "status", "code", "detail"}
    assert b"secret" not in response.content
    assert b"RuntimeError" not in response.content


def test_an_unexpected_error_reaches_the_sites_log_and_signal(
    broken: APIClient, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    def watch(sender: Any, request: HttpRequest, **kwargs: Any) -> None:
        seen.append((request.path, sys.exc_info()[0]))

    got_request_exception.connect(watch)
    try:
        get(broken, "status/")
    finally:
        got_request_exception.disconnect(watch)
    assert seen == [("/api/status/", RuntimeError)]
    [record] = [record for record in caplog.records if record.name == "django.request"]
    assert (record.levelname, record.getMessage()) == (
        "ERROR",
        "Internal Server Error: /api/status/",
    )
    assert record.exc_info
    assert record.exc_info[0] is RuntimeError
    assert vars(record)["status_code"] == 500
    assert isinstance(vars(record)["request"], HttpRequest)


@pytest.mark.django_db(transaction=True)
def test_an_unexpected_error_is_rolled_back_where_requests_are_atomic(
    broken: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(broken, "status/")
    assert Segment.objects.count() == 1
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    is_problem(get(broken, "status/"), 500)
    assert Segment.objects.count() == 1


def test_in_debug_mode_django_shows_its_own_page(broken: APIClient) -> None:
    with override_settings(DEBUG=True):
        response = get(broken, "status/")
    assert response.status_code == 500
    assert b"RuntimeError" in response.content


def test_a_suspicious_operation_is_a_bad_request(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise SuspiciousOperation

    monkeypatch.setattr("bunce_sync.api.status.get_status", refuse)
    client.raise_request_exception = False
    assert get(client, "status/").status_code == 400

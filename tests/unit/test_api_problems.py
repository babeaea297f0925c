"""What the API answers to requests that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

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
def test_a_body_that_is_not_json_is_refused_without_being_repeated(
    client: APIClient, body: bytes
) -> None:
    problem = is_problem(send(client, body), 400, "parse_error")
    assert "VIP" not in problem["detail"]


@pytest.mark.parametrize("body", [b"", b"null", b"7", b'"VIP"', b"[]", b'[{"name": "VIP"}]'])
def test_a_body_that_is_no_object_is_refused(client: APIClient, body: bytes) -> None:
    is_problem(send(client, body), 400, "invalid")


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
def test_another_kind_of_body_is_refused(client: APIClient, content_type: str) -> None:
    is_problem(send(client, b'{"name": "VIP"}', content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "base64", "no-such"])
def test_a_body_is_utf_8_whatever_is_said_of_it(client: APIClient, charset: str) -> None:
    body = '{"name": "Käse"}'.encode()
    assert send(client, body, f"{JSON}; charset={charset}").status_code == 201
    assert Segment.objects.get().name == "Käse"


def test_only_json_is_spoken(client: APIClient) -> None:
    is_problem(get(client, "segments/", Accept="text/csv"), 406, "not_acceptable")


def test_a_site_of_its_own_error_style_keeps_it_elsewhere() -> None:
    from rest_framework.settings import api_settings

    from bunce_sync.api.problems import problem_handler

    assert api_settings.EXCEPTION_HANDLER is not problem_handler


def test_an_error_that_nobody_foresaw_is_left_to_the_site(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("sk_live_secret")

    monkeypatch.setattr("bunce_sync.api.status.overview", fail)
    client.raise_request_exception = False
    response = get(client, "status/")
    assert response.status_code == 500
    assert b"secret" not in response.content

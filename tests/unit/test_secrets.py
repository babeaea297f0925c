"""The API key and the content of segments: where neither may be found."""

from __future__ import annotations

import logging

import pytest
from django.apps import apps
from pytest_django import Settings

from bunce_sync.models import Segment
from bunce_sync.sync import push, refresh
from bunce_sync.sync.budget import Budget

from .admin_people import LIST, editor, page
from .core import configure
from .raw_server import SEGMENT, RawServer, http, responding

pytestmark = pytest.mark.django_db

KEY = "sk_live_0a1b2c3d4e5f"
NAME = "Our unhappy customers"

#: Responses that repeat the key in each place where one is read for people.
ECHOES = [
    http(401, {"message": f"{KEY} is not valid"}),
    http(403, f"<html><title>Blocked: {KEY}</title></html>"),
    http(422, {"errors": {"name": [f"Bearer {KEY}"]}}),
    http(429, {"message": f"slow down, {KEY}"}, "Retry-After: 1"),
    http(500, f"Traceback: {KEY}"),
    http(302, "", f"Location: https://example.com/{KEY}/login"),
    http(200, {"success": False, "message": KEY}),
    http(200, f"no JSON but {KEY}"),
]


@pytest.mark.parametrize("echo", ECHOES, ids=lambda echo: echo.split(b"\r\n")[0].decode())
@pytest.mark.parametrize("operation", ["create", "refresh"])
def test_the_key_is_in_no_table_page_or_log_whatever_bunce_says(
    settings: Settings, caplog: pytest.LogCaptureFixture, operation: str, echo: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    responses = [echo] if operation == "create" else [http(200, {"data": SEGMENT}), echo]
    with RawServer(responding(*responses)) as server:
        configure(settings, API_KEY=KEY, BASE_URL=server.url, READ_TIMEOUT=2)
        segment = Segment.objects.create(name=NAME)
        push.run(Budget(10))
        if operation == "refresh":
            Segment.objects.update_sync_fields(refresh_requested_at=segment.created_at)
            refresh.run(Budget(10))
        assert len(server.requests) == len(responses)
        assert KEY.encode() in server.requests[-1]

    assert KEY not in everything_stored()
    client = editor()
    for address in (LIST, page(segment), "/admin/bunce_sync/apicall/"):
        assert KEY not in client.get(address).content.decode()
    assert KEY not in caplog.text
    assert NAME not in caplog.text


def everything_stored() -> str:
    """Return all values of all rows of the app."""
    stored = [
        str(row)
        for model in apps.get_app_config("bunce_sync").get_models()
        for row in model._base_manager.values()
    ]
    assert NAME in "".join(stored)
    return "".join(stored)

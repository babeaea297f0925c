"""Libraries that answer in place of the connection, as in a site's own tests.

Nothing shows whether they sent the request, so its outcome is what the response says, or unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import requests_mock
import responses
from pytest_django import Settings

from bunce_sync.client import BunceClient, RequestRecord
from bunce_sync.exceptions import KeyRefused, NoResponse, NotSent, RateLimited, ServerError
from bunce_sync.models import Segment
from bunce_sync.sync import push
from bunce_sync.sync.sweep import run_once

from .core import Status, configure, fresh

URL = "http://bunce.localhost:9/v1"
SEGMENT = {"success": True, "data": {"id": "a1", "name": "VIP", "type": "manual"}}


@pytest.fixture
def mocked() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def client() -> Iterator[BunceClient]:
    with BunceClient(base_url=URL, api_key="sk_test_1", connect_timeout=1) as client:
        yield client


def test_a_mocked_success_is_one(client: BunceClient, mocked: responses.RequestsMock) -> None:
    mocked.post(f"{URL}/segments", json=SEGMENT)
    record = RequestRecord()
    assert client.create_segment({"name": "VIP"}, record=record).id == "a1"
    assert record.sent


@pytest.mark.parametrize(
    ("status", "error"), [(500, ServerError), (401, KeyRefused), (429, RateLimited)]
)
def test_a_mocked_error_was_sent(
    client: BunceClient, mocked: responses.RequestsMock, status: int, error: type[Exception]
) -> None:
    mocked.post(f"{URL}/segments", status=status)
    record = RequestRecord()
    with pytest.raises(error):
        client.create_segment({"name": "VIP"}, record=record)
    assert record.sent


@pytest.mark.parametrize(
    "error",
    [
        *(requests.ConnectionError("x"), requests.ReadTimeout(), requests.ConnectTimeout()),
        *(OSError(), ValueError("x"), requests.exceptions.InvalidHeader("x")),
    ],
)
def test_a_mocked_failure_may_have_been_sent(
    client: BunceClient, mocked: responses.RequestsMock, error: Exception
) -> None:
    mocked.post(f"{URL}/segments", body=error)
    record = RequestRecord()
    with pytest.raises(NoResponse):
        client.create_segment({"name": "VIP"}, record=record)
    assert record.sent


@pytest.mark.django_db
def test_a_mock_that_fails_by_itself_may_have_sent(
    settings: Settings, mocked: responses.RequestsMock
) -> None:
    configure(settings, BASE_URL=URL, API_KEY="sk_test_1")
    mocked.post(f"{URL}/segments", body=RuntimeError("x"))
    row = Segment.objects.create(name="VIP")
    push.push(row.pk)
    assert fresh(row).status == Status.IN_DOUBT


def test_the_same_holds_for_requests_mock(client: BunceClient) -> None:
    with requests_mock.Mocker() as mock:
        mock.post(f"{URL}/segments", exc=requests.ConnectTimeout)
        record = RequestRecord()
        with pytest.raises(NoResponse):
            client.create_segment({"name": "VIP"}, record=record)
        assert record.sent


def test_without_a_mock_a_refused_connection_is_not_sent(client: BunceClient) -> None:
    record = RequestRecord()
    with pytest.raises(NotSent):
        client.create_segment({"name": "VIP"}, record=record)
    assert not record.sent


def test_a_missing_certificate_bundle_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nothing/here.pem")
    with (
        BunceClient(base_url="https://bunce.localhost:9/v1", api_key="sk_test_1") as client,
        pytest.raises(NotSent),
    ):
        client.create_segment({"name": "VIP"})


@pytest.mark.django_db
def test_a_create_with_a_mocked_500_is_looked_up_before_it_is_sent_again(
    settings: Settings, mocked: responses.RequestsMock
) -> None:
    configure(settings, BASE_URL=URL, API_KEY="sk_test_1")
    create = mocked.post(f"{URL}/segments", status=500)
    row = Segment.objects.create(name="VIP")
    push.push(row.pk)
    assert fresh(row).status == Status.IN_DOUBT
    run_once(seconds=5)
    assert create.call_count == 1

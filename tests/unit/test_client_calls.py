"""The seven calls, over real HTTP against the emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from bunce_sync.client import BunceClient, Customer, RequestRecord
from bunce_sync.exceptions import (
    Conflict,
    KeyRefused,
    NoContent,
    NotFound,
    RateLimited,
    UnusableResponse,
)
from bunce_sync.testing.emulator import Emulator

from .raw_server import SEGMENT, RawServer, http, responding

KEY = "sk_test_6fP1xVnZk2QeLw"


@pytest.fixture
def bunce() -> Iterator[Emulator]:
    with Emulator(rate_limit=None) as emulator:
        yield emulator


@pytest.fixture
def client(bunce: Emulator) -> Iterator[BunceClient]:
    with BunceClient(base_url=bunce.base_url, api_key=KEY) as client:
        yield client


def last_body(bunce: Emulator) -> object:
    return json.loads(bunce.requests[-1].raw_body)


def test_create(bunce: Emulator, client: BunceClient) -> None:
    made = client.create_segment(
        {"name": "Gölden", "description": "one\ntwo", "add_all_customers": False}
    )
    [stored] = bunce.segments
    assert (made.id, made.name, made.description) == (stored.id, "Gölden", "one\ntwo")
    assert (made.type, made.all_customers) == (stored.type, False)
    assert made.created_at == stored.created_at
    assert last_body(bunce) == {
        "name": "Gölden",
        "description": "one\ntwo",
        "add_all_customers": False,
    }


def test_create_leaves_out_fields_without_a_value(bunce: Emulator, client: BunceClient) -> None:
    client.create_segment({"name": "Gold", "description": None})
    assert last_body(bunce) == {"name": "Gold"}


def test_create_that_bunce_refuses(bunce: Emulator, client: BunceClient) -> None:
    with pytest.raises(Conflict) as caught:
        client.create_segment({"name": ""})
    assert "name" in caught.value.detail
    assert bunce.segments == []


def test_get(bunce: Emulator, client: BunceClient) -> None:
    stored = bunce.add_segment("Gold", "for the best")
    found = client.get_segment(stored.id)
    assert (found.id, found.name, found.description) == (stored.id, "Gold", "for the best")
    with pytest.raises(NotFound):
        client.get_segment(str(uuid4()))


def test_update(bunce: Emulator, client: BunceClient) -> None:
    stored = bunce.add_segment("Gold", "for the best")
    record = RequestRecord()
    changed = client.update_segment(
        stored.id, {"name": "Silver", "description": None}, record=record
    )
    assert (changed.id, changed.name, changed.description) == (stored.id, "Silver", None)
    assert last_body(bunce) == {"name": "Silver", "description": None}
    assert (record.method, record.path) == ("PATCH", f"/segments/{stored.id}")


def test_customers_are_added_and_removed(bunce: Emulator, client: BunceClient) -> None:
    segment = bunce.add_segment("Gold")
    client.add_customers(
        segment.id, [Customer(email="ada@example.com"), Customer(customer_id="7", first_name="Bo")]
    )
    assert len(bunce.members(segment.id)) == 2
    client.remove_customers(segment.id, ["ada@example.com"])
    [left] = bunce.members(segment.id)
    assert (left.customer_id, left.first_name) == ("7", "Bo")
    assert bunce.requests[-1].method == "DELETE"


def test_all_customers_are_added(bunce: Emulator, client: BunceClient) -> None:
    segment = bunce.add_segment("Gold")
    client.add_all_customers(segment.id)
    assert bunce.segments[0].all_customers is True
    assert last_body(bunce) == {}


def test_wrong_key(bunce: Emulator) -> None:
    client = BunceClient(base_url=bunce.base_url, api_key="sk_live_1")
    with client, pytest.raises(KeyRefused):
        client.create_segment({"name": "Gold"})


def test_rate_limit(bunce: Emulator, client: BunceClient) -> None:
    bunce.set(rate_limit=1)
    client.create_segment({"name": "Gold"})
    with pytest.raises(RateLimited) as caught:
        client.create_segment({"name": "Silver"})
    assert caught.value.retry_after is not None
    assert 50 < caught.value.retry_after <= 61


def test_base_url_may_end_in_a_slash(bunce: Emulator) -> None:
    with BunceClient(base_url=bunce.base_url + "/", api_key=KEY) as client:
        client.create_segment({"name": "Gold"})
    assert len(bunce.segments) == 1


@pytest.mark.parametrize("segment_id", ["", ".", "..", "a b", "a\n", "x" * 256])
def test_invalid_id_is_never_put_into_a_url(client: BunceClient, segment_id: str) -> None:
    for call in (client.get_segment, client.add_all_customers):
        with pytest.raises(ValueError, match="not a segment id"):
            call(segment_id)


def test_special_characters_in_an_id_are_escaped_in_the_path() -> None:
    odd = "../a/b?c#d%2F"
    with (
        RawServer(responding(http(200, {"data": {**SEGMENT, "id": odd}}))) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        assert client.get_segment(odd).id == odd
    assert server.requests[0].startswith(b"GET /v1/segments/..%2Fa%2Fb%3Fc%23d%252F HTTP/1.1\r\n")


def test_response_about_another_segment_is_an_error() -> None:
    with (
        RawServer(responding(http(200, {"data": SEGMENT}))) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        assert client.get_segment(str(SEGMENT["id"]).upper()).id == SEGMENT["id"]
        with pytest.raises(UnusableResponse):
            client.update_segment("another", {"name": "Gold", "description": None})


@pytest.mark.parametrize(
    "content", [SEGMENT, {"data": {"data": SEGMENT}}, {"data": {"segment": SEGMENT}}]
)
def test_response_about_another_segment_is_an_error_in_any_shape(content: object) -> None:
    with (
        RawServer(responding(http(200, content))) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        assert (
            client.update_segment(str(SEGMENT["id"]), {"name": "G", "description": None}).name
            == "Gold"
        )
        with pytest.raises(UnusableResponse, match="another segment"):
            client.update_segment("another", {"name": "Gold", "description": None})


def test_response_to_an_update_without_content() -> None:
    with (
        RawServer(responding(http(204))) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
        pytest.raises(NoContent) as caught,
    ):
        client.update_segment("abc", {"name": "Gold", "description": None})
    assert server.requests[0].startswith(b"PATCH ")
    assert (caught.value.code, caught.value.http_status) == ("no_content", 204)


@pytest.mark.parametrize("answer", [http(204), http(200), http(200, {"success": True})])
def test_list_without_content_is_not_an_empty_list(answer: bytes) -> None:
    with (
        RawServer(responding(answer)) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
        pytest.raises(UnusableResponse) as caught,
    ):
        client.list_page()
    assert (type(caught.value), caught.value.code) == (UnusableResponse, "wrong_shape")


@pytest.mark.parametrize("answer", [http(200, {"success": True, "data": None}), http(204)])
def test_customer_calls_need_no_data_in_the_response(answer: bytes) -> None:
    with (
        RawServer(responding(answer)) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        client.add_all_customers("abc")
        client.remove_customers("abc", ["7"])


def test_customers_must_be_a_list_that_is_not_empty(client: BunceClient) -> None:
    with pytest.raises(ValueError, match="no customers"):
        client.add_customers("abc", [])
    with pytest.raises(ValueError, match="no customers"):
        client.remove_customers("abc", [])
    with pytest.raises(TypeError, match="not a string"):
        client.remove_customers("abc", "ada@example.com")

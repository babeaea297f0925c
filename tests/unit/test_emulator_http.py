"""The emulator speaks HTTP/1.1 with clients of any kind, correct or not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bunce_sync.testing.emulator import Emulator
from tests.emulator_client import KEY, connected, create_bytes, read_all, read_responses

CHUNKED_HEAD = (
    f"POST /v1/segments HTTP/1.1\r\nHost: bunce\r\nX-Authorization: {KEY}\r\n"
    "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
).encode()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def test_a_connection_serves_one_request_after_the_other(emulator: Emulator) -> None:
    with connected(emulator) as sock:
        for number in range(3):
            sock.sendall(create_bytes(f"{number}"))
            ((status, headers, _),) = read_responses(sock, 1)
            assert (status, headers.get("connection")) == (201, None)
    assert emulator.accepted == 1


def test_pipelined_requests_are_answered_in_order(emulator: Emulator) -> None:
    with connected(emulator) as sock:
        sock.sendall(create_bytes("1") + create_bytes("2") + create_bytes("3"))
        responses = read_responses(sock, 3)
    assert [json.loads(body)["data"]["name"] for _, _, body in responses] == ["1", "2", "3"]


def test_a_request_may_arrive_byte_by_byte(emulator: Emulator) -> None:
    with connected(emulator) as sock:
        for byte in create_bytes("slow"):
            sock.sendall(bytes([byte]))
        assert read_responses(sock, 1)[0][0] == 201
    assert [segment.name for segment in emulator.segments] == ["slow"]


def test_a_chunked_body_is_accepted(emulator: Emulator) -> None:
    chunks = b'5\r\n{"nam\r\nB;note=x\r\ne": "slow"}\r\n0\r\nX-Sum: 1\r\n\r\n'
    with connected(emulator) as sock:
        sock.sendall(CHUNKED_HEAD + chunks + create_bytes("next"))
        read_responses(sock, 2)
    assert [segment.name for segment in emulator.segments] == ["slow", "next"]


def test_the_connection_is_closed_when_the_client_asks_for_it(emulator: Emulator) -> None:
    for request in (
        b"GET /health HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
    ):
        with connected(emulator) as sock:
            sock.sendall(request)
            response = read_all(sock)
        assert response.startswith(b"HTTP/1.1 200 OK")
        assert b"\r\nConnection: close\r\n" in response


def test_a_head_request_has_no_body(emulator: Emulator) -> None:
    with connected(emulator) as sock:
        sock.sendall(b"HEAD /health HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
        assert read_all(sock).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"rubbish\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: b\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: b\r\nX: " + b"x" * 70_000, 431),
        (CHUNKED_HEAD + b"x\r\n", 400),
        (CHUNKED_HEAD + b"100001\r\n" + b" " * 0x100001, 413),
    ],
)
def test_an_unreadable_request_gets_a_json_error_and_the_connection_is_closed(
    emulator: Emulator, sent: bytes, status: int
) -> None:
    with connected(emulator) as sock:
        sock.sendall(sent)
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(body)["success"] is False
    assert emulator.segments == []


def test_a_client_that_sends_over_one_megabyte_can_read_the_413(
    emulator: Emulator,
) -> None:
    head = create_bytes().partition(b"Content-Length")[0]
    with connected(emulator) as sock:
        sock.sendall(head + b"Content-Length: 1500000\r\n\r\n" + b" " * 1_500_000)
        assert read_all(sock).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_one_megabyte_is_accepted(emulator: Emulator) -> None:
    body = json.dumps({"name": "A", "description": ""}).encode().ljust(1024 * 1024)
    head = create_bytes().partition(b"Content-Length")[0]
    with connected(emulator) as sock:
        sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert read_responses(sock, 1)[0][0] == 201


def test_a_path_may_be_percent_encoded(emulator: Emulator) -> None:
    with connected(emulator) as sock:
        sock.sendall(b"GET /%68ealth HTTP/1.1\r\nHost: b\r\n\r\n")
        assert read_responses(sock, 1)[0][0] == 200

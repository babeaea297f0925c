"""The local Bunce reads HTTP/1.1 carefully, whoever writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.emulator.http import BadRequestError, RequestParser
from tests.emulator_client import KEY, connected, create_bytes, read_all, read_answers

CHUNKED_HEAD = (
    f"POST /v1/segments HTTP/1.1\r\nX-Authorization: {KEY}\r\n"
    "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
).encode()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def test_a_connection_is_kept_and_serves_one_request_after_the_other(emulator: Emulator) -> None:
    with connected(emulator) as sock:
        for number in range(3):
            sock.sendall(create_bytes(f"{number}"))
            ((status, headers, _),) = read_answers(sock, 1)
            assert (status, headers["connection"]) == (201, "keep-alive")
    assert emulator.accepted == 1


def test_requests_sent_in_one_go_are_answered_in_order(emulator: Emulator) -> None:
    with connected(emulator) as sock:
        sock.sendall(create_bytes("1") + create_bytes("2") + create_bytes("3"))
        answers = read_answers(sock, 3)
    assert [json.loads(body)["data"]["name"] for _, _, body in answers] == ["1", "2", "3"]


def test_a_request_may_arrive_byte_by_byte() -> None:
    parser = RequestParser()
    whole = create_bytes("slow")
    for place in range(len(whole)):
        assert parser.next_request() is None
        parser.feed(whole[place : place + 1])
    request = parser.next_request()
    assert request is not None
    assert request.body == b'{"name": "slow"}'
    assert parser.next_request() is None
    assert parser.buffered == 0


@pytest.mark.parametrize("trailers", [b"", b"X-Sum: 1\r\nX-More: 2\r\n"])
def test_a_chunked_body_is_put_together_however_it_arrives(trailers: bytes) -> None:
    chunks = b'5\r\n{"nam\r\nB;note=x\r\ne": "slow"}\r\n0\r\n' + trailers + b"\r\n"
    whole = CHUNKED_HEAD + chunks + create_bytes("next")
    for step in (1, 7, len(whole)):
        parser = RequestParser()
        bodies = []
        for place in range(0, len(whole), step):
            parser.feed(whole[place : place + step])
            while (request := parser.next_request()) is not None:
                bodies.append(request.body)
        assert bodies == [b'{"name": "slow"}', b'{"name": "next"}']


def test_the_connection_is_closed_when_the_client_asks(emulator: Emulator) -> None:
    for request in (
        b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
    ):
        with connected(emulator) as sock:
            sock.sendall(request)
            answer = read_all(sock)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"\r\nConnection: close\r\n" in answer


def test_an_unused_connection_is_closed_when_a_limit_is_set(emulator: Emulator) -> None:
    emulator.set(idle_seconds=0.1)
    with connected(emulator) as sock:
        sock.sendall(create_bytes())
        assert read_all(sock).startswith(b"HTTP/1.1 201")


def test_a_head_request_has_no_body(emulator: Emulator) -> None:
    with connected(emulator) as sock:
        sock.sendall(b"HEAD /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert read_all(sock).endswith(b"\r\n\r\n")


BROKEN = [
    (b"rubbish\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 400),
    (b"G@T / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\n\r\n", 505),
    (b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nName : value\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
    (CHUNKED_HEAD + b"x\r\n", 400),
    (CHUNKED_HEAD + b"-1\r\n", 400),
    (CHUNKED_HEAD + b"1\r\nab\r\n", 400),
    (CHUNKED_HEAD + b"1" * 70_000, 400),
    (CHUNKED_HEAD + b"0\r\n" + b"x" * 70_000, 400),
    (CHUNKED_HEAD + b"FFFFFFF\r\n", 413),
]


@pytest.mark.parametrize(("sent", "status"), BROKEN)
def test_bytes_that_are_no_request_are_refused(sent: bytes, status: int) -> None:
    parser = RequestParser()
    parser.feed(sent)
    with pytest.raises(BadRequestError) as caught:
        parser.next_request()
    assert caught.value.status == status


def test_a_refusal_is_json_and_ends_the_connection(emulator: Emulator) -> None:
    with connected(emulator) as sock:
        sock.sendall(b"GET /v1/segments HTTP/1.1\r\nContent-Length: many\r\n\r\n")
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    assert json.loads(body) == {"success": False, "message": "Content-Length is not a number"}
    assert emulator.requests[-1].path == "/v1/segments"


def test_a_body_over_one_megabyte_is_a_413_that_its_sender_gets_to_read(
    emulator: Emulator,
) -> None:
    head = create_bytes().partition(b"Content-Length")[0]
    with connected(emulator) as sock:
        sock.sendall(head + b"Content-Length: 1500000\r\n\r\n" + b" " * 1_500_000)
        assert read_all(sock).startswith(b"HTTP/1.1 413 ")
    assert emulator.requests[-1].status == 413


def test_a_body_of_just_one_megabyte_is_read(emulator: Emulator) -> None:
    body = json.dumps({"name": "A", "description": ""}).encode().ljust(1024 * 1024)
    head = create_bytes().partition(b"Content-Length")[0]
    with connected(emulator) as sock:
        sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert read_answers(sock, 1)[0][0] == 201


def test_a_path_may_be_percent_encoded(emulator: Emulator) -> None:
    with connected(emulator) as sock:
        sock.sendall(b"GET /%68ealth HTTP/1.1\r\n\r\n")
        assert read_answers(sock, 1)[0][0] == 200

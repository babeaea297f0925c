"""The record shows whether the request was sent, whatever goes wrong and when."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bunce_sync.client import BunceClient, RequestRecord, connection
from bunce_sync.exceptions import NoResponse, NotSent, PermitExpired, UnusableResponse

from .client_attempts import KEY, WAITING, create
from .raw_server import (
    CREATED,
    SEGMENT,
    Peer,
    RawServer,
    Script,
    http,
    make_certificate,
    over_tls,
    responding,
)

Certificate = tuple[Path, ssl.SSLContext]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def trusted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return the context of a TLS server whose certificate the client trusts."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    return certificate[1]


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    with ExitStack() as stack:
        yield lambda *scripts, **options: stack.enter_context(RawServer(*scripts, **options))


def assert_not_sent(outcome: Any, record: RequestRecord, code: str) -> None:
    assert type(outcome) is NotSent
    assert outcome.code == code
    assert record.sent is False
    assert record.http_status is None


# Nothing was sent


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    outcome, record = create(f"http://127.0.0.1:{port}/v1")
    assert_not_sent(outcome, record, "refused")
    assert outcome.detail == f"127.0.0.1:{port}: connection refused"


def test_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    outcome, record = create("https://bunce.example/v1")
    assert_not_sent(outcome, record, "dns")


def test_no_response_to_the_connection_attempt() -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # fill the queue of a server that accepts no connection
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        outcome, record = create(f"http://127.0.0.1:{full.getsockname()[1]}/v1", hasty=True)
    assert_not_sent(outcome, record, "connect_timeout")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Peer.hang, "connect_timeout"),
        (Peer.reset, "connect_failed"),
        (lambda peer: None, "tls"),
        (lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "tls"),
    ],
    ids=["hang", "reset", "close", "plain HTTP"],
)
def test_tls_handshake_that_fails(
    serve: Callable[..., RawServer], trusted: ssl.SSLContext, script: Script, code: str
) -> None:
    def after_hello(peer: Peer) -> None:
        peer.sock.recv(4096)
        script(peer)

    outcome, record = create(serve(after_hello, tls=trusted).url, hasty=code in WAITING)
    assert_not_sent(outcome, record, code)


def test_certificate_that_is_not_trusted(
    serve: Callable[..., RawServer], certificate: Certificate
) -> None:
    outcome, record = create(serve(over_tls(responding(CREATED)), tls=certificate[1]).url)
    assert_not_sent(outcome, record, "tls")
    assert "self-signed certificate" in outcome.detail


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (lambda peer: peer.hang(), "connect_timeout"),
        (
            lambda peer: peer.trickle(b"HTTP/1.1 200 Connection established", 0.05),
            "connect_timeout",
        ),
        (lambda peer: peer.send(http(403, "no")), "connect_failed"),
        (lambda peer: peer.send(http(407, "who?")), "connect_failed"),
        (lambda peer: None, "connect_failed"),
        (lambda peer: (peer.send(b"HTTP/1.1 200 OK\r\n\r\n"), peer.hang()), "connect_timeout"),
        (lambda peer: (peer.send(b"HTTP/1.1 200 OK\r\n\r\n"), peer.send(b"rubbish!")), "tls"),
    ],
    ids=["hang", "trickle", "forbidden", "auth", "close", "tunnel hangs", "tunnel of rubbish"],
)
def test_opening_a_tunnel_through_a_proxy_does_not_count_as_sending(
    serve: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch, script: Script, code: str
) -> None:
    def proxy(peer: Peer) -> None:
        peer.request()
        script(peer)

    server = serve(proxy)
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    outcome, record = create("https://bunce.example/v1", hasty=code in WAITING)
    assert_not_sent(outcome, record, code)
    assert server.requests[0].startswith(b"CONNECT bunce.example:443")
    assert KEY.encode() not in server.requests[0]


def test_socks_proxy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    outcome, record = create("https://bunce.example/v1")
    assert_not_sent(outcome, record, "connect_failed")
    assert "SOCKS" in outcome.detail


# Sent


def test_complete_request(serve: Callable[..., RawServer]) -> None:
    server = serve(responding(CREATED))
    outcome, record = create(server.url)
    assert outcome.id == SEGMENT["id"]
    assert (record.sent, record.http_status) == (True, 201)
    assert (record.method, record.path) == ("POST", "/segments")
    assert record.duration is not None
    assert 0 < record.duration < 5
    [request] = server.requests
    assert request.startswith(b"POST /v1/segments HTTP/1.1\r\n")
    assert f"X-Authorization: {KEY}".encode() in request
    assert request.endswith(b'{"name": "Gold"}')


def test_complete_request_through_a_tunnel(
    serve: Callable[..., RawServer], trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def proxy(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.handshake()
        responding(CREATED)(peer)

    server = serve(proxy, tls=trusted)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
    outcome, record = create("https://bunce.example:9/v1")
    assert outcome.id == SEGMENT["id"]
    assert record.sent is True


def test_plain_proxy_may_have_passed_the_request_on(
    serve: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda peer: peer.request())
    monkeypatch.setenv("HTTP_PROXY", server.url)
    outcome, record = create("http://bunce.example/v1")
    assert isinstance(outcome, NoResponse)
    assert record.sent is True
    assert server.requests[0].startswith(b"POST http://bunce.example/v1/segments ")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_a_server_on_this_machine_is_not_reached_through_a_proxy(
    serve: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    server = serve(responding(CREATED))
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    for host in ("127.0.0.1", "localhost"):
        outcome, _ = create(server.url.replace("127.0.0.1", host))
        assert outcome.id == SEGMENT["id"]


JSON_LINE = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("script", "code", "status"),
    [
        (Peer.hang, "read_timeout", None),
        (lambda peer: None, "closed", None),
        (Peer.reset, "reset", None),
        (lambda peer: peer.send(b"HTTP/1.1 20"), "cut", None),
        (lambda peer: peer.send(b"220 mail.example ESMTP\r\n"), "cut", None),
        (lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000), "cut", None),
        (lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200), "cut", None),
        (lambda peer: (peer.send(http(201, "{", length=50)), peer.hang()), "read_timeout", 201),
        (lambda peer: peer.send(http(201, "{", length=50)), "cut", 201),
        (lambda peer: (peer.send(http(201, "{", length=50)), peer.reset()), "reset", 201),
        (lambda peer: peer.send(http(201, "5\r\n{", CHUNKED)), "cut", 201),
        (lambda peer: peer.send(http(201, "zz\r\n{", CHUNKED)), "cut", 201),
        (lambda peer: peer.send(http(201, "{}", "Content-Encoding: gzip")), "cut", 201),
        (lambda peer: peer.send(http(201, "{}", "Content-Length: 7")), "cut", None),
    ],
    ids=[
        "hang",
        "close",
        "reset",
        "cut status line",
        "not HTTP",
        "endless header",
        "too many headers",
        "stall in the body",
        "cut body",
        "reset in the body",
        "cut chunk",
        "no chunk",
        "not gzip",
        "two lengths",
    ],
)
def test_no_complete_response(
    serve: Callable[..., RawServer], script: Script, code: str, status: int | None
) -> None:
    def after_request(peer: Peer) -> None:
        peer.request()
        script(peer)

    outcome, record = create(serve(after_request).url, hasty=code in WAITING)
    assert type(outcome) is NoResponse
    assert outcome.code == code
    assert outcome.http_status == record.http_status == status
    assert record.sent is True


def test_bad_tls_record_after_the_request(
    serve: Callable[..., RawServer], trusted: ssl.SSLContext
) -> None:
    def script(peer: Peer) -> None:
        peer.handshake()
        peer.request()
        socket.socket.sendall(peer.sock, b"\x17\x03\x03\x00\x20" + b"rubbish!" * 4)
        peer.hang()

    outcome, record = create(serve(script, tls=trusted).url)
    assert type(outcome) is NoResponse
    assert outcome.code == "tls_broken"
    assert record.sent is True


def test_tls_connection_cut_after_the_request(
    serve: Callable[..., RawServer], trusted: ssl.SSLContext
) -> None:
    outcome, record = create(serve(over_tls(lambda peer: peer.request()), tls=trusted).url)
    assert type(outcome) is NoResponse
    assert record.sent is True


def test_success_that_cannot_be_read(serve: Callable[..., RawServer]) -> None:
    outcome, record = create(serve(responding(http(201, "<html>"))).url)
    assert type(outcome) is UnusableResponse
    assert outcome.code == "not_json"
    assert record.sent is True


def test_server_that_closes_while_the_request_is_being_sent(
    serve: Callable[..., RawServer],
) -> None:
    record = RequestRecord()
    server = serve(lambda peer: (peer.sock.recv(10), peer.reset()))
    client = BunceClient(base_url=server.url, api_key=KEY, read_timeout=5)
    with client, pytest.raises(NoResponse):
        client.create_segment({"name": "x" * 20_000_000}, record=record)
    assert record.sent is True


def test_permit_of_an_earlier_request_is_not_used_up_by_a_later_tunnel(
    serve: Callable[..., RawServer], trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def proxy(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.handshake()
        peer.hang()

    monkeypatch.setattr(connection, "IDLE_LIMIT", -1)  # so that the second reconnects
    server = serve(proxy, lambda peer: peer.request(), tls=trusted)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
    first, second = RequestRecord(send_within=-1), RequestRecord()
    with BunceClient(base_url="https://bunce.example:9/v1", api_key=KEY) as client:
        with pytest.raises(PermitExpired):
            client.create_segment({"name": "Gold"}, record=first)
        with pytest.raises(NotSent) as caught:
            client.create_segment({"name": "Gold"}, record=second)
    assert type(caught.value) is NotSent
    assert server.connections == 2
    assert (first.sent, second.sent) == (False, False)


def test_proxy_gets_no_more_time_than_connecting_may_take(
    serve: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", serve(Peer.hang).url)
    outcome, record = create("https://bunce.example/v1", connect_timeout=0.4, read_timeout=60)
    assert_not_sent(outcome, record, "connect_timeout")
    assert record.duration is not None
    assert record.duration < 20

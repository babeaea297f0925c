"""What limits a request: its deadline, and the permit to send it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bunce_sync import clocks
from bunce_sync.client import BunceClient, RequestRecord
from bunce_sync.exceptions import NoResponse, NotSent, PermitExpired

from .client_attempts import KEY, HaltedRecord, create
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

CHUNKED = "Transfer-Encoding: chunked"


# The deadline


def attempt(script: Script, *, read_timeout: float = 1.0) -> tuple[Any, RequestRecord]:
    """Try against a server that runs this script, with a deadline 0.5 s after the read timeout."""
    with RawServer(script) as server:
        return create(server.url, connect_timeout=0.5, read_timeout=read_timeout)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (CREATED, None),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 50, None),
    ],
    ids=["headers", "continue"],
)
def test_trickled_response_meets_the_deadline(answer: bytes, status: int | None) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.trickle(answer, 0.05)

    outcome, record = attempt(script)
    assert type(outcome) is NoResponse
    assert (outcome.code, outcome.http_status) == ("deadline", status)
    assert record.sent is True
    assert record.duration is not None
    assert 1.4 <= record.duration < 20


@pytest.mark.parametrize("chunked", [False, True])
def test_trickled_body_meets_the_deadline(chunked: bool) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if chunked:
            peer.send(http(201, "", CHUNKED))
            peer.trickle(b"1\r\n \r\n" * 100, 0.05)
        else:
            peer.send(http(201, "", length=1000))
            peer.trickle(b" " * 1000, 0.05)

    outcome, record = attempt(script)
    assert type(outcome) is NoResponse
    assert (outcome.code, outcome.http_status) == ("deadline", 201)
    assert record.duration is not None
    assert 1.4 <= record.duration < 20


def test_slow_response_within_the_deadline_is_read() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.trickle(CREATED, 0.001)
        peer.hang()

    outcome, _ = attempt(script, read_timeout=20)
    assert outcome.id == SEGMENT["id"]


def test_nothing_is_sent_when_connecting_took_the_whole_time_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of connecting is in time, but all of them together take too long."""
    certificate, tls = make_certificate(tmp_path)

    def slow_proxy(peer: Peer) -> None:
        peer.request()
        peer.server.over.wait(0.4)
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.server.over.wait(0.4)
        over_tls(responding(CREATED))(peer)

    with RawServer(slow_proxy, tls=tls) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
        outcome, record = create(
            "https://bunce.example:9/v1", connect_timeout=0.6, read_timeout=0.1
        )
    assert type(outcome) is NotSent
    assert outcome.code == "connect_timeout"
    assert record.sent is False
    assert len(server.requests) == 1


# The permit


def test_expired_permit_sends_nothing_and_keeps_the_connection() -> None:
    with (
        RawServer(responding(CREATED)) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        late, timely = RequestRecord(send_within=-1), RequestRecord(send_within=60)
        with pytest.raises(PermitExpired):
            client.create_segment({"name": "Gold"}, record=late)
        assert (late.sent, late.http_status) == (False, None)
        client.create_segment({"name": "Gold"}, record=timely)
        assert timely.sent is True
    assert server.connections == 1
    assert len(server.requests) == 1


def test_expired_permit_keeps_a_tls_connection_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session tickets that follow a handshake are no reason to reconnect."""
    certificate, tls = make_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with (
        RawServer(over_tls(responding(CREATED)), tls=tls) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        with pytest.raises(PermitExpired):
            client.create_segment({"name": "Gold"}, record=RequestRecord(send_within=-1))
        assert server.shaken.wait(10)
        client.create_segment({"name": "Gold"})
    assert server.connections == 1


def test_permit_is_checked_again_at_the_first_byte() -> None:
    with RawServer(responding(CREATED)) as server:
        outcome, record = create(server.url, record=HaltedRecord())
    assert type(outcome) is PermitExpired
    assert record.sent is False
    assert server.requests == []


@pytest.mark.parametrize("clock", ["monotonic", "wall"])
def test_permit_expires_by_either_clock(monkeypatch: pytest.MonkeyPatch, clock: str) -> None:
    record = RequestRecord(send_within=1)
    assert not record.too_late
    later = getattr(clocks, clock)() + 1.5
    monkeypatch.setattr(clocks, clock, lambda: later)
    assert record.too_late


def test_setting_the_wall_clock_back_does_not_extend_a_permit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = RequestRecord(send_within=1)
    earlier, later = time.time() - 3600, time.monotonic() + 1.5
    monkeypatch.setattr("bunce_sync.clocks.wall", lambda: earlier)
    monkeypatch.setattr("bunce_sync.clocks.monotonic", lambda: later)
    assert record.too_late


def test_record_is_for_one_request_only() -> None:
    with RawServer(responding(CREATED)) as server:
        _, record = create(server.url)
    with pytest.raises(ValueError, match="one request"):
        create("http://127.0.0.1:1/v1", record=record)

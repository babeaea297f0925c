"""Connections: reused, dropped in time, and never shared by threads, greenlets or processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from greenlet import (  # type: ignore[import-untyped]  # it has no annotations
    getcurrent,
    greenlet,
)

from bunce_sync import clocks
from bunce_sync.client import BunceClient, RequestRecord, connection, shared_client
from bunce_sync.exceptions import NoResponse, NotSent, PermitExpired

from .raw_server import CREATED, Peer, RawServer, make_certificate, over_tls, responding

KEY = "sk_test_6fP1xVnZk2QeLw"


def client_of(server: RawServer) -> BunceClient:
    return BunceClient(base_url=server.url, api_key=KEY, read_timeout=5)


def test_connection_is_kept_for_the_next_request() -> None:
    with RawServer(responding(CREATED)) as server, client_of(server) as client:
        for _ in range(3):
            client.create_segment({"name": "Gold"})
        assert (server.connections, len(server.requests)) == (1, 3)


@pytest.mark.parametrize("clock", ["monotonic", "wall"])
def test_connection_that_was_idle_for_too_long_is_not_reused(
    monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    with RawServer(responding(CREATED)) as server, client_of(server) as client:
        client.create_segment({"name": "Gold"})
        with monkeypatch.context() as later:
            real = getattr(clocks, clock)
            later.setattr(clocks, clock, lambda: real() + connection.IDLE_LIMIT + 0.1)
            client.create_segment({"name": "Gold"})
        assert server.connections == 2


def test_request_that_is_not_sent_does_not_extend_an_idle_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with RawServer(responding(CREATED)) as server, client_of(server) as client:
        client.create_segment({"name": "Gold"})
        start = time.monotonic()
        for later in (0.6, 1.2):
            monkeypatch.setattr("bunce_sync.clocks.monotonic", lambda at=start + later: at)
            with pytest.raises(PermitExpired):
                client.create_segment({"name": "Gold"}, record=RequestRecord(send_within=-1))
        monkeypatch.setattr(
            "bunce_sync.clocks.monotonic", lambda: start + connection.IDLE_LIMIT + 0.1
        )
        client.create_segment({"name": "Gold"})
        assert server.connections == 2


def test_connection_that_the_server_closed_while_idle_is_replaced() -> None:
    def once(peer: Peer) -> None:
        peer.request()
        peer.send(CREATED)
        peer.sock.close()
        peer.server.shaken.set()

    with RawServer(once) as server, client_of(server) as client:
        for _ in range(3):
            server.shaken.clear()
            client.create_segment({"name": "Gold"})
            assert server.shaken.wait(10)


def test_connection_with_unexpected_data_is_not_reused() -> None:
    def talkative(peer: Peer) -> None:
        peer.request()
        peer.send(CREATED)
        assert answered.wait(10)
        peer.send(CREATED)
        sent_more.set()
        peer.hang()

    answered, sent_more = threading.Event(), threading.Event()
    with RawServer(talkative, responding(CREATED)) as server, client_of(server) as client:
        client.create_segment({"name": "Gold"})
        answered.set()
        assert sent_more.wait(10)
        client.create_segment({"name": "Gold"})
        assert server.connections == 2


def test_connection_is_dropped_after_a_response_that_was_not_read_to_its_end() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000)
        peer.hang()

    with RawServer(script, responding(CREATED)) as server, client_of(server) as client:
        with pytest.raises(Exception, match="server_error"):
            client.create_segment({"name": "Gold"})
        client.create_segment({"name": "Gold"})
        assert server.connections == 2


def ends_with_a_reset(peer: Peer) -> bool:
    """Return whether the client's end of the connection is reset, not closed in order."""
    try:
        return peer.sock.recv(1) != b""
    except ConnectionResetError:
        return True


def test_what_was_not_sent_of_a_request_without_a_response_is_dropped() -> None:
    ends: list[bool] = []

    def silent(peer: Peer) -> None:
        peer.request()
        ends.append(ends_with_a_reset(peer))

    with RawServer(silent) as server:
        client = BunceClient(base_url=server.url, api_key=KEY, connect_timeout=1, read_timeout=1)
        with pytest.raises(NoResponse):
            client.create_segment({"name": "Gold"})
    assert ends == [True]


def test_a_connection_whose_request_was_answered_ends_in_order() -> None:
    ends: list[bool] = []

    def answering(peer: Peer) -> None:
        peer.request()
        peer.send(CREATED)
        ends.append(ends_with_a_reset(peer))

    with RawServer(answering) as server, client_of(server) as client:
        client.create_segment({"name": "Gold"})
    assert ends == [False]


def test_client_works_again_after_close() -> None:
    with RawServer(responding(CREATED)) as server:
        client = client_of(server)
        for _ in range(2):
            client.create_segment({"name": "Gold"})
            client.close()
        assert server.connections == 2


def test_each_thread_has_its_own_request_record() -> None:
    """Half of the permits have expired; each record must say whether its request was sent."""
    with RawServer(responding(CREATED)) as server, client_of(server) as client:

        def attempt(number: int) -> tuple[bool, bool]:
            record = RequestRecord(send_within=60 if number % 2 else -1)
            try:
                client.create_segment({"name": f"{number}"}, record=record)
            except NotSent:
                return record.sent, False
            return record.sent, True

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(attempt, range(200)))
        assert results == [(bool(number % 2), bool(number % 2)) for number in range(200)]
        assert len(server.requests) == 100


class YieldingRecord(RequestRecord):
    """A record that lets another greenlet run between connecting and sending."""

    @property
    def too_late(self) -> bool:
        getcurrent().parent.switch()
        return False


def test_each_greenlet_has_its_own_request_record() -> None:
    with RawServer(responding(CREATED)) as server, client_of(server) as client:
        first, second = YieldingRecord(), RequestRecord(send_within=-1)

        def create(record: RequestRecord) -> None:
            client.create_segment({"name": "Gold"}, record=record)

        slow = greenlet(lambda: create(first))
        slow.switch()  # up to the check of the permit
        with pytest.raises(NotSent):
            greenlet(lambda: create(second)).switch()
        while not slow.dead:
            slow.switch()
        assert (first.sent, first.http_status) == (True, 201)
        assert (second.sent, second.http_status) == (False, None)


# One client per process


def test_shared_client_is_the_same_until_the_settings_change() -> None:
    first = shared_client(base_url="http://127.0.0.1:1/v1", api_key=KEY)
    assert shared_client(base_url="http://127.0.0.1:1/v1", api_key=KEY) is first
    other = shared_client(base_url="http://127.0.0.1:1/v1", api_key=KEY, read_timeout=1)
    assert other is not first
    assert shared_client(base_url="http://127.0.0.1:1/v1", api_key=KEY) is not other


def test_shared_client_is_one_for_all_threads() -> None:
    def get(_: int) -> BunceClient:
        return shared_client(base_url="http://127.0.0.1:2/v1", api_key=KEY)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(get, range(50)))) == 1


FORKING = """
import os, sys
from bunce_sync.client import shared_client

def create(name):
    client = shared_client(base_url=sys.argv[1], api_key="sk_test_1")
    client.create_segment({"name": name})
    return client

mine = create("parent, before")
child = os.fork()
if child == 0:
    assert create("child") is not mine
    del mine
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert create("parent, after") is mine
"""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_forked_child_does_not_use_its_parents_connection(scheme: str, tmp_path: Path) -> None:
    """Also when the child frees the parent's client, whose sockets it has inherited."""
    by_connection: list[list[bytes]] = []

    def script(peer: Peer) -> None:
        mine: list[bytes] = []
        by_connection.append(mine)
        while request := peer.request():
            mine.append(request.rpartition(b"\r\n")[2])
            peer.send(CREATED)

    certificate, context = make_certificate(tmp_path)
    tls = context if scheme == "https" else None
    with RawServer(over_tls(script) if tls else script, tls=tls) as server:
        subprocess.run(
            [sys.executable, "-c", FORKING, server.url],
            check=True,
            timeout=60,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "REQUESTS_CA_BUNDLE": str(certificate)},
        )
    assert by_connection == [
        [b'{"name": "parent, before"}', b'{"name": "parent, after"}'],
        [b'{"name": "child"}'],
    ]

"""Starting, sharing between threads, resetting and stopping the emulator."""

from __future__ import annotations

import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, perf_counter

import pytest
import requests

from bunce_sync.testing.emulator import Emulator, Faults
from tests.emulator_client import Api, connected, create_bytes, read_responses


def test_it_starts_in_less_than_a_tenth_of_a_second() -> None:
    took = []
    for _ in range(3):  # the best of three: the machine may be busy
        begin = perf_counter()
        with Emulator() as emulator, connected(emulator) as sock:
            sock.sendall(create_bytes())
            assert read_responses(sock, 1)[0][0] == 201
            took.append(perf_counter() - begin)
    assert min(took) < 0.1


def test_stopping_frees_the_port_and_keeps_the_data() -> None:
    with Emulator() as first, Api(first) as api:
        api.create("A")
        port = first.port
    with pytest.raises(ConnectionRefusedError), connected(first):
        pass
    assert [segment.name for segment in first.segments] == ["A"]
    with Emulator(port) as second:
        assert second.port == port
        assert second.segments == []


def test_stopping_does_not_wait_for_slow_responses() -> None:
    emulator = Emulator(faults=Faults(hold_after=0.5, trickle=0.5)).start()
    with connected(emulator) as one, connected(emulator) as other:
        for sock in (one, other):
            sock.sendall(create_bytes())
        emulator.wait_for(lambda bunce: bunce.served == 2)
        begin = monotonic()
        emulator.stop()
        assert monotonic() - begin < 2
    emulator.stop()  # a second call does nothing


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    with Emulator():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_taken_port_is_an_error_for_the_caller() -> None:
    with Emulator() as emulator, pytest.raises(OSError, match="in use"):
        Emulator(emulator.port).start()
    with pytest.raises(RuntimeError, match="already"), Emulator() as emulator:
        emulator.start()
    for port in (-1, 65536):
        with pytest.raises(ValueError, match="port"):
            Emulator(port)


def test_ipv6_works_where_the_machine_has_it() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        with pytest.raises(OSError, match=r".+"):
            Emulator(host="::1").start()
        return
    with Emulator(host="::1") as emulator, Api(emulator) as api:
        assert emulator.base_url.startswith("http://[::1]:")
        assert api.create()["name"] == "A"


def test_snapshots_can_be_taken_from_any_thread_while_clients_write() -> None:
    with Emulator(rate_limit=None) as emulator:

        def write(name: str) -> None:
            with Api(emulator) as api:
                for number in range(40):
                    api.create(f"{name}{number}")

        def read() -> None:
            while len(emulator.segments) < 160:
                assert len(emulator.requests) >= len(emulator.customers)
                emulator.worst_window()
                requests.get(emulator.url, timeout=10).raise_for_status()

        with ThreadPoolExecutor(6) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            list(pool.map(write, "abcd"))
            for reader in readers:
                reader.result(timeout=10)
        assert len({segment.name for segment in emulator.segments}) == 160
        assert len({segment.id for segment in emulator.segments}) == 160


def test_waiting_ends_when_the_predicate_is_true_or_times_out() -> None:
    with Emulator() as emulator, Api(emulator) as api:
        writer = threading.Thread(target=api.create)
        writer.start()
        emulator.wait_for(lambda bunce: len(bunce.segments) == 1)
        writer.join()
        with pytest.raises(TimeoutError, match="1 segments, 1 requests"):
            emulator.wait_for(lambda bunce: len(bunce.segments) == 2, timeout=0.1)


def test_reset_drops_slow_responses_and_pending_writes_but_keeps_idle_connections() -> None:
    with Emulator(faults=Faults(late_seconds=0.1)) as emulator:
        with connected(emulator) as held, connected(emulator) as idle, Api(emulator) as api:
            idle.sendall(create_bytes())
            read_responses(idle, 1)
            emulator.script(["hold_after", "late_store"])
            held.sendall(create_bytes())
            emulator.wait_for(lambda bunce: bunce.served == 2)
            with pytest.raises(requests.ConnectionError):
                api("POST", "/segments", {"name": "A"})

            emulator.reset()

            with pytest.raises(ConnectionResetError):
                held.recv(1)
            assert (emulator.segments, emulator.requests, emulator.pending_writes) == ([], [], 0)
            # The dropped write would have been carried out first.
            emulator.script(["late_store"])
            with pytest.raises(requests.ConnectionError):
                api("POST", "/segments", {"name": "B"})
            emulator.wait_for(lambda bunce: bunce.pending_writes == 0)
            idle.sendall(create_bytes("C"))
            read_responses(idle, 1)
        assert [segment.name for segment in emulator.segments] == ["B", "C"]


def test_it_can_be_reset_while_it_holds_a_request_whose_client_reset_the_connection() -> None:
    with Emulator() as emulator, Api(emulator) as api:
        emulator.script(["hold_before"])
        with connected(emulator) as client:
            client.sendall(create_bytes())
            emulator.wait_for(lambda bunce: bunce.served == 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        api.create("A")  # the emulator has seen the reset before it responds
        emulator.reset()
        assert emulator.segments == []
        api.create("B")


def test_it_can_be_changed_while_it_is_stopped() -> None:
    emulator = Emulator()
    emulator.add_segment("A")
    emulator.set(outage="refuse")
    with emulator:
        with pytest.raises(ConnectionRefusedError), connected(emulator):
            pass
        emulator.set(outage=None)
        with Api(emulator) as api:
            assert len(api("GET", "/segments").json()["data"]) == 1

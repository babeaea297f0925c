"""The number of creates per second that the emulator handles, and what a page of its list costs.

    python -m benchmarks emulator [--clients 4] [--requests 20000] [--segments 100000]

The emulator runs in its own process. One client process sends the requests over a few keep-alive
connections, one request at a time on each. The list is then read to its end, 100 rows a page.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from time import perf_counter, process_time

from benchmarks.machine import Goal, percentile, print_table
from bunce_sync.testing.emulator import Emulator

PER_PAGE = 100


def serve(pipe: Connection, segments: int, rate_limit: int | None, window: float) -> None:
    """Run the emulator until None arrives.

    Send the port, then for each message the number of segments and the CPU seconds so far.
    """
    with Emulator(rate_limit=rate_limit, rate_window=window) as bunce:
        bunce.add_segments(segments)
        pipe.send(bunce.port)
        while pipe.recv() is not None:
            pipe.send((len(bunce.segments), process_time()))


@contextmanager
def serving(
    segments: int = 0, *, rate_limit: int | None = None, window: float = 60.0
) -> Iterator[tuple[int, Connection]]:
    """Run the emulator in a process; yield its port and its pipe."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there, segments, rate_limit, window), daemon=True)
    server.start()
    yield here.recv(), here
    here.send(None)
    server.join()


def request(number: int) -> bytes:
    """Return one create request as bytes."""
    body = json.dumps({"name": f"Segment {number}", "description": "A benchmark"}).encode()
    head = (
        "POST /v1/segments HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Authorization: sk_test_benchmark\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def measure(port: int, clients: int, total: int) -> tuple[float, list[float]]:
    """Return the seconds for all requests, and each one's latency in seconds."""
    selector = selectors.DefaultSelector()
    started: dict[socket.socket, float] = {}
    latencies: list[float] = []
    sent = 0
    for _ in range(clients):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sock, selectors.EVENT_READ)
        started[sock] = 0.0
    begin = perf_counter()
    for sock in started:
        started[sock] = perf_counter()
        sock.sendall(request(sent))
        sent += 1
    while len(latencies) < total:
        for key, _ in selector.select():
            sock = key.fileobj  # type: ignore[assignment]  # only sockets are registered
            response = sock.recv(65536)  # small enough to arrive in one piece
            if not response.startswith(b"HTTP/1.1 201 "):
                raise SystemExit(f"Not a 201: {response[:300]!r}")
            latencies.append(perf_counter() - started[sock])
            if sent < total:
                started[sock] = perf_counter()
                sock.sendall(request(sent))
                sent += 1
    seconds = perf_counter() - begin
    for sock in started:
        sock.close()
    return seconds, sorted(latencies)


def read_list(port: int, pages: int) -> list[float]:
    """Return the latency of each page in seconds, sorted."""
    connection = HTTPConnection("127.0.0.1", port)
    latencies = []
    for page in range(1, pages + 1):
        start = perf_counter()
        path = f"/v1/segments?page={page}&per_page={PER_PAGE}"
        connection.request("GET", path, headers={"X-Authorization": "sk_test_benchmark"})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise SystemExit(f"Not a 200: {response.status}")
        latencies.append(perf_counter() - start)
    connection.close()
    return sorted(latencies)


def measure_creates(clients: int, total: int) -> None:
    """Measure the creates and print."""
    with serving() as (port, pipe):
        seconds, latencies = measure(port, clients, total)
        pipe.send("figures")
        stored, _ = pipe.recv()
    if stored != total:
        raise SystemExit(f"{total} creates succeeded, {stored} segments are stored")
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    pace = total / seconds
    print_table(
        f"emulator: {total:,} creates over {clients} connections",
        ("creates a second", "p50 ms", "p99 ms"),
        [(f"{pace:,.0f}", f"{p50 * 1000:.2f}", f"{p99 * 1000:.2f}")],
        Goal("creates a second", pace, 2000, least=True, form="{:,.0f}"),
    )


def measure_list(segments: int) -> None:
    """Measure the pages of a list and print."""
    pages = -(-segments // PER_PAGE)
    with serving(segments) as (port, pipe):
        pipe.send("figures")
        _, before = pipe.recv()
        latencies = read_list(port, pages)
        pipe.send("figures")
        _, after = pipe.recv()
    cost = (after - before) / pages * 1000
    p50, p99 = percentile(latencies, 0.5) * 1000, percentile(latencies, 0.99) * 1000
    print_table(
        f"emulator: {pages:,} pages of a list of {segments:,} segments",
        ("CPU ms a page", "p50 ms", "p99 ms"),
        [(f"{cost:.2f}", f"{p50:.2f}", f"{p99:.2f}")],
        Goal("CPU ms a page", cost, 10),
    )


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks emulator")
    parser.add_argument("--clients", type=int, default=4, help="connections (4)")
    parser.add_argument("--requests", type=int, default=20_000, help="creates (20000)")
    parser.add_argument("--segments", type=int, default=100_000, help="in the list (100000)")
    options = parser.parse_args(arguments)
    measure_creates(options.clients, options.requests)
    measure_list(options.segments)

"""How many creates a second the local Bunce answers.

    python -m benchmarks emulator [--clients 4] [--requests 20000]

The emulator runs in a process of its own; one process with a few kept-alive raw sockets asks, one
request at a time on each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import selectors
import socket
from multiprocessing.connection import Connection
from time import perf_counter

from benchmarks.machine import Goal, percentile, print_table
from bunce_sync.testing.emulator import Emulator


def serve(pipe: Connection) -> None:
    """Run the emulator until the other side says so; tell it the port and the count."""
    with Emulator(rate_limit=None) as bunce:
        pipe.send(bunce.port)
        pipe.recv()
        pipe.send(len(bunce.segments))


def request(number: int) -> bytes:
    """Return one create as its bytes."""
    body = json.dumps({"name": f"Segment {number}", "description": "made by a benchmark"}).encode()
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
            answer = sock.recv(65536)  # an answer is small enough to come in one piece
            if not answer.startswith(b"HTTP/1.1 201 "):
                raise SystemExit(f"Not a 201: {answer[:300]!r}")
            latencies.append(perf_counter() - started[sock])
            if sent < total:
                started[sock] = perf_counter()
                sock.sendall(request(sent))
                sent += 1
    seconds = perf_counter() - begin
    for sock in started:
        sock.close()
    return seconds, sorted(latencies)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks emulator")
    parser.add_argument("--clients", type=int, default=4, help="connections (4)")
    parser.add_argument("--requests", type=int, default=20_000, help="creates (20000)")
    told = parser.parse_args(arguments)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,), daemon=True)
    server.start()
    seconds, latencies = measure(here.recv(), told.clients, told.requests)
    here.send(None)
    stored = here.recv()
    server.join()
    if stored != told.requests:
        raise SystemExit(f"{told.requests} creates were answered, {stored} are stored")
    half, most = percentile(latencies, 0.5), percentile(latencies, 0.99)
    pace = told.requests / seconds
    print_table(
        f"emulator: {told.requests:,} creates over {told.clients} connections",
        ("creates a second", "p50 ms", "p99 ms"),
        [(f"{pace:,.0f}", f"{half * 1000:.2f}", f"{most * 1000:.2f}")],
        Goal("creates a second", pace, 1000, least=True, form="{:,.0f}"),
    )

"""The number of creates per second that the emulator handles.

    python -m benchmarks emulator [--clients 4] [--requests 20000]

The emulator runs in its own process. One client process sends the requests over a few keep-alive
connections, one request at a time on each.
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
    """Run the emulator until a message arrives; send the port, then the number of segments."""
    with Emulator(rate_limit=None) as bunce:
        pipe.send(bunce.port)
        pipe.recv()
        pipe.send(len(bunce.segments))


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


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks emulator")
    parser.add_argument("--clients", type=int, default=4, help="connections (4)")
    parser.add_argument("--requests", type=int, default=20_000, help="creates (20000)")
    options = parser.parse_args(arguments)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,), daemon=True)
    server.start()
    seconds, latencies = measure(here.recv(), options.clients, options.requests)
    here.send(None)
    stored = here.recv()
    server.join()
    if stored != options.requests:
        raise SystemExit(f"{options.requests} creates succeeded, {stored} segments are stored")
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    pace = options.requests / seconds
    print_table(
        f"emulator: {options.requests:,} creates over {options.clients} connections",
        ("creates a second", "p50 ms", "p99 ms"),
        [(f"{pace:,.0f}", f"{p50 * 1000:.2f}", f"{p99 * 1000:.2f}")],
        Goal("creates a second", pace, 2000, least=True, form="{:,.0f}"),
    )

"""How many creates a second the local Bunce answers.

    python benchmarks/emulator.py [--clients 4] [--requests 20000]

The emulator runs in a process of its own; one process with a few kept-alive raw sockets asks, one
request at a time on each. Prints a line of a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import selectors
import socket
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bunce_sync.emulator import Emulator


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=4, help="connections (4)")
    parser.add_argument("--requests", type=int, default=20_000, help="creates (20000)")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,), daemon=True)
    server.start()
    seconds, latencies = measure(here.recv(), arguments.clients, arguments.requests)
    here.send(None)
    stored = here.recv()
    server.join()
    if stored != arguments.requests:
        raise SystemExit(f"{arguments.requests} creates were answered, {stored} are stored")
    half, most = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    print("| clients | creates | seconds | creates/s | p50 ms | p99 ms |")
    print(
        f"| {arguments.clients} | {arguments.requests:,} | {seconds:.2f} "
        f"| {arguments.requests / seconds:,.0f} | {half * 1000:.2f} | {most * 1000:.2f} |"
    )


if __name__ == "__main__":
    main()

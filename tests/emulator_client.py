"""Clients of the emulator for its own tests: one over requests, one with raw bytes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import requests

from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.emulator.options import Layout, Paging

KEY = "sk_test_tests"

#: Every style of paging in which a list can be read to its end, with every place of rows and meta.
LIST_STYLES: list[tuple[Paging, Layout]] = [
    ("page", "flat"), ("page", "nested"),
    ("clamp", "flat"), ("clamp", "nested"),
    ("page_meta", "flat"), ("page_meta", "nested"), ("page_meta", "nested_rows"),
    ("cursor", "flat"), ("cursor", "nested"), ("cursor", "nested_rows"),
]  # fmt: skip


class Api:
    """A client of Bunce's API with a valid key and keep-alive."""

    def __init__(self, bunce: Emulator, key: str | None = KEY) -> None:
        self._base = bunce.base_url
        self.session = requests.Session()
        if key is not None:
            self.session.headers["X-Authorization"] = key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.session.close()

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        """Send a request with a JSON body; a redirect is not followed."""
        return self.session.request(
            method,
            f"{self._base}{path}",
            json=body,
            timeout=more.pop("timeout", 10),
            allow_redirects=False,
            **more,
        )

    def create(self, name: str = "A", **fields: Any) -> dict[str, Any]:
        """Create a segment and return ``data`` of the response."""
        response = self("POST", "/segments", {"name": name, **fields})
        assert response.status_code == 201, response.text
        data: dict[str, Any] = response.json()["data"]
        return data


def create_bytes(name: str = "A", key: str = KEY) -> bytes:
    """Return a create request as bytes."""
    body = json.dumps({"name": name})
    return (
        f"POST /v1/segments HTTP/1.1\r\nHost: bunce\r\nX-Authorization: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@contextmanager
def connected(bunce: Emulator, timeout: float = 10.0) -> Iterator[socket.socket]:
    """Open a plain TCP connection to the emulator."""
    with socket.create_connection((bunce.host, bunce.port), timeout=timeout) as sock:
        yield sock


def read_all(sock: socket.socket) -> bytes:
    """Return all bytes until the server closes the connection."""
    received = b""
    while piece := sock.recv(65536):
        received += piece
    return received


def read_responses(sock: socket.socket, count: int) -> list[tuple[int, dict[str, str], bytes]]:
    """Return ``count`` responses: status, headers with names in lower case, body."""
    responses = []
    buffer = b""
    for _ in range(count):
        while b"\r\n\r\n" not in buffer:
            buffer += _more(sock)
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines[1:])
        headers = {name.lower(): value for name, value in pairs}
        length = int(headers["content-length"])
        while len(buffer) < length:
            buffer += _more(sock)
        responses.append((int(lines[0].split(" ")[1]), headers, buffer[:length]))
        buffer = buffer[length:]
    assert buffer == b"", "more bytes than expected"
    return responses


def _more(sock: socket.socket) -> bytes:
    piece = sock.recv(65536)
    assert piece, "the connection closed in the middle of a response"
    return piece

"""Small clients of the local Bunce for its own tests: one over requests, one of raw bytes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import requests

from bunce_sync.testing.emulator import Emulator

KEY = "sk_test_tests"


class Api:
    """Calls Bunce's API with a good key over kept-alive connections."""

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
        """Create a segment and return what the answer says of it."""
        answer = self("POST", "/segments", {"name": name, **fields})
        assert answer.status_code == 201, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data


def create_bytes(name: str = "A", key: str = KEY) -> bytes:
    """Return a create as it goes over the wire."""
    body = json.dumps({"name": name})
    return (
        f"POST /v1/segments HTTP/1.1\r\nHost: bunce\r\nX-Authorization: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@contextmanager
def connected(bunce: Emulator, timeout: float = 10.0) -> Iterator[socket.socket]:
    """Give a plain TCP connection to the emulator."""
    with socket.create_connection((bunce.host, bunce.port), timeout=timeout) as sock:
        yield sock


def read_all(sock: socket.socket) -> bytes:
    """Return everything until the other side closes."""
    received = b""
    while piece := sock.recv(65536):
        received += piece
    return received


def read_answers(sock: socket.socket, count: int) -> list[tuple[int, dict[str, str], bytes]]:
    """Return so many whole answers: status, headers in lower case, body."""
    answers = []
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
        answers.append((int(lines[0].split(" ")[1]), headers, buffer[:length]))
        buffer = buffer[length:]
    assert buffer == b"", "more came than was asked for"
    return answers


def _more(sock: socket.socket) -> bytes:
    piece = sock.recv(65536)
    assert piece, "the connection closed in the middle of an answer"
    return piece

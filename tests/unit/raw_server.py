"""Servers that misbehave as scripted: each connection runs a script on the raw socket."""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SEGMENT = {
    "id": "9da67caa-b803-4691-a2b6-bdcd58008aaf",
    "name": "Gold",
    "description": None,
    "conditions": None,
    "type": "manual",
    "all_customers": 0,
    "created_at": "2024-12-05 08:30:16",
}


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, server: RawServer) -> None:
        self.sock = sock
        self.server = server

    def handshake(self) -> None:
        """Do the server's part of the TLS handshake."""
        assert self.server.tls is not None
        self.sock = self.server.tls.wrap_socket(self.sock, server_side=True)
        self.server.shaken.set()

    def request(self) -> bytes:
        """Read and return one request; b"" if the client closed the connection instead."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.sock.recv(65536)
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        while length and len(body) < int(length[1]):
            body += self.sock.recv(65536)
        whole = head + b"\r\n\r\n" + body
        self.server.requests.append(whole)
        return whole

    def send(self, *pieces: bytes) -> None:
        self.sock.sendall(b"".join(pieces))

    def trickle(self, data: bytes, every: float) -> None:
        """Send a byte at a time, until the client or the server gives up."""
        for at in range(len(data)):
            if self.server.over.wait(every):
                return
            self.send(data[at : at + 1])

    def hang(self) -> None:
        """Send nothing until the server is closed."""
        self.server.over.wait()

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.close(self.sock)


Script = Callable[[Peer], object]


class RawServer:
    """A server on a free port of 127.0.0.1.

    Args:
        scripts: what to do with the first, second, … connection; the last also with any further.
        tls: for scripts that call ``handshake``.

    Attributes:
        requests: every request that was read, raw.
        connections: how many connections were accepted.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.scripts = scripts
        self.tls = tls
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self.shaken = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        self._listener.close()
        for sock in self._open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed by its script
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a script did not end"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self.scripts[min(self.connections, len(self.scripts) - 1)]
            self.connections += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._run, args=(script, sock), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, script: Script, sock: socket.socket) -> None:
        peer = Peer(sock, self)
        try:
            script(peer)
        except OSError:
            pass  # the client disconnected, as clients do in these tests
        finally:
            peer.sock.close()


def http(
    status: int | str = 201, body: bytes | str | Any = b"", *headers: str, length: int | None = None
) -> bytes:
    """Return an HTTP response; a body that is neither bytes nor text becomes JSON."""
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Because", *headers]
    if not any(one.lower().startswith("transfer-encoding") for one in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


CREATED = http(201, {"success": True, "message": "Segment created successfully", "data": SEGMENT})


def responding(*responses: bytes) -> Script:
    """Return a script that sends these responses in turn, and repeats the last one."""

    def script(peer: Peer) -> None:
        number = 0
        while peer.request():
            peer.send(responses[min(number, len(responses) - 1)])
            number += 1

    return script


def over_tls(script: Script) -> Script:
    """Return the script, preceded by a TLS handshake."""

    def shaken(peer: Peer) -> None:
        peer.handshake()
        script(peer)

    return shaken


def make_certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a self-signed certificate for 127.0.0.1 and bunce.example, and a server context."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = "subjectAltName=IP:127.0.0.1,DNS:bunce.example"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", names]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *words.split(), *subject, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context

"""Connections that know whether a byte of the request has left, and that keep to a deadline.

``requests`` and urllib3 cannot say afterwards whether a request was sent: a ReadTimeout may come
from the TLS handshake, an SSLError from a record after the request. And neither has a timeout
for the whole: one byte every second outlasts any read timeout. Both are answered here, where
the bytes pass, by subclasses of urllib3's connections.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from contextvars import ContextVar
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from ..exceptions import NotSent, PermitExpired
from .request_record import Instant, RequestRecord

IDLE_LIMIT = 2.0
"""Seconds after which an unused connection is not used again.

A server may close an idle connection at any moment; when that crosses the next request on the
wire, nobody can say whether it was read. Servers keep a connection for five seconds and more.
"""


class DeadlinePassed(TimeoutError):
    """The whole request took longer than it may, though no single read did."""


class Call:
    """What a connection must know of the request it carries.

    Args:
        record: the record to mark.
        connect_timeout: seconds to wait for each step of connecting.
        read_timeout: seconds to wait for the next byte of the answer.

    The whole may take as long as both together.
    """

    __slots__ = ("_deadline", "_read_timeout", "_wait", "active", "held_back", "record")

    def __init__(
        self, record: RequestRecord, *, connect_timeout: float, read_timeout: float
    ) -> None:
        self.record = record
        self._deadline = time.monotonic() + connect_timeout + read_timeout
        self._read_timeout = read_timeout
        self._wait = connect_timeout
        self.active = Instant()
        self.held_back = False

    def connected(self) -> None:
        """Note that from now on the answer is waited for, no longer a connection."""
        self._wait = self._read_timeout

    def patience(self) -> float:
        """Seconds to wait for the next byte; zero or less once the deadline has passed."""
        return min(self._wait, self._deadline - time.monotonic())

    def touch(self) -> None:
        """Note that the connection did something just now."""
        self.active = Instant()


current_call: ContextVar[Call] = ContextVar("bunce_sync_current_call")
"""The call this thread or greenlet is making; urllib3 has no way to hand it to a connection."""


class _TimedReads(io.RawIOBase):
    """A socket's bytes, each read waiting no longer than the call may still last."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._call = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        patience = self._call.patience()
        if patience <= 0:
            raise DeadlinePassed
        self._sock.settimeout(patience)
        try:
            count: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            if self._call.patience() <= 0:
                raise DeadlinePassed from None
            raise
        self._call.touch()
        return count

    def close(self) -> None:
        try:
            self._raw.close()  # lets the socket go, which may be waiting for this to close
        finally:
            super().close()


class _TimedSocket:
    """The part of a socket that ``http.client.HTTPResponse`` uses."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._sock = sock
        self._call = call

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReads(self._sock, self._call))


class TimedResponse(http.client.HTTPResponse):
    """A response (also a proxy's to CONNECT) read under the deadline of the current call."""

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
    ) -> None:
        timed: Any = _TimedSocket(sock, current_call.get())
        super().__init__(timed, debuglevel, method, url)

    def begin(self) -> None:
        """Read status and headers, and forget what of the headers cannot be parsed.

        urllib3 would write it to the log as it came.
        """
        super().begin()
        self.headers.defects.clear()
        self.headers.set_payload("")


class PlainConnection(HTTPConnection):
    """A connection that marks the record of its request as sent, and only of its request:
    what goes to a proxy to open a tunnel, and the TLS handshake, do not count."""

    response_class = TimedResponse
    debuglevel = 0  # http.client's global switch prints headers, and so would print the key

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._call: Call | None = None
        self._requesting = False

    def connect(self) -> None:
        super().connect()
        self._call = current_call.get()
        self._call.touch()

    def request(
        self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any
    ) -> None:
        """Connect if need be, and send the request if it is still allowed to leave.

        Connecting can take long, so the permit is looked at afterwards. When it has run out,
        nothing is sent and ``getresponse`` gives an empty stand-in: an exception here would make
        urllib3 close the connection, and the next try would connect as slowly again.
        """
        call, former = current_call.get(), self._call
        if self.sock is None:
            self.connect()
        elif former is not None:
            call.active = former.active  # idle until a byte moves, also while held back
        self._call = call
        if call.record.too_late:
            call.held_back = True
            return
        call.connected()
        patience = call.patience()
        if patience <= 0:
            raise NotSent("connecting took all the time there was", code="connect_timeout")
        self.timeout = patience
        self._requesting = True
        try:
            super().request(method, url, body=body, headers=headers, **options)
        finally:
            self._requesting = False

    def send(self, data: Any) -> None:
        if self._requesting and self._call is not None:
            record = self._call.record
            if not record.sent:
                if record.too_late:  # this process was halted since the look in request()
                    raise PermitExpired
                record.sent = True
            self._call.touch()
        super().send(data)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself does
        if self._call is not None and self._call.held_back:
            return HTTPResponse(body=b"", status=0, preload_content=False)
        return super().getresponse()

    @property
    def is_connected(self) -> bool:
        """Whether the connection may be used for another request; urllib3 reconnects if not."""
        if self.sock is None or self._call is None:
            return False
        return self._call.active.age() <= IDLE_LIMIT and _is_quiet(self.sock)


class TLSConnection(PlainConnection, HTTPSConnection):
    """The same over TLS."""


def _is_quiet(sock: socket.socket) -> bool:
    """Whether a connection at rest is still open and nothing unasked-for has come.

    It reads instead of polling for readability as urllib3 does: with TLS 1.3 the session tickets
    that follow the handshake make a sound connection readable.
    """
    sock.settimeout(0)
    try:
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False

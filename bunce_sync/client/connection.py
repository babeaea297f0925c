"""Connections that record whether a byte of the request was sent, and that enforce a deadline.

The exceptions of requests and urllib3 do not show whether a request was sent: a ReadTimeout can
come from the TLS handshake, an SSLError from a record after the request. And neither library has a
timeout for the whole request: one byte per second never triggers a read timeout. Subclasses of
urllib3's connections solve both at the level of single reads and writes.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import ssl
import struct
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from .. import clocks
from ..exceptions import NotSent, PermitExpired
from .request_record import Instant, RequestRecord

IDLE_LIMIT = 2.0
"""Seconds after which an idle connection is not used again.

A server may close an idle connection at any time. If it does so while the next request is in
transit, it is unknown whether it was read. Servers keep idle connections for at least 5 seconds.
"""


class DeadlinePassed(TimeoutError):
    """The request as a whole took too long, although no single read did."""


class Call:
    """The state of the request that a connection carries.

    Args:
        record: the record to mark as sent.
        connect_timeout: seconds to wait for each step of connecting.
        read_timeout: seconds to wait for the next byte of the response.

    The request as a whole may take as long as both timeouts together.

    Attributes:
        prepared: whether the request is ready to be sent.
        answered: whether the response has begun.
        handled: whether requests' own adapter took the request, so that nothing can be sent except
            by our connections.
    """

    __slots__ = (
        *("_deadline", "_read_timeout", "_wait"),
        *("active", "answered", "handled", "held_back", "prepared", "record"),
    )

    def __init__(
        self, record: RequestRecord, *, connect_timeout: float, read_timeout: float
    ) -> None:
        self.record = record
        self._deadline = clocks.monotonic() + connect_timeout + read_timeout
        self._read_timeout = read_timeout
        self._wait = connect_timeout
        self.active = Instant()
        self.held_back = self.answered = False
        self.prepared = self.handled = False

    def connected(self) -> None:
        """Switch from the connect timeout to the read timeout."""
        self._wait = self._read_timeout

    def timeout(self) -> float:
        """Return the seconds to wait for the next byte; zero or less after the deadline."""
        return min(self._wait, self._deadline - clocks.monotonic())

    def touch(self) -> None:
        """Record activity on the connection."""
        self.active = Instant()


current_call: ContextVar[Call] = ContextVar("bunce_sync_current_call")
"""The current call of this thread or greenlet; urllib3 cannot pass it to a connection."""


class _TimedReads(io.RawIOBase):
    """A raw stream of a socket, whose reads wait no longer than the call allows."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._call = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        timeout = self._call.timeout()
        if timeout <= 0:
            raise DeadlinePassed
        self._sock.settimeout(timeout)
        try:
            count: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            if self._call.timeout() <= 0:
                raise DeadlinePassed from None
            raise
        self._call.touch()
        return count

    def close(self) -> None:
        try:
            self._raw.close()  # the socket stays open as long as this refers to it
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
    """A response, including a proxy's to CONNECT, read within the deadline of the current call."""

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
        """Read status and headers, and drop headers that cannot be parsed.

        urllib3 would log them unredacted.
        """
        super().begin()
        call = current_call.get()
        call.answered = call.record.sent  # before that, it is a proxy's
        self.headers.defects.clear()
        self.headers.set_payload("")


class PlainConnection(HTTPConnection):
    """A connection that marks the record of its request as sent.

    Opening a tunnel through a proxy and the TLS handshake do not count as sending.
    """

    response_class = TimedResponse
    debuglevel = 0  # http.client's global switch would print the headers with the key

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
        """Connect if necessary, and send the request unless its permit has expired.

        Connecting can take long, so the permit is checked afterwards. When it has expired, nothing
        is sent and ``getresponse`` returns a placeholder: an exception here would make urllib3
        close the connection, and the next attempt would connect as slowly again.
        """
        call, previous = current_call.get(), self._call
        if self.sock is None:
            self.connect()
        elif previous is not None:
            call.active = previous.active  # idle until a byte moves, also if nothing is sent
        self._call = call
        if call.record.too_late:
            call.held_back = True
            return
        call.connected()
        timeout = call.timeout()
        if timeout <= 0:
            raise NotSent("connecting took the whole time allowed", code="connect_timeout")
        self.timeout = timeout
        self._requesting = True
        try:
            super().request(method, url, body=body, headers=headers, **options)
        finally:
            self._requesting = False

    def send(self, data: Any) -> None:
        if self._requesting and self._call is not None:
            record = self._call.record
            if not record.sent:
                if record.too_late:  # the process was suspended since the check in request()
                    raise PermitExpired
                record.sent = True
            self._call.touch()
        super().send(data)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3
        if self._call is not None and self._call.held_back:
            return HTTPResponse(body=b"", status=0, preload_content=False)
        return super().getresponse()

    def close(self) -> None:
        """Close the connection, and drop what of an unanswered request has not left this host.

        The kernel would send it later, after a repair of the network even minutes later. Then Bunce
        would act on a request that was given up long before.
        """
        call = self._call
        if self.sock is not None and call and call.record.sent and not call.answered:
            _drop_unsent(self.sock)
        super().close()

    @property
    def is_connected(self) -> bool:
        """Whether the connection may be used for another request; urllib3 reconnects if not."""
        if self.sock is None or self._call is None:
            return False
        return self._call.active.age() <= IDLE_LIMIT and _is_quiet(self.sock)


class TLSConnection(PlainConnection, HTTPSConnection):
    """A ``PlainConnection`` over TLS."""


def _drop_unsent(sock: Any) -> None:
    """Let the next ``close`` drop what has not been sent."""
    at_once = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
    own = getattr(sock, "socket", sock)  # of TLS within a proxy's TLS
    with suppress(OSError):  # it was closed by the other side: nothing is left to drop
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)


def _is_quiet(sock: socket.socket) -> bool:
    """Return whether an idle connection is open and no unexpected data has arrived.

    It reads instead of polling for readability as urllib3 does: in TLS 1.3 the session tickets
    that follow the handshake make a healthy connection readable.
    """
    sock.settimeout(0)
    try:
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False

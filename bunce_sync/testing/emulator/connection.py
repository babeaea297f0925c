"""One client's connection: reads requests, hands them on, and delivers the answers, or not."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator
from email.utils import formatdate
from functools import lru_cache
from itertools import repeat
from socket import SO_LINGER, SOL_SOCKET
from time import time
from typing import Protocol, cast

from .http import MAX_BODY, BadRequestError, RequestParser
from .messages import Answer, Delivery, Request, Response
from .options import Options

_DRAIN_SECONDS = 1.0
_BLANKS = b" " * 65536


class Handler(Protocol):
    """What a connection asks for answers."""

    options: Options

    def handle(self, request: Request) -> Answer:
        """Answer a request."""

    def refuse(self, request: Request, status: int, message: str) -> Response:
        """Answer a request that could not be read."""


class Connection(asyncio.Protocol):
    """Speaks HTTP/1.1 with keep-alive to one client.

    Args:
        handler: gives the answers.
        open_connections: holds this connection for as long as it is open.
        client: the address of the client.
    """

    def __init__(self, handler: Handler, open_connections: set[Connection], client: str) -> None:
        self._handler = handler
        self._open = open_connections
        self._client = client
        self._parser = RequestParser()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._flood: Iterator[bytes] | None = None
        self._writable = True
        self.busy = False  # an answer is being held, trickled or flooded
        self._draining = False  # what still arrives is thrown away

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything that was still to be sent."""
        self._cancel_timer()
        self._flood = None
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes and answer the requests that are whole by now."""
        if self._draining:
            return
        self._parser.feed(data)
        if self.busy:
            if self._parser.buffered > 4 * MAX_BODY:
                self._transport.abort()
            return
        self._cancel_timer()
        self._serve()

    def pause_writing(self) -> None:
        """Stop a flood while the client does not read."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on with it."""
        self._writable = True
        self._pump()

    def close(self) -> None:
        """Close at once, with what is not sent yet thrown away."""
        self._transport.abort()

    def reset(self) -> None:
        """Close with an RST, so that the client sees the connection reset."""
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _serve(self) -> None:
        while not self.busy and not self._transport.is_closing():
            try:
                request = self._parser.next_request()
            except BadRequestError as error:
                self._refuse(error)
                return
            if request is None:
                self._wait_for_request()
                return
            request.client = self._client
            self._deliver(request, self._handler.handle(request))

    def _wait_for_request(self) -> None:
        seconds = self._handler.options.idle_seconds
        if seconds is not None:
            self._start_timer(seconds, self._transport.close)

    def _refuse(self, error: BadRequestError) -> None:
        """Answer, then read on for a moment: a client that still sends would see a reset."""
        request = Request(error.method, error.path, "", {}, b"", keep_alive=False)
        request.client = self._client
        response = self._handler.refuse(request, error.status, error.message)
        self._draining = True
        self._transport.write(_render(response, keep_alive=False))
        self._transport.write_eof()
        self._start_timer(_DRAIN_SECONDS, self._transport.close)

    def _deliver(self, request: Request, answer: Answer) -> None:
        response = answer.response
        match answer.delivery:
            case Delivery.RESET:
                self.reset()
            case Delivery.CLOSE:
                self._transport.close()
            case Delivery.HOLD:
                self.busy = True
                self._start_timer(answer.seconds, self._transport.close)
            case _ if response is None:
                raise ValueError(f"{answer.delivery} needs a response")
            case Delivery.SEND:
                self._transport.write(
                    _render(response, request.keep_alive, with_body=request.method != "HEAD")
                )
                if not request.keep_alive:
                    self._transport.close()
            case Delivery.CUT:
                head = _head(response, len(response.body), keep_alive=True)
                self._transport.write(head + response.body[: len(response.body) // 2])
                self._transport.close()
            case Delivery.TRICKLE:
                self._start_trickle(response, answer)
            case Delivery.FLOOD:
                self._start_flood(response, answer.padding)

    def _start_trickle(self, response: Response, answer: Answer) -> None:
        self.busy = True
        head = _head(response, len(response.body), keep_alive=False)
        if not answer.trickle_head:
            self._transport.write(head)
            head = b""
        self._trickle(iter(head + response.body), answer.seconds)

    def _trickle(self, rest: Iterator[int], seconds: float) -> None:
        byte = next(rest, None)
        if byte is None:
            self._transport.close()
            return
        self._transport.write(bytes([byte]))
        self._start_timer(seconds, lambda: self._trickle(rest, seconds))

    def _start_flood(self, response: Response, padding: int) -> None:
        self.busy = True
        self._transport.write(_head(response, padding + len(response.body), keep_alive=False))
        self._flood = _pieces(response.body, padding)
        self._pump()

    def _pump(self) -> None:
        while self._writable and self._flood is not None:
            piece = next(self._flood, None)
            if piece is None:
                self._flood = None
                self._transport.close()
                return
            self._transport.write(piece)

    def _start_timer(self, seconds: float, then: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _pieces(body: bytes, padding: int) -> Iterator[bytes]:
    """Give blanks, which JSON allows before a value, and then the body."""
    yield from repeat(_BLANKS, padding // len(_BLANKS))
    yield _BLANKS[: padding % len(_BLANKS)] + body


def _head(response: Response, content_length: int, *, keep_alive: bool) -> bytes:
    return response.head(content_length, keep_alive=keep_alive, date=_http_date(int(time())))


def _render(response: Response, keep_alive: bool, *, with_body: bool = True) -> bytes:
    head = _head(response, len(response.body), keep_alive=keep_alive)
    return head + response.body if with_body else head


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)

"""One client connection: requests are parsed by h11, responses delivered as configured."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from socket import SO_LINGER, SOL_SOCKET
from urllib.parse import unquote

import h11

from .application import Application
from .clock import now as current_time
from .http import Delivery, HttpError, Request, Response, phrase

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024
_READ_SIZE = 64 * 1024
_DRAIN_SECONDS = 1.0
_SPACES = b" " * 65536


class Connection:
    """Serves one client over HTTP/1.1 with keep-alive.

    Args:
        application: returns the responses.
        reader, writer: the two ends of the connection.
    """

    def __init__(
        self,
        application: Application,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._application = application
        self._reader = reader
        self._writer = writer
        self._client = str(writer.get_extra_info("peername")[0])
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._task = asyncio.current_task()
        self.busy = False  # a response is being held or sent slowly

    async def serve(self) -> None:
        """Respond to requests until either side closes the connection."""
        try:
            while (request := await self._read_request()) is not None:
                response = self._application.handle(request)
                if response.delivery is not Delivery.SEND:
                    self.busy = True
                    await self._deliver(response)
                    return
                await self._write(self._head(response), self._tail(response, request))
                if self._http.our_state is not h11.DONE:
                    return
                self._http.start_next_cycle()
        except HttpError as error:
            await self._refuse(error.response)
        except h11.RemoteProtocolError as error:
            await self._refuse(HttpError(error.error_status_hint, str(error)).response)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client is gone, or the emulator ends the connection
        finally:
            self._writer.close()

    def abort(self, *, reset: bool = False) -> None:
        """Close at once and drop unsent data.

        Args:
            reset: close with an RST, so that the client sees a connection reset.
        """
        if reset:
            self._reset()
        self._writer.transport.abort()
        if self._task is not None:
            self._task.cancel()

    async def _read_request(self) -> Request | None:
        """Return the next request, or None if the client closes the connection.

        Raises:
            HttpError: 413 if the body is larger than ``MAX_BODY``.
            h11.RemoteProtocolError: the bytes are not HTTP/1.1.
        """
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ_SIZE))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    raise HttpError(413, "The request body is larger than 1 MB")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return self._request(head, bytes(body))
            else:
                return None

    def _request(self, head: h11.Request, body: bytes) -> Request:
        path, _, query = head.target.decode("latin-1").partition("?")
        return Request(
            method=head.method.decode("latin-1"),
            path=unquote(path),
            query=query,
            headers={name.decode(): value.decode("latin-1") for name, value in head.headers},
            body=body,
            client=self._client,
        )

    def _head(self, response: Response, *, padding: int = 0, close: bool = False) -> bytes:
        if response.status is None:
            raise ValueError(f"{response.delivery} needs a status")
        headers = [("Date", _http_date(int(current_time().timestamp())))]
        if response.status != 204:  # HTTP forbids both headers there
            length = len(response.body) + padding
            headers += [("Content-Type", response.content_type), ("Content-Length", str(length))]
        if close:
            headers.append(("Connection", "close"))
        head = h11.Response(
            status_code=response.status,
            reason=phrase(response.status),
            headers=[*headers, *response.headers],
        )
        return self._http.send(head) or b""

    def _tail(self, response: Response, request: Request) -> bytes:
        body = b"" if request.method == "HEAD" else response.body
        sent = self._http.send(h11.Data(data=body)) or b""
        self._http.send(h11.EndOfMessage())
        return sent

    async def _write(self, *pieces: bytes) -> None:
        self._writer.write(b"".join(pieces))
        await self._writer.drain()

    async def _deliver(self, response: Response) -> None:
        """Deliver a response in a faulty way; nothing follows it on the connection."""
        body = response.body
        match response.delivery:
            case Delivery.RESET:
                self._reset()
            case Delivery.HOLD:
                await asyncio.sleep(response.seconds)
            case Delivery.CUT:
                await self._write(self._head(response), body[: len(body) // 2])
            case Delivery.TRICKLE:
                await self._write(self._head(response, close=True))
                for place in range(len(body)):
                    await self._write(body[place : place + 1])
                    await asyncio.sleep(response.seconds)
            case Delivery.FLOOD:
                padding = response.padding
                await self._write(self._head(response, padding=padding, close=True))
                for _ in range(padding // len(_SPACES)):
                    await self._write(_SPACES)
                await self._write(_SPACES[: padding % len(_SPACES)], body)

    async def _refuse(self, response: Response) -> None:
        """Respond to a request that cannot be read.

        Reading continues for a moment: a client that is still sending would see a reset.
        """
        with suppress(ConnectionError, TimeoutError):
            await self._write(self._head(response, close=True), response.body)
            self._writer.write_eof()
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await self._reader.read(_READ_SIZE):
                    pass

    def _reset(self) -> None:
        if not self._writer.is_closing():  # the client may have reset it
            sock = self._writer.get_extra_info("socket")
            sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)

"""A small HTTP/1.1 request parser: bytes in, requests out, no input or output of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from .messages import Request

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_DIGITS = re.compile(r"[0-9]{1,18}\Z")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}\Z")


class BadRequestError(Exception):
    """The bytes are no request the emulator reads; the connection cannot be used any further.

    Args:
        status: the HTTP status to answer with.
        message: what was wrong, for the person who wrote the client.
        method, path: what was asked for, as far as that was read.
    """

    def __init__(self, status: int, message: str, method: str = "", path: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.method = method
        self.path = path


@dataclass(slots=True)
class _Head:
    request: Request
    length: int
    chunked: bool


class RequestParser:
    """Collects bytes and gives back whole requests, in order.

    Feed it with ``feed`` and ask with ``next_request`` until that returns None.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._chunks = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        self._buffer += data

    @property
    def buffered(self) -> int:
        """The number of bytes that wait to be read."""
        return len(self._buffer)

    def next_request(self) -> Request | None:
        """Return the next whole request, or None until more bytes have come.

        Raises:
            BadRequestError: the bytes break HTTP/1.1 or a limit of this server.
        """
        if self._head is None:
            self._head = self._read_head()
            if self._head is None:
                return None
        head = self._head
        if head.chunked:
            if not self._read_chunks(head.request):
                return None
            head.request.body = bytes(self._chunks)
            self._chunks.clear()
        else:
            if len(self._buffer) < head.length:
                return None
            head.request.body = bytes(self._buffer[: head.length])
            del self._buffer[: head.length]
        self._head = None
        return head.request

    def _read_head(self) -> _Head | None:
        while self._buffer.startswith(b"\r\n"):  # RFC 9112 2.2: ignore before a request line
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_HEAD or (end < 0 and len(self._buffer) > MAX_HEAD):
            raise BadRequestError(431, "The head of the request is larger than 64 KB")
        if end < 0:
            return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        return _parse_head(lines)

    def _read_chunks(self, request: Request) -> bool:
        """Move whole chunks out of the buffer; return whether the last one was among them."""
        while True:
            line_end = self._buffer.find(b"\r\n")
            if line_end < 0:
                if len(self._buffer) > MAX_HEAD:
                    raise _bad("A chunk's size line does not end", request)
                return False
            size_text = bytes(self._buffer[:line_end]).partition(b";")[0].strip()
            if not _HEX.match(size_text):
                raise _bad("A chunk's size is not a hexadecimal number", request)
            size = int(size_text, 16)
            if len(self._chunks) + size > MAX_BODY:
                raise _too_large(request)
            start = line_end + 2
            if size == 0:
                return self._read_trailers(start, request)
            if len(self._buffer) < start + size + 2:
                return False
            if self._buffer[start + size : start + size + 2] != b"\r\n":
                raise _bad("A chunk is longer than its size says", request)
            self._chunks += self._buffer[start : start + size]
            del self._buffer[: start + size + 2]

    def _read_trailers(self, start: int, request: Request) -> bool:
        if self._buffer.startswith(b"\r\n", start):
            del self._buffer[: start + 2]
            return True
        end = self._buffer.find(b"\r\n\r\n", start)
        if end >= 0:
            del self._buffer[: end + 4]
            return True
        if len(self._buffer) > MAX_HEAD:
            raise _bad("The trailers of the request are larger than 64 KB", request)
        return False


def _parse_head(lines: list[str]) -> _Head:
    parts = lines[0].split(" ")
    if len(parts) != 3 or not _TOKEN.match(parts[0]):
        raise BadRequestError(400, "The request line is not HTTP")
    method, target, version = parts
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequestError(505, "Only HTTP/1.1 and HTTP/1.0 are understood")
    raw_path, _, query = target.partition("?")
    request = Request(method, unquote(raw_path), query, {}, b"", keep_alive=True)
    headers = request.headers
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.match(name):
            raise _bad("A header line is malformed", request)
        name = name.lower()
        value = value.strip(" \t")
        if headers.setdefault(name, value) != value and name in ("content-length", "host"):
            raise _bad(f"The header {name} was given twice", request)
    connection = headers.get("connection", "").lower()
    request.keep_alive = (
        connection != "close" if version == "HTTP/1.1" else connection == "keep-alive"
    )
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise _bad("Transfer-Encoding must be chunked, without Content-Length", request)
        return _Head(request, 0, chunked=True)
    if length is None:
        return _Head(request, 0, chunked=False)
    if not _DIGITS.match(length):
        raise _bad("Content-Length is not a number", request)
    if int(length) > MAX_BODY:
        raise _too_large(request)
    return _Head(request, int(length), chunked=False)


def _bad(message: str, request: Request) -> BadRequestError:
    return BadRequestError(400, message, request.method, request.path)


def _too_large(request: Request) -> BadRequestError:
    return BadRequestError(
        413, "The request body is larger than 1 MB", request.method, request.path
    )

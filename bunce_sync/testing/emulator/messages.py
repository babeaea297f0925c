"""What travels between the parts of the emulator: a request, a response, a way of delivery."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

JSON = "application/json"
HTML = "text/html; charset=utf-8"


@dataclass(slots=True)
class Request:
    """One HTTP request as it came off the wire; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    client: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response, before it is known whether and how it gets onto the wire."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def head(self, content_length: int, *, keep_alive: bool, date: str) -> bytes:
        """Return the status line and the headers, ready to send."""
        content = (
            f"Content-Type: {self.content_type}\r\nContent-Length: {content_length}\r\n"
            if self.status != HTTPStatus.NO_CONTENT  # HTTP forbids both headers there
            else ""
        )
        fixed = (
            f"HTTP/1.1 {self.status} {reason(self.status)}\r\n"
            f"Date: {date}\r\n"
            f"{content}"
            f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n"
        )
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return f"{fixed}{more}\r\n".encode("latin-1")


class Delivery(Enum):
    """How a response goes out, or does not."""

    SEND = auto()
    HOLD = auto()  # silence, then the connection is closed
    CLOSE = auto()  # closed at once (FIN) without an answer
    RESET = auto()  # reset (RST) without an answer
    CUT = auto()  # the head and half of the body, then closed
    TRICKLE = auto()  # one byte at a time
    FLOOD = auto()  # the body behind a great many blanks


@dataclass(frozen=True, slots=True)
class Answer:
    """A response and its way out.

    Args:
        response: what to send; None where the delivery sends nothing.
        delivery: how.
        seconds: HOLD: how long the silence lasts; TRICKLE: the pause before each byte.
        trickle_head: TRICKLE: whether the head trickles too, or only the body.
        padding: FLOOD: the number of blanks sent before the body.
    """

    response: Response | None
    delivery: Delivery = Delivery.SEND
    seconds: float = 0.0
    trickle_head: bool = False
    padding: int = 0


_REASONS = {status.value: status.phrase for status in HTTPStatus}


def reason(status: int) -> str:
    """Return the phrase that goes with a status."""
    return _REASONS.get(status, "Unknown")


def proxy_page(status: int) -> Response:
    """Return the HTML page with which a proxy or firewall in front of Bunce answers."""
    title = f"{status} {reason(status)}"
    page = (
        f"<html>\n<head><title>{title}</title></head>\n"
        f"<body><center><h1>{title}</h1></center><hr><center>nginx</center></body>\n</html>\n"
    )
    return Response(status, page.encode(), HTML)


def dump(value: object) -> bytes:
    """Return a value as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def success(data: object, message: str, status: int = 200, **beside: object) -> Response:
    """Return Bunce's envelope for a call that succeeded; ``beside`` goes next to ``data``."""
    return Response(status, dump({"success": True, "message": message, "data": data, **beside}))


def failure(status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return Bunce's envelope for a call that failed."""
    return Response(status, dump({"success": False, "message": message}), headers=headers)

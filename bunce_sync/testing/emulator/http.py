"""Requests, responses and the router."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from urllib.parse import parse_qsl

JSON = "application/json"
HTML = "text/html; charset=utf-8"
FORM = "application/x-www-form-urlencoded"

Headers = tuple[tuple[str, str], ...]
Handler = Callable[..., "Response"]
#: Handlers by path, then by method. ``{id}`` in a path matches any one segment of it.
Routes = Mapping[str, Mapping[str, Handler]]

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; header names are in lower case, the path is percent-decoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    client: str

    def json(self) -> dict[str, object]:
        """Return the JSON object in the body; an empty body counts as an empty object.

        Raises:
            HttpError: 400 if the content type is not JSON or the body is not a JSON object.
        """
        if not self.body:
            return {}
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise HttpError(400, "Content-Type must be application/json")
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            raise HttpError(400, "The request body is not valid JSON") from None
        if not isinstance(value, dict):
            raise HttpError(400, "The request body must be a JSON object")
        return value

    def form(self) -> dict[str, str]:
        """Return the fields of an HTML form in the body, with line breaks as in Python.

        Raises:
            HttpError: 400 if the content type is not that of a form.
        """
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
            raise HttpError(400, f"Content-Type must be {FORM}")
        fields = parse_qsl(self.body.decode("latin-1"), keep_blank_values=True)
        return {name: text.replace("\r\n", "\n") for name, text in fields}


class Delivery(Enum):
    """How a response is delivered, if at all."""

    SEND = auto()
    HOLD = auto()  # send nothing for some seconds, then close the connection
    CLOSE = auto()  # close the connection (FIN) without a response
    RESET = auto()  # reset the connection (RST) without a response
    CUT = auto()  # send the head and half of the body, then close
    TRICKLE = auto()  # send the body one byte at a time
    FLOOD = auto()  # send the body after a large amount of whitespace


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response and how it is delivered.

    Args:
        status: None if the delivery sends nothing.
        seconds: HOLD: how long to wait before closing; TRICKLE: the pause after each byte.
        padding: FLOOD: the number of spaces before the body.
    """

    status: int | None
    body: bytes = b""
    content_type: str = JSON
    headers: Headers = ()
    delivery: Delivery = Delivery.SEND
    seconds: float = 0.0
    padding: int = 0


class HttpError(Exception):
    """A refused request; ``response`` is what the client gets."""

    def __init__(self, status: int, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.response = failure(status, message, headers)


@contextmanager
def or_404() -> Iterator[None]:
    """Refuse the request with 404 if the segment that it names does not exist.

    Raises:
        HttpError: instead of a ``KeyError``.
    """
    try:
        yield
    except KeyError:
        raise HttpError(404, "Segment not found") from None


class Router:
    """The table of all handlers, by path and method.

    A handler is called with the request and the path segments that match ``{id}``.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = [(_split(path), methods) for path, methods in routes.items()]

    def has_path(self, path: str) -> bool:
        """Return whether any method is routed for a path."""
        return self._match(path) is not None

    def find(self, request: Request) -> Callable[[], Response]:
        """Return the call of the handler for a request.

        Raises:
            HttpError: 404 if the path is unknown, 405 if the method is not allowed.
        """
        match = self._match(request.path)
        if match is None:
            raise HttpError(404, f"Cannot {request.method} {request.path}")
        methods, parameters = match
        handler = methods.get(request.method)
        if handler is None:
            allowed = (("Allow", ", ".join(methods)),)
            raise HttpError(405, f"Method {request.method} is not allowed here", allowed)

        def call() -> Response:
            try:
                return handler(request, *parameters)
            except HttpError as error:
                return error.response

        return call

    def respond(self, request: Request) -> Response:
        """Return the handler's response, or a 404 or 405."""
        try:
            return self.find(request)()
        except HttpError as error:
            return error.response

    def _match(self, path: str) -> tuple[Mapping[str, Handler], list[str]] | None:
        parts = _split(path)
        for pattern, methods in self._routes:
            pairs = list(zip(pattern, parts, strict=False))
            if len(pattern) == len(parts) and all(name in ("{id}", part) for name, part in pairs):
                return methods, [part for name, part in pairs if name == "{id}"]
        return None


def _split(path: str) -> list[str]:
    return path.rstrip("/").split("/")


def phrase(status: int) -> str:
    """Return the reason phrase of a status."""
    return _PHRASES.get(status, "Unknown")


def dump(value: object) -> bytes:
    """Return a value as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def success(data: object, message: str, status: int = 200, **more: object) -> Response:
    """Return Bunce's envelope for a successful call; ``more`` goes next to ``data``."""
    return Response(status, dump({"success": True, "message": message, "data": data, **more}))


def failure(status: int, message: str, headers: Headers = ()) -> Response:
    """Return Bunce's envelope for a failed call."""
    return Response(status, dump({"success": False, "message": message}), headers=headers)


def proxy_page(status: int) -> Response:
    """Return the HTML error page of a proxy or firewall in front of Bunce."""
    title = f"{status} {phrase(status)}"
    page = (
        f"<html>\n<head><title>{title}</title></head>\n"
        f"<body><center><h1>{title}</h1></center><hr><center>nginx</center></body>\n</html>\n"
    )
    return Response(status, page.encode(), HTML)

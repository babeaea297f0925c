"""The calls of Bunce's segments API, each exactly one HTTP request."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from ..exceptions import BunceError, UnusableResponse
from ..identifiers import parse_id
from ..log_events import LogEvent, event
from .paging import Page, Position, query_parameters, read_page, walk
from .request_record import RequestRecord
from .responses import read_json, read_segment
from .transport import Transport
from .types import Customer, RemoteSegment

logger = logging.getLogger("bunce_sync.client")

FIRST_PAGE = Position()

T = TypeVar("T")


class BunceClient:
    """A client for Bunce's segments API, safe for use by many threads and greenlets at once.

    Each call makes one request. The client does not retry, wait, limit its rate or follow
    redirects, and keeps nothing but idle connections. Each call raises a ``BunceError`` when it has
    no usable response, and always fills in the ``record`` it is given.

    Args:
        base_url: the URL of the API, e.g. ``https://api.bunce.so/v1``.
        api_key: the secret key; it appears in no repr, error or log line.
        connect_timeout: seconds for each step of connecting. Name resolution has no timeout.
        read_timeout: seconds to wait for the next byte of a response. A whole request may take as
            long as both timeouts together.
        max_response_bytes: the largest response that is read, after decompression.

    Raises:
        ConfigurationError: the key or the URL cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        connect_timeout: float = 3.0,
        read_timeout: float = 20.0,
        max_response_bytes: int = 10 * 1024 * 1024,
    ) -> None:
        self._transport = Transport(
            base_url=base_url,
            api_key=api_key,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_response_bytes=max_response_bytes,
        )

    def __repr__(self) -> str:
        return f"<BunceClient {self._transport.address}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections. Requests in progress, and later ones, still work."""
        self._transport.close()

    def create_segment(
        self, fields: Mapping[str, Any], *, record: RequestRecord | None = None
    ) -> RemoteSegment:
        """Create a segment. Bunce has no idempotency key, so a repeated call can create a second.

        Args:
            fields: the JSON value of each field; a field that is ``None`` is left out.
            record: filled in with what happened to the request.
        """
        body = {name: value for name, value in fields.items() if value is not None}
        return self._segment("POST", "/segments", record, body=body)

    def get_segment(self, bunce_id: str, *, record: RequestRecord | None = None) -> RemoteSegment:
        """Return one segment (documented by the Node SDK only)."""
        return self._segment("GET", _path(bunce_id), record, bunce_id=bunce_id)

    def update_segment(
        self, bunce_id: str, fields: Mapping[str, Any], *, record: RequestRecord | None = None
    ) -> RemoteSegment:
        """Change fields of a segment; ``None`` is sent as well and clears the field."""
        return self._segment("PATCH", _path(bunce_id), record, body=dict(fields), bunce_id=bunce_id)

    def list_page(
        self,
        position: Position = FIRST_PAGE,
        *,
        record: RequestRecord | None = None,
    ) -> Page:
        """Return the page of the list at a position, which includes the page size.

        Raises:
            UnusableResponse: even if only one row cannot be read: a list proves that a segment
                does not exist only if every row was understood.
        """
        record = record or RequestRecord()

        def read(content: Any) -> Page:
            return read_page(content, position, http_status=record.http_status)

        return self._call("GET", "/segments", record, read, query=query_parameters(position))

    def list_segments(
        self, *, per_page: int = 100, fetch: Callable[[Position], Page] | None = None
    ) -> Iterator[RemoteSegment]:
        """Yield every segment once, over all pages; each page is requested when it is needed.

        Args:
            per_page: rows to request at a time.
            fetch: returns the page at a position; for callers that limit the rate of requests.
        """
        return walk(fetch or self.list_page, Position(per_page=per_page))

    def add_customers(
        self,
        bunce_id: str,
        customers: Sequence[Customer],
        *,
        record: RequestRecord | None = None,
    ) -> None:
        """Add customers to a segment; Bunce creates unknown customers and updates the others."""
        body = {"customers": _not_empty([customer.to_json() for customer in customers])}
        self._call("POST", _path(bunce_id, "/customers"), record, _ignore, body=body)

    def add_all_customers(self, bunce_id: str, *, record: RequestRecord | None = None) -> None:
        """Add every customer to a segment (documented by the Node SDK only)."""
        self._call("POST", _path(bunce_id, "/all-customers"), record, _ignore, body={})

    def remove_customers(
        self, bunce_id: str, ids: Sequence[str], *, record: RequestRecord | None = None
    ) -> None:
        """Remove customers, identified by customer id or email, from a segment.

        Always a DELETE: one example in Bunce's documentation uses POST here, which would add them.
        """
        if isinstance(ids, str):
            raise TypeError("ids must be a list of strings, not a string")
        body = {"customers": _not_empty(list(ids))}
        self._call("DELETE", _path(bunce_id, "/customers"), record, _ignore, body=body)

    def _segment(
        self,
        method: str,
        path: str,
        record: RequestRecord | None,
        *,
        body: Mapping[str, Any] | None = None,
        bunce_id: str | None = None,
    ) -> RemoteSegment:
        """Make a request whose response is a segment: the one with ``bunce_id``, if given."""
        record = record or RequestRecord()

        def read(content: Any) -> RemoteSegment:
            segment = read_segment(content, http_status=record.http_status)
            if bunce_id is not None and segment.id.casefold() != bunce_id.casefold():
                raise UnusableResponse(
                    "the response is about another segment", http_status=record.http_status
                )
            return segment

        return self._call(method, path, record, read, body=body)

    def _call(
        self,
        method: str,
        path: str,
        record: RequestRecord | None,
        read: Callable[[Any], T],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> T:
        """Make and log the request, and return what ``read`` makes of its decoded content."""
        record = record or RequestRecord()
        record.begin(method, path)
        result = "failed"
        try:
            outcome = self._attempt(record, read, query, body)
            result = str(record.http_status)
            if isinstance(outcome, BunceError):
                result = f"{outcome.http_status or ''} {outcome.code}".lstrip()
                # Raised here and without its traceback: the frames below hold the raw response,
                # which may contain the key, and debug pages and error trackers show frames.
                raise outcome.with_traceback(None)
            return outcome
        finally:
            milliseconds = round(1000 * (record.duration or 0))
            logger.debug(
                *("%s %s: %s, %d ms", method, path, result, milliseconds),
                extra=event(
                    LogEvent.REQUEST,
                    method=method,
                    path=path,
                    http_status=record.http_status,
                    duration_ms=milliseconds,
                ),
            )

    def _attempt(
        self,
        record: RequestRecord,
        read: Callable[[Any], T],
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> T | BunceError:
        try:
            response = self._transport.perform(record, query=query, body=body)
            return read(read_json(response, self._transport.redact))
        except BunceError as error:
            return error


def _path(bunce_id: str, below: str = "") -> str:
    """Return the path of a segment.

    Raises:
        ValueError: the id cannot be used: the path would lead to another resource.
    """
    if parse_id(bunce_id) is None or bunce_id in (".", ".."):
        raise ValueError("not a segment id")
    return f"/segments/{quote(bunce_id, safe='')}{below}"


def _ignore(content: Any) -> None:
    """Ignore the content of a response whose status is enough."""


def _not_empty(items: list[Any]) -> list[Any]:
    if not items:
        raise ValueError("no customers given")
    return items


# One client per process, so that connections are kept alive from task to task.


@dataclass(frozen=True)
class _Shared:
    client: BunceClient
    arguments: tuple[str, str, float, float] = field(repr=False)  # the API key is one of them
    pid: int


_shared: _Shared | None = None
_lock = threading.Lock()


def shared_client(
    *, base_url: str, api_key: str, connect_timeout: float = 3.0, read_timeout: float = 20.0
) -> BunceClient:
    """Return this process's client for these settings; only the latest client is kept.

    If the settings have changed, the previous client's idle connections are closed. After a fork
    the child gets its own client, because it must not use the parent's sockets.

    Args and errors: as for ``BunceClient``.
    """
    global _shared
    arguments = (base_url, api_key, connect_timeout, read_timeout)
    with _lock:
        previous = _shared
        if previous and previous.pid == os.getpid():
            if previous.arguments == arguments:
                return previous.client
            previous.client.close()
        client = BunceClient(
            base_url=base_url,
            api_key=api_key,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        _shared = _Shared(client, arguments, os.getpid())
        return client


def _replace_lock() -> None:
    """Replace the lock, which another thread of the parent may have held during the fork."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_replace_lock)

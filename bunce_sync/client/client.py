"""The calls of Bunce's segments API, each exactly one HTTP request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from ..exceptions import BunceError, UnusableResponse
from .paging import Page, Position, page_of, query_of, walk
from .parse import segment_of, usable_id
from .request_record import RequestRecord
from .responses import content_of
from .transport import Transport
from .types import Customer, RemoteSegment

log = logging.getLogger("bunce_sync.client")

FIRST_PAGE = Position()

Found = TypeVar("Found")


class BunceClient:
    """A client for Bunce's segments, safe for use by many threads and greenlets at once.

    It makes one request a call: it does not retry, wait, pace itself, follow redirects or keep
    anything but idle connections. Every call raises a ``BunceError`` when it has no usable
    answer, and fills in the ``record`` it is given, in any case.

    Args:
        base_url: the address of the API, e.g. ``https://api.bunce.so/v1``.
        api_key: the secret key; it appears in no repr, error or log line.
        connect_timeout: seconds for each step of connecting. Name resolution has no timeout.
        read_timeout: seconds for the next byte of an answer. A whole request may take as long as
            both timeouts together.
        max_answer_bytes: the largest answer that is read, after decompression.

    Raises:
        ConfigurationError: the key or the address cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        connect_timeout: float = 3.0,
        read_timeout: float = 20.0,
        max_answer_bytes: int = 10 * 1024 * 1024,
    ) -> None:
        self._transport = Transport(
            base_url=base_url,
            api_key=api_key,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_answer_bytes=max_answer_bytes,
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
        """Close the idle connections. A request under way, or a later one, still works."""
        self._transport.close()

    def create_segment(
        self,
        *,
        name: str,
        description: str | None = None,
        add_all_customers: bool | None = None,
        record: RequestRecord | None = None,
    ) -> RemoteSegment:
        """Create a segment. Bunce has no idempotency key: made twice, it may exist twice."""
        wanted = {"description": description, "add_all_customers": add_all_customers}
        body = {"name": name, **{key: one for key, one in wanted.items() if one is not None}}
        return self._segment("POST", "/segments", record, body=body)

    def get_segment(self, segment_id: str, *, record: RequestRecord | None = None) -> RemoteSegment:
        """Read one segment (documented by the Node SDK only)."""
        return self._segment("GET", _path(segment_id), record, expected=segment_id)

    def update_segment(
        self,
        segment_id: str,
        *,
        name: str,
        description: str | None,
        record: RequestRecord | None = None,
    ) -> RemoteSegment:
        """Give a segment this name and this description, also an empty one."""
        body = {"name": name, "description": description}
        return self._segment("PATCH", _path(segment_id), record, body=body, expected=segment_id)

    def list_page(
        self,
        position: Position = FIRST_PAGE,
        *,
        record: RequestRecord | None = None,
    ) -> Page:
        """Read one page of the list; its size belongs to the position.

        Raises:
            UnusableResponse: also for one row that cannot be read: absence may be concluded only
                from a list that was understood to the last row.
        """
        record = record or RequestRecord()

        def read(content: Any) -> Page:
            return page_of(content, position, http_status=record.http_status)

        return self._call("GET", "/segments", record, read, query=query_of(position))

    def list_segments(
        self, *, per_page: int = 100, fetch: Callable[[Position], Page] | None = None
    ) -> Iterator[RemoteSegment]:
        """Yield every segment once, over all pages; each page is requested when it is needed.

        Args:
            per_page: rows to ask for at a time.
            fetch: reads the page at a position; for a caller who paces the requests.
        """
        return walk(fetch or self.list_page, Position(per_page=per_page))

    def add_customers(
        self,
        segment_id: str,
        customers: Sequence[Customer],
        *,
        record: RequestRecord | None = None,
    ) -> None:
        """Add customers to a segment; Bunce creates those it does not know, updates the others."""
        body = {"customers": _some([customer.to_json() for customer in customers])}
        self._call("POST", _path(segment_id, "/customers"), record, _nothing, body=body)

    def add_all_customers(self, segment_id: str, *, record: RequestRecord | None = None) -> None:
        """Add every customer to a segment (documented by the Node SDK only)."""
        self._call("POST", _path(segment_id, "/all-customers"), record, _nothing, body={})

    def remove_customers(
        self, segment_id: str, ids: Sequence[str], *, record: RequestRecord | None = None
    ) -> None:
        """Remove customers, named by customer id or email, from a segment.

        Always a DELETE: one sample of Bunce's pages has POST here, which would add them.
        """
        if isinstance(ids, str):
            raise TypeError("ids is a list of ids, not one text")
        body = {"customers": _some(list(ids))}
        self._call("DELETE", _path(segment_id, "/customers"), record, _nothing, body=body)

    def _segment(
        self,
        method: str,
        path: str,
        record: RequestRecord | None,
        *,
        body: Mapping[str, Any] | None = None,
        expected: str | None = None,
    ) -> RemoteSegment:
        record = record or RequestRecord()

        def read(content: Any) -> RemoteSegment:
            segment = segment_of(content, http_status=record.http_status)
            if expected is not None and segment.id.casefold() != expected.casefold():
                raise UnusableResponse(
                    "the answer is about another segment", http_status=record.http_status
                )
            return segment

        return self._call(method, path, record, read, body=body)

    def _call(
        self,
        method: str,
        path: str,
        record: RequestRecord | None,
        read: Callable[[Any], Found],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Found:
        """Make the request and return what ``read`` makes of its decoded content.

        It leaves one line in the log either way.
        """
        record = record or RequestRecord()
        record.begin(method, path)
        result = "failed"
        try:
            outcome = self._attempt(record, read, query, body)
            result = str(record.http_status)
            if isinstance(outcome, BunceError):
                result = f"{outcome.http_status or ''} {outcome.code}".lstrip()
                # Raised here, without its traceback: the frames below hold the raw answer, which
                # may echo the key, and debug pages and error trackers show frames.
                raise outcome.with_traceback(None)
            return outcome
        finally:
            log.debug("%s %s: %s, %.0f ms", method, path, result, 1000 * (record.duration or 0))

    def _attempt(
        self,
        record: RequestRecord,
        read: Callable[[Any], Found],
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> Found | BunceError:
        try:
            answer = self._transport.perform(record, query=query, body=body)
            return read(content_of(answer, self._transport.redact))
        except BunceError as error:
            return error


def _path(segment_id: str, below: str = "") -> str:
    """Return the path of a segment.

    Raises:
        ValueError: it is no id, and with it another address would be called than is meant.
    """
    if usable_id(segment_id) is None or segment_id in (".", ".."):
        raise ValueError("not the id of a segment")
    return f"/segments/{quote(segment_id, safe='')}{below}"


def _nothing(content: Any) -> None:
    """Ignore the content: the status has said all there is to know."""


def _some(items: list[Any]) -> list[Any]:
    if not items:
        raise ValueError("no customers given")
    return items

"""OpenTelemetry spans for the requests to Bunce, if the site has installed OpenTelemetry's API.

Names and attributes follow the semantic conventions for HTTP clients; ours begin with
``bunce_sync.``. Without the package nothing is recorded, and nothing needs to be configured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from bunce_sync.choices import Operation, Outcome
from bunce_sync.results import Result

try:
    from opentelemetry import trace
except ImportError:  # the site does not use it
    HAS_OPENTELEMETRY = False
else:
    HAS_OPENTELEMETRY = True


class RequestSpan:
    """The span of one request. ``end`` is called with its result, as far as there is one."""

    def end(self, result: Result) -> None:
        """Note the result of the request."""


@contextmanager
def request_span(
    operation: Operation, *, base_url: str, segment_id: int | None
) -> Iterator[RequestSpan]:
    """Record a span of a request while the block runs.

    Args:
        operation: what is requested.
        base_url: Bunce's address.
        segment_id: the segment the request is about, if it is about one.
    """
    if not HAS_OPENTELEMETRY:
        yield RequestSpan()
        return
    parts = urlsplit(base_url)
    attributes: dict[str, str | int] = {
        "server.address": parts.hostname or "",
        "server.port": parts.port or {"http": 80}.get(parts.scheme, 443),
        "bunce_sync.operation": operation.value,
    }
    if segment_id is not None:
        attributes["bunce_sync.segment_id"] = segment_id
    with trace.get_tracer("bunce_sync").start_as_current_span(
        f"bunce {operation.value}", kind=trace.SpanKind.CLIENT, attributes=attributes
    ) as span:
        yield _Recorded(span)


class _Recorded(RequestSpan):
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def end(self, result: Result) -> None:
        span = self._span
        span.set_attribute("bunce_sync.outcome", result.outcome.value)
        if result.http_status is not None:
            span.set_attribute("http.response.status_code", result.http_status)
        if result.outcome != Outcome.CONFIRMED:
            # Without Bunce's message, which may quote what was sent.
            span.set_attribute("error.type", result.code)
            span.set_status(trace.StatusCode.ERROR)

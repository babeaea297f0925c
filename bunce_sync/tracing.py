"""OpenTelemetry spans for the requests to Bunce, if the site has installed OpenTelemetry's API.

Names and attributes are those of the semantic conventions for HTTP, as far as they fit; ours begin
with ``bunce_sync.``. Without the package nothing is recorded, and nothing needs to be configured.
An error of OpenTelemetry, or of a processor of the site, is logged and disturbs no request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bunce_sync.choices import Operation, Outcome
from bunce_sync.log_events import LogEvent, event
from bunce_sync.results import Result

try:
    from opentelemetry import context, trace
except ImportError:  # the site does not use it
    HAS_OPENTELEMETRY = False
else:
    HAS_OPENTELEMETRY = True

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The classes of the errors that this process has logged: each would come with every request.
_logged: set[type[Exception]] = set()


class RequestSpan:
    """The span of one request.

    Args:
        span: of OpenTelemetry; None if nothing is recorded.
    """

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def note(self, result: Result) -> None:
        """Note the result of the request."""
        if self._span is not None:
            _safely(lambda: _note(self._span, result))


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
    span = token = None
    if HAS_OPENTELEMETRY:
        span = _safely(lambda: _start(operation, base_url, segment_id))
    if span is not None:
        # So that a span of the HTTP library becomes its child.
        token = _safely(lambda: context.attach(trace.set_span_in_context(span)))
    try:
        yield RequestSpan(span)
    finally:
        if token is not None:
            _safely(lambda: context.detach(token))
        if span is not None:
            _safely(span.end)


def _start(operation: Operation, base_url: str, segment_id: int | None) -> Any:
    parts = urlsplit(base_url)
    attributes: dict[str, str | int] = {
        "server.address": parts.hostname or "",
        "server.port": parts.port or {"http": 80}.get(parts.scheme, 443),
        "bunce_sync.operation": operation.value,
    }
    if segment_id is not None:
        attributes["bunce_sync.segment_id"] = segment_id
    tracer = trace.get_tracer("bunce_sync")
    name = f"bunce {operation.value}"
    return tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)


def _note(span: Any, result: Result) -> None:
    span.set_attribute("bunce_sync.outcome", result.outcome.value)
    if result.http_status is not None:
        span.set_attribute("http.response.status_code", result.http_status)
    if result.outcome != Outcome.CONFIRMED:
        # Without Bunce's message, which may quote what was sent.
        span.set_attribute("error.type", result.code)
        span.set_status(trace.StatusCode.ERROR)


def _safely(call: Callable[[], T]) -> T | None:
    """Return what a call returns; None if it fails, which is logged once for each class."""
    try:
        return call()
    except Exception as error:
        if type(error) not in _logged:
            _logged.add(type(error))
            logger.exception(
                "OpenTelemetry failed; requests continue without spans",
                extra=event(LogEvent.TRACING_FAILED, error=type(error).__name__),
            )
        return None

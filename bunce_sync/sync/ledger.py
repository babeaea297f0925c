"""Writing down: one row for each request, before it is sent and after it came to something."""

from __future__ import annotations

from typing import Any

from bunce_sync.models import ApiCall
from bunce_sync.sync.outcome import Result
from bunce_sync.sync.rate_limiter import Permit


def begin(
    permit: Permit,
    operation: ApiCall.Operation,
    path: str,
    *,
    using: str,
    segment_id: int | None = None,
    body: dict[str, Any] | None = None,
) -> ApiCall:
    """Write down what is about to be sent; to be committed before it is.

    Args:
        path: below the base address.
        segment_id: the row the request is about, if it is about one.
        body: what is sent; it holds no key.
    """
    return ApiCall.objects.using(using).create(
        segment_id=segment_id,
        operation=operation,
        path=path[:300],  # an id of 255 odd characters, quoted, is longer
        body=body,
        started_at=permit.at,
    )


def finish(call: ApiCall, permit: Permit, result: Result, *, using: str) -> None:
    """Write down what it came to."""
    duration = permit.record.duration
    ApiCall.objects.using(using).filter(pk=call.pk).update(
        outcome=result.outcome,
        code=result.code,
        message=result.detail,
        http_status=result.http_status,
        duration_ms=None if duration is None else round(duration * 1000),
        bunce_id=result.segment.id if result.segment else "",
    )

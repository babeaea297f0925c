"""The events of the app's log records: names and fields that alerts and searches can rely on.

Every record has an attribute ``event``, a ``LogEvent`` value, and attributes for what it is about.
A formatter for JSON shows them all; the texts of the records are for people and may change.
docs/observability.md lists the events. No record has a key, a customer's identifier or content.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final


class LogEvent(StrEnum):
    """What a log record says, as its attribute ``event``."""

    # Requests
    REQUEST = "bunce_sync.request"
    RESULT = "bunce_sync.result"
    RECORDED_AGAIN = "bunce_sync.recorded_again"
    REQUESTS_PAUSED = "bunce_sync.requests_paused"
    REQUESTS_RESUMED = "bunce_sync.requests_resumed"
    OPERATION_PAUSED = "bunce_sync.operation_paused"
    OPERATION_RESUMED = "bunce_sync.operation_resumed"
    CLOCK_JUMPED = "bunce_sync.clock_jumped"
    KEY_STRANGE = "bunce_sync.key_strange"
    NOT_CONFIGURED = "bunce_sync.not_configured"
    # Segments
    SEGMENT_SYNCED = "bunce_sync.segment_synced"
    SEGMENT_IN_DOUBT = "bunce_sync.segment_in_doubt"
    SEGMENT_REJECTED = "bunce_sync.segment_rejected"
    SEGMENT_DUPLICATED = "bunce_sync.segment_duplicated"
    SEGMENT_RESTORED = "bunce_sync.segment_restored"
    SEGMENT_DELETED = "bunce_sync.segment_deleted"
    SEGMENT_MISSING = "bunce_sync.segment_missing"
    RESPONSE_LATE = "bunce_sync.response_late"
    SEGMENTS_ABSENT = "bunce_sync.segments_absent"
    SEGMENTS_MOVED = "bunce_sync.segments_moved"
    # Customers
    CUSTOMERS_REFUSED = "bunce_sync.customers_refused"
    CUSTOMER_BATCH_LOWERED = "bunce_sync.customer_batch_lowered"
    AUDIENCE_FAILED = "bunce_sync.audience_failed"
    AUDIENCE_HELD = "bunce_sync.audience_held"
    # Bunce's list
    LIST_UNUSABLE = "bunce_sync.list_unusable"
    LIST_CHANGED = "bunce_sync.list_changed"
    LIST_PAGE_LOWERED = "bunce_sync.list_page_lowered"
    IMPORT_PAGE_SPLIT = "bunce_sync.import_page_split"
    IMPORT_REFUSED = "bunce_sync.import_refused"
    # Workers and the broker
    LEASES_FREED = "bunce_sync.leases_freed"
    TIMES_REPAIRED = "bunce_sync.times_repaired"
    MESSAGE_NOT_SENT = "bunce_sync.message_not_sent"
    BROKER_SLOW = "bunce_sync.broker_slow"
    BROKER_CLOSE_FAILED = "bunce_sync.broker_close_failed"
    INTERNAL_ERROR = "bunce_sync.internal_error"
    # Monitoring
    METRICS_FAILED = "bunce_sync.metrics_failed"
    TRACING_FAILED = "bunce_sync.tracing_failed"


#: The attributes that records may have beside ``event``. None is one of ``logging.LogRecord``.
FIELDS: Final = frozenset(
    {
        *("operation", "segment_id", "bunce_id", "environment", "audience"),
        *("outcome", "code", "http_status", "duration_ms", "method", "path"),
        *("reason", "seconds", "count", "total", "error"),
    }
)


def event(name: LogEvent, **fields: Any) -> dict[str, Any]:
    """Return the ``extra`` of a log record.

    Args:
        fields: some of ``FIELDS``; what is None or empty is left out.
    """
    unknown = fields.keys() - FIELDS
    if unknown:
        raise TypeError(f"not a field of log records: {', '.join(sorted(unknown))}")
    known = {key: value for key, value in fields.items() if value not in (None, "")}
    return {"event": name.value, **known}

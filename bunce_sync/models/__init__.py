"""The models: segments, the call log, and the shared state."""

from bunce_sync.models.api_call import ApiCall
from bunce_sync.models.idempotency_key import IdempotencyKey
from bunce_sync.models.operation_state import OperationState
from bunce_sync.models.segment import Segment
from bunce_sync.models.segment_queryset import SegmentQuerySet
from bunce_sync.models.sync_state import SyncState

__all__ = [
    "ApiCall",
    "IdempotencyKey",
    "OperationState",
    "Segment",
    "SegmentQuerySet",
    "SyncState",
]

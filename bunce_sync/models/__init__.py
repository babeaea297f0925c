"""The models: segments and their customers, the call log, imports and holds, the shared state."""

from bunce_sync.models.api_call import ApiCall
from bunce_sync.models.customer_sync import CustomerQueue, CustomerSync
from bunce_sync.models.forgotten import ForgottenCustomer
from bunce_sync.models.idempotency_key import IdempotencyKey
from bunce_sync.models.import_run import ImportRun
from bunce_sync.models.member import Member
from bunce_sync.models.member_queryset import MemberQuerySet
from bunce_sync.models.operation_state import OperationState
from bunce_sync.models.push_hold import PushHold
from bunce_sync.models.segment import Segment
from bunce_sync.models.segment_queryset import SegmentQuerySet
from bunce_sync.models.sync_state import SyncState
from bunce_sync.models.tombstone import Tombstone

__all__ = [
    "ApiCall",
    "CustomerQueue",
    "CustomerSync",
    "ForgottenCustomer",
    "IdempotencyKey",
    "ImportRun",
    "Member",
    "MemberQuerySet",
    "OperationState",
    "PushHold",
    "Segment",
    "SegmentQuerySet",
    "SyncState",
    "Tombstone",
]

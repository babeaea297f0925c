"""The public functions of the app. The admin and the REST API change segments through them.

The rules about what may be done are here; permissions are the caller's responsibility.
No function makes a request to Bunce: it writes rows, and a worker is woken after the commit.
"""

from __future__ import annotations

from datetime import datetime

from bunce_sync.services.actions import (
    ACTIONS,
    CREATE_AGAIN,
    PUSH,
    PUSH_OURS,
    REFRESH,
    RETRY,
    TAKE_THEIRS,
    SegmentAction,
    create_again,
    push_now,
    push_ours,
    refresh,
    retry,
    take_theirs,
)
from bunce_sync.services.customers import (
    Forgotten,
    RemovalsChanged,
    confirm_removals,
    drop_removals,
    forget,
    request_comparison,
    resync_customers,
    retry_customers,
    retry_refused,
    unforget,
)
from bunce_sync.services.holds import (
    is_running,
    no_push,
    pause,
    process_name,
    release_hold,
    resume,
    user_at_host,
)
from bunce_sync.services.imports import (
    accept_key,
    adopt,
    adoptable,
    cancel_import,
    rehome,
    request_import,
)
from bunce_sync.services.segments import (
    BATCH_SIZE,
    UNDELETABLE,
    AlreadySaved,
    SegmentsBusy,
    SegmentsChanged,
    can_delete,
    create_segment,
    create_segments,
    delete_segments,
    resolved_in,
    save_segments,
)
from bunce_sync.sync import shared_state

__all__ = (
    "ACTIONS",
    "BATCH_SIZE",
    "CREATE_AGAIN",
    "PUSH",
    "PUSH_OURS",
    "REFRESH",
    "RETRY",
    "TAKE_THEIRS",
    "UNDELETABLE",
    "AlreadySaved",
    "Forgotten",
    "RemovalsChanged",
    "SegmentAction",
    "SegmentsBusy",
    "SegmentsChanged",
    "accept_key",
    "adopt",
    "adoptable",
    "can_delete",
    "cancel_import",
    "confirm_removals",
    "create_again",
    "create_segment",
    "create_segments",
    "database_time",
    "delete_segments",
    "drop_removals",
    "forget",
    "is_running",
    "no_push",
    "pause",
    "process_name",
    "push_now",
    "push_ours",
    "refresh",
    "rehome",
    "release_hold",
    "request_comparison",
    "request_import",
    "requests_resume_in",
    "resolved_in",
    "resume",
    "resync_customers",
    "retry",
    "retry_customers",
    "retry_refused",
    "save_segments",
    "take_theirs",
    "unforget",
    "user_at_host",
)


def requests_resume_in() -> float | None:
    """Return in how many seconds requests to Bunce resume, or None if they are not paused."""
    state, now = shared_state.read()
    if state.blocked_until is None or state.blocked_until <= now:
        return None
    return (state.blocked_until - now).total_seconds()


def database_time() -> datetime:
    """Return the database's current time, on which all stored timestamps are based."""
    return shared_state.now()

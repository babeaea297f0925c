"""The ``no_push()`` block that the running code is in, if any.

The models read it when they store a segment; ``bunce_sync.sync.holds`` sets it.
"""

from __future__ import annotations

from contextvars import ContextVar

#: The primary key of the block's ``PushHold``; None outside any block.
current_hold: ContextVar[int | None] = ContextVar("bunce_sync_current_hold", default=None)

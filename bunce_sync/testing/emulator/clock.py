"""The emulator's clock, which libraries that freeze time in a site's tests do not reach.

They replace the functions of ``time`` where they are attributes of a module, or ``time.time``
itself, but not a monotonic clock that is kept elsewhere.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

_CLOCKS = (time.monotonic,)
_START = time.time() - time.monotonic()


def monotonic() -> float:
    """Return seconds of a clock that cannot be set."""
    return _CLOCKS[0]()


def now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.fromtimestamp(_START + monotonic(), UTC)

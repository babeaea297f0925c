"""The clocks of this process, out of reach of libraries that freeze time in a site's tests.

``freezegun`` replaces the functions of ``time`` wherever they are attributes of a module. With its
frozen clock a step of the database's clock would look like a jump, and a pause would never end.
"""

from __future__ import annotations

import time

_CLOCKS = (time.monotonic, time.time)


def monotonic() -> float:
    """Return seconds of a clock that cannot be set."""
    return _CLOCKS[0]()


def wall() -> float:
    """Return the seconds since 1970 by this host's clock."""
    return _CLOCKS[1]()

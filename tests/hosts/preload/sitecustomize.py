"""Makes ``time.sleep`` work under libfaketime; Python imports this when a process starts.

libfaketime 0.9.10, which leaves the monotonic clock alone as the tests need it, refuses the system
call that Python 3.11 and later sleep by (EINVAL).
"""

import select
import time


def _sleep(seconds: float) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)


time.sleep = _sleep  # type: ignore[assignment]

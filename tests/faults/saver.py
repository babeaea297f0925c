"""A process that saves segments as a web server does, and reports how long each save took.

It reads names from standard input, one per line, and prints how many seconds each save took, not
counting the time it waited for a processor: the suite keeps all processors busy.
"""

import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.site import Site


class Saver:
    """The saving process, as the test uses it."""

    def __init__(self, site: "Site") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.saver"],
            env=site.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def save(self, name: str) -> float:
        """Save one segment; return how many seconds it took, as on an idle machine."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name}\n")
        line = self._process.stdout.readline()
        assert line, "the saving process exited"
        return float(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Serve until standard input ends."""
    import django

    import project.celery  # noqa: F401 - the app that tasks are published with

    django.setup()
    from bunce_sync.models import Segment

    Segment.objects.exists()  # the first query connects
    for line in sys.stdin:
        began = time.perf_counter() - seconds_without_processor()
        Segment.objects.create(name=line.strip())
        print(time.perf_counter() - seconds_without_processor() - began, flush=True)  # noqa: T201 - the result


def seconds_without_processor() -> float:
    """Return how many seconds this thread has waited for a processor so far.

    Only Linux reports this.
    """
    counted = Path("/proc/thread-self/schedstat")
    return int(counted.read_text().split()[1]) / 1e9 if counted.exists() else 0.0


if __name__ == "__main__":
    main()

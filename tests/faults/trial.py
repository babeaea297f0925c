"""A trial: a site with real processes, a local Bunce that fails, and a comparison at the end."""

import os
import random
import socket
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db.models import Q, QuerySet

from bunce_sync import transitions
from bunce_sync.models import ApiCall, Segment
from bunce_sync.testing.emulator import Emulator
from tests.faults import report
from tests.site import Process, Site, eventually

#: The long form: every stack, more rows, and many seeds for each trial.
LONG = os.environ.get("FAULTS_LONG", "").lower() in {"1", "true", "yes"}
SEEDS = range(int(os.environ.get("FAULTS_SEEDS") or (20 if LONG else 1)))

#: The settings for which the guarantees are tested.
LEASE = 15.0
GRACE = 5.0
SWEEP = 1.0
ENV = {
    "BUNCE_LEASE": f"{LEASE:g}",
    "BUNCE_GRACE": f"{GRACE:g}",
    "BUNCE_CONNECT_TIMEOUT": "1",
    "BUNCE_READ_TIMEOUT": "2",
    "BUNCE_SWEEP_INTERVAL": f"{SWEEP:g}",
    "BUNCE_RATE_LIMIT": "none",
}
#: Rows that one process saves, so that it exits in time on a busy machine.
PORTION = 200
#: Seconds until a trial is given up: 2,000 rows take longer.
REST_LIMIT = 600.0 if LONG else 240.0
#: Seconds from the last fault until everything is at rest, apart from what a busy machine adds.
REST = LEASE + GRACE + 3 * SWEEP

AT_REST = Q(status__in=transitions.AT_REST)


def rows(short: int) -> int:
    """Return how many rows a trial has: as given, or 2,000 in the long form."""
    return 2000 if LONG else short


@dataclass
class Trial:
    """A site under test.

    Attributes:
        fault: what fails, in a few words, for the report.
        stack: database and broker, such as "postgres+redis".
    """

    site: Site
    bunce: Emulator
    request: pytest.FixtureRequest
    fault: str
    stack: str
    began: float = field(default_factory=time.monotonic)
    last_fault: float = 0.0

    def save(self, count: int, name: str = "Segment") -> None:
        """Save rows as a site does, one by one, each with a message."""
        for first in range(0, count, PORTION):
            numbers = range(first, min(first + PORTION, count))
            self.site.shell(f"for n in {numbers}: Segment.objects.create(name=f'{name} {{n}}')")

    def edit(self, addition: str) -> None:
        """Change the name of every row, saving one by one."""
        rows = f"Segment.objects.exclude(name__endswith={addition!r})[:{PORTION}]"
        while self.site.segments.exclude(name__endswith=addition).exists():
            self.site.shell(f"for one in {rows}: one.name += {addition!r}; one.save()")

    def insert(self, count: int, name: str = "Segment") -> None:
        """Insert rows without a message; the sweep finds them."""
        self.site.shell(
            f"Segment.objects.bulk_create(Segment(name=f'{name} {{n}}') for n in range({count}))"
        )

    @property
    def not_at_rest(self) -> QuerySet[Segment]:
        """Return the rows that are not at rest."""
        return self.site.segments.exclude(AT_REST)

    def wait_for_rest(self, *, seconds: float, supervised: bool = False) -> None:
        """Wait until every row is at rest and Bunce has no write left to complete.

        Args:
            supervised: restart a worker that exited, as systemd would.
        """

        def rests() -> bool:
            if supervised and not any(process.running for process in self.site.processes):
                self.site.start_worker()
            return not self.bunce.pending_writes and not self.not_at_rest.exists()

        eventually(rests, seconds)

    def note_fault(self) -> None:
        """Note that the test has just caused a fault."""
        self.last_fault = time.monotonic()

    def rest(self, *, slack: float, supervised: bool = False) -> None:
        """Wait until all rows are at rest, and check that it takes no longer than is guaranteed.

        Args:
            slack: seconds allowed in addition, for the work itself on a slow machine.
            supervised: as for ``wait_for_rest``.
        """
        self.wait_for_rest(seconds=REST_LIMIT, supervised=supervised)
        ended = time.monotonic()
        last = max([self.last_fault, *(one.at for one in self.bunce.requests if one.fault)])
        self.verdict()
        if last:
            allowed = REST + self.longest_delay() + slack
            assert ended - last <= allowed, (
                f"at rest {ended - last:.1f} s after the last fault; {allowed:.1f} s are allowed"
            )

    def longest_delay(self) -> float:
        """Return the longest retry delay that any row of the trial can have had, in seconds.

        It doubles with each consecutive failure of a row; an unreadable response to an update is
        followed by a read first.
        """
        longest = 0
        failures: Counter[int | None] = Counter()
        calls = self.site.calls.filter(operation__in=("create", "update")).order_by("id")
        for row, outcome in calls.values_list("segment_id", "outcome"):
            failures[row] = 0 if outcome == ApiCall.Outcome.CONFIRMED else failures[row] + 1
            longest = max(longest, failures[row])
        if not longest:
            return 0.0
        backoff: float = transitions.BACKOFF_BASE * 2**longest
        return max(backoff, transitions.REFRESH_FIRST.total_seconds())

    def verdict(self, *, synced: bool = True) -> None:
        """Compare the rows with Bunce one to one, and add the result to the report."""
        took = time.monotonic() - self.began
        held = {one.id: one for one in self.bunce.segments}
        linked: dict[str, Segment] = {
            row.bunce_id: row for row in self.site.segments if row.bunce_id is not None
        }
        lost = [row for row in self.site.segments if row.bunce_id not in held]
        duplicates = [one for one in held.values() if one.id not in linked]
        stuck = list(self.not_at_rest)
        wrong = [
            (row.name, held[row.bunce_id].name)
            for row in linked.values()
            if row.bunce_id in held and row.name != held[row.bunce_id].name
        ]
        total = self.site.segments.count()
        report.note(
            self.request,
            (
                self.fault,
                *self.stack.split("+"),
                total,
                len(duplicates),
                len(lost),
                len(stuck),
                f"{took:.1f}",
            ),
        )
        story = f"{self.count_by_status()}; injected {dict(self.bunce.injected)}"
        assert not stuck, f"{len(stuck)} rows are stuck: {story}"
        assert not lost, f"{len(lost)} rows have no segment: {story}"
        assert not duplicates, (
            f"{len(duplicates)} segments belong to no row: {self.history(duplicates)}; {story}"
        )
        assert not wrong, f"rows and segments differ: {wrong}"
        if synced:
            assert self.site.segments.filter(status="synced").count() == total, story
            assert len(held) == total

    def count_by_status(self) -> dict[str, int]:
        """Return how many rows have each status and last problem."""
        rows = self.site.segments.values_list("status", "last_code", "last_error")
        return dict(Counter(" ".join(filter(None, one)) for one in rows))

    def history(self, duplicates: list[Any]) -> list[object]:
        """Return the call log of the first duplicate."""
        first = self.site.segments.filter(name=duplicates[0].name).first()
        calls = self.site.calls.filter(segment=first).order_by("id")
        return [
            duplicates[0],
            *calls.values_list("started_at", "outcome", "code", "decision", "bunce_id"),
        ]


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Workers:
    """Workers that can be killed and replaced one at a time."""

    def __init__(self, site: Site, count: int, *, seed: int = 0, app: str = "project") -> None:
        self._site = site
        self._app = app
        self._chance = random.Random(seed)
        self._running = [self._start() for _ in range(count)]
        for worker in self._running:
            worker.wait_for(" ready.")

    def kill_one(self) -> None:
        """Kill a worker and its children with SIGKILL, and start another without waiting for it."""
        self._running.pop(self._chance.randrange(len(self._running))).kill()
        self._running.append(self._start())

    def _start(self) -> Process:
        return self._site.start(
            "worker",
            *("-m", "celery", "-A", self._app, "worker", "--loglevel", "INFO"),
            *("--hostname", f"{uuid.uuid4().hex[:8]}@%h", "--concurrency", "2"),
            *("--without-mingle", "--without-gossip"),
        )

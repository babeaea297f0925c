"""Whether anything gets slower with the number of rows: sweep, claim, and the admin's list.

    python -m benchmarks scale [--rows 10000 100000 1000000] [--database postgresql sqlite]

Time and number of queries, medians; the sizes are measured in turns, so that a slow minute of the
machine falls on all of them. Four of five rows are synced, the others are rejected, in
doubt, or wait for a backoff that is not over; the ledger has as many rows as there are segments,
500 of them within the last minute. Tables are analysed, on PostgreSQL as autovacuum leaves them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import Goal, print_table
from benchmarks.stack import postgres_database

DATABASES = ("postgresql", "sqlite")
SWEEP = "sweep with nothing due"
LISTS = ("admin list", "admin list, page 10")
WORK = (SWEEP, "finding and claiming a row", *LISTS)

#: How often each size has its turn.
TURNS = 3


@contextmanager
def database(kind: str) -> Iterator[str]:
    """DATABASE_URL of an empty database."""
    if kind == "postgresql":
        with postgres_database() as url:
            yield url
    else:
        with TemporaryDirectory(prefix="bunce-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'scale.sqlite3'}"


class Sized:
    """A site with so many rows, and what was measured on it.

    Attributes:
        times: milliseconds of each round, by kind of work.
        queries: the number of queries of a round, by kind of work.
    """

    def __init__(self, url: str, rows: int) -> None:
        self._rows = str(rows)
        self._env = {
            **os.environ,
            "DATABASE_URL": url,
            "DJANGO_DEBUG": "0",
            "DJANGO_SECRET_KEY": "of a benchmark",
            "DJANGO_ALLOWED_HOSTS": "testserver",
            "BUNCE_API_KEY": "sk_test_scale",
            "BUNCE_BASE_URL": "http://127.0.0.1:9/v1",
            "BUNCE_RATE_LIMIT": "5000",
        }
        self.times: dict[str, list[float]] = defaultdict(list)
        self.queries: dict[str, set[int]] = defaultdict(set)
        self._run("fill", self._rows)

    def look(self) -> None:
        """Measure what changes nothing."""
        self._note(self._run("looks"))

    def claim(self) -> None:
        """Measure claims; these rows are no longer at rest then."""
        self._note(self._run("claims", self._rows))

    def _note(self, printed: str) -> None:
        for work, (times, queries) in json.loads(printed.splitlines()[-1]).items():
            self.times[work] += times
            self.queries[work].add(queries)

    def _run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "benchmarks.scaling", *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


def measure(kind: str, sizes: list[int]) -> list[Sized]:
    """Sites of each size, measured."""
    with ExitStack() as stack:
        sites = [Sized(stack.enter_context(database(kind)), rows) for rows in sizes]
        for _ in range(TURNS):
            for site in sites:
                site.look()
        for site in sites:
            site.claim()
    return sites


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale")
    sizes = [10_000, 100_000, 1_000_000]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes, help="segments")
    parser.add_argument("--database", nargs="+", choices=DATABASES, default=DATABASES)
    told = parser.parse_args(arguments)
    table: list[tuple[object, ...]] = []
    goals: list[Goal] = []
    for kind in told.database:
        sites = measure(kind, told.rows)
        for work in WORK:
            times = [statistics.median(site.times[work]) for site in sites]
            queries = sorted(set[int]().union(*(site.queries[work] for site in sites)))
            table.append(
                (
                    kind,
                    work,
                    *(f"{time:.1f}" for time in times),
                    " or ".join(map(str, queries)),
                    f"{times[-1] / times[0]:.2f}",
                )
            )
            if work == SWEEP:
                goals.append(
                    Goal(f"{work}, {kind}, most / fewest rows", times[-1] / times[0], 1.5, 1)
                )
            elif kind == "postgresql" and work in LISTS:
                goals.append(
                    Goal(f"{work}, {kind}, most rows, ms", times[-1], 150, 50, form="{:.1f}")
                )
    print_table(
        "scale: milliseconds by number of segments",
        ("database", "work", *(f"{rows:,}" for rows in told.rows), "queries", "most / fewest rows"),
        table,
        *goals,
    )

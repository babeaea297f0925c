"""Whether anything gets slower with the number of rows: sweep, claim, and the admin's list.

    python -m benchmarks scale [--rows 10000 100000 1000000] [--database postgresql sqlite]

Time and number of queries, medians. Four of five rows are synced, the others are rejected, in
doubt, or wait for a backoff that is not over; the ledger has as many rows as there are segments,
500 of them within the last minute. Tables are analysed, on PostgreSQL as autovacuum leaves them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import Goal, print_table
from benchmarks.stack import postgres_database

DATABASES = ("postgresql", "sqlite")
SWEEP = "sweep with nothing due"
WORK = (SWEEP, "finding and claiming a row", "admin list", "admin list, page 10")

Figures = dict[str, tuple[float, int]]


@contextmanager
def database(kind: str) -> Iterator[str]:
    """DATABASE_URL of an empty database."""
    if kind == "postgresql":
        with postgres_database() as url:
            yield url
    else:
        with TemporaryDirectory(prefix="bunce-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'scale.sqlite3'}"


def measure(kind: str, rows: int) -> Figures:
    """Milliseconds and queries of each kind of work."""
    with database(kind) as url:
        env = {
            **os.environ,
            "DATABASE_URL": url,
            "DJANGO_DEBUG": "0",
            "DJANGO_SECRET_KEY": "of a benchmark",
            "DJANGO_ALLOWED_HOSTS": "testserver",
            "BUNCE_API_KEY": "sk_test_scale",
            "BUNCE_BASE_URL": "http://127.0.0.1:9/v1",
            "BUNCE_RATE_LIMIT": "5000",
        }
        command = [sys.executable, "-m", "benchmarks.scaling", str(rows)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


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
        results = [measure(kind, rows) for rows in told.rows]
        for work in WORK:
            times = [result[work][0] for result in results]
            queries = sorted({result[work][1] for result in results})
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
            elif kind == "postgresql":
                goals.append(
                    Goal(f"{work}, {kind}, most rows, ms", times[-1], 150, 50, form="{:.1f}")
                )
    print_table(
        "scale: milliseconds by number of segments",
        ("database", "work", *(f"{rows:,}" for rows in told.rows), "queries", "most / fewest rows"),
        table,
        *goals,
    )

"""Whether anything becomes slower with the number of rows: sweep, claim, and the admin's list.

    python -m benchmarks scale [--rows 10000 100000 1000000] [--database postgresql sqlite]

Medians of time and number of queries. Four of five rows are synced; the others are rejected, in
doubt, or wait for a backoff. The call log has as many rows as there are segments, 500 of them from
the last minute. Tables are analysed, on PostgreSQL as autovacuum leaves them.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from benchmarks.machine import Goal, print_table
from benchmarks.stack import call_in_process, postgres_database, timed

DATABASES = ("postgresql", "sqlite")
SWEEP = "sweep with nothing due"
CLAIM = "finding and claiming a row"
LISTS = {"admin list": "", "admin list, page 10": "?p=10"}
WORK = (SWEEP, CLAIM, *LISTS)

#: How often each size is measured, in turns, so that a slow minute affects all sizes alike.
TURNS = 3
ROUNDS = 10
CLAIMS = 100
RECENT_CALLS = 500

#: Milliseconds of each round, and the number of queries of one.
Figure = tuple[list[float], int]


@contextmanager
def database(kind: str) -> Iterator[str]:
    """Create an empty database and yield its DATABASE_URL."""
    if kind == "postgresql":
        with postgres_database() as url:
            yield url
    else:
        with TemporaryDirectory(prefix="bunce-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'scale.sqlite3'}"


class Sized:
    """A site with a number of rows, and what was measured on it.

    Attributes:
        times: milliseconds of each round, by kind of work.
        queries: the number of queries of a round, by kind of work.
    """

    def __init__(self, url: str, rows: int) -> None:
        self._rows = rows
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
        call_in_process(self._env, fill, rows)

    def measure_reads(self) -> None:
        """Measure what leaves the segments unchanged."""
        self._measure(read)

    def measure_claims(self) -> None:
        """Measure claims, which change the segments."""
        self._measure(claim)

    def _measure(self, function: Callable[[int], dict[str, Figure]]) -> None:
        for work, (times, queries) in call_in_process(self._env, function, self._rows).items():
            self.times[work] += times
            self.queries[work].add(queries)


def fill(rows: int) -> None:
    """Create the tables and their rows."""
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        for statement in _statements(connection.vendor):
            cursor.execute(statement, {"rows": rows, "recent": RECENT_CALLS})
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def read(rows: int) -> dict[str, Figure]:
    """Measure the sweep and the admin's list."""
    from django.contrib.auth.models import User
    from django.test import Client

    from bunce_sync.sync import sweep

    client = Client()
    admin = {"is_staff": True, "is_superuser": True}
    client.force_login(User.objects.get_or_create(username="admin", defaults=admin)[0])

    def get(query: str) -> Callable[[], None]:
        def view() -> None:
            response = client.get(f"/admin/bunce_sync/segment/{query}")
            if response.status_code != 200:
                raise AssertionError(f"The list responded with {response.status_code}.")

        return view

    figures = {SWEEP: _figure(sweep.sweep)}
    return figures | {name: _figure(get(query)) for name, query in LISTS.items()}


def claim(rows: int) -> dict[str, Figure]:
    """Measure finding and claiming a due row, among a few spread over the table."""
    from bunce_sync.functions import DatabaseNow
    from bunce_sync.models import ApiCall, Segment
    from bunce_sync.sync import push
    from bunce_sync.sync.budget import Budget

    step = max(1, rows // (CLAIMS * 2))
    keys = range(1, rows, step)
    # Without a confirmed create: otherwise a claim would restore the id of that create.
    ApiCall.objects.filter(segment_id__in=keys).update(
        outcome=ApiCall.Outcome.REJECTED, bunce_id=""
    )
    due = Segment.objects.filter(pk__in=keys)
    due.update_sync_fields(
        status=Segment.Status.PENDING,
        bunce_id=None,
        due_at=DatabaseNow() - timedelta(seconds=60),
    )

    def claim_one() -> None:
        row = push._due_rows()[0]  # noqa: SLF001 - as a worker finds work
        if not push.Push(row).reserve(Budget(60)):
            raise AssertionError("A due row was not claimed.")

    return {CLAIM: _figure(claim_one, rounds=CLAIMS)}


def _figure(work: Callable[[], object], *, rounds: int = ROUNDS) -> Figure:
    """Measure each round, and count the queries of one without transaction statements."""
    work()  # imports, templates and query plans are not measured cold
    with CaptureQueriesContext(connection) as captured:
        work()
    statements = [query["sql"].upper() for query in captured.captured_queries]
    queries = sum(one not in {"BEGIN", "BEGIN IMMEDIATE", "COMMIT"} for one in statements)
    return [timed(work) * 1000 for _ in range(rounds)], queries


def _statements(vendor: str) -> tuple[str, str]:
    if vendor == "postgresql":
        numbers = "generate_series(1, %(rows)s) AS n"
        ago = "now() - n * interval '2 seconds'"
        recent = "now() - n * interval '0.1 seconds'"
        ahead = "now() + interval '1 day'"
        nothing = "null::jsonb"
    else:
        numbers = (
            "(WITH RECURSIVE counted(n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < %(rows)s)"
            " SELECT n FROM counted)"
        )
        ago = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-' || (n * 2) || ' seconds')"
        recent = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-' || (n * 0.1) || ' seconds')"
        ahead = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '+1 day')"
        nothing = "null"
    state = (
        "CASE WHEN n %% 10 = 0 THEN 'pending' WHEN n %% 20 = 1 THEN 'in_doubt'"
        " WHEN n %% 20 = 11 THEN 'rejected' ELSE 'synced' END"
    )
    linked = "CASE WHEN n %% 10 IN (0, 1) THEN NULL ELSE 'id-' || n END"
    segments = f"""
        INSERT INTO bunce_sync_segment
            (name, status, bunce_id, bunce_type, due_at, created_at, bunce_created_at)
        SELECT 'Segment ' || n, {state}, {linked}, 'manual', {ahead}, {ago}, {ago} FROM {numbers}
    """  # noqa: S608 - of constant parts
    calls = f"""
        INSERT INTO bunce_sync_apicall
            (segment_id, operation, path, started_at, outcome, code, message, bunce_id, decision,
             body, duration_ms, http_status)
        SELECT n, 'create', '/segments', CASE WHEN n <= %(recent)s THEN {recent} ELSE {ago} END,
            'confirmed', '', '', 'id-' || n, '', {nothing}, 100, 201 FROM {numbers}
    """  # noqa: S608 - of constant parts
    return segments, calls


def measure(kind: str, sizes: list[int]) -> list[Sized]:
    """Return a measured site of each size."""
    with ExitStack() as stack:
        sites = [Sized(stack.enter_context(database(kind)), rows) for rows in sizes]
        for _ in range(TURNS):
            for site in sites:
                site.measure_reads()
        for site in sites:
            site.measure_claims()
    return sites


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale")
    sizes = [10_000, 100_000, 1_000_000]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes, help="segments")
    parser.add_argument("--database", nargs="+", choices=DATABASES, default=DATABASES)
    options = parser.parse_args(arguments)
    table: list[tuple[object, ...]] = []
    goals: list[Goal] = []
    for kind in options.database:
        sites = measure(kind, options.rows)
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
        (
            "database",
            "work",
            *(f"{rows:,}" for rows in options.rows),
            "queries",
            "most / fewest rows",
        ),
        table,
        *goals,
    )

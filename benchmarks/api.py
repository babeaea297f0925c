"""How long the REST API takes at 100,000 segments, on PostgreSQL.

    python -m benchmarks api [--rows 100000] [--rounds 60]

Server time: the whole of a request in one process, from the URL to the rendered JSON, with
token, permissions and middleware, but without a socket. Statistics are fresh (ANALYZE).
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

#: The limit for the 95th percentile of a list, in milliseconds.
LIMIT = 60.0

LISTS = {
    "list": "",
    "list, from the middle on": "cursor",
    "list, 500 on a page": "page_size=500",
    "status=synced (four of five rows)": "status=synced",
    "status=rejected (one of a thousand)": "status=rejected",
    "two rare states": "status=rejected&status=in_doubt",
    "type=manual (nearly all)": "type=manual",
    "type=unheard-of (none)": "type=unheard-of",
    "updated_since, the last minutes": "updated_since={recent}",
    "updated_since, all": "updated_since=2000-01-01",
    "created in a month long ago": "created_since={old}&created_before={less_old}",
    "name=…, exactly": "name=Segment%20777",
    "bunce_id=…, exactly": "bunce_id=id-777",
    "search for what many have": "search=segment",
    "search for what one has": "search=Segment%20777777",
}
#: Exempt from the limit: ten pages in one, and searches in texts, for which there is no index.
UNBOUNDED = {"list, 500 on a page", "search for what many have", "search for what one has"}

FILL = """
INSERT INTO bunce_sync_segment
  (name, description, status, bunce_id, bunce_type, created_at, updated_at, sent_at, synced_at)
SELECT 'Segment ' || n, 'One of many segments, number ' || n,
  CASE WHEN n %% 1000 = 0 THEN 'rejected' WHEN n %% 1000 = 1 THEN 'in_doubt'
       WHEN n %% 5 = 2 THEN 'pending' ELSE 'synced' END,
  CASE WHEN n %% 1000 > 1 AND n %% 5 != 2 THEN 'id-' || n END, 'manual',
  now() - (%s - n) * interval '20 seconds', now() - (%s - n) * interval '20 seconds', now(), now()
FROM generate_series(1, %s) AS n
"""


def main(arguments: list[str]) -> None:
    """Measure in a separate process and database, and print."""
    from benchmarks.machine import Goal, print_table
    from benchmarks.stack import postgres_database

    parser = argparse.ArgumentParser(prog="python -m benchmarks api")
    parser.add_argument("--rows", type=int, default=100_000, help="segments")
    parser.add_argument("--rounds", type=int, default=60, help="requests of each kind")
    options = parser.parse_args(arguments)
    with postgres_database() as url:
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DATABASE_URL": url,
            "CELERY_BROKER_URL": "memory://",
            "DJANGO_DEBUG": "0",
            "DJANGO_SECRET_KEY": "of a benchmark",
            "DJANGO_ALLOWED_HOSTS": "testserver",
            "BUNCE_API_KEY": "sk_test_api",
            "BUNCE_BASE_URL": "http://127.0.0.1:9/v1",
        }
        command = [sys.executable, "-c", "from benchmarks.api import measure; measure()"]
        done = subprocess.run(
            [*command, str(options.rows), str(options.rounds)],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    figures: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    worst = max(figures[name][1] for name in LISTS if name not in UNBOUNDED)
    print_table(
        f"api: server time at {options.rows:,} segments, milliseconds",
        ("request", "median", "p95", "queries"),
        [
            (name, f"{median:.1f}", f"{p95:.1f}", f"{queries:.0f}")
            for name, (median, p95, queries) in figures.items()
        ],
        Goal("p95 of the list, ms", figures["list"][1], LIMIT, form="{:.1f}"),
        Goal("the slowest other order or filter, ms", worst, LIMIT, form="{:.1f}"),
        "queries include the one that knows the token",
        "a search that few rows match reads the table: an exact name or Bunce id does not",
    )


def measure() -> None:
    """Fill the database, make the requests, and print the figures as JSON; runs inside a site."""
    import django

    django.setup()

    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection
    from django.utils import timezone
    from rest_framework.authtoken.models import Token

    from bunce_sync.models import Segment
    from bunce_sync.publisher import publisher

    rows, rounds = int(sys.argv[1]), int(sys.argv[2])
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(FILL, [rows, rows, rows])
        cursor.execute("VACUUM ANALYZE bunce_sync_segment")
    token = Token.objects.create(user=User.objects.create_superuser("service"))
    publisher.publish = lambda task, *args: True  # type: ignore[method-assign]  # no broker here

    call = _caller(token.key)
    middle = Segment.objects.order_by("pk")[rows // 2]
    words = {
        "recent": (timezone.now() - timedelta(minutes=20)).isoformat()[:19],
        "old": middle.created_at.isoformat()[:10],
        "less_old": (middle.created_at + timedelta(days=30)).isoformat()[:10],
    }
    figures = {}
    for name, query in LISTS.items():
        text = f"cursor={_cursor(middle)}" if query == "cursor" else query.format(**words)
        figures[name] = _timed(partial(call, "GET", f"?{text}"), rounds)
    figures["read one"] = _timed(lambda: call("GET", f"{middle.pk}/"), rounds)
    figures["create one, with a key"] = _timed(
        lambda: call("POST", "", {"name": "New"}, key=uuid.uuid4().hex), rounds
    )
    many = {"segments": [{"name": f"New {number}"} for number in range(1000)]}
    figures["create 1,000"] = _timed(lambda: call("POST", "bulk/", many), 10)
    print(json.dumps(figures))


def _caller(token: str) -> Callable[..., None]:
    from django.test import Client

    client = Client(headers={"Authorization": f"Token {token}"})

    def call(method: str, path: str, body: Any = None, key: str = "") -> None:
        answer = client.generic(
            method,
            f"/api/segments/{path}",
            json.dumps(body) if body else "",
            content_type="application/json",
            headers={"Idempotency-Key": key} if key else {},
        )
        if answer.status_code not in (200, 201):
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.content[:300]!r}")

    return call


def _cursor(row: Any) -> str:
    return base64.b64encode(f"p={row.pk}".encode()).decode()


def _timed(work: Callable[[], None], rounds: int) -> tuple[float, float, int]:
    """Return median and 95th percentile in milliseconds, and the number of queries."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from benchmarks.machine import percentile

    work()  # imports and plans are not measured cold
    with CaptureQueriesContext(connection) as captured:
        work()
    control = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
    queries = sum(not query["sql"].startswith(control) for query in captured.captured_queries)
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append((time.perf_counter() - begun) * 1000)
    return percentile(times, 0.5), percentile(times, 0.95), queries

"""Inside a site: fills its database, or measures. Started by ``scale.py``; prints JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import django
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

ROUNDS = 10
CLAIMS = 100
ADMIN = {"is_staff": True, "is_superuser": True}
RECENT_CALLS = 500

#: Milliseconds of each round, and the number of queries of one.
Figure = tuple[list[float], int]


def fill(rows: int) -> None:
    """Make the tables, and the rows in them."""
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        for statement in _statements(connection.vendor):
            cursor.execute(statement, {"rows": rows, "recent": RECENT_CALLS})
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def looks() -> dict[str, Figure]:
    """What leaves the rows as they are: the sweep, and the admin's list."""
    from bunce_sync.sync import sweep

    return {"sweep with nothing due": _timed(sweep.sweep)} | _admin_lists()


def claims(rows: int) -> dict[str, Figure]:
    """Finding and claiming a few of the rows, from anywhere, whose time has come."""
    from bunce_sync.functions import DatabaseNow
    from bunce_sync.models import ApiCall, Segment
    from bunce_sync.sync import push

    step = max(1, rows // (CLAIMS * 2))
    keys = range(1, rows, step)
    # Their creates were never confirmed: a claim would give a row the id of one that was.
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
        row = push._due_rows("default")[0]  # noqa: SLF001 - the way a worker finds work
        if push.claim(row, "default", patience=1.0) is None:
            raise AssertionError("the row was due and is not claimed")

    return {"finding and claiming a row": _timed(claim_one, rounds=CLAIMS)}


def _admin_lists() -> dict[str, Figure]:
    from django.contrib.auth import get_user_model
    from django.test import Client

    client = Client()
    users = get_user_model().objects
    client.force_login(users.get_or_create(username="admin", defaults=ADMIN)[0])

    def get(query: str) -> Callable[[], None]:
        def view() -> None:
            answer = client.get(f"/admin/bunce_sync/segment/{query}")
            if answer.status_code != 200:
                raise AssertionError(f"the list answered {answer.status_code}")

        return view

    return {"admin list": _timed(get("")), "admin list, page 10": _timed(get("?p=10"))}


def _timed(work: Callable[[], object], *, rounds: int = ROUNDS) -> Figure:
    """Each round, and the queries of one (transaction statements apart)."""
    work()  # imports, templates and plans are not measured cold
    with CaptureQueriesContext(connection) as captured:
        work()
    statements = [query["sql"].upper() for query in captured.captured_queries]
    queries = sum(one not in {"BEGIN", "BEGIN IMMEDIATE", "COMMIT"} for one in statements)
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append((time.perf_counter() - begun) * 1000)
    return times, queries


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
    """  # noqa: S608 - the parts stand above
    calls = f"""
        INSERT INTO bunce_sync_apicall
            (segment_id, operation, path, started_at, outcome, code, message, bunce_id, decision,
             body, duration_ms, http_status)
        SELECT n, 'create', '/segments', CASE WHEN n <= %(recent)s THEN {recent} ELSE {ago} END,
            'confirmed', '', '', 'id-' || n, '', {nothing}, 100, 201 FROM {numbers}
    """  # noqa: S608 - the parts stand above
    return segments, calls


if __name__ == "__main__":
    django.setup()
    match sys.argv[1:]:
        case ["fill", rows]:
            fill(int(rows))
        case ["looks"]:
            print(json.dumps(looks()))
        case ["claims", rows]:
            print(json.dumps(claims(int(rows))))
        case unknown:
            raise SystemExit(f"{unknown} is not known here")

"""The frequent queries use an index, however many rows there are."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.core import checks
from django.db import connection
from django.http import QueryDict
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from bunce_sync import services
from bunce_sync.client import RemoteSegment
from bunce_sync.conf import conf
from bunce_sync.customer_entries import CustomerEntry
from bunce_sync.models import ApiCall, CustomerSync, Member, Segment
from bunce_sync.services import retry_refused
from bunce_sync.status.counts import count_changed_in_bunce, count_elsewhere
from bunce_sync.sync import customers, importer, rate_limiter, shared_state, sweep
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.list_scan import Scan
from bunce_sync.sync.push import Push
from bunce_sync.testing.emulator import Emulator

from .core import Operation, Outcome, Status, make, now

# In real transactions: MariaDB commits on ANALYZE.
pytestmark = pytest.mark.django_db(transaction=True)

TABLES = ("bunce_sync_segment", "bunce_sync_apicall", "bunce_sync_member")

#: The queues of segments with customers are looked through in their order.
SMALL = ("bunce_sync_customerqueue", "bunce_sync_customersync")

_TEXT = {"mysql": "CHAR(20)", "postgresql": "VARCHAR(20)", "sqlite": "TEXT"}


def use_a_page() -> None:
    """Import a page with known and unknown segments, and link those that wait."""
    run = services.request_import(adopt=True)
    listed = [RemoteSegment(id=str(number), name=str(number)) for number in range(7, 30_000, 999)]
    scan = Scan(started_at=now(), kept_at=now(), environment=conf.environment)
    importer.Import(run).on_page(listed, scan, asked_at=now())


def first_id() -> int:
    """Return the key of the segment that has customers."""
    pk: int = CustomerSync.objects.get().pk
    return pk


QUERIES: dict[str, Callable[[], object]] = {
    "due rows": lambda: list(Segment.objects.due().order_by("due_at")[:20]),
    "rows in doubt": lambda: Segment.objects.checkable().exists(),
    "requested refreshes": lambda: Segment.objects.refresh_requested().exists(),
    "requested refreshes, in order": lambda: list(
        Segment.objects.refresh_requested().order_by("refresh_requested_at")
    ),
    "the call log of a segment": lambda: list(ApiCall.objects.filter(segment_id=7)),
    "a claim": lambda: Push(Segment.objects.get(status=Status.PENDING)).reserve(Budget(30)),
    "expired leases": lambda: sweep.free_leases(),
    "impossible times": lambda: sweep.repair_times(),
    "the oldest calls": lambda: sweep.prune_call_log(),
    "segments elsewhere": count_elsewhere,
    "a page of an import": use_a_page,
    "the window": lambda: rate_limiter.permits_expected(within=10),
    "segments with due customers": customers.ready_queues,
    "a batch of customers": lambda: customers.Batch(customers.ready_queues()[0]).reserve(
        Budget(30)
    ),
    "customers whose lease ended": customers.free_leases,
    "removed customers": customers.delete_removed,
    "customers looked up": lambda: Member.objects.want(
        first_id(), [CustomerEntry("7"), CustomerEntry("x")]
    ),
    "refused customers": lambda: retry_refused(Segment(pk=first_id())),
    "customers by their beginning": lambda: list(
        Member.objects.filter(segment=first_id()).beginning_with("77")[:50]
    ),
}


def listed(query: str) -> Callable[[], object]:
    """Return a function that reads a page of the admin's list for a query string."""
    request = RequestFactory().get("/", QueryDict(query))
    request.user = User(is_superuser=True)
    return lambda: list(site.get_model_admin(Segment).get_changelist_instance(request).result_list)


ORDERED: dict[str, Callable[[], object]] = {
    "due first": lambda: list(Segment.objects.due().order_by("due_at")[:20]),
    "the admin's list": lambda: list(Segment.objects.all()[:100]),
    "the list of calls": lambda: list(ApiCall.objects.all()[:100]),
    "by creation": lambda: list(Segment.objects.order_by("-created_at", "-id")[:100]),
    "by name": lambda: list(Segment.objects.order_by("name", "id")[:100]),
    "the admin's list of one state": listed("status__exact=synced"),
    "the admin's list by last change": listed("o=-6"),
}


FILTERED: dict[str, Callable[[], object]] = {
    f"the admin's list of {name}": listed(query)
    for name, query in {
        "what changed in Bunce": "problem=drift",
        "what Bunce stored differently": "problem=differs",
        "what is twice in Bunce": "problem=duplicate",
        "what is gone in Bunce": "problem=gone",
        "what a block holds": "problem=held",
        "what belongs elsewhere": "problem=elsewhere",
        "imported rows": "origin=imported",
    }.items()
} | {"rows changed in Bunce": count_changed_in_bunce}


@pytest.fixture
def many_rows(bunce: Emulator) -> None:
    """Fill the tables as on an old site: nearly all rows are synced, and the call log is full."""
    yesterday = now() - timedelta(days=1)
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 149)",
        f"SELECT CAST(a.i * 150 + b.i AS {_TEXT[connection.vendor]}) AS name",
        "FROM n a, n b",
    )
    segments = "bunce_sync_segment (name, bunce_id, status, due_at, created_at, environment)"
    call_log = (
        "bunce_sync_apicall (path, operation, outcome, started_at, environment, listed_digest,"
        " code, message, bunce_id, decision)"
    )
    here = conf.environment
    shared_state.accept_key()
    members = "bunce_sync_member (segment_id, identifier, is_email, status, due_at, profile_digest)"
    past: dict[str, tuple[str, list[Any]]] = {
        segments: ("name, name, %s, %s, %s, %s", [Status.SYNCED, yesterday, yesterday, here]),
        call_log: (
            "name, %s, %s, %s, %s, name, '', '', '', ''",
            [Operation.CREATE, Outcome.CONFIRMED, yesterday, here],
        ),
        members: ("1, name, %s, %s, %s, ''", [False, Member.Status.IN_BUNCE, yesterday]),
    }
    with connection.cursor() as cursor:
        for target, (values, parameters) in past.items():
            statement = ("INSERT INTO", target, "SELECT", values, "FROM (", *numbers, ") AS x")
            cursor.execute(" ".join(statement), parameters)
        for status in (Status.PENDING, Status.IN_DOUBT, Status.SENDING):
            make(status=status)
        first = Segment.objects.earliest("pk")
        Member.objects.update(segment=first)
        first.add_customers(["waiting"])
        CustomerSync.objects.update(bunce_id=first.bunce_id)
        for table in TABLES:
            cursor.execute(f"ANALYZE {'TABLE ' if connection.vendor == 'mysql' else ''}{table}")


def statements(work: Callable[[], object]) -> list[str]:
    """Return the statements of some work about the large tables, with their values."""
    with CaptureQueriesContext(connection) as captured:
        work()
    made = [str(query["sql"]) for query in captured.captured_queries]
    return [sql for sql in made if any(table in sql for table in TABLES) and "INSERT" not in sql]


def plan(sql: str) -> str:
    """Return how the database would execute a statement."""
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {sql}")
        names = [column[0] for column in cursor.description]
        rows = [zip(names, row, strict=True) for row in cursor.fetchall()]
    return "\n".join(" ".join(f"{name}={value}" for name, value in row) for row in rows)


def reads_a_whole_table(explained: str) -> bool:
    match connection.vendor:
        case "sqlite":
            return bool(re.search(rf"\bSCAN (?:{'|'.join(TABLES)})\b", explained))
        case "postgresql":
            return any(f"Seq Scan on {table}" in explained for table in TABLES)
        case _:
            large = [
                line for line in explained.splitlines() if not any(one in line for one in SMALL)
            ]
            return any("type=ALL" in line for line in large)


def sorts(explained: str) -> bool:
    return any(word in explained for word in ("TEMP B-TREE", "Sort Key", "Using filesort"))


@pytest.mark.usefixtures("many_rows")
def test_no_query_reads_a_whole_table() -> None:
    for name, work in QUERIES.items():
        made = statements(work)
        assert made, name
        for sql in made:
            explained = plan(sql)
            assert not reads_a_whole_table(explained), f"{name}: {sql}\n{explained}"


@pytest.mark.skipif(
    connection.vendor == "sqlite", reason="it takes an index for useless if most rows are NULL"
)
@pytest.mark.usefixtures("many_rows")
def test_filters_for_few_rows_read_no_whole_table() -> None:
    for name, work in FILTERED.items():
        made = [sql for sql in statements(work) if " WHERE " in sql]
        assert made, name
        for sql in made:
            explained = plan(sql)
            assert not reads_a_whole_table(explained), f"{name}: {sql}\n{explained}"


@pytest.mark.usefixtures("many_rows")
def test_lists_are_ordered_by_an_index() -> None:
    for name, work in ORDERED.items():
        *_, sql = statements(work)  # the admin counts the rows first
        assert not sorts(plan(sql)), f"{name}: {plan(sql)}"


def test_the_database_supports_all_indexes_and_constraints() -> None:
    app = apps.get_app_config("bunce_sync")
    found = checks.run_checks(app_configs=[app], databases=[connection.alias])
    assert [each for each in found if not str(each.id).startswith("bunce_sync.")] == []


@pytest.mark.usefixtures("many_rows")
def test_full_table_scans_and_sorts_are_detected() -> None:
    [sql] = statements(lambda: list(Segment.objects.filter(last_error="x").order_by("attempts")))
    explained = plan(sql)
    assert reads_a_whole_table(explained), explained
    assert sorts(explained), explained

"""How many queries the work costs: each of them limits how many requests a site can make."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bunce_sync.models import Segment
from bunce_sync.sync import account
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.push import push
from bunce_sync.testing.emulator import Emulator

from .core import (
    Outcome,
    Status,
    ago,
    doubtful,
    drain,
    fill,
    make,
    now,
    record_calls,
    run_reconcile,
    run_refresh,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("limited")]

#: Statements that begin or end a transaction; on PostgreSQL its limit is set at its beginning.
FRAME = ("BEGIN", "COMMIT", "START", "SAVEPOINT", "RELEASE", "SELECT set_config(")


@pytest.fixture
def limited(bunce: Emulator) -> None:
    """A site with the default limit that has run before, with the same key."""
    assert account.is_known(Budget(1))


def queries(work: Callable[[], object]) -> list[str]:
    """Return the statements of some work, without those that begin or end transactions."""
    with CaptureQueriesContext(connection) as captured:
        work()
    made = [str(query["sql"]) for query in captured.captured_queries]
    return [sql for sql in made if not sql.startswith(FRAME)]


def test_a_push_makes_ten_queries(bunce: Emulator) -> None:
    """Read whether the key is known, and the row; claim it, lock the shared row, read it, count the
    window, write the call log; lock and read the row again, write it, write the call log."""
    for row in (make(), make(bunce_id=bunce.add_segment("Before").id)):
        made = queries(lambda pk=row.pk: push(pk))  # type: ignore[misc]  # bound per row
        assert len(made) == 10, made


def test_a_push_of_a_claimed_row_makes_two_queries(bunce: Emulator) -> None:
    row = make(status=Status.SENDING)
    assert len(queries(lambda: push(row.pk))) == 2


def test_a_backlog_makes_no_more_queries_for_each_row_than_a_push(bunce: Emulator) -> None:
    for number in range(20):
        make(f"Segment {number}")
    made = queries(lambda: drain(seconds=30))
    # Eight for each row; rows are read in batches, which takes three for each ten. One for the key.
    assert len(made) <= 20 * 8 + 2 * 3 + 2 + 1, made


def test_a_page_of_the_scan_makes_few_queries_whatever_it_contains(bunce: Emulator) -> None:
    fill(bunce, 50)
    for number in range(5):
        doubtful(f"Absent {number}")
    few = len(queries(lambda: run_reconcile(seconds=30)))
    fill(bunce, 100)
    for number in range(50):
        doubtful(f"Absent too {number}")
    many = len(queries(lambda: run_reconcile(seconds=30)))
    # A page with rows and two empty ones, then one more page.
    assert many - few <= 12
    assert few <= 45


def test_a_refresh_makes_eleven_queries(bunce: Emulator) -> None:
    """Read whether the key is known, the paused operations and the requested rows; check whether
    reads are paused, lock the shared row, read it, count the window, write the call log; write the
    result to it; lock and read the row, write it."""
    make(status=Status.SYNCED, bunce_id=bunce.add_segment("VIP").id, refresh_requested_at=now())
    made = queries(lambda: run_refresh(seconds=30))
    assert len(made) == 11, made


def test_an_idle_worker_makes_three_queries(bunce: Emulator) -> None:
    make(due_at=ago(-60))
    assert len(queries(lambda: drain(seconds=30))) == 3


def test_an_update_of_refused_rows_makes_no_more_queries_for_more_rows() -> None:
    def count(rows: int) -> int:
        for number in range(rows):
            row = make(f"Refused {number}", status=Status.REJECTED)
            body = {"name": row.name, "description": None, "add_all_customers": False}
            record_calls(10, segment_id=row.pk, outcome=Outcome.REJECTED, body=body)
        return len(queries(lambda: Segment.objects.update(add_all_customers=True)))

    assert count(1) == count(20)
    assert set(Segment.objects.values_list("status", flat=True)) == {Status.PENDING}

"""How many queries things cost. A new one has to be worth it: the limit is paid for in them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bunce_sync.sync.push import push
from bunce_sync.testing.emulator import Emulator

from .core import Status, ago, doubtful, drain, fill, make, now, run_reconcile, run_refresh, state

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("limited")]

#: Begin and end of a transaction.
FRAME = ("BEGIN", "COMMIT", "START", "SAVEPOINT", "RELEASE")


@pytest.fixture
def limited(bunce: Emulator) -> None:
    """A site with the default limit that has run before: the shared row is there."""
    state()


def queries(work: Callable[[], object]) -> list[str]:
    """The statements that a piece of work makes, without the frames of transactions."""
    with CaptureQueriesContext(connection) as captured:
        work()
    made = [str(query["sql"]) for query in captured.captured_queries]
    return [sql for sql in made if not sql.startswith(FRAME)]


def test_a_push_costs_nine(bunce: Emulator) -> None:
    """Read the row; claim it, lock the rate limiter, read it, count the window, write the ledger;
    read the row again under its lock, write it, write the ledger."""
    for row in (make(), make(bunce_id=bunce.add_segment("Before").id)):
        made = queries(lambda pk=row.pk: push(pk))  # type: ignore[misc]  # bound per row
        assert len(made) == 9, made


def test_a_push_that_finds_the_row_taken_costs_one(bunce: Emulator) -> None:
    row = make(status=Status.SENDING)
    assert len(queries(lambda: push(row.pk))) == 1


def test_a_backlog_costs_no_more_for_each_row_than_a_push(bunce: Emulator) -> None:
    for number in range(20):
        make(f"Segment {number}")
    made = queries(lambda: drain(seconds=30))
    # Eight a row, since rows are read some at a time, which takes three for each ten.
    assert len(made) <= 20 * 8 + 2 * 3 + 2, made


def test_a_page_of_the_scan_costs_few_whatever_is_on_it(bunce: Emulator) -> None:
    fill(bunce, 50)
    for number in range(5):
        doubtful(f"Absent {number}")
    few = len(queries(lambda: run_reconcile(seconds=30)))
    fill(bunce, 100)
    for number in range(50):
        doubtful(f"Absent too {number}")
    many = len(queries(lambda: run_reconcile(seconds=30)))
    # A page with rows and two empty ones, then one page more.
    assert many - few <= 12
    assert few <= 45


def test_a_read_costs_ten(bunce: Emulator) -> None:
    """Paused operations, those asked for; look whether reads are paused, lock the limiter, read it,
    count the window, write the ledger; write what it came to; read the row under its lock, and
    write it."""
    make(status=Status.SYNCED, bunce_id=bunce.add_segment("VIP").id, refresh_requested_at=now())
    made = queries(lambda: run_refresh(seconds=30))
    assert len(made) == 10, made


def test_an_idle_worker_costs_two(bunce: Emulator) -> None:
    make(due_at=ago(-60))
    assert len(queries(lambda: drain(seconds=30))) == 2

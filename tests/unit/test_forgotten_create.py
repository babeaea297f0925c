"""A row that has lost track of its create while a scan is under way."""

import pytest
from pytest_django import Settings

from bunce_sync.choices import Status
from bunce_sync.sync import push
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.list_scan import Walk
from bunce_sync.sync.reconcile import Reconciliation
from bunce_sync.testing.emulator import Emulator
from tests.unit.core import Outcome, ago, configure, doubtful, fill, fresh, make, record_calls


@pytest.mark.django_db(transaction=True)
def test_a_forgotten_create_waits_for_a_scan_that_begins_later(
    settings: Settings, bunce: Emulator
) -> None:
    configure(settings, PAGE_SIZE=2)
    fill(bunce, 3, age=400)
    bunce.add_segment("Forgotten", created_at=ago(300))  # the newest: on the first page
    row = make("Forgotten", created_at=ago(600))
    body = row.content(row.CREATE_FIELDS)
    record_calls(300, outcome=Outcome.UNKNOWN, segment=row, body=body)
    doubtful("Another")
    walk = Walk(Reconciliation())
    walk.begin()
    assert walk.read_page(Budget(30))
    assert not push.push(row.pk)  # the call log says that the row was sent
    while walk.scan is not None:
        walk.read_page(Budget(30))
    walk.release()
    assert fresh(row).status == Status.IN_DOUBT  # this scan had passed the segment
    push.run(Budget(30))
    assert [one.name for one in bunce.segments].count("Forgotten") == 1

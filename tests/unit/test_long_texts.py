"""Long texts are loaded only where they are shown or sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bunce_sync import services
from bunce_sync.models import ApiCall, Segment
from bunce_sync.status.status import get_status
from bunce_sync.sync import sweep, work
from bunce_sync.testing.emulator import Emulator
from tests.unit.admin_people import LIST, call, editor, page
from tests.unit.core import Status, doubtful, drain, make, run_reconcile

pytestmark = pytest.mark.django_db(transaction=True)

CALLS = "/admin/bunce_sync/apicall/"
LONG = {"bunce_sync_segment": Segment.LONG_FIELDS, "bunce_sync_apicall": ("body",)}


def loaded(action: Callable[[], object]) -> set[str]:
    """Return the long columns that the queries of an action select."""
    with CaptureQueriesContext(connection) as captured:
        action()
    quote = connection.ops.quote_name
    found = set()
    for query in captured.captured_queries:
        sql = str(query["sql"])
        for table, names in LONG.items():
            columns, of_table, _ = sql.partition(f" FROM {quote(table)}")
            if of_table and columns.startswith("SELECT "):
                found |= {name for name in names if f"{quote(table)}.{quote(name)}" in columns}
    return found


@pytest.fixture
def client() -> Client:
    for number in range(3):
        segment = make(f"VIP {number}", "d" * 1000, bunce_description="d" * 1000)
        call(segment, body={"name": segment.name, "description": "d" * 1000})
    return editor()


def selected(action: str) -> dict[str, Any]:
    return {"action": action, "_selected_action": [row.pk for row in Segment.objects.all()]}


@pytest.mark.parametrize(
    "query", ["", "?q=VIP", "?q=ddd", "?o=1", "?all=", "?problem=no&type=none"]
)
def test_the_list_loads_no_long_text(client: Client, query: str) -> None:
    def read() -> None:
        assert "VIP 1" in client.get(LIST + query).content.decode()

    assert loaded(read) == set()


def test_the_updates_of_an_open_list_load_no_long_text(client: Client) -> None:
    keys = ",".join(str(row.pk) for row in Segment.objects.all())

    def read() -> None:
        assert len(client.get(f"{LIST}live/?ids={keys}").json()["fragments"]) == 16

    assert loaded(read) == set()


@pytest.mark.parametrize("action", ["push_selected", "retry_selected", "refresh_selected"])
def test_the_actions_of_the_list_load_no_long_text(client: Client, action: str) -> None:
    form = selected(action)
    assert loaded(lambda: client.post(LIST, form, follow=True)) == set()


def test_the_confirmation_of_a_deletion_loads_no_long_text(client: Client) -> None:
    form = selected("delete_selected")

    def read() -> None:
        assert "VIP 1" in client.post(LIST, form).content.decode()

    assert loaded(read) == set()


def test_a_list_that_shows_a_long_text_loads_it_with_the_rows(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.contrib.admin import site

    admin = site.get_model_admin(Segment)
    monkeypatch.setattr(admin, "list_display", ("name", "description"))
    with CaptureQueriesContext(connection) as captured:
        assert "d" * 1000 in client.get(LIST).content.decode()
    texts = [query for query in captured.captured_queries if '"description"' in str(query["sql"])]
    assert len(texts) <= 1


@pytest.mark.parametrize("query", ["", "?q=1", "?q=an-id", "?outcome__exact=under_way"])
def test_the_call_log_loads_no_long_text(client: Client, query: str) -> None:
    def read() -> None:
        assert client.get(CALLS + query).status_code == 200

    assert loaded(read) == set()
    assert ApiCall.objects.count() == 3


def test_the_page_of_a_segment_shows_its_texts(client: Client) -> None:
    segment = Segment.objects.first()
    assert segment is not None
    assert loaded(lambda: client.get(page(segment))) == {*Segment.LONG_FIELDS, "body"}


def test_status_sweep_and_actions_load_no_long_text(client: Client, bunce: Emulator) -> None:
    def run() -> None:
        get_status()
        sweep.sweep()
        for kind in work.KINDS:
            kind.workers_needed(10)
        for action in services.ACTIONS:
            action.run(Segment.objects.all())

    # Retry compares the rows that Bunce does not have any more, if there are any.
    assert loaded(run) == {"description"}


def test_a_push_loads_only_what_it_sends(bunce: Emulator) -> None:
    make("VIP", "d" * 1000)
    assert loaded(drain) == {"description", "bunce_description"}
    make("VIP", "d" * 1000, status=Status.SYNCED, bunce_conditions=["x"])
    assert loaded(drain) == set()


def test_a_scan_loads_only_what_it_compares(bunce: Emulator) -> None:
    doubtful("VIP", "d" * 1000)
    doubtful("Absent", "d" * 1000)
    bunce.add_segment("VIP", "d" * 1000)
    assert loaded(run_reconcile) == {"description"}


def test_a_deletion_loads_no_long_text_for_its_check(client: Client) -> None:
    make("Busy", "d" * 1000, status=Status.SENDING)

    def delete() -> None:
        with pytest.raises(services.SegmentsBusy):
            services.delete_segments(Segment.objects.all())

    assert loaded(delete) == set()

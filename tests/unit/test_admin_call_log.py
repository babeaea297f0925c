"""The call log in the admin: all calls, read-only."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bunce_sync.admin import call_log
from bunce_sync.models import ApiCall, Segment
from tests.unit.admin_people import call, person, row

pytestmark = pytest.mark.django_db

CALL_LOG = "/admin/bunce_sync/apicall/"


@pytest.fixture
def client() -> Client:
    return person("view_apicall", "view_segment")


def found(client: Client, query: str = "") -> list[int]:
    response = client.get(CALL_LOG + query)
    assert response.status_code == 200, response
    return [line.pk for line in response.context["cl"].result_list]


def test_a_row_shows_operation_segment_outcome_and_message(client: Client) -> None:
    segment = row("rejected", "VIP <1>")
    call(segment, outcome="rejected", http_status=422, duration_ms=87, message="name is <taken>")
    shown = client.get(CALL_LOG).content.decode()
    [line] = shown.split("<tbody>")[1].split("</tbody>")[0].split("<tr")[1:]
    parts = ("Create", "VIP &lt;1&gt;", "Rejected", "422", "87 ms", "name is &lt;taken&gt;")
    for part in (*parts, f"/admin/bunce_sync/segment/{segment.pk}/change/"):
        assert part in line


def test_calls_of_deleted_segments_are_kept_and_shown(client: Client) -> None:
    segment = row("synced")
    line = call(segment, bunce_id="b-1")
    Segment.objects.all().delete()
    assert found(client, f"?q={segment.pk}") == found(client, "?q=b-1") == [line.pk]
    assert client.get(f"{CALL_LOG}{line.pk}/change/").status_code == 200


def test_search_finds_calls_by_number_and_bunce_id_of_the_segment(client: Client) -> None:
    wanted, other = row("synced"), row("synced", "Other")
    lines = [call(wanted).pk, call(wanted).pk]
    call(other)
    assert found(client, f"?q={wanted.pk}") == found(client, f"?q={wanted.bunce_id}") == lines[::-1]
    assert found(client, "?q=unknown") == []


def test_filters_by_operation_and_outcome(client: Client) -> None:
    listed, refused = call(None, operation="list"), call(None, outcome="rejected")
    assert found(client, "?operation__exact=list") == [listed.pk]
    assert found(client, "?outcome__exact=rejected") == [refused.pk]


def test_calls_cannot_be_added_changed_or_deleted() -> None:
    segment = row()
    line = call(segment)
    client = person("view_apicall", "view_segment", "change_segment", "delete_segment")
    shown = client.get(f"{CALL_LOG}{line.pk}/change/").content.decode()
    assert 'name="_save"' not in shown
    assert client.get(f"{CALL_LOG}add/").status_code == 403
    assert client.post(f"{CALL_LOG}{line.pk}/change/", {"path": "/x"}).status_code == 403
    assert client.post(f"{CALL_LOG}{line.pk}/delete/", {"post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [line.pk], "post": "yes"}
    client.post(CALL_LOG, form)
    assert ApiCall.objects.get().path == "/segments"


def test_requires_the_view_permission() -> None:
    assert person("view_segment").get(CALL_LOG).status_code == 403


@pytest.mark.parametrize("query", ["", "?q={pk}", "?outcome__exact=under_way"])
def test_the_number_of_queries_does_not_grow_and_none_counts_the_table(
    client: Client, query: str
) -> None:
    segment = row("synced")
    query = query.format(pk=segment.pk)

    def made() -> list[str]:
        with CaptureQueriesContext(connection) as queries:
            found(client, query)
        return [query["sql"] for query in queries]

    call(segment)
    found(client, query)
    few = len(made())
    for number in range(30):
        call(row("synced", f"S{number}"))
        call(segment)
    many = made()
    assert len(many) == few <= 8 + 2  # a savepoint, since the test is in a transaction
    assert all("LIMIT 10001" in sql for sql in many if "COUNT(" in sql)


def test_only_the_newest_calls_can_be_paged_through(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_log, "MAX_ROWS", 5)
    monkeypatch.setattr(call_log.ApiCallAdmin, "list_per_page", 2)
    lines = [call(None).pk for _ in range(8)]
    shown = client.get(CALL_LOG).content.decode()
    assert "These are the newest 5." in shown
    assert found(client, "?p=3") == [lines[3]]
    assert client.get(CALL_LOG + "?p=4").status_code == 302

"""The ledger in the admin: all calls, to be looked at and not to be touched."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bunce_sync.models import ApiCall, Segment
from bunce_sync.status import counts
from tests.unit.admin_people import call, person, row

pytestmark = pytest.mark.django_db

LEDGER = "/admin/bunce_sync/apicall/"


@pytest.fixture
def client() -> Client:
    return person("view_apicall", "view_segment")


def found(client: Client, query: str = "") -> list[int]:
    answer = client.get(LEDGER + query)
    assert answer.status_code == 200, answer
    return [line.pk for line in answer.context["cl"].result_list]


def test_a_line_tells_when_what_of_which_segment_and_what_came_of_it(client: Client) -> None:
    segment = row("rejected", "VIP <1>")
    call(segment, outcome="rejected", http_status=422, duration_ms=87, message="name is <taken>")
    shown = client.get(LEDGER).content.decode()
    [line] = shown.split("<tbody>")[1].split("</tbody>")[0].split("<tr")[1:]
    told = ("Create", "VIP &lt;1&gt;", "Rejected", "422", "87 ms", "name is &lt;taken&gt;")
    for part in (*told, f"/admin/bunce_sync/segment/{segment.pk}/change/"):
        assert part in line


def test_calls_of_segments_that_are_gone_are_kept_and_shown(client: Client) -> None:
    segment = row("synced")
    line = call(segment, bunce_id="b-1")
    Segment.objects.all().delete()
    assert found(client, f"?q={segment.pk}") == found(client, "?q=b-1") == [line.pk]
    assert client.get(f"{LEDGER}{line.pk}/change/").status_code == 200


def test_calls_are_found_by_their_segments_number_and_bunce_id(client: Client) -> None:
    wanted, other = row("synced"), row("synced", "Other")
    lines = [call(wanted).pk, call(wanted).pk]
    call(other)
    assert found(client, f"?q={wanted.pk}") == found(client, f"?q={wanted.bunce_id}") == lines[::-1]
    assert found(client, "?q=nobody") == []


def test_calls_are_filtered_by_what_they_were_and_what_came_of_them(client: Client) -> None:
    listed, refused = call(None, operation="list"), call(None, outcome="rejected")
    assert found(client, "?operation__exact=list") == [listed.pk]
    assert found(client, "?outcome__exact=rejected") == [refused.pk]


def test_nobody_can_add_change_or_delete_a_call() -> None:
    segment = row()
    line = call(segment)
    everything = person("view_apicall", "view_segment", "change_segment", "delete_segment")
    shown = everything.get(f"{LEDGER}{line.pk}/change/").content.decode()
    assert 'name="_save"' not in shown
    assert everything.get(f"{LEDGER}add/").status_code == 403
    assert everything.post(f"{LEDGER}{line.pk}/change/", {"path": "/x"}).status_code == 403
    assert everything.post(f"{LEDGER}{line.pk}/delete/", {"post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [line.pk], "post": "yes"}
    everything.post(LEDGER, form)
    assert ApiCall.objects.get().path == "/segments"


def test_needs_the_permission_to_see_calls() -> None:
    assert person("view_segment").get(LEDGER).status_code == 403


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
    assert len(many) == few <= 8
    assert all("LIMIT 10001" in sql for sql in many if "COUNT(" in sql)


def test_more_calls_than_can_be_paged_through_are_not_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "CAP", 5)
    for _ in range(8):
        call(None)
    monkeypatch.setattr(counts, "estimated_rows", lambda *_: None)
    assert "The first 5 API calls of more" in client.get(LEDGER).content.decode()

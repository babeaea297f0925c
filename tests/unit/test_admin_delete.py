"""Deletion of segments: what Bunce keeps, and which segments cannot be deleted."""

import re
import uuid

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.db import connection
from django.db.models import QuerySet
from django.db.models.signals import pre_delete
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bunce_sync.admin import SegmentAdmin
from bunce_sync.models import ApiCall, CustomerQueue, CustomerSync, Member, Segment
from bunce_sync.models.customer_sync import ensure_queues
from tests.unit.admin_people import LIST, editor, page, person, row

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return editor()


def test_says_that_bunce_keeps_the_segment_and_keeps_the_call_log(client: Client) -> None:
    segment = row("synced")
    ApiCall.objects.create(
        segment=segment, operation="create", path="/segments", started_at=timezone.now()
    )
    shown = client.get(page(segment, "delete")).content.decode()
    assert "Bunce keeps those it has, because its API cannot delete a segment" in shown
    assert client.post(page(segment, "delete"), {"post": "yes"}).status_code == 302
    assert not Segment.objects.exists()
    assert ApiCall.objects.filter(segment_id=segment.pk).exists()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("sending", "is being sent right now"),
        ("in_doubt", "is in Bunce: delete it when this is resolved"),
    ],
)
def test_is_refused_while_a_request_is_unresolved(client: Client, status: str, why: str) -> None:
    segment = row(status)
    for response in (
        client.get(page(segment, "delete")),
        client.post(page(segment, "delete"), {"post": "yes"}),
    ):
        shown = response.content.decode()
        assert f"“VIP” {why}" in shown
        assert 'name="post"' not in shown
    assert Segment.objects.exists()


@pytest.fixture
def claimed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claim rows between the confirmation and the deletion, as a worker would."""
    log_deletions = SegmentAdmin.log_deletions

    def claim(self: SegmentAdmin, request: HttpRequest, queryset: QuerySet[Segment]) -> object:
        Segment.objects.filter(name="Claimed").update_sync_fields(
            status="sending", lease_token=uuid.uuid4(), lease_until=timezone.now()
        )
        return log_deletions(self, request, queryset)

    monkeypatch.setattr(SegmentAdmin, "log_deletions", claim)


@pytest.mark.usefixtures("claimed_meanwhile")
@pytest.mark.parametrize("viewer", [True, False])
def test_is_refused_with_a_message_if_a_worker_just_claimed_the_row(viewer: bool) -> None:
    segment = row("pending", "Claimed")
    client = person("delete_segment", *(["view_segment"] if viewer else []))
    response = client.post(page(segment, "delete"), {"post": "yes"}, follow=True)
    [(address, _)] = response.redirect_chain
    assert address == (LIST if viewer else "/admin/")
    [message] = response.context["messages"]
    assert "Nothing was deleted. “Claimed” is being sent right now" in str(message)
    assert Segment.objects.exists()
    assert not LogEntry.objects.exists()


@pytest.mark.usefixtures("claimed_meanwhile")
def test_a_bulk_delete_deletes_and_logs_nothing_if_a_worker_just_claimed_a_row(
    client: Client,
) -> None:
    rows = [row("synced", "Done"), row("pending", "Claimed")]
    form = {
        "action": "delete_selected",
        "_selected_action": [segment.pk for segment in rows],
        "post": "yes",
    }
    response = client.post(LIST, form, follow=True)
    [message] = response.context["messages"]
    assert str(message).startswith("Nothing was deleted. “Claimed” is being sent right now")
    assert Segment.objects.count() == 2
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"status": "synced"}, "Bunce keeps those it has"),
        ({"status": "rejected"}, "Bunce never confirmed a create"),
        ({"status": "pending"}, "Nothing was ever sent to Bunce, so nothing remains there."),
    ],
)
def test_says_that_bunce_keeps_only_what_bunce_has(
    client: Client, values: dict[str, str], text: str
) -> None:
    segment = row(**values)
    chosen = {"action": "delete_selected", "_selected_action": [segment.pk]}
    for response in (client.get(page(segment, "delete")), client.post(LIST, chosen)):
        [notice] = re.findall(r'<p class="bunce-notice">(.*?)</p>', response.content.decode())
        assert text in notice
        assert ("Bunce keeps" in notice) is (segment.bunce_id is not None)


def test_a_refused_bulk_delete_names_the_segments_that_prevent_it(client: Client) -> None:
    rows = [row("synced", "Done"), row("in_doubt", "Unsure")]
    chosen = {
        "action": "delete_selected",
        "_selected_action": [segment.pk for segment in rows],
    }
    for post in ({}, {"post": "yes"}):
        shown = client.post(LIST, {**chosen, **post}).content.decode()
        assert "not known whether “Unsure” is in Bunce" in shown
        assert "“Done”" not in shown
    assert Segment.objects.count() == 2


def test_a_bulk_delete_says_that_bunce_keeps_the_segments(client: Client) -> None:
    rows = [row("synced", "A"), row("rejected", "B")]
    chosen = {
        "action": "delete_selected",
        "_selected_action": [segment.pk for segment in rows],
    }
    assert "Bunce keeps those it has" in client.post(LIST, chosen).content.decode()
    client.post(LIST, {**chosen, "post": "yes"})
    assert not Segment.objects.exists()


def test_a_bulk_delete_of_too_many_segments_is_refused_with_a_message(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunce_sync.admin.delete_view.MAX_SELECTED", 2)
    rows = [row("synced", f"S{number}") for number in range(3)]
    form = {"action": "delete_selected", "_selected_action": [segment.pk for segment in rows]}
    response = client.post(LIST, form)
    [message] = get_messages(response.wsgi_request)
    assert "at most 2 segments can be deleted at a time" in str(message)
    assert Segment.objects.count() == 3


def test_a_segment_is_deleted_with_its_customers(client: Client) -> None:
    segment, other = row("synced"), row("synced", "Other")
    for one in (segment, other):
        one.add_customers(["c-1", "c-2", "c-3"])
    ensure_queues(segment.pk, using=None)

    def listen(**kwargs: object) -> None:
        raise AssertionError("receivers do not hear of a million rows")

    pre_delete.connect(listen, sender=Member)
    try:
        with CaptureQueriesContext(connection) as queries:
            assert "Customers: 3" in client.get(page(segment, "delete")).content.decode()
            assert client.post(page(segment, "delete"), {"post": "yes"}).status_code == 302
    finally:
        pre_delete.disconnect(listen, sender=Member)
    assert not [query for query in queries if re.match('SELECT .*"identifier"', query["sql"])]
    assert not CustomerQueue.objects.filter(sync_id=segment.pk).exists()
    assert not CustomerSync.objects.filter(pk=segment.pk).exists()
    assert {*Member.objects.values_list("segment_id", flat=True)} == {other.pk}
    assert CustomerQueue.objects.filter(sync_id=other.pk).exists()


def test_requires_the_permission() -> None:
    segment = row("synced")
    viewer = person("view_segment", "push_segment")
    assert viewer.post(page(segment, "delete"), {"post": "yes"}).status_code == 403

"""One segment over REST: created, read, edited, deleted, sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import Model
from django.test import override_settings
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.publisher import publisher
from bunce_sync.sync.push import push
from tests.unit.api_client import ALL, client_for, delete, get, is_problem, patch, post, user_with
from tests.unit.client_attempts import KEY
from tests.unit.core import configure
from tests.unit.raw_server import RawServer, http, responding

pytestmark = pytest.mark.django_db

Status = Segment.Status


@pytest.fixture
def client() -> APIClient:
    return client_for(user_with(*ALL))


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Collect the published messages: the name of the task and its arguments."""
    calls: list[tuple[Any, ...]] = []

    def publish(task: Any, *args: Any) -> bool:
        calls.append((task.name, *args))
        return True

    monkeypatch.setattr(publisher, "publish", publish)
    monkeypatch.setattr(publisher, "publish_throttled", publish)
    return calls


def stored(status: Segment.Status = Status.PENDING, **fields: Any) -> Segment:
    """Create a row in a state, as the sync would have left it."""
    [segment] = Segment.objects.bulk_create([Segment(name="VIP")])  # publishes nothing
    now = timezone.now()
    of_state: dict[Segment.Status, dict[str, Any]] = {
        Status.SENDING: {"lease_token": uuid4(), "lease_until": now + timedelta(seconds=90)},
        Status.SYNCED: {
            "bunce_id": f"id-{segment.pk}",
            **segment.digests_of(segment.content(segment.UPDATE_FIELDS)),
        },
        Status.IN_DOUBT: {"due_at": now + timedelta(seconds=120)},
        Status.REJECTED: {"last_code": "conflict", "last_error": "The name is taken."},
    }
    sent = {} if status == Status.PENDING else {"sent_at": now}
    changes = {**sent, **of_state.get(status, {}), **fields}
    Segment.objects.filter(pk=segment.pk).update_sync_fields(status=status, **changes)
    segment.refresh_from_db()
    return segment


# Create


def test_a_created_segment_is_pending_and_found_at_its_location(client: APIClient) -> None:
    response = post(client, "segments/", {"name": "VIP", "description": "The best"})
    assert response.status_code == 201
    segment = Segment.objects.get()
    assert response["Location"] == f"/api/segments/{segment.pk}"
    body = response.json()
    assert (body["id"], body["name"], body["description"]) == (segment.pk, "VIP", "The best")
    assert (body["status"], body["add_all_customers"], body["bunce_id"]) == ("pending", False, None)
    again = client.get(response["Location"])
    assert again.json() == body
    assert again["ETag"] == response["ETag"]


def test_a_create_publishes_after_the_commit(
    client: APIClient,
    published: list[tuple[Any, ...]],
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        post(client, "segments/", {"name": "VIP"})
    assert published[0][:2] == ("bunce_sync.push_segment", Segment.objects.get().pk)


def test_texts_are_normalized_as_in_the_admin(client: APIClient) -> None:
    body = post(client, "segments/", {"name": "  VIP ", "description": "  "}).json()
    assert (body["name"], body["description"]) == ("VIP", None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "blank"),
        (" \t ", "blank"),
        ("x" * 256, "255"),
        ("a\0b", "U+0000"),
        ("a\ud800", "U+D800"),
        (True, "valid string"),
        (None, "null"),
        (["VIP"], "valid string"),
    ],
)
def test_an_invalid_name_is_refused(client: APIClient, name: Any, words: str) -> None:
    problem = is_problem(post(client, "segments/", {"name": name}), 400, "invalid")
    assert words in problem["errors"]["name"][0]
    assert not Segment.objects.exists()


def test_a_missing_name_is_refused(client: APIClient) -> None:
    problem = is_problem(post(client, "segments/", {}), 400, "invalid")
    assert problem["errors"] == {"name": ["This field is required."]}


@pytest.mark.parametrize("value", ["perhaps", 2, None, []])
def test_add_all_customers_must_be_a_boolean(client: APIClient, value: Any) -> None:
    body = {"name": "VIP", "add_all_customers": value}
    problem = is_problem(post(client, "segments/", body), 400)
    assert list(problem["errors"]) == ["add_all_customers"]


def test_a_field_that_cannot_be_written_is_refused_rather_than_ignored(client: APIClient) -> None:
    body = {"name": "VIP", "bunce_id": "x", "add_all_costumers": True, "\ud800": 1}
    problem = is_problem(post(client, "segments/", body), 400)
    assert set(problem["errors"]) == {"bunce_id", "add_all_costumers", "\\ud800"}
    assert "Unknown or read-only" in problem["errors"]["bunce_id"][0]
    assert not Segment.objects.exists()


# Read


def test_every_state_can_be_read(client: APIClient) -> None:
    for status in Status:
        segment = stored(status)
        assert get(client, f"segments/{segment.pk}/").json()["status"] == status


def test_times_are_in_utc_on_a_site_in_utc(client: APIClient) -> None:
    moment = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
    segment = stored(Status.SYNCED, bunce_created_at=moment)
    body = get(client, f"segments/{segment.pk}/").json()
    assert body["bunce_created_at"] == "2024-12-05T08:30:16Z"


def test_an_unchanged_segment_is_a_304(client: APIClient) -> None:
    segment = stored()
    etag = get(client, f"segments/{segment.pk}/")["ETag"]
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        response = get(client, f"segments/{segment.pk}/", If_None_Match=known)
        assert (response.status_code, response.content) == (304, b"")
        assert response["ETag"] == etag
    assert get(client, f"segments/{segment.pk}/", If_None_Match='"other"').status_code == 200


def test_the_etag_changes_when_a_worker_records_something(client: APIClient) -> None:
    segment = stored()
    before = get(client, f"segments/{segment.pk}/")["ETag"]
    Segment.objects.filter(pk=segment.pk).update_sync_fields(status=Status.SYNCED, bunce_id="b")
    assert get(client, f"segments/{segment.pk}/")["ETag"] != before


@pytest.mark.parametrize("word", ["0", "7", "abc", "-1", "1.0", "٣", "9" * 19, "9" * 5000, "%00"])
def test_an_address_without_a_segment_is_a_404(client: APIClient, word: str) -> None:
    for response in (
        get(client, f"segments/{word}/"),
        get(client, f"segments/{word}/calls/"),
        patch(client, f"segments/{word}/", {}),
        delete(client, f"segments/{word}/"),
        post(client, f"segments/{word}/push/"),
        post(client, f"segments/{word}/retry/"),
        post(client, f"segments/{word}/refresh/"),
    ):
        is_problem(response, 404, "not_found")


def test_a_segment_has_one_address(client: APIClient) -> None:
    segment = stored()
    assert get(client, f"segments/{segment.pk}/").status_code == 200
    is_problem(get(client, f"segments/0{segment.pk}/"), 404, "not_found")


def test_the_message_of_an_internal_error_is_not_exposed(client: APIClient) -> None:
    segment = stored(Status.REJECTED, last_code="internal", last_error="KeyError")
    now = timezone.now()
    ApiCall.objects.create(
        segment=segment, operation="create", started_at=now, code="internal", message="KeyError"
    )
    assert b"KeyError" not in get(client, f"segments/{segment.pk}/").content
    assert b"KeyError" not in get(client, f"segments/{segment.pk}/calls/").content


@pytest.mark.parametrize("status", [422, 401, 409, 429, 500])
def test_an_api_key_in_bunces_response_is_not_exposed(
    client: APIClient, settings: Settings, status: int
) -> None:
    echo = {"message": f"What about {KEY}?", "errors": {"name": [f"Bearer {KEY}"]}}
    with RawServer(responding(http(status, echo))) as server:
        configure(settings, API_KEY=KEY, BASE_URL=server.url, READ_TIMEOUT=2)
        segment = stored()
        assert push(segment.pk)
        assert KEY.encode() in server.requests[0]
    shown = get(client, f"segments/{segment.pk}/")
    calls = get(client, f"segments/{segment.pk}/calls/")
    assert (shown.json()["last_error"] or calls.json()["results"][0]["message"]).startswith("What")
    for response in (shown, calls, get(client, "segments/"), get(client, "status/")):
        assert KEY.encode() not in response.content


class ReadingFromAReplica:
    """A router of a site whose replica is always behind: reading from it is an error here."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        assert model._meta.app_label != "bunce_sync", "read from the replica"
        return None


def test_segments_are_never_read_from_a_replica(client: APIClient) -> None:
    get(client, "status/")  # caches the user's permissions
    with override_settings(DATABASE_ROUTERS=[ReadingFromAReplica()]):
        for _ in range(2):
            made = post(client, "segments/", {"name": "VIP"}, Idempotency_Key="a")
            rows = {"segments": [{"name": "A"}, {"name": "B"}]}
            assert post(client, "segments/bulk/", rows, Idempotency_Key="b").status_code == 201
        path = f"segments/{made.json()['id']}/"
        etag = patch(client, path, {"description": "New"}, If_Match=made["ETag"])["ETag"]
        assert patch(client, path, {"name": "New"}, If_Match=etag).status_code == 200
        assert post(client, f"{path}push/").status_code == 202
        assert post(client, f"{path}retry/").status_code == 409
        assert get(client, path).status_code == get(client, "segments/").status_code == 200
        assert delete(client, path).status_code == 204


def test_the_calls_of_a_segment_are_listed_newest_first(client: APIClient) -> None:
    segment, other = stored(), stored()
    now = timezone.now()
    for of, outcome in ((segment, "unknown"), (other, "confirmed"), (segment, "confirmed")):
        ApiCall.objects.create(
            segment=of, operation="create", path="/segments", started_at=now, outcome=outcome
        )
    results = get(client, f"segments/{segment.pk}/calls/").json()["results"]
    assert [call["outcome"] for call in results] == ["confirmed", "unknown"]


# Edit


def test_an_edit_changes_the_given_fields_and_makes_the_row_pending(
    client: APIClient,
    published: list[tuple[Any, ...]],
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    segment = stored(Status.SYNCED)
    with django_capture_on_commit_callbacks(execute=True):
        response = patch(client, f"segments/{segment.pk}/", {"description": "New"})
    body = response.json()
    assert (body["name"], body["description"], body["status"]) == ("VIP", "New", "pending")
    assert body["bunce_id"] == segment.bunce_id
    assert published[0][:2] == ("bunce_sync.push_segment", segment.pk)
    again = get(client, f"segments/{segment.pk}/")
    assert (again.json(), again["ETag"]) == (body, response["ETag"])


def test_an_edit_that_changes_nothing_sends_nothing(client: APIClient) -> None:
    segment = stored(Status.SYNCED)
    bodies: list[dict[str, str]] = [{}, {"name": "VIP"}, {"name": " VIP ", "description": ""}]
    for body in bodies:
        assert patch(client, f"segments/{segment.pk}/", body).json()["status"] == "synced"
    assert Segment.objects.get().updated_at == segment.updated_at


def test_an_edit_is_validated_like_a_create(client: APIClient) -> None:
    segment = stored()
    bodies: list[Any] = [
        {"name": " "},
        {"name": None},
        {"status": "synced"},
        {"name": "x" * 256},
        [],
    ]
    for body in bodies:
        is_problem(patch(client, f"segments/{segment.pk}/", body), 400, "invalid")


def test_add_all_customers_is_fixed_once_the_create_was_sent(client: APIClient) -> None:
    segment = stored()
    response = patch(client, f"segments/{segment.pk}/", {"add_all_customers": True})
    assert response.json()["add_all_customers"] is True
    sent = stored(Status.SYNCED)
    problem = is_problem(patch(client, f"segments/{sent.pk}/", {"add_all_customers": True}), 400)
    assert "cannot be changed here" in problem["errors"]["add_all_customers"][0]
    assert patch(client, f"segments/{sent.pk}/", {"add_all_customers": False}).status_code == 200


def test_what_a_worker_records_refuses_no_edit(client: APIClient) -> None:
    segment = stored()
    path = f"segments/{segment.pk}/"
    read = get(client, path)["ETag"]
    Segment.objects.filter(pk=segment.pk).update_sync_fields(
        status=Status.SYNCED, bunce_id="b", bunce_name="VIP", synced_at=timezone.now()
    )
    assert get(client, path, If_None_Match=read).json()["bunce_id"] == "b"
    edited = patch(client, path, {"name": "New"}, If_Match=read)
    assert edited.status_code == 200
    Segment.objects.filter(pk=segment.pk).update_sync_fields(last_code="drift")
    assert delete(client, path, If_Match=edited["ETag"]).status_code == 204


@pytest.mark.parametrize(
    "change", [{"name": "New"}, {"description": "New"}, {"add_all_customers": True}]
)
def test_an_edit_of_any_field_outdates_the_etag(client: APIClient, change: dict[str, Any]) -> None:
    segment = stored()
    path = f"segments/{segment.pk}/"
    read = get(client, path)["ETag"]
    Segment.objects.filter(pk=segment.pk).update(**change)
    for response in (
        patch(client, path, {"name": "Newer"}, If_Match=read),
        patch(client, path, {}, If_Match=read),
        delete(client, path, If_Match=read),
    ):
        is_problem(response, 412, "precondition_failed")
    assert get(client, path, If_None_Match=read).status_code == 200


def test_an_etag_of_another_segment_is_refused(client: APIClient) -> None:
    one, other = stored(), stored()
    Segment.objects.filter(pk=other.pk).update(name="Other")
    read = get(client, f"segments/{other.pk}/")["ETag"]
    is_problem(patch(client, f"segments/{one.pk}/", {"name": "New"}, If_Match=read), 412)


def test_a_write_can_require_that_a_version_is_not_current(client: APIClient) -> None:
    path = f"segments/{stored().pk}/"
    read = get(client, path)["ETag"]
    is_problem(patch(client, path, {"name": "New"}, If_None_Match=read), 412)
    is_problem(patch(client, path, {"name": "New"}, If_None_Match="*"), 412)
    assert patch(client, path, {"name": "New"}, If_None_Match='"other"').status_code == 200


def test_an_edit_of_an_outdated_version_is_refused(client: APIClient) -> None:
    segment = stored()
    path = f"segments/{segment.pk}/"
    old = get(client, path)["ETag"]
    new = patch(client, path, {"name": "First"}, If_Match=old)["ETag"]
    is_problem(patch(client, path, {"name": "Second"}, If_Match=old), 412, "precondition_failed")
    assert Segment.objects.get().name == "First"
    assert patch(client, path, {"name": "Third"}, If_Match=f'"x", {new}').status_code == 200
    assert patch(client, path, {"name": "Fourth"}, If_Match="*").status_code == 200
    assert patch(client, path, {"name": "Fifth"}).status_code == 200


@pytest.mark.parametrize("header", ["", "rubbish", '""', "W/"])
def test_an_invalid_etag_is_refused(client: APIClient, header: str) -> None:
    segment = stored()
    is_problem(patch(client, f"segments/{segment.pk}/", {"name": "New"}, If_Match=header), 412)


def test_a_weak_etag_is_refused(client: APIClient) -> None:
    segment = stored()
    etag = get(client, f"segments/{segment.pk}/")["ETag"]
    response = patch(client, f"segments/{segment.pk}/", {"name": "New"}, If_Match=f"W/{etag}")
    is_problem(response, 412, "precondition_failed")


# Delete


@pytest.mark.parametrize("status", [Status.PENDING, Status.SYNCED, Status.REJECTED])
def test_a_segment_at_rest_can_be_deleted(client: APIClient, status: Segment.Status) -> None:
    response = delete(client, f"segments/{stored(status).pk}/")
    assert (response.status_code, response.content) == (204, b"")
    assert not Segment.objects.exists()


@pytest.mark.parametrize("status", [Status.SENDING, Status.IN_DOUBT])
def test_a_segment_under_way_cannot_be_deleted_yet(
    client: APIClient, status: Segment.Status
) -> None:
    response = delete(client, f"segments/{stored(status).pk}/")
    problem = is_problem(response, 409, f"segment_{status}")
    assert problem["detail"]
    assert 60 < int(response["Retry-After"]) <= 120
    assert Segment.objects.exists()


def test_a_delete_can_require_a_version(client: APIClient) -> None:
    path = f"segments/{stored().pk}/"
    is_problem(delete(client, path, If_Match='"old"'), 412)
    assert delete(client, path, If_Match=get(client, path)["ETag"]).status_code == 204


# Push and retry


@pytest.mark.parametrize(
    ("action", "segment_status"), [("push", Status.PENDING), ("retry", Status.REJECTED)]
)
def test_push_and_retry_make_the_segment_due_and_publish(
    client: APIClient,
    published: list[tuple[Any, ...]],
    django_capture_on_commit_callbacks: Callable[..., Any],
    action: str,
    segment_status: Segment.Status,
) -> None:
    segment = stored(segment_status, due_at=timezone.now() + timedelta(hours=1))
    with django_capture_on_commit_callbacks(execute=True):
        response = post(client, f"segments/{segment.pk}/{action}/")
    assert response.status_code == 202
    assert "Retry-After" not in response
    assert response.json()["status"] == "pending"
    assert Segment.objects.due().get() == segment
    assert published[0][:2] == ("bunce_sync.push_segment", segment.pk)


def test_a_push_while_requests_are_paused_says_for_how_long(client: APIClient) -> None:
    SyncState.objects.create(blocked_until=timezone.now() + timedelta(seconds=30))
    response = post(client, f"segments/{stored().pk}/push/")
    assert response.status_code == 202
    assert 25 <= int(response["Retry-After"]) <= 30


@pytest.mark.parametrize(
    ("action", "status", "words"),
    [
        ("push", Status.SENDING, "being sent"),
        ("push", Status.IN_DOUBT, "not known"),
        ("push", Status.SYNCED, "already has"),
        ("push", Status.REJECTED, "retry"),
        ("retry", Status.PENDING, "already waiting"),
        ("retry", Status.SENDING, "being sent"),
        ("retry", Status.IN_DOUBT, "not known"),
        ("retry", Status.SYNCED, "already has"),
    ],
)
def test_a_push_or_retry_that_does_not_apply_says_why(
    client: APIClient, action: str, status: Segment.Status, words: str
) -> None:
    segment = stored(status)
    response = post(client, f"segments/{segment.pk}/{action}/")
    assert words in is_problem(response, 409, f"segment_{status}")["detail"]
    assert ("Retry-After" in response) == (status in (Status.SENDING, Status.IN_DOUBT))
    assert Segment.objects.get().status == status


def test_a_synced_segment_that_drifted_can_be_sent_again(client: APIClient) -> None:
    segment = stored(Status.SYNCED, last_code="drift")
    assert post(client, f"segments/{segment.pk}/push/").json()["status"] == "pending"


def test_a_refresh_is_requested(
    client: APIClient,
    published: list[tuple[Any, ...]],
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    segment = stored(Status.SYNCED)
    with django_capture_on_commit_callbacks(execute=True):
        response = post(client, f"segments/{segment.pk}/refresh/")
    assert response.status_code == 202
    assert response.json()["refresh_requested_at"]
    assert published == [("bunce_sync.work", "refresh")]


def test_a_segment_that_is_not_in_bunce_cannot_be_refreshed(client: APIClient) -> None:
    response = post(client, f"segments/{stored().pk}/refresh/")
    assert "not in Bunce" in is_problem(response, 409, "segment_pending")["detail"]


def test_the_status_shows_counts_and_limits(client: APIClient) -> None:
    stored()
    stored(Status.REJECTED)
    body = get(client, "status/").json()
    assert body["counts"]["pending"] == 1
    assert body["counts"]["rejected"] == 1
    assert body["rate_limiter"]["state"] == "open"
    assert body["usage"] == {"used": 0, "limit": 500, "seconds": 60.0}
    assert body["sweep"]["late"] is True
    assert len(body["hour"]) == 12

"""Differences, imports, pauses and environments over REST."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from pytest_django import Settings
from rest_framework.test import APIClient

from bunce_sync import services
from bunce_sync.conf import conf
from bunce_sync.models import ImportRun, PushHold, Segment, SyncState
from tests.unit.api_client import ALL, client_for, delete, get, is_problem, patch, post, put
from tests.unit.api_client import user_with as new_user
from tests.unit.core import ago, configure, fresh, make

pytestmark = pytest.mark.django_db

THERE = "https://a.test:443 live"


@pytest.fixture
def client() -> APIClient:
    return client_for(new_user(*ALL, name="service"))


def differing(**values: Any) -> Segment:
    """Create a segment that was changed in Bunce."""
    theirs = {"bunce_name": "Theirs", "bunce_description": "theirs", "last_code": "drift"}
    return make("Ours", "ours", **{"status": "synced", **theirs, **values})


def names(client: APIClient, **query: Any) -> list[str]:
    response = get(client, "segments/", query)
    assert response.status_code == 200, response.content
    return [row["name"] for row in response.json()["results"]]


# Differences


def test_a_segment_says_what_differs_in_bunce(client: APIClient) -> None:
    for values, fields in (
        ({}, ["name", "description"]),
        ({"bunce_name": "Ours"}, ["description"]),
        (
            {"bunce_description": "ours ", "bunce_all_customers": True},
            ["name", "add_all_customers"],
        ),
        ({"bunce_name": "Ours", "bunce_description": "ours"}, []),
    ):
        segment = differing(**values)
        assert get(client, f"segments/{segment.pk}/").json()["differing_fields"] == fields
    waiting = make("VIP")
    assert get(client, f"segments/{waiting.pk}/").json()["differing_fields"] == []


def test_bunces_name_that_is_longer_than_ours_can_be_does_not_differ(client: APIClient) -> None:
    long = "x" * 300
    segment = make("x" * 254 + "…", status="synced", bunce_name=long)
    shown = get(client, f"segments/{segment.pk}/").json()
    assert (shown["bunce_name"], shown["differing_fields"]) == (long, [])


def test_push_replaces_what_bunce_has(client: APIClient) -> None:
    segment = differing()
    response = post(client, f"segments/{segment.pk}/push/")
    assert response.status_code == 202
    assert response.json()["status"] == "pending"
    assert fresh(segment).unsettled_fields == ("name", "description")


def test_take_theirs_replaces_what_is_here(client: APIClient) -> None:
    segment = differing()
    shown = post(client, f"segments/{segment.pk}/take-theirs/")
    assert shown.status_code == 200
    body = shown.json()
    assert (body["name"], body["description"], body["status"]) == ("Theirs", "theirs", "synced")
    assert (body["last_code"], body["differing_fields"]) == ("", [])
    again = post(client, f"segments/{segment.pk}/take-theirs/")
    assert "does not differ" in is_problem(again, 409, "segment_synced")["detail"]


def test_take_theirs_overwrites_no_edit_that_the_client_has_not_seen(client: APIClient) -> None:
    segment = differing()
    etag = get(client, f"segments/{segment.pk}/")["ETag"]
    Segment.objects.filter(pk=segment.pk).update(name="Edited")
    Segment.objects.filter(pk=segment.pk).update_sync_fields(status="synced", last_code="drift")
    response = post(client, f"segments/{segment.pk}/take-theirs/", If_Match=etag)
    is_problem(response, 412, "precondition_failed")
    assert fresh(segment).name == "Edited"
    etag = get(client, f"segments/{segment.pk}/")["ETag"]
    response = post(client, f"segments/{segment.pk}/take-theirs/", If_Match=etag)
    assert response.json()["name"] == "Theirs"
    assert response["ETag"] == get(client, f"segments/{segment.pk}/")["ETag"]


def test_a_segment_that_is_gone_is_created_again(client: APIClient) -> None:
    segment = make(status="rejected", last_code="not_found", bunce_id="b-1")
    response = post(client, f"segments/{segment.pk}/create-again/")
    assert response.status_code == 202
    assert (response.json()["status"], response.json()["bunce_id"]) == ("pending", None)
    again = post(client, f"segments/{segment.pk}/create-again/")
    assert "not gone" in is_problem(again, 409, "segment_pending")["detail"]


@pytest.mark.parametrize("action", ["push", "retry", "refresh", "take-theirs", "create-again"])
def test_no_action_runs_on_a_segment_of_another_environment(client: APIClient, action: str) -> None:
    states: dict[str, dict[str, Any]] = {
        "push": {"status": "pending"},
        "retry": {"status": "rejected"},
        "create-again": {"status": "rejected", "last_code": "not_found", "bunce_id": "b-1"},
    }
    segment = differing(environment=THERE, **states.get(action, {}))
    is_problem(post(client, f"segments/{segment.pk}/{action}/"), 409, "segment_elsewhere")
    assert fresh(segment).updated_at == segment.updated_at


def test_a_client_may_send_back_a_text_that_it_could_not_enter(
    client: APIClient, settings: Settings
) -> None:
    configure(settings, DESCRIPTION_MAX_LENGTH=10)
    segment = make("VIP", "x" * 20, status="synced")
    path = f"segments/{segment.pk}/"
    assert patch(client, path, {"name": "Gold", "description": "x" * 20}).status_code == 200
    assert fresh(segment).name == "Gold"
    problem = is_problem(patch(client, path, {"description": "x" * 21}), 400, "invalid")
    assert list(problem["errors"]) == ["description"]
    assert patch(client, path, {"description": "x" * 10}).status_code == 200


# Filters


def test_filters_by_problem_environment_and_time_of_the_import(client: APIClient) -> None:
    differing()
    make("There", environment=THERE)
    make("Imported", status="synced", imported_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert names(client, last_code="drift") == ["Ours"]
    assert names(client, environment=THERE) == ["There"]
    assert names(client, imported_since="2026-01-02T00:00:00Z") == ["Imported"]
    assert names(client, imported_before="2026-01-02T00:00:00Z") == []


# Imports


def test_an_import_is_requested_and_read(client: APIClient) -> None:
    problem = is_problem(get(client, "imports/"), 404, "not_found")
    assert problem["detail"] == "There was no import yet."
    response = post(client, "imports/", {"adopt": True})
    assert response.status_code == 202
    run = ImportRun.objects.get()
    assert (run.requested_by, run.adopt, run.include_deleted) == ("service", True, False)
    ImportRun.objects.update(pages=3, counts={"imported": 300})
    shown = get(client, "imports/").json()
    assert shown["finished_at"] is None
    assert (shown["pages"], shown["counts"], shown["adopt"]) == (3, {"imported": 300}, True)
    assert post(client, "imports/", {}).status_code == 202
    assert ImportRun.objects.count() == 1, "no second one begins"


def test_an_import_can_be_cancelled_any_number_of_times(client: APIClient) -> None:
    post(client, "imports/", {})
    for _ in range(2):
        assert delete(client, "imports/").status_code == 204
    assert get(client, "imports/").json()["cancelled"]


def test_unknown_options_are_refused(client: APIClient) -> None:
    bodies: list[Any] = [{"adpot": True}, {"adopt": "perhaps"}, []]
    for body in bodies:
        is_problem(post(client, "imports/", body), 400, "invalid")
    assert not ImportRun.objects.exists()


def test_an_import_says_when_requests_resume(client: APIClient) -> None:
    SyncState.objects.update_or_create(
        pk=conf.environment, defaults={"blocked_until": ago(-30), "blocked_reason": "rate_limited"}
    )
    assert 0 < int(post(client, "imports/", {})["Retry-After"]) <= 30


# The pause


def test_pushes_are_paused_and_resumed(client: APIClient) -> None:
    is_problem(get(client, "pause/"), 404, "not_found")
    shown = put(client, "pause/", {"reason": " Moving house "})
    assert shown.status_code == 200
    assert (shown.json()["by"], shown.json()["reason"]) == ("service", "Moving house")
    assert get(client, "pause/").json() == shown.json()
    assert put(client, "pause/", {"reason": "Still moving"}).status_code == 200
    assert PushHold.objects.get().reason == "Still moving"
    for _ in range(2):
        assert delete(client, "pause/").status_code == 204
    assert not PushHold.objects.exists()
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        "Paused: Moving house",
        "Paused: Still moving",
        "Resumed",
    ]


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": "\u200b"}, {"reason": "a\x07"}, {"reason": "x" * 501}]
)
def test_a_reason_is_required(client: APIClient, body: dict[str, str]) -> None:
    problem = is_problem(put(client, "pause/", body), 400, "invalid")
    assert list(problem["errors"]) == ["reason"]
    assert not PushHold.objects.exists()


def test_half_of_a_surrogate_pair_is_refused(client: APIClient) -> None:
    body = '{"reason": "\\ud800"}'
    response = client.put("/api/pause/", body, content_type="application/json")
    is_problem(response, 400, "invalid")


# The status


def test_the_status_shows_what_keeps_segments_waiting(client: APIClient) -> None:
    quiet = get(client, "status/").json()
    assert quiet["environment"] == conf.environment
    for name in ("pause", "imported", "strange_key_since"):
        assert quiet[name] is None
    assert (quiet["holds"], quiet["elsewhere"], quiet["changed_in_bunce"]) == ([], {}, 0)
    assert quiet["clocks"] == []

    services.pause(reason="Moving house", by="ada")
    services.request_import(by="ada", adopt=True)
    block = PushHold.objects.create(reason="nightly", by="www@web1, process 42")
    make(hold=block)
    make("There", environment=THERE)
    differing()
    SyncState.objects.update(
        strange_key=conf.key_digest,
        strange_since=datetime(2026, 1, 2, tzinfo=UTC),
        clocks={"far": {"ahead": 60.5, "seen_at": ago(0).isoformat(), "by_itself": True}},
    )
    seen = get(client, "status/").json()
    assert (seen["pause"]["by"], seen["pause"]["reason"]) == ("ada", "Moving house")
    assert seen["imported"]["adopt"]
    [hold] = seen["holds"]
    assert (hold["id"], hold["process"], hold["segments"]) == (block.pk, block.by, 1)
    assert seen["elsewhere"] == {THERE: 1}
    assert seen["changed_in_bunce"] == 1
    assert seen["strange_key_since"] == "2026-01-02T00:00:00Z"
    [clock] = seen["clocks"]
    assert (clock["host"], clock["ahead"]) == ("far", 60.5)

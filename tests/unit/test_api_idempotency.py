"""Repeating a create makes no twin."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db.models.signals import post_save
from django.utils import timezone
from rest_framework.test import APIClient

from bunce_sync.api import idempotency
from bunce_sync.models import IdempotencyKey, Segment
from bunce_sync.sync.sweep import prune_keys
from tests.unit.api_client import ALL, client_for, is_problem, post, user_with

pytestmark = pytest.mark.django_db

BODY = {"name": "VIP", "description": "The best"}


@pytest.fixture
def client() -> APIClient:
    return client_for(user_with(*ALL))


def at_work(**changes: Any) -> None:
    """Make the one key that of a request which has not made its segment yet."""
    IdempotencyKey.objects.update(**{"segment_ids": None, "token": uuid.uuid4()} | changes)
    Segment.objects.all().delete()


def test_the_same_key_and_body_give_the_same_segment(client: APIClient) -> None:
    first = post(client, "segments/", BODY, Idempotency_Key="a")
    again = post(client, "segments/", BODY, Idempotency_Key="a")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again["Location"] == first["Location"]
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert Segment.objects.count() == 1


def test_the_body_is_the_same_however_it_is_written(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    body = {"description": "The best ", "name": " VIP"}
    assert post(client, "segments/", body, Idempotency_Key="a").status_code == 201
    assert Segment.objects.count() == 1


def test_a_default_may_be_written_out_or_left_out(client: APIClient) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "VIP"},
        {"name": "VIP", "description": None},
        {"name": "VIP", "description": ""},
        {"name": "VIP", "description": " "},
        {"name": "VIP", "add_all_customers": False},
        {"add_all_customers": False, "description": None, "name": "VIP"},
    ]
    for row in rows:
        assert post(client, "segments/", row, Idempotency_Key="a").status_code == 201
        bulk = post(client, "segments/bulk/", {"segments": [row]}, Idempotency_Key="b")
        assert bulk.status_code == 201
    assert Segment.objects.count() == 2


def test_a_repeat_shows_the_segment_as_it_is_by_now(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    Segment.objects.update_sync_fields(status="synced", bunce_id="b")
    assert post(client, "segments/", BODY, Idempotency_Key="a").json()["bunce_id"] == "b"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("segments/", {"name": "Other"}),
        ("segments/", {**BODY, "add_all_customers": True}),
        ("segments/bulk/", {"segments": [BODY]}),
    ],
)
def test_the_same_key_with_another_body_is_refused(client: APIClient, path: str, body: Any) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    response = post(client, path, body, Idempotency_Key="a")
    is_problem(response, 422, "idempotency_key_reused")
    assert Segment.objects.count() == 1


def test_keys_are_told_apart_exactly(client: APIClient) -> None:
    for key in ("a", "A", "a-", "aa"):
        assert "Idempotent-Replayed" not in post(client, "segments/", BODY, Idempotency_Key=key)
    assert Segment.objects.count() == 4


def test_a_key_belongs_to_its_user(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    other = client_for(user_with(*ALL, name="other"))
    assert "Idempotent-Replayed" not in post(other, "segments/", BODY, Idempotency_Key="a")
    assert Segment.objects.count() == 2


def test_without_a_key_each_create_makes_a_segment(client: APIClient) -> None:
    for _ in range(2):
        post(client, "segments/", BODY)
    assert Segment.objects.count() == 2
    assert not IdempotencyKey.objects.exists()


def test_a_body_that_is_refused_does_not_use_up_the_key(client: APIClient) -> None:
    is_problem(post(client, "segments/", {"name": " "}, Idempotency_Key="a"), 400)
    assert post(client, "segments/", BODY, Idempotency_Key="a").status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "a b"])
def test_an_unusable_key_is_refused_before_anything_is_made(client: APIClient, key: str) -> None:
    problem = is_problem(post(client, "segments/", BODY, Idempotency_Key=key), 400)
    assert list(problem["errors"]) == ["Idempotency-Key"]
    assert not Segment.objects.exists()


def test_a_request_at_work_makes_its_repeats_wait(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    at_work()
    response = post(client, "segments/", BODY, Idempotency_Key="a")
    is_problem(response, 409, "idempotency_key_in_use")
    assert response["Retry-After"] == "1"
    assert not Segment.objects.exists()


def test_a_request_that_died_is_taken_over(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    at_work(started_at=timezone.now() - idempotency.LEASE)
    for _ in range(2):
        assert post(client, "segments/", BODY, Idempotency_Key="a").status_code == 201
    assert Segment.objects.count() == 1


def test_a_request_that_was_taken_over_takes_its_segment_back(client: APIClient) -> None:
    def take_over(sender: Any, **kwargs: Any) -> None:
        # The lease ran out while the row was being written, and a repeat has taken the key.
        IdempotencyKey.objects.update(token=uuid.uuid4())

    post_save.connect(take_over, sender=Segment)
    try:
        response = post(client, "segments/", BODY, Idempotency_Key="a")
    finally:
        post_save.disconnect(take_over, sender=Segment)
    is_problem(response, 409, "idempotency_key_in_use")
    assert not Segment.objects.exists()


def test_a_create_that_failed_can_be_repeated_at_once(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **fields: Any) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Segment, "save", fail)
        with pytest.raises(RuntimeError):
            post(client, "segments/", BODY, Idempotency_Key="a")
    assert post(client, "segments/", BODY, Idempotency_Key="a").status_code == 201
    assert Segment.objects.count() == 1


def failing_with(*args: Any, cause: Exception | None = None) -> Any:
    def fail(*_args: Any, **_fields: Any) -> None:
        raise OperationalError(*args) from cause

    return fail


class OfPostgres(Exception):
    sqlstate = "40P01"


@pytest.mark.parametrize(
    "fail",
    [
        failing_with(1213, "Deadlock found when trying to get lock"),
        failing_with(1205, "Lock wait timeout exceeded"),
        failing_with("deadlock detected", cause=OfPostgres()),
    ],
)
@pytest.mark.parametrize("model", [IdempotencyKey, Segment])
def test_a_create_that_gave_way_to_another_is_to_be_repeated(
    client: APIClient, monkeypatch: pytest.MonkeyPatch, model: Any, fail: Any
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(model, "save", fail)
        response = post(client, "segments/", BODY, Idempotency_Key="a")
    is_problem(response, 409, "idempotency_key_in_use")
    assert response["Retry-After"] == "1"
    assert post(client, "segments/", BODY, Idempotency_Key="a").status_code == 201
    assert Segment.objects.count() == 1


def test_an_outage_of_the_database_is_no_conflict(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IdempotencyKey, "save", failing_with(2006, "Server has gone away"))
    client.raise_request_exception = False
    is_problem(post(client, "segments/", BODY, Idempotency_Key="a"), 500, "internal")


def test_it_holds_within_a_transaction_of_the_whole_request(client: APIClient) -> None:
    with transaction.atomic():
        post(client, "segments/", BODY, Idempotency_Key="a")
        assert post(client, "segments/", BODY, Idempotency_Key="a").status_code == 201
    assert Segment.objects.count() == 1


def test_a_deleted_segment_is_not_made_again(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    Segment.objects.all().delete()
    is_problem(post(client, "segments/", BODY, Idempotency_Key="a"), 410, "gone")
    assert not Segment.objects.exists()


def test_a_bulk_is_repeated_as_a_whole(client: APIClient) -> None:
    body = {"segments": [{"name": "A"}, {"name": "B"}]}
    first = post(client, "segments/bulk/", body, Idempotency_Key="a")
    again = post(client, "segments/bulk/", body, Idempotency_Key="a")
    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert Segment.objects.count() == 2
    Segment.objects.filter(name="A").delete()
    is_problem(post(client, "segments/bulk/", body, Idempotency_Key="a"), 410)


def test_after_a_day_a_key_makes_a_new_segment(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    IdempotencyKey.objects.update(started_at=timezone.now() - timedelta(hours=24))
    assert post(client, "segments/", {"name": "Other"}, Idempotency_Key="a").status_code == 201
    assert Segment.objects.count() == 2
    assert IdempotencyKey.objects.count() == 1


def test_the_sweep_forgets_keys_after_a_day(client: APIClient) -> None:
    for key in ("old", "new"):
        post(client, "segments/", BODY, Idempotency_Key=key)
    old = IdempotencyKey.objects.order_by("pk")[0]
    IdempotencyKey.objects.filter(pk=old.pk).update(
        started_at=timezone.now() - timedelta(hours=24, seconds=1)
    )
    assert prune_keys("default") == 1
    assert not IdempotencyKey.objects.filter(pk=old.pk).exists()
    assert IdempotencyKey.objects.count() == 1


def test_neither_the_key_nor_the_body_is_kept_in_clear(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="sk_secret")
    [row] = IdempotencyKey.objects.values()
    assert not any("secret" in str(value) or "VIP" in str(value) for value in row.values())

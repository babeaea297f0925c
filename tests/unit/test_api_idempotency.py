"""Repeated creates make no duplicates."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, transaction
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


def test_the_same_key_and_body_give_the_same_segment(client: APIClient) -> None:
    first = post(client, "segments/", BODY, Idempotency_Key="a")
    again = post(client, "segments/", BODY, Idempotency_Key="a")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again["Location"] == first["Location"]
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert Segment.objects.count() == 1


def test_bodies_are_compared_after_normalization(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    body = {"description": "The best ", "name": " VIP"}
    assert post(client, "segments/", body, Idempotency_Key="a").status_code == 201
    assert Segment.objects.count() == 1


def test_a_default_may_be_sent_or_left_out(client: APIClient) -> None:
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


def test_a_replay_shows_the_current_segment(client: APIClient) -> None:
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


def test_keys_are_compared_exactly(client: APIClient) -> None:
    for key in ("a", "A", "a-", "aa"):
        assert "Idempotent-Replayed" not in post(client, "segments/", BODY, Idempotency_Key=key)
    assert Segment.objects.count() == 4


def test_a_key_belongs_to_its_user(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    other = client_for(user_with(*ALL, name="other"))
    assert "Idempotent-Replayed" not in post(other, "segments/", BODY, Idempotency_Key="a")
    assert Segment.objects.count() == 2


def test_without_a_key_every_create_makes_a_segment(client: APIClient) -> None:
    for _ in range(2):
        post(client, "segments/", BODY)
    assert Segment.objects.count() == 2
    assert not IdempotencyKey.objects.exists()


def test_a_body_that_is_refused_does_not_use_up_the_key(client: APIClient) -> None:
    is_problem(post(client, "segments/", {"name": " "}, Idempotency_Key="a"), 400)
    assert post(client, "segments/", BODY, Idempotency_Key="a").status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "a b"])
def test_an_invalid_key_is_refused(client: APIClient, key: str) -> None:
    problem = is_problem(post(client, "segments/", BODY, Idempotency_Key=key), 400)
    assert list(problem["errors"]) == ["Idempotency-Key"]
    assert not Segment.objects.exists()


def test_a_failed_create_can_be_repeated(
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


class PostgresDeadlock(Exception):
    sqlstate = "40P01"


class SQLiteBusy(Exception):
    sqlite_errorname = "SQLITE_BUSY"


def database_error(*args: Any, cause: Exception | None = None) -> OperationalError:
    error = OperationalError(*args)
    error.__cause__ = cause
    return error


LOCK_ERRORS = [
    database_error(1213, "Deadlock found when trying to get lock"),
    database_error(1205, "Lock wait timeout exceeded"),
    database_error("deadlock detected", cause=PostgresDeadlock()),
    database_error("database is locked", cause=SQLiteBusy()),
]


def fail_saves(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> None:
    """Have the next saves of a segment raise an error."""
    save, failures = Segment.save, iter(range(times))

    def failing(segment: Segment, *args: Any, **kwargs: Any) -> None:
        if next(failures, None) is not None:
            raise error
        save(segment, *args, **kwargs)

    monkeypatch.setattr(Segment, "save", failing)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", LOCK_ERRORS)
def test_a_create_that_lost_a_deadlock_is_tried_again(
    client: APIClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fail_saves(monkeypatch, error, times=2)
    response = post(client, "segments/", BODY, Idempotency_Key="a")
    assert response.status_code == 201
    assert "Idempotent-Replayed" not in response
    assert Segment.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", LOCK_ERRORS)
def test_after_many_deadlocks_the_client_has_to_repeat_the_create(
    client: APIClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fail_saves(monkeypatch, error, times=idempotency.TRIES)
    response = post(client, "segments/", BODY, Idempotency_Key="a")
    is_problem(response, 409, "idempotency_key_in_use")
    assert response["Retry-After"] == "1"
    assert not Segment.objects.exists()
    assert post(client, "segments/", BODY, Idempotency_Key="a").status_code == 201
    assert Segment.objects.count() == 1


def test_inside_a_transaction_of_the_request_a_deadlock_is_not_tried_again(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_saves(monkeypatch, LOCK_ERRORS[0], times=1)
    response = post(client, "segments/", BODY, Idempotency_Key="a")
    is_problem(response, 409, "idempotency_key_in_use")


def test_an_outage_of_the_database_is_not_a_conflict(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_saves(monkeypatch, database_error(2006, "Server has gone away"), times=1)
    client.raise_request_exception = False
    is_problem(post(client, "segments/", BODY, Idempotency_Key="a"), 500, "internal")


def test_it_works_inside_a_transaction_of_the_request(client: APIClient) -> None:
    with transaction.atomic():
        post(client, "segments/", BODY, Idempotency_Key="a")
        assert post(client, "segments/", BODY, Idempotency_Key="a").status_code == 201
    assert Segment.objects.count() == 1


def test_a_deleted_segment_is_not_created_again(client: APIClient) -> None:
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


def test_an_expired_key_creates_a_new_segment(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="a")
    IdempotencyKey.objects.update(started_at=timezone.now() - timedelta(hours=24))
    assert post(client, "segments/", {"name": "Other"}, Idempotency_Key="a").status_code == 201
    assert Segment.objects.count() == 2
    assert IdempotencyKey.objects.count() == 1


def test_the_sweep_deletes_expired_keys(client: APIClient) -> None:
    for key in ("old", "new"):
        post(client, "segments/", BODY, Idempotency_Key=key)
    old = IdempotencyKey.objects.order_by("pk")[0]
    IdempotencyKey.objects.filter(pk=old.pk).update(
        started_at=timezone.now() - timedelta(hours=24, seconds=1)
    )
    assert prune_keys() == 1
    assert not IdempotencyKey.objects.filter(pk=old.pk).exists()
    assert IdempotencyKey.objects.count() == 1


def test_neither_the_key_nor_the_body_is_stored(client: APIClient) -> None:
    post(client, "segments/", BODY, Idempotency_Key="sk_secret")
    [row] = IdempotencyKey.objects.values()
    assert not any("secret" in str(value) or "VIP" in str(value) for value in row.values())

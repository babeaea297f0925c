"""Concurrent API clients against the real multi-threaded server, on PostgreSQL."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from bunce_sync.testing.emulator import Emulator
from tests.integration.api_service import PATIENCE, Service
from tests.site import Broker, Site

T = TypeVar("T")


@pytest.fixture
def site(
    database_access: None,
    postgres_database: str,
    filesystem_broker: Broker,
    bunce: Emulator,
    tmp_path: Path,
) -> Iterator[Site]:
    with Site(tmp_path, postgres_database, filesystem_broker, bunce.base_url) as site:
        site.start_web()
        yield site


@pytest.fixture
def service(site: Site) -> Service:
    return Service(site)


def at_once(jobs: list[Callable[[], T]]) -> list[T]:
    """Start all jobs at the same time, and return their results."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def create_once(service: Service, key: str, name: str) -> dict[str, Any]:
    """Create a segment as a careful client does: repeat the request until it succeeds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline, "the key is still in use"
        try:
            answer = service.call(
                "POST", "segments/", json={"name": name}, headers={"Idempotency-Key": key}
            )
        except requests.ConnectionError:
            continue  # the development server accepts ten connections at once and resets others
        if answer.status_code == 201:
            made: dict[str, Any] = answer.json()
            return made
        assert answer.status_code == 409, answer.text
        assert answer.json()["code"] == "idempotency_key_in_use"
        time.sleep(float(answer.headers["Retry-After"]))


def create_64_with_16_keys(site: Site, service: Service) -> None:
    """Create segments concurrently, and check that each key created exactly one."""
    word = uuid.uuid4().hex

    def create(number: int) -> Callable[[], dict[str, Any]]:
        key = f"{word}-{number % 16}"
        return lambda: {"key": key, **create_once(service, key, f"Segment {key}")}

    made = at_once([create(number) for number in range(64)])
    ids = {(answer["key"], answer["id"], answer["name"]) for answer in made}
    assert len(ids) == 16
    rows = site.segments.filter(name__startswith=f"Segment {word}")
    assert {pk for _key, pk, _name in ids} == {*rows.values_list("pk", flat=True)}


def test_64_concurrent_creates_with_16_keys_make_16_segments(site: Site, service: Service) -> None:
    create_64_with_16_keys(site, service)


def test_only_one_of_several_concurrent_edits_of_a_version_succeeds(
    site: Site, service: Service
) -> None:
    created = service.call("POST", "segments/", json={"name": "VIP"})
    path = created.headers["Location"].removeprefix("/api/")
    # A worker's records do not count as edits.
    site.segments.update_sync_fields(status="synced", bunce_id="a1")

    def edit(number: int) -> Callable[[], requests.Response]:
        headers = {"If-Match": created.headers["ETag"]}
        return lambda: service.call("PATCH", path, json={"name": f"Edit {number}"}, headers=headers)

    answers = at_once([edit(number) for number in range(8)])
    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 7}
    [winner] = [answer for answer in answers if answer.status_code == 200]
    assert site.segments.get().name == winner.json()["name"]
    assert service.call("GET", path).headers["ETag"] == winner.headers["ETag"]


def test_segments_created_over_rest_reach_bunce_and_show_their_bunce_id(
    site: Site, service: Service, bunce: Emulator
) -> None:
    site.start_worker()
    one = service.call("POST", "segments/", json={"name": "One", "description": "x"}).json()
    many = [{"name": f"Bulk {number}"} for number in range(20)]
    assert service.call("POST", "segments/bulk/", json={"segments": many}).status_code == 201
    site.wait_until(lambda: site.segments.filter(status="synced").count() == 21, "all are synced")
    answer = service.call("GET", f"segments/{one['id']}/").json()
    [stored] = [segment for segment in bunce.segments if segment.name == "One"]
    assert (answer["status"], answer["bunce_id"]) == ("synced", stored.id)
    [made] = service.call("GET", f"segments/{one['id']}/calls/").json()["results"]
    assert (made["operation"], made["outcome"], made["bunce_id"]) == (
        "create",
        "confirmed",
        stored.id,
    )
    assert len(bunce.segments) == 21

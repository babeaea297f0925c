"""Behaviour specific to MariaDB: text comparison and locks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bunce_sync.api.filters import SegmentFilter
from bunce_sync.testing.emulator import Emulator
from tests.integration.api_service import Service
from tests.integration.test_api_concurrency import create_64_with_16_keys
from tests.site import Broker, Site


@pytest.fixture
def site(
    database_access: None,
    mariadb_database: str,
    filesystem_broker: Broker,
    bunce: Emulator,
    tmp_path: Path,
) -> Iterator[Site]:
    with Site(tmp_path, mariadb_database, filesystem_broker, bunce.base_url) as site:
        yield site


def test_64_concurrent_creates_with_16_keys_make_16_segments(site: Site) -> None:
    site.start_web()
    service = Service(site)
    create_64_with_16_keys(site, service)
    # The same where a transaction spans each request.
    site.env["DJANGO_SETTINGS_MODULE"] = "tests.integration.atomic_settings"
    site.start_web()
    service.root = f"{site.url}/api/"
    create_64_with_16_keys(site, service)


#: A create that fails while four repeats wait for it, each with or without a transaction.
REPEATS = """
import json, threading, time, types
from collections import Counter
from contextlib import nullcontext

from django.db import connection, transaction

from bunce_sync.api.idempotency import run_once
from bunce_sync.api.problems import Conflict

outcomes = Counter()

def create(around, make):
    request = types.SimpleNamespace(
        headers={"Idempotency-Key": around.__name__}, user=types.SimpleNamespace(pk=1)
    )
    try:
        with around():
            run_once(request, {}, make)
        outcomes["made"] += 1
    except Exception as error:
        outcomes[type(error).__name__] += 1
    finally:
        connection.close()

def waiting():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM information_schema.innodb_trx t"
            " JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
            " WHERE p.db = DATABASE() AND t.trx_state = 'LOCK WAIT'"
        )
        return cursor.fetchone()[0]

for around in (transaction.atomic, nullcontext):
    begun = threading.Event()

    def fail():
        begun.set()
        deadline = time.monotonic() + 10
        while around is transaction.atomic and waiting() < 4 and time.monotonic() < deadline:
            time.sleep(0.2)  # MariaDB shows the same list again when asked within 0.1 s
        raise RuntimeError

    def make():
        return [Segment.objects.create(name="VIP").pk]

    jobs = [threading.Thread(target=create, args=(around, fail))]
    jobs[0].start()
    begun.wait(10)
    jobs += [threading.Thread(target=create, args=(around, make)) for _ in range(4)]
    for job in jobs[1:]:
        job.start()
    for job in jobs:
        job.join()
print(json.dumps(outcomes))
"""


def test_repeats_that_wait_for_a_failing_create_succeed_or_conflict(site: Site) -> None:
    outcomes: Counter[str] = Counter(json.loads(site.shell(REPEATS).splitlines()[-1]))
    assert outcomes["RuntimeError"] == 2
    assert outcomes.total() == 10
    assert outcomes.keys() <= {"RuntimeError", "made", "Conflict"}
    assert 1 <= site.segments.count() <= 2


def test_exact_filters_distinguish_case_and_accents(site: Site) -> None:
    rows = [("VIP", "manual", "id-a"), ("vip", "Manual", "id-b"), ("víp", "mänual", "id-c")]
    site.shell(
        f"for name, type_, id_ in {rows!r}:\n"
        "    row = Segment.objects.create(name=name)\n"
        "    Segment.objects.filter(pk=row.pk).update_sync_fields(bunce_type=type_, bunce_id=id_)"
    )

    def found(**query: Any) -> list[str]:
        filters = SegmentFilter(query, queryset=site.segments)
        assert filters.is_valid(), filters.errors
        return [segment.name for segment in filters.qs]

    assert site.segments.filter(name="vip").count() == 3, "the collation compares exactly itself"
    for name, type_, id_ in rows:
        assert found(name=name) == found(type=type_) == found(bunce_id=id_) == [name]
    assert found(bunce_id="ID-A") == []
    assert len(found()) == 3
    # The query still uses the index.
    plan = SegmentFilter({"name": "vip"}, queryset=site.segments).qs.explain()
    assert "bunce_segment_name" in plan


#: As on MySQL itself, which does not return the ids of a bulk INSERT.
MANY = """
from django.db import connection

from bunce_sync.services import create_segments

type(connection.features).can_return_rows_from_bulk_insert = False
print(create_segments([{"name": name} for name in ("B", "a", "C")]))
"""


def test_bulk_create_returns_ids_where_the_database_does_not(
    site: Site,
) -> None:
    ids = json.loads(site.shell(MANY).splitlines()[-1])
    assert [site.segments.get(pk=pk).name for pk in ids] == ["B", "a", "C"]
    assert site.segments.due().filter(bunce_id=None).count() == 3

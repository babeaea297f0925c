"""An upgrade from each earlier schema to the newest one, and back, with rows in every state.

The rows are written by the models as they were at that schema, before the migration and again after
it. So the second time shows that the statements of the old code still work on the new schema, as
they must while processes of both releases run.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from bunce_sync.choices import MemberStatus, Outcome, Status
from bunce_sync.fingerprint import listed_fingerprint, sent_fingerprint
from bunce_sync.testing.emulator import Emulator
from tests.site import Broker, Site

APP = "bunce_sync"
#: A table of the app: its rows by their key, each with the values of all columns.
Tables = dict[str, dict[Any, dict[str, Any]]]


def migrations() -> list[str]:
    """Return the names of the app's migrations, the oldest first."""
    loader = MigrationLoader(None)
    return sorted(name for app, name in loader.disk_migrations if app == APP)


class Schema:
    """The models as they are after a migration, on the database of a site."""

    def __init__(self, site: Site, migration: str) -> None:
        self._alias = site.alias
        state = MigrationLoader(None).project_state((APP, migration))
        self.models: dict[str, Any] = {
            model.__name__: model for model in state.apps.get_app_config(APP).get_models()
        }

    def add(self, model: str, /, **values: Any) -> Any:
        """Insert a row with one statement, which names the columns of this schema alone."""
        known = {field.attname for field in self.models[model]._meta.concrete_fields}
        row = self.models[model](**{key: one for key, one in values.items() if key in known})
        row.save(using=self._alias, force_insert=True)
        return row

    def read(self) -> Tables:
        """Return all rows, with the columns of this schema."""
        return {
            name: {row.pop("pk"): row for row in self._rows(model)}
            for name, model in self.models.items()
        }

    def _rows(self, model: Any) -> Iterator[dict[str, Any]]:
        columns = [field.attname for field in model._meta.concrete_fields]
        yield from model._base_manager.using(self._alias).values("pk", *columns)


def fill(old: Schema, site: Site, bunce: Emulator, label: str) -> None:
    """Insert rows in every state into every table; Bunce has the segments that they mention."""
    now = datetime.now(UTC)
    before, minutes_ago = now - timedelta(hours=1), now - timedelta(minutes=10)
    here = {"environment": site.environment}
    held = old.add("PushHold", pauses_all=None, reason="loading", by=label, since=before)

    def digests(name: str) -> dict[str, str]:
        content = {"name": name, "description": None}
        listed = listed_fingerprint(name, None)
        return {"sent_digest": sent_fingerprint(content), "listed_digest": listed}

    def segment(what: str, **values: Any) -> Any:
        name = f"{label}: {what}"
        values = {"due_at": minutes_ago, "created_at": before, "updated_at": before, **values}
        return old.add("Segment", name=name, **values)

    def known(what: str, status: str, **values: Any) -> Any:
        """A segment that Bunce has, and that was sent as it is."""
        name = f"{label}: {what}"
        stored = bunce.add_segment(name, created_at=before)
        return segment(
            what,
            **{**digests(name), **here, "status": status, "bunce_id": stored.id},
            bunce_name=name,
            shown_digest=listed_fingerprint(name, None),
            sent_at=before,
            synced_at=before,
            bunce_conditions={"all": [1, None]},
            **{"settled": {"name": "0" * 16}, "bunce_customers_count": 2**40, **values},
        )

    segment("pending")
    segment("held", hold_id=held.pk)
    known("sending", Status.SENDING, lease_token=uuid.uuid4(), lease_until=minutes_ago)
    synced = known("synced", Status.SYNCED, bunce_type="manual", imported_at=before)
    known("rejected", Status.REJECTED, last_code="conflict", last_error="Ünïcode \U0001f600")
    lost = segment("in doubt", status=Status.IN_DOUBT, sent_at=minutes_ago, attempts=3, **here)
    lost_digests = digests(lost.name)
    type(lost)._base_manager.using(site.alias).filter(pk=lost.pk).update(**lost_digests)
    bunce.add_segment(lost.name, created_at=minutes_ago)

    for outcome in Outcome.values:
        create = outcome == Outcome.UNKNOWN
        old.add(
            "ApiCall",
            **{**here, "segment_id": lost.pk if create else synced.pk, "outcome": outcome},
            operation="create" if create else "update",
            path="/segments",
            body={"name": lost.name},
            listed_digest=lost_digests["listed_digest"],
            started_at=minutes_ago,
            duration_ms=12,
            http_status=500,
            code="cut",
        )

    old.add("CustomerSync", segment_id=synced.pk, bunce_id=synced.bunce_id, counts={"added": 1})
    for operation in ("add", "remove"):
        old.add("CustomerQueue", sync_id=synced.pk, operation=operation, due_at=minutes_ago)
    for status in MemberStatus.values:
        told = status in (MemberStatus.IN_BUNCE, MemberStatus.REMOVED)
        old.add(
            "Member",
            segment_id=synced.pk,
            identifier=f"{label}-{status}",
            in_bunce=told,
            status=status,
            wanted=status != MemberStatus.REMOVED,
            due_at=now + timedelta(days=1) if told else minutes_ago,
            lease_token=uuid.uuid4() if status == MemberStatus.SENDING else None,
        )
    bunce.add_members(synced.bunce_id, [f"{label}-{MemberStatus.IN_BUNCE}"])

    old.add("ForgottenCustomer", digest=uuid.uuid4().hex)
    old.add("IdempotencyKey", digest=uuid.uuid4().hex, body_digest="b", result=[201, {"id": 1}])
    old.add("ImportRun", requested_by=label, finished_at=before, counts={"new": 1}, **here)
    old.add("OperationState", operation="read", code="", since=before, environment=label)
    old.add("SyncState", environment=label, swept_at=before, known_keys=["a"], scan={"page": 2})
    old.add("Tombstone", bunce_id=f"{label}-gone", segment_id=1, **here)


def migrate(site: Site, migration: str) -> None:
    call_command("migrate", APP, migration, database=site.alias, verbosity=0, skip_checks=True)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def site(
    request: pytest.FixtureRequest,
    database_access: None,
    bunce: Emulator,
    filesystem_broker: Broker,
    tmp_path: Path,
) -> Iterator[Site]:
    """A site on each database, without data."""
    url: str = request.getfixturevalue(f"{request.param}_database")
    with Site(tmp_path, url, filesystem_broker, bunce.base_url, {"BUNCE_GRACE": "1"}) as site:
        yield site


@pytest.mark.parametrize("earlier", migrations()[:-1])
def test_an_upgrade_loses_nothing_and_its_rows_are_sent(
    site: Site, bunce: Emulator, earlier: str
) -> None:
    newest = migrations()[-1]
    migrate(site, "zero")
    migrate(site, earlier)
    old = Schema(site, earlier)
    fill(old, site, bunce, "before")
    rows = old.read()
    assert all(rows.values()), "fill() writes no row of a table"
    statuses = {row["status"] for row in rows["Segment"].values()}
    assert statuses == set(Status.values)

    migrate(site, newest)
    assert old.read() == rows

    # Processes of the old release still run.
    fill(old, site, bunce, "after")
    rows = old.read()

    site.manage("bunce_sweep", "--max-seconds", "20")
    site.wait_until(lambda: not _at_work(site), "all is sent", seconds=1)
    for label in ("before", "after"):
        [pending] = site.segments.filter(name=f"{label}: pending")
        [doubtful] = site.segments.filter(name=f"{label}: in doubt")
        [synced] = site.segments.filter(name=f"{label}: synced")
        names = [one.name for one in bunce.segments]
        for row in (pending, doubtful):
            assert row.status == Status.SYNCED
            assert names.count(row.name) == 1
            assert bunce.segment(str(row.bunce_id)).name == row.name
        assert bunce.member_ids(str(synced.bunce_id)) == {
            f"{label}-{status}" for status in ("pending", "sending", "in_bunce")
        }
        [held] = site.segments.filter(name=f"{label}: held")
        assert held.status == Status.PENDING

    rows = old.read()
    migrate(site, earlier)
    assert old.read() == rows
    assert not _unapplied_tables(site, old)


def _at_work(site: Site) -> bool:
    waiting = site.segments.filter(status__in=(Status.SENDING, Status.IN_DOUBT))
    return waiting.exists() or site.segments.filter(status=Status.PENDING, hold=None).exists()


def _unapplied_tables(site: Site, old: Schema) -> set[str]:
    """Return the tables of the app that the old schema does not have."""
    tables = connections[site.alias].introspection.table_names()
    known = {model._meta.db_table for model in old.models.values()}
    return {name for name in tables if name.startswith(f"{APP}_")} - known

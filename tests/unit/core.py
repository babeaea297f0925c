"""Helpers shared by the sync tests: rows in any state, past calls, settings, and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.db import connections
from django.db.models import F
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.conf import conf
from bunce_sync.fingerprint import listed_fingerprint
from bunce_sync.models import ApiCall, ImportRun, OperationState, Segment, SyncState
from bunce_sync.sync import importer, list_scan, push, reconcile, refresh, shared_state
from bunce_sync.sync.budget import Budget
from bunce_sync.testing.emulator import Emulator

Status = Segment.Status
Outcome = ApiCall.Outcome
Operation = ApiCall.Operation
Reason = SyncState.Reason

T = TypeVar("T")


def configure(settings: Settings, **values: Any) -> None:
    """Change some keys of ``BUNCE_SYNC`` for one test."""
    settings.BUNCE_SYNC = {**django_settings.BUNCE_SYNC, **values}


def now() -> datetime:
    """Return the database's time."""
    return shared_state.now()


def ago(seconds: float) -> datetime:
    """Return the database's time this many seconds ago; a negative number is in the future."""
    return now() - timedelta(seconds=seconds)


def make(name: str = "VIP", description: str | None = None, **fields: Any) -> Segment:
    """Create a row in any state, without sending a signal or a message."""
    status = fields.setdefault("status", Status.PENDING)
    fields.setdefault("due_at", ago(0))
    if status == Status.SENDING:
        fields.setdefault("lease_token", uuid4())
        fields.setdefault("lease_until", ago(-60))
    if status == Status.SYNCED:
        fields.setdefault("bunce_id", str(uuid4()))
        fields.setdefault("shown_digest", listed_fingerprint(name, description))
    if fields.get("bunce_id"):
        fields.setdefault("environment", conf.environment)
        shared_state.accept_key()  # the request that linked it has shown whose key it is
    if status != Status.PENDING:
        for column, digest in digests_of(name, description).items():
            fields.setdefault(column, digest)
        fields.setdefault("sent_at", ago(300))
    kept = {field: fields.pop(field) for field in [*fields] if field in Segment.SYNC_FIELDS}
    row = Segment(name=name, description=description, **fields)
    Segment.objects.bulk_create([row])
    if row.pk is None:  # MySQL does not return it
        row = Segment.objects.latest("pk")
    Segment.objects.filter(pk=row.pk).update_sync_fields(**kept)
    return fresh(row)


def digests_of(name: str, description: str | None = None) -> dict[str, str]:
    """Return the fingerprints that are stored with this content once it is sent."""
    return Segment.digests_of({"name": name, "description": description})


def fresh(row: Segment) -> Segment:
    """Return the row as currently stored."""
    return Segment.objects.get(pk=row.pk)


def calls(row: Segment | None = None) -> list[tuple[str, str]]:
    """Return operation and outcome of each request in the call log, oldest first."""
    rows = ApiCall.objects.order_by("pk")
    if row is not None:
        rows = rows.filter(segment_id=row.pk)
    return [(call.operation, call.outcome) for call in rows]


def record_calls(
    *ages: float,
    operation: str = Operation.CREATE,
    outcome: str = Outcome.CONFIRMED,
    **fields: Any,
) -> list[ApiCall]:
    """Add calls to the call log that began this many seconds ago."""
    moment = now()
    return ApiCall.objects.bulk_create(
        ApiCall(
            operation=operation,
            path="/segments",
            outcome=outcome,
            started_at=moment - timedelta(seconds=age),
            **fields,
        )
        for age in ages
    )


def state() -> SyncState:
    """Return the shared row."""
    return shared_state.read()[0]


def blocked_until(operation: str) -> datetime | None:
    """Return until when an operation is paused; None if it is not."""
    states = OperationState.objects.filter(operation=operation)
    return states.values_list("blocked_until", flat=True).first()


def paused() -> set[str]:
    """Return the operations that are paused."""
    states = OperationState.objects.filter(blocked_until__isnull=False)
    return set(states.values_list("operation", flat=True))


def set_state(**fields: Any) -> None:
    """Change the shared row, creating it if necessary."""
    shared_state.read()
    SyncState.objects.filter(pk=conf.environment).update(**fields)


def doubtful(
    name: str = "VIP", description: str | None = None, *, sent: float = 300, **fields: Any
) -> Segment:
    """Create a row in doubt whose create was sent this long ago and whose grace period is over."""
    fields.setdefault("last_code", "read_timeout")
    fields.setdefault("environment", conf.environment)
    row = make(
        name, description, status=Status.IN_DOUBT, due_at=ago(1), sent_at=ago(sent), **fields
    )
    record_calls(
        sent,
        outcome=Outcome.UNKNOWN,
        segment=row,
        body=row.content(Segment.CREATE_FIELDS),
        listed_digest=row.listed_digest,
    )
    return row


def fill(bunce: Emulator, count: int, *, age: float = 0) -> None:
    """Add other segments to Bunce, one second apart; the newest is ``age`` seconds old."""
    newest = ago(age)
    for number in range(count):
        bunce.add_segment(f"Other {number}", created_at=newest - timedelta(seconds=number))


def look_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read one page of the list, then kill the process before it releases the scan."""
    with monkeypatch.context() as patch:
        keep = list_scan.Walk._keep

        def keep_and_die(*args: Any) -> bool:
            keep(*args)
            raise KeyboardInterrupt

        patch.setattr(list_scan.Walk, "_keep", keep_and_die)
        patch.setattr(list_scan.Walk, "release", lambda walk: None)
        with pytest.raises(KeyboardInterrupt):
            reconcile.run(Budget(30))


def during_the_first_page(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Do something while a page is being read."""
    use_page = list_scan.Walk.use_page
    done: list[bool] = []

    def work_and_use_page(*args: Any, **kwargs: Any) -> None:
        if not done:
            done.append(True)
            work()
        use_page(*args, **kwargs)

    monkeypatch.setattr(list_scan.Walk, "use_page", work_and_use_page)


def let_pauses_pass(seconds: float) -> None:
    """Move all pauses into the past, as if this many seconds had passed."""
    by = timedelta(seconds=seconds)
    past = {
        name: F(name) - by
        for name in ("blocked_until", "blocked_since", "probe_until", "resumed_at")
    }
    SyncState.objects.filter(pk=conf.environment).update(**past)
    OperationState.objects.update(
        blocked_until=F("blocked_until") - by, probe_until=F("probe_until") - by
    )


def let_time_pass(seconds: float) -> None:
    """Move all stored times into the past, as if this many seconds had passed."""
    by = timedelta(seconds=seconds)
    let_pauses_pass(seconds)
    Segment.objects.update_sync_fields(due_at=F("due_at") - by, created_at=F("created_at") - by)
    Segment.objects.filter(lease_until__isnull=False).update_sync_fields(
        lease_until=F("lease_until") - by
    )
    ApiCall.objects.update(started_at=F("started_at") - by)
    SyncState.objects.filter(scan_lease_until__isnull=False).update(
        scan_lease_until=F("scan_lease_until") - by
    )


def judge_absent(row: Segment) -> None:
    """Make a row in doubt pending, as after a scan that ended before Bunce stored the segment."""
    calls = ApiCall.objects.filter(segment_id=row.pk, operation=Operation.CREATE, decision="")
    calls.update(decision=ApiCall.Decision.ABSENT)
    Segment.objects.filter(pk=row.pk).update_sync_fields(status=Status.PENDING, due_at=now())


def due(row: Segment) -> bool:
    """Return whether the row may be sent now."""
    return Segment.objects.due().filter(pk=row.pk).exists()


def seconds_until(moment: datetime | None) -> float:
    """Return the seconds until a time, by the database's clock."""
    assert moment is not None
    return (moment - now()).total_seconds()


def in_threads(works: Sequence[Callable[[], T]]) -> list[T]:
    """Run all at once, each with its own database connection, and raise the first error."""

    def run(work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(60) for future in [pool.submit(run, work) for work in works]]


def drain(*, seconds: float = 30, first: int | None = None) -> int:
    """Push what is due; return how many requests were made or tried."""
    return push.run(Budget(seconds), first_id=first).requests


def run_reconcile(*, seconds: float = 30) -> int:
    """Continue or begin the scan; return how many pages were read."""
    return reconcile.run(Budget(seconds)).requests


def run_import(*, seconds: float = 30, **options: Any) -> ImportRun:
    """Import all segments in Bunce, or as many as the time allows.

    Args:
        options: as for ``services.request_import``.
    """
    run = services.request_import(**options)
    importer.run(Budget(seconds))
    run.refresh_from_db()
    return run


def counted(run: ImportRun) -> dict[str, int]:
    """Return what an import counted, without the zeros."""
    return {name: count for name, count in run.counts.items() if count}


def run_refresh(*, seconds: float = 30) -> int:
    """Read what was requested; return how many segments were read."""
    return refresh.run(Budget(seconds)).requests

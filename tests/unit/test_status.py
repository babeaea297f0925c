"""What the panel and the API's status show: counts, rate limiter, sweep, and the last hour."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from bunce_sync import services, tasks
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, ImportRun, PushHold, Segment, SyncState
from bunce_sync.status.counts import BUCKETS
from bunce_sync.status.status import get_status
from bunce_sync.sync import sweep
from bunce_sync.sync.list_scan import Scan
from tests.unit.core import make

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def key(settings: Settings) -> None:
    settings.BUNCE_SYNC = {"API_KEY": "sk_test_overview"}


def shared(**values: Any) -> datetime:
    """Set the shared row and return the database's time."""
    SyncState.objects.update_or_create(pk=conf.environment, defaults=values)
    return SyncState.objects.annotate(now=DatabaseNow()).get().now


def segments(status: str, count: int, **fields: Any) -> None:
    for n in range(count):
        make(f"{status} {n}", status=status, **fields)


def call(outcome: str, at: datetime, operation: str = "create") -> None:
    ApiCall.objects.create(operation=operation, path="/segments", outcome=outcome, started_at=at)


def test_a_new_site_has_nothing_and_no_sweep_has_run() -> None:
    seen = get_status()
    assert seen.counts == dict.fromkeys(("pending", "sending", "synced", "in_doubt", "rejected"), 0)
    assert (seen.rate_limiter.state, seen.configuration_problem, seen.key_missing) == (
        "open",
        "",
        False,
    )
    assert seen.sweep.late
    assert seen.sweep.at is None
    assert seen.scan is None
    assert (seen.usage.used, seen.usage.limit, seen.usage.seconds) == (0, 500, 60.0)


def test_rows_are_counted_by_state() -> None:
    segments("pending", 3)
    segments("rejected", 2)
    segments("synced", 4)
    counted = get_status().counts
    assert counted["pending"] == 3
    assert counted["rejected"] == 2
    assert counted["synced"] == 4
    assert counted["in_doubt"] == 0


@pytest.mark.parametrize("rows", [1, 50])
def test_the_number_of_queries_is_small_and_does_not_grow_with_the_rows(rows: int) -> None:
    now = shared()
    segments("pending", rows)
    segments("synced", rows)
    for _ in range(rows):
        call("confirmed", now)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        get_status()
    assert len(queries) == 16


def test_due_segments_are_counted_by_kind_of_work() -> None:
    now = shared()
    segments("pending", 3, due_at=now - HOUR)
    segments("pending", 1, due_at=now + HOUR)
    segments("in_doubt", 2, due_at=now - HOUR)
    segments("in_doubt", 1, due_at=now + HOUR)
    segments("synced", 4)
    Segment.objects.filter(status="synced").update_sync_fields(refresh_requested_at=now)
    assert get_status().due == {
        "push": 3,
        "reconcile": 2,
        "refresh": 4,
        "import": 0,
        "audiences": 0,
        "customers": 0,
    }


def test_the_requests_of_the_window_are_counted_as_the_rate_limiter_counts_them() -> None:
    now = shared()
    call("confirmed", now)
    call("unknown", now - timedelta(seconds=30))
    call("not_sent", now)
    call("confirmed", now - timedelta(minutes=2))
    assert get_status().usage.used == 2


def test_no_limit_is_none(settings: Settings) -> None:
    settings.BUNCE_SYNC = {**settings.BUNCE_SYNC, "RATE_LIMIT": None}
    assert get_status().usage.limit is None


def test_a_paused_rate_limiter_says_why_and_until_when() -> None:
    now = shared()
    until, since = now + HOUR, now - HOUR
    shared(
        blocked_until=until,
        blocked_reason="rate_limited",
        blocked_since=since,
        blocked_detail="You have reached maximum request limit.",
    )
    rate_limiter = get_status().rate_limiter
    assert (rate_limiter.state, rate_limiter.reason) == ("paused", "rate_limited")
    assert (rate_limiter.until, rate_limiter.since) == (until, since)
    assert rate_limiter.detail == "You have reached maximum request limit."


def test_a_rate_limiter_whose_pause_is_over_is_probing_until_a_response_opens_it() -> None:
    now = shared()
    shared(blocked_until=now - HOUR, blocked_reason="unreachable", blocked_since=now - HOUR)
    rate_limiter = get_status().rate_limiter
    assert (rate_limiter.state, rate_limiter.reason, rate_limiter.until) == (
        "probing",
        "unreachable",
        None,
    )


@pytest.mark.parametrize(("seconds", "late"), [(0, False), (25, False), (31, True)])
def test_a_sweep_is_late_after_three_intervals(seconds: int, late: bool) -> None:
    shared(swept_at=DatabaseNow() - timedelta(seconds=seconds))
    sweep = get_status().sweep
    assert sweep.late is late
    assert sweep.age is not None
    assert seconds <= sweep.age < seconds + 4


@pytest.mark.parametrize(("seconds", "late"), [(75, False), (140, False), (160, True)])
def test_a_cron_job_sweeps_every_minute(seconds: int, late: bool) -> None:
    call_command("bunce_sweep", "--max-seconds", "50", verbosity=0)
    assert get_status().sweep.by == "cron"
    SyncState.objects.update(swept_at=DatabaseNow() - timedelta(seconds=seconds))
    assert get_status().sweep.late is late


def test_the_last_sweep_says_what_ran_it() -> None:
    call_command("bunce_sweep", "--loop", "--max-seconds", "0.1", verbosity=0)
    assert get_status().sweep.by == "loop"
    sweep.run_once(seconds=0.1)
    tasks.sweep()
    assert get_status().sweep.by == "worker"


@pytest.mark.parametrize(("ages", "late"), [((), True), ((5,), False), ((45, 5), True)])
def test_the_first_sweep_of_a_worker_that_has_just_started_is_not_late(
    ages: tuple[float, ...], late: bool
) -> None:
    now = shared(swept_at=None)
    for age in ages:
        call("confirmed", now - timedelta(seconds=age))
    assert get_status().sweep.late is late


def test_a_scan_in_progress_shows_how_far_it_is() -> None:
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    shared(scan=Scan(started_at=started, kept_at=started, environment="", pages=17).to_json())
    scan = get_status().scan
    assert scan is not None
    assert (scan.pages, scan.started_at) == (17, started)


@pytest.mark.parametrize("kept", [{"begun": 1}, {"started_at": "2026-01-02T03:04:05+00:00"}, [1]])
def test_a_scan_that_another_release_kept_is_not_shown(kept: Any) -> None:
    shared(scan=kept)
    assert get_status().scan is None


def test_a_missing_key_and_an_unusable_setting_are_distinguished(settings: Settings) -> None:
    settings.BUNCE_SYNC = {}
    assert (get_status().key_missing, get_status().configuration_problem) == (True, "")
    settings.BUNCE_SYNC = {"API_KEY": "sk_test_x", "SWEEP_INTERVAL": "often", "RATE_LIMIT": -1}
    seen = get_status()
    assert not seen.key_missing
    assert "RATE_LIMIT" in seen.configuration_problem
    assert seen.usage.limit == 500


def test_the_requests_of_the_last_hour_are_counted_in_buckets_of_five_minutes() -> None:
    now = shared()
    for outcome in ("confirmed", "confirmed", "duplicate", "rejected", "unknown", "not_sent"):
        call(outcome, now)
    call("rate_limited", now - timedelta(minutes=20))
    call("under_way", now)
    call("confirmed", now - timedelta(minutes=66))
    hour = get_status().hour
    assert len(hour) == BUCKETS
    assert all(b.start - a.start == timedelta(minutes=5) for a, b in pairwise(hour))
    total = [sum(getattr(b, kind) for b in hour) for kind in ("accepted", "rejected", "failed")]
    assert total == [3, 1, 3]
    by_time = {bucket.start: bucket for bucket in hour}
    long_ago = now - timedelta(minutes=20)
    start = long_ago.replace(minute=long_ago.minute - long_ago.minute % 5, second=0, microsecond=0)
    assert by_time[start].failed == 1


def test_a_pause_and_the_blocks_that_hold_segments_are_told_apart() -> None:
    seen = get_status()
    assert (seen.pause, seen.holds) == (None, ())
    services.pause(reason=" Moving house ", by="ada")
    block = PushHold.objects.create(reason="nightly", by="www@web1, process 42")
    make("held", hold=block)
    make("free")
    seen = get_status()
    assert seen.pause is not None
    assert (seen.pause.by, seen.pause.reason) == ("ada", "Moving house")
    [hold] = seen.holds
    assert (hold.id, hold.process, hold.reason) == (block.pk, block.by, "nightly")
    assert hold.segments == 1


def test_segments_of_other_environments_are_counted_by_environment() -> None:
    assert get_status().elsewhere == {}
    for environment, count in (("https://a.test:443 live", 2), ("https://z.test:443 live", 1)):
        segments("synced", count, environment=environment)
    segments("synced", 1, environment=conf.environment)
    segments("pending", 1)
    seen = get_status()
    assert seen.elsewhere == {"https://a.test:443 live": 2, "https://z.test:443 live": 1}
    assert seen.environment == conf.environment


def test_segments_that_were_changed_in_bunce_are_counted_until_they_are_settled() -> None:
    segments("synced", 2, last_code="drift")
    segments("synced", 1, last_code="stored_differently")
    segments("pending", 1, last_code="drift")
    assert get_status().changed_in_bunce == 2
    services.push_ours(Segment.objects.all())
    assert get_status().changed_in_bunce == 0


def test_only_the_current_key_can_be_strange(settings: Settings) -> None:
    shared(strange_key=conf.key_digest, strange_since=datetime(2026, 1, 2, tzinfo=UTC))
    assert get_status().strange_key_since == datetime(2026, 1, 2, tzinfo=UTC)
    settings.BUNCE_SYNC = {"API_KEY": "sk_test_another"}
    assert get_status().strange_key_since is None
    settings.BUNCE_SYNC = {"API_KEY": 7}
    assert get_status().strange_key_since is None


def test_the_open_import_is_shown_and_then_the_last_one() -> None:
    assert get_status().imported is None
    run = services.request_import(by="ada", adopt=True)
    ImportRun.objects.update(pages=3, counts={"imported": 300})
    seen = get_status().imported
    assert seen is not None
    assert (seen.requested_by, seen.adopt, seen.pages) == ("ada", True, 3)
    assert (seen.finished_at, seen.cancelled, seen.counts) == (None, False, {"imported": 300})
    services.cancel_import()
    seen = get_status().imported
    assert seen is not None
    assert seen.cancelled
    assert seen.finished_at is not None
    assert seen.requested_at == run.requested_at

"""What ``bunce_doctor`` finds: each line is made to fail, and names the fix."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from celery import Celery
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder
from pytest_django import Settings

from bunce_sync import clocks, doctor, tasks
from bunce_sync.conf import conf
from bunce_sync.doctor import Finding, examine
from bunce_sync.models import (
    ApiCall,
    CustomerQueue,
    CustomerSync,
    Member,
    OperationState,
    SyncState,
)
from bunce_sync.publisher import publisher
from bunce_sync.sync import host_clocks, shared_state
from bunce_sync.testing.emulator import Emulator, Faults

from .core import Operation, Reason, ago, configure, make, now, set_state

pytestmark = pytest.mark.django_db

#: Long enough for nothing: no worker takes the messages of these tests.
NO_TIME = 0.0


@pytest.fixture(autouse=True)
def clean(bunce: Emulator) -> None:
    publisher.reset()


def lines(name: str) -> list[Finding]:
    return [finding for finding in examine(NO_TIME) if finding.name == name]


def line(name: str) -> Finding:
    [finding] = lines(name)
    return finding


def assert_found(name: str, level: str, summary: str, fix: str = "") -> None:
    finding = line(name)
    assert (finding.level, finding.name) == (level, name)
    assert summary in finding.summary
    assert fix in finding.fix
    if level in ("warn", "fail"):
        assert finding.fix, "a problem has a fix"


def test_in_order_every_line_but_the_worker_passes() -> None:
    found = {finding.name: finding.level for finding in examine(NO_TIME)}
    assert found.pop("worker") == "fail"
    assert found.pop("beat") == "skip"
    assert [name for name, level in found.items() if level != "pass"] == []
    assert {"settings", "api_key", "database", "celery", "migrations", "clock"} <= found.keys()
    assert {"bunce", "key", "broker", "limiter", "rows"} <= found.keys()


# Settings


def test_an_invalid_setting(settings: Settings) -> None:
    configure(settings, PAGE_SIZE="many")
    assert_found("settings", "fail", "PAGE_SIZE", "100")
    assert_found("bunce", "skip", "settings do not allow")


def test_no_api_key(settings: Settings) -> None:
    configure(settings, API_KEY="")
    assert_found("api_key", "fail", "not set", "Bunce's dashboard")


def test_a_key_of_the_other_kind(settings: Settings) -> None:
    configure(settings, API_KEY="sk_test_1", ENV="live", BASE_URL="https://api.bunce.so/v1")
    found = [finding for finding in doctor._checks() if finding.name == "api_key"]
    [finding] = found
    assert (finding.level, "test key" in finding.summary) == ("fail", True)
    assert "other key" in finding.fix


def test_an_address_without_encryption(settings: Settings) -> None:
    configure(settings, API_KEY="sk_live_1", BASE_URL="http://api.bunce.so/v1")
    [finding] = [finding for finding in doctor._checks() if finding.name == "address"]
    assert (finding.level, "unencrypted" in finding.summary) == ("fail", True)
    assert "https://" in finding.fix


def test_a_database_with_wrong_options(settings: Settings) -> None:
    settings.USE_TZ = False
    [finding] = [finding for finding in doctor._checks() if finding.name == "database"]
    assert (finding.level, "USE_TZ" in finding.fix) == ("fail", True)


# Database and host


def test_a_migration_that_is_missing() -> None:
    MigrationRecorder(connection).migration_qs.filter(app="bunce_sync").delete()
    assert_found("migrations", "fail", "0001_initial", "manage.py migrate")
    assert "bunce" not in {finding.name for finding in examine(NO_TIME)}


def test_a_database_that_does_not_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise DatabaseError("secret")

    monkeypatch.setattr(connection, "cursor", refuse)
    [finding] = [doctor._migrations()]
    assert (finding.level, "DATABASES" in finding.fix) == ("fail", True)
    assert "secret" not in finding.summary


@pytest.mark.parametrize(("seconds", "words"), [(-90, "behind"), (90, "ahead of")])
def test_a_clock_that_is_off(seconds: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_clocks, "host_name", lambda: "web-7")
    wall = clocks.wall
    monkeypatch.setattr(clocks, "wall", lambda: wall() + seconds)
    [finding] = lines("clock")
    assert (finding.level, "NTP" in finding.fix) == ("warn", True)
    about = re.search(r"“(.*)” is at least ([0-9]+) s (ahead of|behind) the", finding.summary)
    assert about
    assert (about[1], about[3]) == ("web-7", words)
    assert 85 <= int(about[2]) <= 91


def test_the_clock_of_a_worker_that_is_off() -> None:
    entry = {"ahead": -3601.5, "seen_at": now().isoformat(), "by_itself": True}
    set_state(clocks={"worker-2": entry})
    assert_found("clock", "warn", "“worker-2” is at least 3,601 s behind", "NTP")
    set_state(clocks=None)
    assert line("clock").level == "pass"


def database_knows(zone: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONVERT_TZ('2026-01-01', 'UTC', %s)", [zone])
        return cursor.fetchone()[0] is not None


@pytest.mark.skipif(connection.vendor != "mysql", reason="only MySQL has tables of time zones")
@pytest.mark.parametrize("zone", ["UTC", "Africa/Lagos"])
def test_time_zones_that_the_database_does_not_know(settings: Settings, zone: str) -> None:
    settings.TIME_ZONE = zone
    found = list(doctor._time_zones())
    if zone == "UTC":
        assert found == []
    elif database_knows(zone):
        assert found[0].level == "pass"
    else:
        assert (found[0].level, "mysql_tzinfo_to_sql" in found[0].fix) == ("warn", True)


# Bunce


@pytest.mark.parametrize(
    ("address", "summary", "fix"),
    [
        ("http://127.0.0.1:9/v1", "refused the connection", "that the server runs"),
        ("http://nothing.localhost.invalid:80/v1", "could not be resolved", "getent hosts"),
    ],
)
def test_a_host_that_cannot_be_reached(
    settings: Settings, address: str, summary: str, fix: str
) -> None:
    configure(settings, BASE_URL=address)
    assert_found("bunce", "fail", summary, fix)
    assert_found("key", "skip", "could not be asked")


def test_a_server_that_does_not_speak_tls(settings: Settings, bunce: Emulator) -> None:
    configure(settings, BASE_URL=bunce.base_url.replace("http://", "https://"))
    assert_found("bunce", "fail", "secure connection", "REQUESTS_CA_BUNDLE")


def test_a_wrong_path(settings: Settings, bunce: Emulator) -> None:
    configure(settings, BASE_URL=bunce.base_url.replace("/v1", "/v2"))
    assert_found("bunce", "fail", "404", "/v1")


def test_a_server_that_does_not_answer(settings: Settings, bunce: Emulator) -> None:
    bunce.set_faults(Faults(reset_before=1.0, methods=frozenset({"GET"})))
    assert_found("bunce", "fail", "connection broke", "another service or proxy")


def test_a_key_that_bunce_refuses(bunce: Emulator) -> None:
    bunce.set(key="sk_test_other")
    assert_found("key", "fail", "refuses the API key", "dashboard")


def test_an_examination_does_not_pause_the_site(bunce: Emulator) -> None:
    bunce.set(key="sk_test_other")
    assert line("key").level == "fail"
    bunce.set(key=None)
    for _ in range(6):
        bunce.set_faults(Faults(reset_before=1.0, methods=frozenset({"GET"})))
        assert line("bunce").level == "fail"
    bunce.set_faults(Faults())
    assert (line("key").level, line("limiter").level) == ("pass", "pass")


def test_after_a_pause_an_examination_that_fails_leaves_the_probe_to_a_worker(
    bunce: Emulator,
) -> None:
    set_state(blocked_until=ago(1), blocked_reason=Reason.KEY_REFUSED, blocked_since=ago(60))
    bunce.set(key="sk_test_other")
    assert line("key").level == "fail"
    bunce.set(key=None)
    assert line("key").level == "pass"
    assert line("limiter").level == "pass"


def test_a_key_without_rights(bunce: Emulator) -> None:
    bunce.set_faults(Faults(forbidden=1.0, methods=frozenset({"GET"})))
    assert_found("key", "fail", "lacks a permission", "right to read and write")


def test_the_request_is_logged_and_limited() -> None:
    assert line("key").level == "pass"
    [call] = ApiCall.objects.all()
    assert (call.operation, call.path) == ("list", "/segments?page=1&per_page=1")


def test_while_requests_are_paused_none_is_made(bunce: Emulator) -> None:
    set_state(blocked_until=ago(-300), blocked_reason=Reason.RATE_LIMITED, blocked_since=ago(1))
    assert_found("bunce", "skip", "paused", "")
    assert bunce.served == 0
    assert_found("limiter", "warn", "Paused until", "automatically")


# Celery


def test_a_broker_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://:secret@127.0.0.1:9/0")
    assert_found("broker", "fail", "127.0.0.1:9", "CELERY_BROKER_URL")
    assert "secret" not in line("broker").summary
    assert_found("worker", "skip", "without a broker")


@pytest.mark.parametrize(
    "url",
    [
        "nonsense://:secret@127.0.0.1",  # no such transport
        "zookeeper://:secret@127.0.0.1",  # its library is not installed
        "redis://:secret[@127.0.0.1",
    ],
)
def test_a_broker_that_cannot_be_loaded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    assert_found("broker", "fail", "library for this broker is missing", "pip install")
    assert "secret" not in line("broker").summary
    assert_found("worker", "skip", "without a broker")


def test_a_redis_library_that_is_too_old(site_app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setattr("redis.VERSION", (2, 10, 6))
    assert_found("broker", "fail", "too old", "pip install")


def test_no_worker() -> None:
    assert_found("worker", "fail", "No worker", "celery -A project worker -B")
    assert_found("beat", "skip", "Without a worker")


def test_a_sweep_of_beat_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish_elsewhere(task: Any, *args: Any) -> bool:
        tasks.sweep()  # a worker of the site, which gets its messages from another broker
        return True

    monkeypatch.setattr(publisher, "publish", publish_elsewhere)
    assert line("worker").level == "fail"


def test_a_worker_that_takes_this_message_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish_here(task: Any, *args: Any) -> bool:
        task(*args)
        return True

    monkeypatch.setattr(publisher, "publish", publish_here)
    assert line("worker").level == "pass"


def test_no_worker_but_the_command(bunce: Emulator) -> None:
    call_command("bunce_sweep", verbosity=0)
    assert_found("worker", "warn", "bunce_sweep runs", "bunce_sweep --max-seconds 50")


def test_messages_that_celery_refuses(site_app: Celery) -> None:
    site_app.conf.update(
        task_routes={"bunce_sync.*": {"queue": "sync"}}, task_create_missing_queues=False
    )
    assert_found("celery", "warn", "'sync'", "CELERY_TASK_QUEUES")
    assert_found("worker", "fail", "could not send", "“celery”")


def test_eager_tasks(site_app: Celery) -> None:
    site_app.conf.task_always_eager = True
    assert_found("worker", "warn", "task_always_eager", "outside tests")


def test_a_site_without_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "celery_app", lambda: None)
    assert_found("worker", "fail", "bunce_sweep is not running", "as a service")
    call_command("bunce_sweep", verbosity=0)
    assert_found("worker", "pass", "bunce_sweep runs")


# The sync


def test_an_operation_that_is_paused() -> None:
    OperationState.objects.create(
        operation=Operation.CREATE, code="forbidden", since=ago(60), blocked_until=ago(-60)
    )
    found = [finding for finding in lines("limiter") if finding.level != "pass"]
    assert [finding.level for finding in found] == ["fail"]
    assert found[0].fix


def test_rows_that_are_overdue_or_refused() -> None:
    make("Old", due_at=ago(600))
    make("No", status="rejected")
    summaries = [(finding.level, finding.summary) for finding in lines("rows")]
    assert summaries == [
        ("warn", "1 segments have been due for more than 60 s."),
        ("warn", "1 segments need attention."),
    ]


# The command


def run(*options: str) -> str:
    out = io.StringIO()
    call_command("bunce_doctor", "--worker-seconds", "0", *options, stdout=out, no_color=True)
    return out.getvalue()


def test_a_site_without_customers_has_no_line_about_them() -> None:
    assert lines("customers") == []


def test_customers_in_order() -> None:
    CustomerSync.objects.create(segment=make("A"))
    assert_found("customers", "pass", "No audience is held, and no customer is refused.")


def test_audiences_that_wait_for_a_person() -> None:
    CustomerSync.objects.create(
        segment=make("A"), key="a", held_at=ago(60), held_removals=1200, held_members=2000
    )
    CustomerSync.objects.create(segment=make("B"), key="b", run_error="KeyError")
    held, failed = lines("customers")
    assert held.summary.startswith("The audience a is held: 1,200 of 2,000 customers")
    assert "bunce_audiences confirm a" in held.fix
    assert failed.summary.startswith("The audience b could not be compared")
    assert {held.level, failed.level} == {"warn"}


def test_refused_customers_and_queues_that_fail() -> None:
    segment = make("A")
    segment.add_customers(["c-1"])
    CustomerQueue.objects.filter(operation="add").update(last_code="all_refused")
    Member.objects.update(status="refused")
    delayed, refused = lines("customers")
    assert delayed.summary.startswith("The customers of 1 segments wait")
    assert refused.summary == "Bunce refused 1 customers."


def test_the_exit_code_says_whether_something_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="Not everything works: worker"):
        run()
    monkeypatch.setattr(doctor, "celery_app", lambda: None)
    SyncState.objects.update_or_create(
        pk=conf.environment, defaults={"swept_at": shared_state.now()}
    )
    printed = run()
    assert "pass  key         Bunce accepts the API key.\n" in printed
    report = json.loads(run("--json"))
    assert report["ok"] is True
    assert report["findings"][0] == {
        "name": "settings",
        "level": "pass",
        "summary": "BUNCE_SYNC is valid.",
        "fix": "",
    }


def test_lines_fit_a_terminal(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings, BASE_URL="http://127.0.0.1:9/v1")
    with pytest.raises(CommandError):
        call_command("bunce_doctor", "--worker-seconds", "0", no_color=True)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    assert "→ " in printed

"""Health views, metrics, the check of django-health-check, and the alerts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Model
from django.test import Client
from django.urls import include, path
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings
from pytest_django.fixtures import DjangoAssertNumQueries

from bunce_sync import database
from bunce_sync.choices import MemberStatus, Operation, Outcome, Reason, Status
from bunce_sync.conf import conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.log_events import LogEvent
from bunce_sync.models import ApiCall, Member, OperationState, PushHold, Segment, SyncState
from bunce_sync.monitoring import health, metrics
from bunce_sync.services.holds import pause
from bunce_sync.sync.sweep import sweep
from bunce_sync.testing.emulator import Emulator

from .core import ago, configure, drain, let_time_pass, make, now, record_calls, set_state

urlpatterns = [path("bunce/", include("bunce_sync.monitoring.urls"))]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def swept(bunce: Emulator) -> None:
    """A site that has just been swept."""
    sweep()


def get(client: Client, name: str) -> tuple[int, Any]:
    response = client.get(f"/bunce/{name}")
    return response.status_code, response.json()


def codes(client: Client) -> list[str]:
    """Return the codes of the problems of the sync."""
    status, content = get(client, "health/sync/")
    found = [one["code"] for one in content["problems"]]
    assert all(one["summary"] for one in content["problems"])
    assert (status, content["status"]) == ((503, "failing") if found else (200, "ok"))
    return found


# Health


@pytest.mark.usefixtures("swept")
def test_a_healthy_site(client: Client) -> None:
    make(status=Status.REJECTED)  # a matter of this segment
    pause(by="anna", reason="Checking")  # a decision
    set_state(blocked_until=ago(-30), blocked_reason=Reason.RATE_LIMITED)  # normal at full pace
    assert get(client, "health/") == (200, {"status": "ok", "problems": []})
    assert codes(client) == []


def test_a_site_that_was_never_swept(bunce: Emulator, client: Client) -> None:
    assert codes(client) == ["sweep_late"]
    assert get(client, "health/")[0] == 200  # the web server can do nothing about it


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"swept_at": True}, "sweep_late"),
        ({"blocked_reason": Reason.KEY_REFUSED}, "key_refused"),
        ({"blocked_reason": Reason.UNREACHABLE}, "bunce_unreachable"),
        ({"blocked_reason": Reason.UNAVAILABLE}, "bunce_unreachable"),
        ({"strange_key": True}, "key_strange"),
        ({"strange_key": True, "strange_detail": "HTTP 500"}, "key_unchecked"),
    ],
)
def test_a_problem(values: dict[str, Any], code: str, client: Client) -> None:
    if "swept_at" in values:
        values = {"swept_at": ago(100)}
    if "strange_key" in values:
        values = values | {"strange_key": conf.key_digest, "strange_since": now()}
    set_state(**values)
    assert codes(client) == [code]
    assert get(client, "health/")[0] == 200


@pytest.mark.usefixtures("swept")
def test_settings_that_cannot_be_used(client: Client, settings: Settings) -> None:
    configure(settings, API_KEY="")
    with pytest.raises(ConfigurationError):
        sweep()
    assert codes(client) == ["key_missing"]
    configure(settings, RATE_LIMIT="many")
    assert codes(client) == ["configuration"]


@pytest.mark.usefixtures("swept")
def test_an_operation_that_fails(client: Client) -> None:
    OperationState.objects.create(
        operation="create", code="forbidden", since=now(), blocked_until=ago(-9)
    )
    assert codes(client) == ["operation_paused"]


@pytest.fixture(params=[OperationalError, InterfaceError])
def no_database(request: pytest.FixtureRequest) -> Iterator[None]:
    """A database that refuses every query."""

    def refuse(*_args: object) -> None:
        raise request.param("password authentication failed for user “secret”")

    with connection.execute_wrapper(refuse):
        yield


@pytest.mark.usefixtures("no_database", "bunce")
def test_without_a_database_nothing_is_healthy(client: Client, settings: Settings) -> None:
    settings.DATABASES["default"]["ATOMIC_REQUESTS"] = True
    try:
        for name in ("health/", "health/sync/"):
            status, content = get(client, name)
            assert status == 503
            assert [one["code"] for one in content["problems"]] == ["database"]
            assert "secret" not in json.dumps(content)
    finally:
        settings.DATABASES["default"]["ATOMIC_REQUESTS"] = False


@pytest.mark.usefixtures("no_database", "bunce")
def test_a_failing_check_is_no_error_of_the_site(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A poll each few seconds must not fill the log and the mailboxes of ADMINS."""
    assert get(client, "health/sync/")[0] == 503
    assert caplog.records == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", [SyncState, Segment, ApiCall, Member])
def test_a_missing_column_is_noticed(model: type[Model], bunce: Emulator, client: Client) -> None:
    """As when a new release runs before its migrations."""
    field = model._meta.fields[-1]
    other = copy(field)
    other.column = "old_column"
    with connection.schema_editor() as editor:
        editor.alter_field(model, field, other)
    try:
        assert get(client, "health/")[0] == 503
    finally:
        with connection.schema_editor() as editor:
            editor.alter_field(model, other, field)
    assert get(client, "health/")[0] == 200


@pytest.mark.usefixtures("swept")
def test_only_reads_and_no_caches(client: Client) -> None:
    for name in ("health/", "health/sync/", "metrics/"):
        assert client.post(f"/bunce/{name}").status_code == 405
        assert "no-store" in client.get(f"/bunce/{name}")["Cache-Control"]
        assert client.head(f"/bunce/{name}").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_the_check_of_django_health_check(
    bunce: Emulator, client: Client, settings: Settings
) -> None:
    settings.ROOT_URLCONF = "tests.unit.health_urls"
    failing = client.get("/health/?format=json")
    assert failing.status_code == 500
    assert "No sweep has run yet." in failing.content.decode()
    sweep()
    assert client.get("/health/?format=json").status_code == 200


# Metrics


def scrape(client: Client) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the samples by name and label values."""
    response = client.get("/bunce/metrics/")
    assert response.status_code == 200
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(response.content.decode()):
        for sample in family.samples:
            labels = sorted(sample.labels.items(), key=lambda label: (label[0] == "le", label))
            samples.setdefault(sample.name, {})[tuple(dict(labels).values())] = sample.value
    return samples


@pytest.mark.usefixtures("swept")
def test_the_states(client: Client) -> None:
    make("A", due_at=ago(90))
    make("B", status=Status.IN_DOUBT, due_at=ago(30))
    row = make("C", status=Status.REJECTED)
    Member.objects.bulk_create(
        Member(segment_id=row.pk, identifier=name, status=status)
        for name, status in (
            ("c-1", MemberStatus.PENDING),
            ("c-2", MemberStatus.SENDING),
            ("c-3", MemberStatus.REFUSED),
        )
    )
    OperationState.objects.create(
        operation="create", code="forbidden", since=now(), blocked_until=ago(-9)
    )
    set_state(blocked_until=ago(-9), blocked_reason=Reason.UNREACHABLE)
    found = scrape(client)
    assert found["bunce_sync_segments"] == {
        ("pending",): 1,
        ("sending",): 0,
        ("synced",): 0,
        ("in_doubt",): 1,
        ("rejected",): 1,
    }
    oldest = found["bunce_sync_oldest_due_seconds"]
    assert 89 < oldest["push",] < 95
    assert 29 < oldest["reconcile",] < 35
    assert oldest["refresh",] == 0
    assert found["bunce_sync_members_to_send"] == {(): 2}
    assert found["bunce_sync_members_refused"] == {(): 1}
    assert found["bunce_sync_requests_paused"]["unreachable",] == 1
    assert found["bunce_sync_requests_paused"]["rate_limited",] == 0
    assert found["bunce_sync_operation_paused"]["create",] == 1
    assert found["bunce_sync_operation_paused"]["update",] == 0
    assert found["bunce_sync_sweep_age_seconds"][()] < 5
    assert found["bunce_sync_pushes_paused"] == {(): 0}
    assert found["bunce_sync_key_unusable"] == {(): 0}


def test_before_the_first_sweep_the_age_is_infinite(bunce: Emulator, client: Client) -> None:
    assert scrape(client)["bunce_sync_sweep_age_seconds"][()] == float("inf")


@pytest.mark.usefixtures("swept")
def test_pushes_are_counted_by_outcome(bunce: Emulator, client: Client) -> None:
    make("A")
    make("B")
    drain()
    bunce.script(["lost_answer"])
    make("C")
    drain()
    sweep()
    assert "bunce_sync_requests_total" not in scrape(client)  # too new to be sure of all
    let_time_pass(6)
    sweep()
    found = scrape(client)
    assert found["bunce_sync_requests_total"] == {
        ("create", "confirmed"): 2,
        ("create", "unknown"): 1,
    }
    assert found["bunce_sync_request_seconds_count"] == {("create",): 3}
    assert found["bunce_sync_request_seconds_bucket"]["create", "+Inf"] == 3
    assert 0 < found["bunce_sync_request_seconds_sum"]["create",] < 30
    sweep()
    assert scrape(client)["bunce_sync_requests_total"] == found["bunce_sync_requests_total"]


@pytest.mark.usefixtures("swept")
def test_the_counters_survive_the_pruning_of_the_call_log(
    client: Client, settings: Settings
) -> None:
    record_calls(6, 7, 8, duration_ms=300, operation=Operation.LIST)
    sweep()
    before = scrape(client)
    assert before["bunce_sync_requests_total"] == {("list", "confirmed"): 3}
    assert before["bunce_sync_request_seconds_bucket"]["list", "0.25"] == 0
    assert before["bunce_sync_request_seconds_bucket"]["list", "0.5"] == 3
    database.calls().all().delete()
    record_calls(6, duration_ms=20, operation=Operation.LIST)
    sweep()
    after = scrape(client)
    assert after["bunce_sync_requests_total"] == {("list", "confirmed"): 4}
    assert after["bunce_sync_request_seconds_bucket"]["list", "0.1"] == 1
    assert after["bunce_sync_request_seconds_sum"]["list",] == pytest.approx(0.92)


@pytest.mark.usefixtures("swept")
def test_what_is_under_way_is_counted_when_it_has_ended(client: Client) -> None:
    record_calls(9)
    [running] = record_calls(8, outcome=Outcome.UNDER_WAY)
    record_calls(7)
    sweep()
    assert scrape(client)["bunce_sync_requests_total"] == {("create", "confirmed"): 1}
    database.calls().filter(pk=running.pk).update(outcome=Outcome.REJECTED)
    sweep()
    assert scrape(client)["bunce_sync_requests_total"] == {
        ("create", "confirmed"): 2,
        ("create", "rejected"): 1,
    }


def test_calls_from_before_the_first_sweep_are_not_counted(bunce: Emulator, client: Client) -> None:
    record_calls(100, 50, 20)
    sweep()
    sweep()
    assert "bunce_sync_requests_total" not in scrape(client)


@pytest.mark.usefixtures("swept")
def test_a_scrape_makes_a_fixed_number_of_queries(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(20):
        make(f"Segment {number}")
    with django_assert_max_num_queries(28):
        client.get("/bunce/metrics/")


@pytest.mark.usefixtures("swept")
def test_what_a_person_has_to_look_at(client: Client, settings: Settings) -> None:
    make("A", attempts=8, due_at=ago(-600))
    make("B", environment="https://api.bunce.so:443 live", status=Status.REJECTED)
    hold = PushHold.objects.create(by="www@web1", reason="", since=ago(100))
    make("C", hold=hold)
    found = scrape(client)
    assert found["bunce_sync_segments_failing"] == {(): 1}
    assert found["bunce_sync_segments_elsewhere"] == {(): 1}
    assert found["bunce_sync_segments"]["rejected",] == 0  # that is another environment's
    assert 99 < found["bunce_sync_oldest_hold_seconds"][()] < 105
    Segment.objects.update_sync_fields(hold=None)
    PushHold.objects.all().delete()
    assert scrape(client)["bunce_sync_oldest_hold_seconds"] == {(): 0}


@pytest.mark.usefixtures("no_database", "bunce")
def test_without_a_database_the_other_metrics_of_a_registry_are_kept(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    registry.register(metrics.SyncCollector())
    Gauge("shop_orders", "Orders.", registry=registry).set(7)
    assert generate_latest(registry).decode().count("shop_orders 7.0") == 1
    assert scrape(client) == {}
    events = {vars(record).get("event") for record in caplog.records}
    assert events == {LogEvent.METRICS_FAILED}
    assert "secret" not in caplog.text


@pytest.mark.parametrize("within", [[1], [1] * 20])
def test_totals_of_another_version_begin_again(
    within: list[int], bunce: Emulator, client: Client
) -> None:
    set_state(counted_to=0, request_totals={"create": {"confirmed": [5, 5, 1.0, *within]}})
    record_calls(6)
    sweep()
    assert scrape(client)["bunce_sync_requests_total"] == {("create", "confirmed"): 1}


@pytest.mark.usefixtures("swept")
def test_a_registry_of_the_site_can_have_the_collector() -> None:
    registry = CollectorRegistry()
    registry.register(metrics.SyncCollector())
    assert b"bunce_sync_segments{" in generate_latest(registry)


# Docs and alerts


@pytest.mark.usefixtures("swept")
def test_alerts_and_docs_name_metrics_that_exist(client: Client) -> None:
    record_calls(6, duration_ms=5)
    sweep()
    families = {
        family.name
        for family in text_string_to_metric_families(client.get("/bunce/metrics/").content.decode())
    }
    rules = yaml.safe_load((DOCS / "prometheus-alerts.yml").read_text())["groups"][0]["rules"]
    assert len(rules) == 5
    text = (DOCS / "observability.md").read_text()
    used = {name for rule in rules for name in re.findall(r"\bbunce_sync_\w+", rule["expr"])}
    assert used
    assert used <= families
    described = {name.removesuffix("_total") for name in re.findall(r"`(bunce_sync_\w+)`", text)}
    assert described == families
    assert [rule["alert"] for rule in rules if f"`{rule['alert']}`" not in text] == []
    assert all(rule["annotations"]["action"] for rule in rules)


@pytest.mark.usefixtures("swept")
def test_the_docs_explain_every_code() -> None:
    text = (DOCS / "observability.md").read_text()
    source = Path(health.__file__).read_text()
    written = set(re.findall(r'Problem\("(\w+)"', source))
    assert len(written) == 9
    assert [code for code in written if f"`{code}`" not in text] == []

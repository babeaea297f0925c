"""The system checks: each reports its mistake, and accesses neither database nor network."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import pymysql
import pytest
from django.core import checks
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import models
from django.db.utils import ConnectionHandler
from pytest_django import Settings

from bunce_sync.conf import SETTINGS
from tests.neighbours.models import Vip

GOOD = {"API_KEY": "sk_live_1"}
TEST = {"API_KEY": "sk_test_1"}


def found(settings: Settings, values: object, *, debug: bool = False) -> list[CheckMessage]:
    """Return the messages of the registered checks, run as ``manage.py check`` runs them."""
    settings.DEBUG = debug
    settings.BUNCE_SYNC = values
    return checks.run_checks(tags=["bunce_sync"])


def ids(messages: list[CheckMessage]) -> list[str]:
    return sorted(str(message.id).removeprefix("bunce_sync.") for message in messages)


def test_valid_settings_give_no_message(settings: Settings) -> None:
    assert found(settings, GOOD) == []
    assert found(settings, {"API_KEY": "sk_test_1", "ENV": "sandbox"}) == []
    assert found(settings, {"API_KEY": "sk_test_1", "BASE_URL": "http://localhost:8790/v1"}) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["API_KEY"], ["E001"]),
        (None, ["E001"]),
        (GOOD | {"API_KYE": "sk_live_1"}, ["E002"]),
        (GOOD | {7: 7}, ["E002"]),
        (GOOD | {"LEASE": "90"}, ["E003"]),
        (GOOD | {"RATE_LIMIT": 0}, ["E003"]),
        (GOOD | {"RATE_LIMIT": -5}, ["E003"]),
        (GOOD | {"RATE_LIMIT": "many"}, ["E003"]),
        (GOOD | {"RATE_WINDOW": 0}, ["E003"]),
        (GOOD | {"RATE_WINDOW": None}, ["E003"]),
        (GOOD | {"RATE_LIMIT": None}, ["W017"]),
        (GOOD | {"ENV": "staging"}, ["E003"]),
        ({"API_KEY": 7}, ["E003"]),
        ({"API_KEY": "sk live"}, ["E003"]),
        ({}, ["W004"]),
        ({"API_KEY": " "}, ["W004"]),
        (GOOD | {"BASE_URL": "http://api.bunce.so/v1"}, ["E005"]),
        (GOOD | {"BASE_URL": "http://10.0.0.7/v1"}, ["E005"]),
        (GOOD | {"BASE_URL": "http://localhost.example.com/v1"}, ["E005"]),
        (GOOD | {"BASE_URL": "http://127.0.0.1:8790/v1"}, []),
        (GOOD | {"BASE_URL": "http://[::1]:8790/v1"}, []),
        (GOOD | {"BASE_URL": "http://bunce.localhost/v1"}, []),
        (GOOD | {"BASE_URL": "http://bunce:8790/v1"}, ["E005"]),
        (TEST | {"BASE_URL": "http://bunce:8790/v1"}, []),
        (TEST | {"BASE_URL": "http://10.0.0.7:8790/v1"}, []),
        (TEST | {"BASE_URL": "http://host.docker.internal:8790/v1"}, []),
        (TEST | {"BASE_URL": "http://bunce.example.com/v1"}, ["E005"]),
        (TEST | {"BASE_URL": "http://8.8.8.8/v1"}, ["E005"]),
        ({"API_KEY": "other", "BASE_URL": "http://bunce:8790/v1"}, ["E005"]),
        (GOOD | {"ENV": "sandbox"}, ["E006"]),
        (GOOD | {"BASE_URL": "https://a..b/v1"}, ["E021"]),
        (GOOD | {"BASE_URL": "https://\udc80/"}, ["E021"]),
        (GOOD | {"BASE_URL": "https://sandbox.api.bunce.so./v1"}, ["E006"]),
        (GOOD | {"BASE_URL": "https://SANDBOX.api.bunce.so/v1"}, ["E006"]),
        ({"API_KEY": "sk_test_1"}, ["E006"]),
        ({"API_KEY": "of-a-kind-not-known-yet"}, []),
        (GOOD | {"BASE_URL": "https://elsewhere.example.com/v1"}, []),
        (GOOD | {"LEASE": 27}, ["E007"]),
        (GOOD | {"LEASE": 28}, []),
        (GOOD | {"READ_TIMEOUT": 600}, ["E007", "W017"]),
        (GOOD | {"LEASE": 0}, ["E003"]),
        (GOOD | {"LEASE": 1, "READ_TIMEOUT": "x"}, ["E003"]),
    ],
)
def test_each_mistake_is_reported_once_under_its_id(
    settings: Settings, values: Any, expected: list[str]
) -> None:
    assert ids(found(settings, values)) == expected


def test_use_tz_must_be_true(settings: Settings) -> None:
    settings.USE_TZ = False
    assert ids(found(settings, GOOD)) == ["E008"]


@pytest.fixture
def wrapped_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of third-party packages, which wrap one of Django's under another name."""
    pymysql.install_as_MySQLdb()
    for name in ("sqlite3", "postgresql", "mysql"):
        wrapped = import_module(f"django.db.backends.{name}.base")
        engine = ModuleType(f"wrapped_{name}.base")
        engine.DatabaseWrapper = type("DatabaseWrapper", (wrapped.DatabaseWrapper,), {})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"wrapped_{name}", ModuleType(f"wrapped_{name}"))
        monkeypatch.setitem(sys.modules, f"wrapped_{name}.base", engine)


def use_database(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, engine: str, **values: Any
) -> None:
    database = {"default": {"ENGINE": engine, "NAME": "x", **values}}
    monkeypatch.setitem(settings.DATABASES, "default", database["default"])
    monkeypatch.setattr("bunce_sync.checks.connections", ConnectionHandler(database))


@pytest.mark.usefixtures("wrapped_engines")
@pytest.mark.parametrize("engine", ["django.db.backends.sqlite3", "wrapped_sqlite3"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["W009"]),
        ({"transaction_mode": None}, ["W009"]),
        ({"transaction_mode": "DEFERRED"}, ["W009"]),
        ({"transaction_mode": "IMMEDIATE"}, []),
        ({"transaction_mode": "exclusive"}, []),
    ],
)
def test_sqlite_must_take_its_write_lock_at_the_start_of_a_transaction(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    engine: str,
    options: dict[str, str],
    expected: list[str],
) -> None:
    use_database(monkeypatch, settings, engine, OPTIONS=options)
    assert ids(found(settings, GOOD)) == expected


@pytest.mark.usefixtures("wrapped_engines")
@pytest.mark.parametrize("package", ["django.db.backends.", "wrapped_"])
@pytest.mark.parametrize(
    ("engine", "expected"), [("sqlite3", ["E010"]), ("mysql", ["E010"]), ("postgresql", [])]
)
def test_a_database_must_not_have_a_time_zone_its_clock_does_not_use(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    package: str,
    engine: str,
    expected: list[str],
) -> None:
    options = {"transaction_mode": "IMMEDIATE"} if engine == "sqlite3" else {}
    use_database(
        monkeypatch, settings, f"{package}{engine}", TIME_ZONE="Asia/Tokyo", OPTIONS=options
    )
    assert ids(found(settings, GOOD)) == expected


def test_the_hint_for_key_and_host_names_the_setting_that_sets_the_host(settings: Settings) -> None:
    live = {"API_KEY": "sk_live_x"}
    [message] = found(settings, live | {"ENV": "sandbox"})
    assert "BUNCE_SYNC['ENV'] to 'live'" in str(message.hint)
    [message] = found(settings, live | {"BASE_URL": "https://sandbox.api.bunce.so/v1"})
    assert "BUNCE_SYNC['BASE_URL']" in str(message.hint)


@pytest.mark.parametrize(
    ("values", "example"),
    [
        ({"BASE_URL": "ftp://x"}, "'https://sandbox.api.bunce.so/v1'"),
        ({"API_KEY": "sk_test_ 1"}, "'sk_test_...'"),
        ({"GRACE": "two minutes"}, "120.0"),
    ],
)
def test_the_hint_for_an_invalid_value_shows_a_valid_one(
    settings: Settings, values: Mapping[str, object], example: str
) -> None:
    [message] = [one for one in found(settings, {**GOOD, **values}) if one.id == "bunce_sync.E003"]
    assert str(message.hint) == f"Set it to something like {example}, or leave it out."


def test_a_database_that_django_never_commits_to_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_database(monkeypatch, settings, "django.db.backends.postgresql", AUTOCOMMIT=False)
    [message] = found(settings, GOOD)
    assert message.id == "bunce_sync.E019"
    assert "'default'" in message.msg


def test_several_mistakes_are_all_reported(settings: Settings) -> None:
    values = {"API_KEY": "sk_test_1", "LEASE": 1, "PAGE": 5, "GRACE": None}
    assert sorted(ids(found(settings, values))) == ["E002", "E003", "E006", "E007"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"GRACE": 0.001}, ["'GRACE'] is 0.001 s"]),
        ({"GRACE": 22}, ["created twice"]),
        ({"GRACE": 23}, []),
        ({"READ_TIMEOUT": 60}, []),
        ({"CONNECT_TIMEOUT": 0.01}, ["'CONNECT_TIMEOUT'"]),
        ({"READ_TIMEOUT": 0.01}, ["'READ_TIMEOUT'"]),
        ({"SWEEP_INTERVAL": 0.001}, ["'SWEEP_INTERVAL'"]),
        ({"RATE_LIMIT": None}, ["locks the address out"]),
        ({"RATE_LIMIT": 501}, ["locks the address out"]),
        ({"RATE_WINDOW": 0.001}, ["locks the address out"]),
        ({"RATE_LIMIT": 100, "RATE_WINDOW": 12}, []),
    ],
)
def test_values_that_are_too_small_for_the_internet_are_reported(
    settings: Settings, values: dict[str, object], words: list[str]
) -> None:
    messages = found(settings, GOOD | values)
    assert [str(one.id) for one in messages] == ["bunce_sync.W017" for _ in words]
    for message, part in zip(messages, words, strict=True):
        assert part in message.msg
    local = GOOD | values | {"BASE_URL": "http://127.0.0.1:8790/v1", "API_KEY": "sk_test_1"}
    assert found(settings, local) == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ALL_PROXY": "socks5h://proxy:1080"}, ["W018"]),
        ({"HTTPS_PROXY": "SOCKS5://user:secret@proxy:1080"}, ["W018"]),
        ({"ALL_PROXY": "socks5h://proxy:1080", "HTTPS_PROXY": "http://proxy:3128"}, []),
        ({"ALL_PROXY": "socks5h://proxy:1080", "NO_PROXY": "api.bunce.so"}, []),
        ({"HTTPS_PROXY": "http://proxy:3128"}, []),
        ({"HTTP_PROXY": "socks5://proxy:1080"}, []),
    ],
)
def test_a_socks_proxy_is_reported(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    expected: list[str],
) -> None:
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    messages = found(settings, GOOD)
    assert ids(messages) == expected
    assert "secret" not in "".join(f"{one.msg} {one.hint}" for one in messages)


@pytest.mark.parametrize("debug", [True, False])
def test_a_missing_key_stops_nothing_but_a_deployment(settings: Settings, debug: bool) -> None:
    [warning] = found(settings, {}, debug=debug)
    assert (warning.level, warning.id) == (checks.WARNING, "bunce_sync.W004")
    deployment = checks.run_checks(tags=["bunce_sync"], include_deployment_checks=True)
    assert [one.id for one in deployment if one.level >= checks.ERROR] == ["bunce_sync.E004"]


def test_the_hint_for_a_misspelt_setting_suggests_the_right_name(settings: Settings) -> None:
    assert found(settings, GOOD | {"read_timout": 5})[0].hint == "Did you mean 'READ_TIMEOUT'?"
    [message] = found(settings, GOOD | {"zzz": 5})
    assert all(key in str(message.hint) for key in SETTINGS)


@pytest.mark.parametrize("values", [{}, GOOD | {"ENV": "sandbox"}, GOOD | {"LEASE": 5}, 7])
def test_every_message_has_a_hint(settings: Settings, values: Mapping[str, object]) -> None:
    for message in found(settings, values):
        assert message.hint


@pytest.mark.parametrize(
    "values",
    [
        {"API_KEY": "sk_live_secret", "ENV": "sandbox"},
        {"API_KEY": "sk_live_secret in two"},
        {"API_KEY": "sk_live_secret", "BASE_URL": "https://u:sk_live_secret@api.bunce.so"},
        {"API_KEY": ["sk_live_secret"]},
    ],
)
def test_no_message_shows_the_key(settings: Settings, values: Mapping[str, object]) -> None:
    messages = found(settings, values)
    assert messages
    assert "secret" not in "".join(f"{message.msg} {message.hint}" for message in messages)


def test_manage_check_runs_them_and_accesses_neither_database_nor_network(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was accessed")

    # The database cannot be accessed either: this test does not request it.
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    settings.DEBUG = False
    settings.BUNCE_SYNC = GOOD
    # The app's own checks: on SQLite, Django 6.1 asks the database whether it supports JSON.
    call_command("check", tags=["bunce_sync"], stdout=io.StringIO())
    settings.BUNCE_SYNC = {}
    with pytest.raises(SystemCheckError, match="E004"):
        call_command("check", tags=["bunce_sync"], deploy=True, stdout=io.StringIO())


def test_a_subclass_with_an_unguarded_manager_is_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = models.Manager[Vip]()
    manager.name, manager.model = "plain", Vip
    monkeypatch.setattr(Vip._meta, "managers", (*Vip._meta.managers, manager))
    [message] = found(settings, GOOD)
    assert message.id == "bunce_sync.W011"
    assert message.msg.startswith("Vip.plain is not based on the app's queryset")
    assert "SegmentQuerySet" in str(message.hint)


def test_a_manager_that_needs_a_request_is_left_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scoped(models.Manager[Vip]):
        def get_queryset(self) -> models.QuerySet[Vip]:
            raise RuntimeError("no tenant")

    manager = Scoped()
    manager.name, manager.model = "scoped", Vip
    monkeypatch.setattr(Vip._meta, "managers", (*Vip._meta.managers, manager))
    assert found(settings, GOOD) == []


class Routes:
    """A router for sites with two databases."""

    def __init__(self, home: str, *migrated: str) -> None:
        self.home = home
        self.migrated = migrated

    def db_for_write(self, model: type[models.Model], **hints: object) -> str:
        return self.home

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool:
        return db in self.migrated


def w012(settings: Settings, monkeypatch: pytest.MonkeyPatch, *routers: Routes) -> list[str]:
    """Return the messages about migrations, for a site with the databases default and other."""
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": "x"}
    for alias in ("default", "other"):
        monkeypatch.setitem(settings.DATABASES, alias, database)
    monkeypatch.setattr("django.db.router.routers", list(routers))
    return [str(one.msg) for one in found(settings, GOOD) if one.id == "bunce_sync.W012"]


@pytest.mark.parametrize("home", ["default", "other"])
def test_tables_that_are_migrated_only_where_they_are_used_are_accepted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    assert w012(settings, monkeypatch, Routes(home, home)) == []


@pytest.mark.parametrize(
    ("migrated", "named"),
    [
        (("default", "other"), "'other' (not used)"),
        ((), "'default' (missing)"),
        (("other",), "'default' (missing), 'other' (not used)"),
    ],
)
def test_tables_that_are_migrated_elsewhere_are_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, migrated: tuple[str, ...], named: str
) -> None:
    [message] = w012(settings, monkeypatch, Routes("default", *migrated))
    assert message.endswith(f": {named}.")


def test_a_replica_is_not_another_database(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = {"ENGINE": "django.db.backends.postgresql", "TEST": {"MIRROR": "default"}}
    monkeypatch.setitem(settings.DATABASES, "replica", replica)
    assert w012(settings, monkeypatch, Routes("default", "default", "replica")) == []


def test_a_site_with_one_database_never_sees_the_warning_about_migrations(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.db.router.routers", [Routes("default")])
    for alias in set(settings.DATABASES) - {"default"}:
        monkeypatch.delitem(settings.DATABASES, alias)
    assert "W012" not in ids(found(settings, GOOD))


@pytest.mark.parametrize("name", ["bunce_sync", "bunce_sync.apps.BunceSyncConfig"])
def test_tables_in_the_schema_of_each_tenant_are_reported(settings: Settings, name: str) -> None:
    settings.TENANT_APPS = ["django.contrib.auth"]
    assert "W020" not in ids(found(settings, GOOD))
    settings.TENANT_APPS = ["django.contrib.auth", name]
    assert "W020" in ids(found(settings, GOOD))

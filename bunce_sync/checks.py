"""System checks of the settings. None of them accesses the database or the network."""

from __future__ import annotations

import difflib
import ipaddress
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import router

from bunce_sync.conf import SETTINGS, conf, raw_settings
from bunce_sync.exceptions import ConfigurationError

SQLITE = "django.db.backends.sqlite3"
POSTGRESQL = "django.db.backends.postgresql"
#: Hosts of bunce-api's "Basics", and the kind of key that belongs to each.
HOSTS = {"api.bunce.so": "sk_live_", "sandbox.api.bunce.so": "sk_test_"}


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001: not a dict. E002: unknown key. E003: unusable value."""
    try:
        values = raw_settings()
    except ConfigurationError as error:
        return [Error(str(error), hint='BUNCE_SYNC = {"API_KEY": "..."}', id="bunce_sync.E001")]
    messages: list[CheckMessage] = []
    for key in values:
        if key not in SETTINGS:
            near = difflib.get_close_matches(str(key).upper(), SETTINGS, 1)
            hint = (
                f"Did you mean {near[0]!r}?"
                if near
                else f"Valid settings are {', '.join(SETTINGS)}."
            )
            messages.append(
                Error(
                    f"BUNCE_SYNC has no setting {str(key)[:40]!r}.",
                    hint=hint,
                    id="bunce_sync.E002",
                )
            )
        elif problem := _problem(key):
            messages.append(
                Error(
                    problem,
                    hint=f"Set it to something like {SETTINGS[key].example!r}, or leave it out.",
                    id="bunce_sync.E003",
                )
            )
    return messages


def check_key(**kwargs: Any) -> list[CheckMessage]:
    """E004 (W004 with DEBUG): no API key."""
    if _unusable("API_KEY") or conf.API_KEY:
        return []
    kind, letter = (checks.Warning, "W") if django_settings.DEBUG else (Error, "E")
    return [
        kind(
            "The Bunce API key is not set, so segments are not sent to Bunce.",
            hint="Set BUNCE_SYNC['API_KEY'] to the secret key from Bunce's dashboard,"
            " and read it from the environment to keep it out of the repository.",
            id=f"bunce_sync.{letter}004",
        )
    ]


def check_address(**kwargs: Any) -> list[CheckMessage]:
    """E005: not HTTPS. E006: a live key with the sandbox, or a test key with the live API."""
    if _unusable("API_KEY", "BASE_URL", "ENV"):
        return []
    messages: list[CheckMessage] = []
    parts = urlsplit(conf.base_url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not _is_loopback(host):
        messages.append(
            Error(
                f"{conf.base_url} is not HTTPS: the API key would be sent unencrypted.",
                hint="Use https://. Only a server on this machine may use http://.",
                id="bunce_sync.E005",
            )
        )
    expected = HOSTS.get(host)
    other = next((prefix for prefix in HOSTS.values() if prefix != expected), "")
    if expected and conf.API_KEY.startswith(other):
        kind = "live" if expected == "sk_test_" else "test"
        messages.append(
            Error(
                f"The API key is a {kind} key, but {host} expects keys that start with {expected}.",
                hint="Use the other key, or "
                + (
                    "change or remove BUNCE_SYNC['BASE_URL'], which sets the host."
                    if conf.BASE_URL
                    else f"set BUNCE_SYNC['ENV'] to {'live' if kind == 'live' else 'sandbox'!r}."
                ),
                id="bunce_sync.E006",
            )
        )
    return messages


def check_times(**kwargs: Any) -> list[CheckMessage]:
    """E007: the lease is shorter than a request can take."""
    if _unusable("LEASE", "CONNECT_TIMEOUT", "READ_TIMEOUT"):
        return []
    needed = conf.request_deadline + 5
    if needed <= conf.LEASE:
        return []
    return [
        Error(
            f"BUNCE_SYNC['LEASE'] is {conf.LEASE:g} s, but a request can take"
            f" {conf.request_deadline:g} s: leases would end during requests.",
            hint=f"Set LEASE to at least CONNECT_TIMEOUT + READ_TIMEOUT + 5 = {needed:g}.",
            id="bunce_sync.E007",
        )
    ]


def check_database(**kwargs: Any) -> list[CheckMessage]:
    """E008, E010: times in the wrong zone. E021: no commits. W009: SQLite without write lock."""
    messages: list[CheckMessage] = []
    if not django_settings.USE_TZ:
        messages.append(
            Error(
                "USE_TZ is False, so times from Bunce cannot be stored.",
                hint="Set USE_TZ = True.",
                id="bunce_sync.E008",
            )
        )
    alias = router.db_for_write(apps.get_model("bunce_sync", "Segment"))
    database = django_settings.DATABASES.get(alias, {})
    if database.get("TIME_ZONE") and database.get("ENGINE") != POSTGRESQL:
        messages.append(
            Error(
                f"The database {alias!r} has a TIME_ZONE: stored times would differ by hours from"
                " the time of the database's clock.",
                hint="Remove TIME_ZONE from its entry in DATABASES, to store times in UTC.",
                id="bunce_sync.E010",
            )
        )
    if not database.get("AUTOCOMMIT", True):
        messages.append(
            Error(
                f"The database {alias!r} has AUTOCOMMIT = False: Django then commits nothing by"
                " itself, so requests to Bunce would be made without a record of them.",
                hint="Remove AUTOCOMMIT from its entry in DATABASES, or route the app's models to"
                " another alias of the same database without it.",
                id="bunce_sync.E021",
            )
        )
    mode = database.get("OPTIONS", {}).get("transaction_mode") or ""
    if database.get("ENGINE") == SQLITE and mode.upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        messages.append(
            checks.Warning(
                f"The SQLite database {alias!r} starts transactions without a write lock:"
                ' concurrent writes fail with "database is locked", regardless of the timeout.',
                hint="Add to its OPTIONS: 'transaction_mode': 'IMMEDIATE', and"
                " 'init_command': 'PRAGMA journal_mode=WAL'.",
                id="bunce_sync.W009",
            )
        )
    return messages


def check_managers(**kwargs: Any) -> list[CheckMessage]:
    """W011: a manager of a subclass does not protect the fields that only the sync writes."""
    segment = apps.get_model("bunce_sync", "Segment")
    guarded = type(segment._default_manager.all())
    return [
        checks.Warning(
            f"{model.__name__}.{manager.name} is not based on the app's queryset: its update() can"
            " overwrite fields that only the sync writes.",
            hint="Use SegmentQuerySet.as_manager() or Manager.from_queryset(SegmentQuerySet);"
            " SegmentQuerySet is in bunce_sync.models.segment_queryset.",
            obj=model,
            id="bunce_sync.W011",
        )
        for model in apps.get_models()
        if issubclass(model, segment)
        for manager in model._meta.managers
        if not isinstance(manager.all(), guarded)
    ]


def check_migrations(**kwargs: Any) -> list[CheckMessage]:
    """W012: migrations create the tables in other databases than the one they are used in."""
    aliases = [
        alias
        for alias, database in django_settings.DATABASES.items()
        if not database.get("TEST", {}).get("MIRROR")  # a replica of another database
    ]
    # With one database there is no choice; a router that depends on the schema (django-tenants)
    # would only seem to refuse.
    if len(aliases) < 2:
        return []
    home = router.db_for_write(apps.get_model("bunce_sync", "Segment"))
    models = list(apps.get_app_config("bunce_sync").get_models())
    wrong = [
        f"{alias!r} ({'missing' if alias == home else 'not used'})"
        for alias in aliases
        if any(router.allow_migrate_model(alias, model) != (alias == home) for model in models)
    ]
    if not wrong:
        return []
    return [
        checks.Warning(
            f"The app's tables live in {home!r}, the database the router names for writes of"
            f" Segment, but migrations treat these databases differently: {', '.join(wrong)}.",
            hint="Add an allow_migrate() to a router in DATABASE_ROUTERS that returns"
            f" db == {home!r} for app_label 'bunce_sync'. For a replica, set TEST['MIRROR'].",
            id="bunce_sync.W012",
        )
    ]


def check_tenants(**kwargs: Any) -> list[CheckMessage]:
    """W022: django-tenants with the app's tables in the schema of each tenant."""
    names = {"bunce_sync", "bunce_sync.apps.BunceSyncConfig"}
    if names.isdisjoint(getattr(django_settings, "TENANT_APPS", ())):
        return []
    return [
        checks.Warning(
            "bunce_sync is in TENANT_APPS: Celery tasks run in the public schema, so they do not"
            " send the segments of tenants; and each tenant would have a rate limit of its own,"
            " while Bunce counts the requests of all of them.",
            hint="Move it to SHARED_APPS. All tenants then share the segments and one Bunce"
            " account.",
            id="bunce_sync.W022",
        )
    ]


def _problem(key: str) -> str:
    try:
        getattr(conf, key)
    except ConfigurationError as error:
        return str(error)
    return ""


def _unusable(*keys: str) -> bool:
    """Whether another check reports one of these settings."""
    return any(_problem(key) for key in keys)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""System checks of the settings. None of them touches the database or the network."""

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

from bunce_sync.conf import SETTINGS, conf, given
from bunce_sync.exceptions import ConfigurationError

SQLITE = "django.db.backends.sqlite3"
POSTGRESQL = "django.db.backends.postgresql"
#: Hosts of bunce-api's "Basics", and the kind of key that belongs to each.
HOSTS = {"api.bunce.so": "sk_live_", "sandbox.api.bunce.so": "sk_test_"}


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001 not a dict, E002 unknown key, E003 unusable value."""
    try:
        values = given()
    except ConfigurationError as error:
        return [Error(str(error), hint='BUNCE_SYNC = {"API_KEY": "..."}', id="bunce_sync.E001")]
    messages: list[CheckMessage] = []
    for key in values:
        if key not in SETTINGS:
            near = difflib.get_close_matches(str(key).upper(), SETTINGS, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(SETTINGS)}."
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
    """E004 (W004 while DEBUG is on): there is no key."""
    if _unusable("API_KEY") or conf.API_KEY:
        return []
    kind, letter = (checks.Warning, "W") if django_settings.DEBUG else (Error, "E")
    return [
        kind(
            "There is no Bunce API key, so nothing is sent: segments stay waiting.",
            hint="Set BUNCE_SYNC['API_KEY'] to the secret key from Bunce's dashboard,"
            " and keep it out of the repository (read it from the environment).",
            id=f"bunce_sync.{letter}004",
        )
    ]


def check_address(**kwargs: Any) -> list[CheckMessage]:
    """E005 not HTTPS outside this machine, E006 a live key for the sandbox or the reverse."""
    if _unusable("API_KEY", "BASE_URL", "ENV"):
        return []
    messages: list[CheckMessage] = []
    parts = urlsplit(conf.base_url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not _is_loopback(host):
        messages.append(
            Error(
                f"The Bunce address {conf.base_url} is not HTTPS: the key would travel openly.",
                hint="Use https://. Plain http:// is for an emulator on this machine.",
                id="bunce_sync.E005",
            )
        )
    expected = HOSTS.get(host)
    other = next((prefix for prefix in HOSTS.values() if prefix != expected), "")
    if expected and conf.API_KEY.startswith(other):
        kind = "live" if expected == "sk_test_" else "test"
        messages.append(
            Error(
                f"The API key is a {kind} key, but {host} is for keys that begin with {expected}.",
                hint="Use the other key, or "
                + (
                    "change or remove BUNCE_SYNC['BASE_URL'], which decides about the host."
                    if conf.BASE_URL
                    else f"set BUNCE_SYNC['ENV'] to {'live' if kind == 'live' else 'sandbox'!r}."
                ),
                id="bunce_sync.E006",
            )
        )
    return messages


def check_times(**kwargs: Any) -> list[CheckMessage]:
    """E007: the lease ends before a request may."""
    if _unusable("LEASE", "CONNECT_TIMEOUT", "READ_TIMEOUT"):
        return []
    needed = conf.request_deadline + 5
    if needed <= conf.LEASE:
        return []
    return [
        Error(
            f"BUNCE_SYNC['LEASE'] is {conf.LEASE:g} s, but one request may take"
            f" {conf.request_deadline:g} s: rows would be taken from workers still sending.",
            hint=f"Set LEASE to at least CONNECT_TIMEOUT + READ_TIMEOUT + 5 = {needed:g}.",
            id="bunce_sync.E007",
        )
    ]


def check_database(**kwargs: Any) -> list[CheckMessage]:
    """E008, E010 times in the wrong zone, W009 SQLite that cannot begin by reading."""
    messages: list[CheckMessage] = []
    if not django_settings.USE_TZ:
        messages.append(
            Error(
                "USE_TZ is False, so the times that Bunce gives cannot be stored.",
                hint="Set USE_TZ = True.",
                id="bunce_sync.E008",
            )
        )
    # Where the segments are, as far as the settings say: no connection is made.
    alias = router.db_for_write(apps.get_model("bunce_sync", "Segment"))
    database = django_settings.DATABASES.get(alias, {})
    if database.get("TIME_ZONE") and database.get("ENGINE") != POSTGRESQL:
        messages.append(
            Error(
                f"The database {alias!r} has a TIME_ZONE: its times would be hours away from those"
                " that the database's own clock gives.",
                hint="Remove TIME_ZONE from its entry in DATABASES; times are stored in UTC then.",
                id="bunce_sync.E010",
            )
        )
    mode = database.get("OPTIONS", {}).get("transaction_mode") or ""
    if database.get("ENGINE") == SQLITE and mode.upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        messages.append(
            checks.Warning(
                f"The SQLite database {alias!r} begins transactions without its write lock: with"
                ' several processes they fail with "database is locked", whatever the timeout.',
                hint="Add to its OPTIONS: 'transaction_mode': 'IMMEDIATE', and"
                " 'init_command': 'PRAGMA journal_mode=WAL'.",
                id="bunce_sync.W009",
            )
        )
    return messages


def check_managers(**kwargs: Any) -> list[CheckMessage]:
    """W011: a subclass's manager would let its callers write what only the sync may write."""
    segment = apps.get_model("bunce_sync", "Segment")
    guarded = type(segment._default_manager.all())
    return [
        checks.Warning(
            f"{model.__name__}.{manager.name} is not based on the app's queryset: its update() can"
            " overwrite what only the sync writes.",
            hint="Build it with SegmentQuerySet.as_manager() or"
            " models.Manager.from_queryset(SegmentQuerySet), from bunce_sync.models.segment_queryset.",
            obj=model,
            id="bunce_sync.W011",
        )
        for model in apps.get_models()
        if issubclass(model, segment)
        for manager in model._meta.managers
        if not isinstance(manager.all(), guarded)
    ]


def _problem(key: str) -> str:
    try:
        getattr(conf, key)
    except ConfigurationError as error:
        return str(error)
    return ""


def _unusable(*keys: str) -> bool:
    """Whether another check has already named one of these."""
    return any(_problem(key) for key in keys)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""System checks of the settings. None of them accesses the database or the network."""

from __future__ import annotations

import difflib
import ipaddress
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from django.apps import apps
from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import connections, router
from django.db.models import Manager, QuerySet

from bunce_sync import audiences
from bunce_sync.client import check_url, is_loopback, proxy_for
from bunce_sync.conf import BASE_URLS, SETTINGS, conf, raw_settings
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.routing import (
    SWEEP,
    RoutingFailed,
    celery_app,
    destination,
    is_scheduled,
    unimported_module,
    worker_queues,
)
from bunce_sync.validators import NAME_LENGTH, is_visible

#: Hosts of bunce-api's "Basics", and the kind of key that belongs to each.
HOSTS = {"api.bunce.so": "sk_live_", "sandbox.api.bunce.so": "sk_test_"}


#: Top-level domains that are reserved for private networks and tests.
PRIVATE_DOMAINS = ("internal", "local", "test")
#: From bunce-api's "Basics": requests that an address may make, and in how many seconds.
BUNCE_LIMIT = 500
BUNCE_WINDOW = 60

NO_KEY = "The Bunce API key is not set, so segments are not sent to Bunce."
NO_KEY_HINT = (
    "Set BUNCE_SYNC['API_KEY'] to the secret key from Bunce's dashboard, and read it from the"
    " environment to keep it out of the repository."
)


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


def check_audiences(**kwargs: Any) -> list[CheckMessage]:
    """E022: no identifier. E023: one key twice. E024: also all customers. E025: no name."""
    messages: list[CheckMessage] = []
    by_key: dict[str, list[str]] = {}
    for cls in audiences.registered():
        path = cls.get_path()
        by_key.setdefault(cls.get_key(), []).append(path)
        if not (cls.customer_id or cls.email):
            messages.append(
                Error(
                    f"The audience {path} names no field that identifies a customer.",
                    hint='Set customer_id = "pk" (or another field of its queryset), or email.',
                    obj=cls,
                    id="bunce_sync.E022",
                )
            )
        if getattr(cls, "add_all_customers", False):
            messages.append(
                Error(
                    f"The audience {path} cannot have all customers and those of a queryset.",
                    hint="Leave out add_all_customers, or create a plain segment instead.",
                    obj=cls,
                    id="bunce_sync.E024",
                )
            )
        if not is_visible(str(cls.name)) or len(str(cls.name)) > NAME_LENGTH:
            messages.append(
                Error(
                    f"The audience {path} has no usable name for its segment.",
                    hint=f"Set name to a text of at most {NAME_LENGTH} characters.",
                    obj=cls,
                    id="bunce_sync.E025",
                )
            )
    messages += [
        Error(
            f"The audiences {' and '.join(paths)} have the same key, {key!r}.",
            hint="Set key on one of them; the one with the key keeps the segment.",
            id="bunce_sync.E023",
        )
        for key, paths in by_key.items()
        if len(paths) > 1
    ]
    return messages


def check_key(**kwargs: Any) -> list[CheckMessage]:
    """W004: no API key. Nothing is sent then, so tests, migrations and a first look go on."""
    return [checks.Warning(NO_KEY, hint=NO_KEY_HINT, id="bunce_sync.W004")] if _no_key() else []


def check_key_for_deployment(**kwargs: Any) -> list[CheckMessage]:
    """E004, only with ``check --deploy``: no API key."""
    return [Error(NO_KEY, hint=NO_KEY_HINT, id="bunce_sync.E004")] if _no_key() else []


def check_address(**kwargs: Any) -> list[CheckMessage]:
    """E005: not HTTPS. E021: no URL. E006: a live key with the sandbox, or a test key with live."""
    if _unusable("API_KEY", "BASE_URL", "ENV"):
        return []
    messages: list[CheckMessage] = []
    parts = urlsplit(conf.base_url)
    host = parts.hostname or ""
    # An emulator in the same private network, such as one of Docker Compose, has no certificate.
    harmless = conf.API_KEY.startswith("sk_test_") and _is_private(host)
    if parts.scheme != "https" and not is_loopback(host) and not harmless:
        messages.append(
            Error(
                f"{conf.base_url} is not HTTPS: the API key would be sent unencrypted.",
                hint="Use https://. Only a server on this machine, or with a test key one in the"
                " same private network, may use http://.",
                id="bunce_sync.E005",
            )
        )
    try:
        check_url(conf.base_url)
    except ConfigurationError as error:
        messages.append(
            Error(
                str(error),
                hint=f"Set BUNCE_SYNC['BASE_URL'] to a URL such as {BASE_URLS['live']}.",
                id="bunce_sync.E021",
            )
        )
    expected = HOSTS.get(host.rstrip("."))
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


def check_proxy(**kwargs: Any) -> list[CheckMessage]:
    """W018: a SOCKS proxy, whose connections cannot tell whether a request was sent."""
    if _unusable("BASE_URL", "ENV") or not proxy_for(conf.base_url).lower().startswith("socks"):
        return []
    return [
        checks.Warning(
            "The environment sets a SOCKS proxy for Bunce. SOCKS proxies are not supported, so"
            " nothing is sent.",
            hint="Set HTTPS_PROXY to an HTTP proxy, which takes precedence over ALL_PROXY, or add"
            f" {urlsplit(conf.base_url).hostname} to NO_PROXY.",
            id="bunce_sync.W018",
        )
    ]


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


def check_minimums(**kwargs: Any) -> list[CheckMessage]:
    """W017: values that are too small for a server across the internet.

    For one on this machine, such as the emulator in tests, small values are right.
    """
    if _unusable(*SETTINGS) or is_loopback(urlsplit(conf.base_url).hostname or ""):
        return []
    deadline = conf.request_deadline
    minimums = {
        "CONNECT_TIMEOUT": (0.5, "connections to Bunce often take longer, and would fail."),
        "READ_TIMEOUT": (
            2.0,
            "Bunce often takes longer to respond, and each such create has to be looked up.",
        ),
        "GRACE": (
            deadline,
            "a create that Bunce is still working on would seem missing, and be created twice.",
        ),
        "SWEEP_INTERVAL": (1.0, "more frequent sweeps only load the database."),
    }
    messages: list[CheckMessage] = [
        checks.Warning(
            f"BUNCE_SYNC[{key!r}] is {getattr(conf, key):g} s: {reason}",
            hint=f"Set it to at least {least:g}, or leave it out ({SETTINGS[key].default:g}).",
            id="bunce_sync.W017",
        )
        for key, (least, reason) in minimums.items()
        if getattr(conf, key) < least
    ]
    limit, seconds = conf.RATE_LIMIT, conf.RATE_WINDOW
    known = urlsplit(conf.base_url).hostname in HOSTS
    if known and (limit is None or limit / seconds > BUNCE_LIMIT / BUNCE_WINDOW):
        messages.append(
            checks.Warning(
                f"BUNCE_SYNC allows more requests than Bunce's {BUNCE_LIMIT} in {BUNCE_WINDOW} s:"
                " Bunce locks the address out for a minute whenever there are more.",
                hint=f"Remove RATE_LIMIT and RATE_WINDOW, or set them to {BUNCE_LIMIT} and"
                f" {BUNCE_WINDOW} or less, unless Bunce has agreed to more.",
                id="bunce_sync.W017",
            )
        )
    return messages


def check_database(**kwargs: Any) -> list[CheckMessage]:
    """E008, E010: times in the wrong zone. E019: no commits. W009: SQLite without write lock."""
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
    vendor = connections[alias].vendor  # not the engine: many wrap one of Django's
    if database.get("TIME_ZONE") and vendor != "postgresql":
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
                id="bunce_sync.E019",
            )
        )
    mode = database.get("OPTIONS", {}).get("transaction_mode") or ""
    if vendor == "sqlite" and mode.upper() not in ("IMMEDIATE", "EXCLUSIVE"):
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


def check_celery(**kwargs: Any) -> list[CheckMessage]:
    """W013: an application that is not imported. W014, W015: queues. W016: no sweep by beat."""
    if _unusable("QUEUE"):
        return []
    if module := unimported_module():
        package = module.partition(".")[0]
        return [
            checks.Warning(
                f"{package} does not import the Celery application in {module}, so this process"
                " cannot wake a worker: segments wait for the next sweep.",
                hint=f"Add to {package}/__init__.py: from .celery import app as celery_app",
                id="bunce_sync.W013",
            )
        ]
    app = celery_app()
    if app is None:
        return []
    return [*_check_queue(app), *_check_beat(app)]


def _check_queue(app: Celery) -> list[CheckMessage]:
    try:
        queue = destination(app, conf.QUEUE)
        routed = destination(app, "")
    except RoutingFailed as error:
        listed = ", ".join(map(repr, worker_queues(app)))
        return [
            checks.Warning(
                f"Celery cannot send the app's tasks: {error}. Segments wait for the next sweep.",
                hint=f"Add the queue to CELERY_TASK_QUEUES, use one of {listed}, or correct"
                " CELERY_TASK_ROUTES.",
                id="bunce_sync.W014",
            )
        ]
    default = app.conf.task_default_queue
    if not conf.QUEUE or routed in (default, queue, None):
        return []
    return [
        checks.Warning(
            f"The app's tasks go to the queue {queue!r} of BUNCE_SYNC['QUEUE'], but the site's"
            f" CELERY_TASK_ROUTES name {routed!r} for them.",
            hint="Remove one of the two, and start a worker that consumes the other's queue.",
            id="bunce_sync.W015",
        )
    ]


def _check_beat(app: Celery) -> list[CheckMessage]:
    app.finalize()
    if is_scheduled(app):
        return []
    return [
        checks.Warning(
            f"Beat's schedule has no entry for the task {SWEEP}: it was replaced after the app had"
            " added the entry. Segments whose message is lost are never sent.",
            hint="Set CELERY_BEAT_SCHEDULE in the settings, or add to app.conf.beat_schedule"
            " instead of replacing it.",
            id="bunce_sync.W016",
        )
    ]


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
        if not _is_guarded(manager, guarded)
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
    """W020: django-tenants with the app's tables in the schema of each tenant."""
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
            id="bunce_sync.W020",
        )
    ]


def _is_guarded(manager: Manager[Any], guarded: type[QuerySet[Any]]) -> bool:
    try:
        return isinstance(manager.all(), guarded)
    except Exception:  # noqa: BLE001 - a manager of the site may need what a request sets
        return True


def _problem(key: str) -> str:
    try:
        getattr(conf, key)
    except ConfigurationError as error:
        return str(error)
    return ""


def _no_key() -> bool:
    return not _unusable("API_KEY") and not conf.API_KEY


def _unusable(*keys: str) -> bool:
    """Whether another check reports one of these settings."""
    return any(_problem(key) for key in keys)


def _is_private(host: str) -> bool:
    """Whether a name or address has a meaning only in a private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        # One word is the name of a service or host beside this one, in Compose or Kubernetes.
        return "." not in host or host.rpartition(".")[2] in PRIVATE_DOMAINS

"""Settings from environment variables. An empty variable counts as one that is not set."""

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}

_SQLITE_OPTIONS = {
    # A transaction takes the write lock at its start. One that reads first and writes later would
    # fail with "database is locked" at once, whatever the timeout.
    "transaction_mode": "IMMEDIATE",
    "timeout": 30,
    # Readers do not wait for the writer. `synchronous` keeps its default, FULL: with less, a power
    # cut could lose a row of the call log whose request was already sent.
    "init_command": "PRAGMA journal_mode=WAL",
}
_MYSQL_OPTIONS = {"charset": "utf8mb4", "sql_mode": "TRADITIONAL"}


def text(name: str, default: str = "") -> str:
    """Return the variable without surrounding whitespace, which pasting often adds."""
    return os.environ.get(name, "").strip() or default


def flag(name: str, *, default: bool) -> bool:
    """Return the variable as a boolean.

    Raises:
        ImproperlyConfigured: its value is not a boolean.
    """
    value = text(name).lower()
    if value and value not in _TRUE | _FALSE:
        raise ImproperlyConfigured(f"{name} is {text(name)!r}, not a boolean. Set it to 1 or 0.")
    return value in _TRUE if value else default


def words(name: str) -> list[str]:
    """Return the items of a comma-separated variable."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def number(value: str) -> int | float | str | None:
    """Return a number, None for "none", or the text itself if it is neither.

    The app's system check reports a text where a number is required, by the setting's name. That
    helps more than a traceback from the settings module.
    """
    if value.lower() == "none":
        return None
    for convert in (int, float):
        with suppress(ValueError):
            return convert(value)
    return value


def database(url: str, *, base: Path) -> dict[str, Any]:
    """Return an entry of DATABASES.

    Args:
        url: postgres://, mysql:// or sqlite:///, with options as its query.
        base: folder that a relative SQLite path starts from, so that web server and worker open
            the same file whatever their working directory.

    Raises:
        ImproperlyConfigured: the URL is invalid. The message does not repeat it, because it may
            contain a password.
    """
    try:
        config: dict[str, Any] = {**dj_database_url.parse(url)}
    except ValueError:
        raise ImproperlyConfigured(
            "DATABASE_URL is not a valid database URL. Use postgres://user:password@host:5432/name,"
            " mysql://user:password@host:3306/name or sqlite:///file.sqlite3. Percent-encode"
            " special characters in the password, for example @ as %40 and / as %2F."
        ) from None
    options = config.get("OPTIONS", {})
    match config["ENGINE"]:
        case "django.db.backends.sqlite3":
            if config["NAME"] != ":memory:":
                config["NAME"] = base / config["NAME"]
            config["OPTIONS"] = _SQLITE_OPTIONS | options
        case "django.db.backends.mysql":
            if find_spec("MySQLdb") is None:  # mysqlclient is not installed
                import pymysql

                pymysql.install_as_MySQLdb()
            config["OPTIONS"] = _MYSQL_OPTIONS | options
    return config


def broker(url: str, *, folder: Path) -> tuple[str, str | None, dict[str, Any]]:
    """Return CELERY_BROKER_URL, CELERY_BROKER_TRANSPORT and CELERY_BROKER_TRANSPORT_OPTIONS.

    Args:
        url: redis://, amqp:// or another URL that kombu supports. filesystem://localhost keeps
            messages in `folder`, filesystem://localhost/some/folder in that folder.
        folder: created if it is used.
    """
    parts = urlsplit(url)
    if parts.scheme != "filesystem":
        return url, None, {}
    if parts.path.strip("/"):
        folder = Path(parts.path)
    messages = folder / "messages"
    messages.mkdir(parents=True, exist_ok=True)
    options = {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(folder / "control"),
        "store_processed": False,
        "polling_interval": 0.25,
    }
    return url, "project.filesystem:Transport", options

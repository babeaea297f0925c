"""Database and broker out of their addresses, with what each needs to be safe here."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

_SQLITE_OPTIONS = {
    # A transaction takes the write lock at its start: one that reads first and writes later
    # fails with "database is locked" at once, whatever the timeout.
    "transaction_mode": "IMMEDIATE",
    "timeout": 30,
    # Readers do not wait for the writer. `synchronous` stays at its default FULL: with less, a
    # power cut could take back a ledger row whose request has already left.
    "init_command": "PRAGMA journal_mode=WAL",
}
_MYSQL_OPTIONS = {"charset": "utf8mb4", "sql_mode": "TRADITIONAL"}


def database(url: str, *, base: Path) -> dict[str, Any]:
    """One entry of DATABASES.

    Args:
        url: postgres://, mysql:// or sqlite:///; options as its query.
        base: the folder that a relative SQLite path starts from, whatever folder the process
            was started in: web server and worker must open the same file.

    Raises:
        ImproperlyConfigured: the address cannot be read. It is not repeated in the message,
            for it may hold a password.
    """
    try:
        config: dict[str, Any] = {**dj_database_url.parse(url)}
    except ValueError:
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be read. Write it like postgres://user:password@host:5432/name,"
            " mysql://user:password@host:3306/name or sqlite:///file.sqlite3; signs such as @ and"
            " / in the password as %40 and %2F."
        ) from None
    given = config.get("OPTIONS", {})
    match config["ENGINE"]:
        case "django.db.backends.sqlite3":
            if config["NAME"] != ":memory:":
                config["NAME"] = base / config["NAME"]
            config["OPTIONS"] = _SQLITE_OPTIONS | given
        case "django.db.backends.mysql":
            import pymysql

            pymysql.install_as_MySQLdb()
            config["OPTIONS"] = _MYSQL_OPTIONS | given
    return config


def broker(url: str, *, folder: Path) -> tuple[str, str | None, dict[str, Any]]:
    """CELERY_BROKER_URL, CELERY_BROKER_TRANSPORT and CELERY_BROKER_TRANSPORT_OPTIONS.

    Args:
        url: redis://, amqp:// or another of kombu's; filesystem://localhost keeps the messages
            in `folder`, filesystem://localhost/some/folder in that one.
        folder: made at once if it is needed.
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

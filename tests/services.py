"""The services that tests use: their addresses, and whether they respond.

Tests whose service does not respond are skipped, with its name. With CI=true they fail, because a
skip would hide that nothing was tested.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from urllib.parse import unquote, urlsplit

import amqp
import psycopg
import pymysql
import pytest
import redis

#: Seconds a service has to respond.
TIMEOUT = 3


@dataclass(frozen=True)
class Service:
    """A service at its default address, or at the one in an environment variable.

    `probe` raises an exception if the service does not respond at an address.
    """

    name: str
    variable: str
    default: str
    probe: Callable[[str], object]

    @property
    def address(self) -> str:
        return os.environ.get(self.variable, "").strip() or self.default


def connect_postgres(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    """Return an autocommitting connection to the database of the URL, or to `postgres`."""
    return psycopg.connect(
        url, dbname=urlsplit(url).path[1:] or "postgres", autocommit=True, connect_timeout=TIMEOUT
    )


def connect_mariadb(url: str) -> "pymysql.connections.Connection[pymysql.cursors.Cursor]":
    """Return an autocommitting connection without a selected database."""
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        autocommit=True,
        connect_timeout=TIMEOUT,
    )


def unique_name() -> str:
    """Return a new name for a database, queue or virtual host."""
    return f"bunce_test_{uuid.uuid4().hex[:12]}"


@contextmanager
def new_postgres_database(url: str) -> Iterator[str]:
    """Create an empty database on the server, yield its DATABASE_URL, and drop it at the end."""
    name = unique_name()
    with connect_postgres(url) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield urlsplit(url)._replace(path=f"/{name}").geturl()
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _probe_postgres(url: str) -> None:
    connect_postgres(url).close()


def _probe_mariadb(url: str) -> None:
    connect_mariadb(url).close()


def _probe_redis(url: str) -> None:
    with redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT) as client:
        client.ping()


def _probe_rabbitmq(url: str) -> None:
    parts = urlsplit(url)
    with amqp.Connection(
        host=f"{parts.hostname}:{parts.port or 5672}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        connect_timeout=TIMEOUT,
    ):
        if not shutil.which("rabbitmqctl"):
            raise FileNotFoundError(
                "rabbitmqctl is not installed; it creates a virtual host for the tests"
            )


def _probe_chromium(path: str) -> None:
    if not shutil.which(path):
        raise FileNotFoundError(f"{path} is not installed")


def _probe_postgres_programs(path: str) -> None:
    for program in ("createdb", "pg_dump", "pg_restore", "psql"):
        if not shutil.which(program, path=path):
            raise FileNotFoundError(f"{program} is not installed")


def _probe_package_index(_url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "hatchling"],
            check=True,
            capture_output=True,
            timeout=60,
        )


POSTGRES = Service(
    "PostgreSQL", "TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432", _probe_postgres
)
MARIADB = Service("MariaDB", "TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306", _probe_mariadb)
REDIS = Service("Redis", "TEST_REDIS_URL", "redis://127.0.0.1:6379", _probe_redis)
RABBITMQ = Service(
    "RabbitMQ", "TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672", _probe_rabbitmq
)
CHROMIUM = Service("Chromium", "CHROMIUM", "chromium", _probe_chromium)
POSTGRES_PROGRAMS = Service(
    "PostgreSQL's command line", "PATH", os.defpath, _probe_postgres_programs
)
#: pip also reads the variable; without it, pip's own configuration decides.
PACKAGE_INDEX = Service("The package index", "PIP_INDEX_URL", "", _probe_package_index)
ALL = (POSTGRES, MARIADB, REDIS, RABBITMQ, CHROMIUM, POSTGRES_PROGRAMS)


@cache
def unavailable(service: Service) -> str:
    """Return a one-line reason why the service cannot be used; empty if it responds."""
    try:
        service.probe(service.address)
    except Exception as error:  # noqa: BLE001 - any error is a reason
        reason = " ".join(f"{error}".split()) or type(error).__name__
        return f"{service.name} does not respond (set {service.variable} to its address): {reason}"
    return ""


def require(service: Service) -> str:
    """Return the service's address; if it does not respond, skip the test (CI=true: fail it)."""
    if reason := unavailable(service):
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return service.address

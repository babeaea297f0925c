"""The services a test can ask for, where they are, and whether they answer.

A service that does not answer skips the tests that need it, by name; with CI=true it fails
them, for there a skip would hide that nothing was tested.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from urllib.parse import unquote, urlsplit

import amqp
import psycopg
import pymysql
import pytest
import redis

#: Seconds a service has to answer.
PATIENCE = 3


@dataclass(frozen=True)
class Service:
    """One service: the variable that says where it is, the usual place, and how to try it.

    `probe` raises when the service does not answer at the address it is given.
    """

    name: str
    variable: str
    usual: str
    probe: Callable[[str], object]

    @property
    def address(self) -> str:
        return os.environ.get(self.variable, "").strip() or self.usual


def connect_postgres(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    """An autocommitting connection to the server's own database."""
    return psycopg.connect(
        url, dbname=urlsplit(url).path[1:] or "postgres", autocommit=True, connect_timeout=PATIENCE
    )


def connect_mariadb(url: str) -> "pymysql.connections.Connection[pymysql.cursors.Cursor]":
    """An autocommitting connection to the server, with no database chosen."""
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        autocommit=True,
        connect_timeout=PATIENCE,
    )


def _probe_postgres(url: str) -> None:
    connect_postgres(url).close()


def _probe_mariadb(url: str) -> None:
    connect_mariadb(url).close()


def _probe_redis(url: str) -> None:
    with redis.Redis.from_url(url, socket_connect_timeout=PATIENCE) as client:
        client.ping()


def _probe_rabbitmq(url: str) -> None:
    parts = urlsplit(url)
    with amqp.Connection(
        host=f"{parts.hostname}:{parts.port or 5672}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        connect_timeout=PATIENCE,
    ):
        if not shutil.which("rabbitmqctl"):
            raise FileNotFoundError("rabbitmqctl is needed to give the tests a virtual host")


def _probe_chromium(path: str) -> None:
    if not shutil.which(path):
        raise FileNotFoundError(f"{path} is not a program here")


POSTGRES = Service(
    "PostgreSQL", "TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432", _probe_postgres
)
MARIADB = Service("MariaDB", "TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306", _probe_mariadb)
REDIS = Service("Redis", "TEST_REDIS_URL", "redis://127.0.0.1:6379", _probe_redis)
RABBITMQ = Service(
    "RabbitMQ", "TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672", _probe_rabbitmq
)
CHROMIUM = Service("Chromium", "CHROMIUM", "chromium", _probe_chromium)
ALL = (POSTGRES, MARIADB, REDIS, RABBITMQ, CHROMIUM)


@cache
def trouble(service: Service) -> str:
    """Why the service cannot be used, in one line; empty when it answers."""
    try:
        service.probe(service.address)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason that is shown
        reason = " ".join(f"{error}".split()) or type(error).__name__
        return f"{service.name} does not answer ({service.variable} says where it is): {reason}"
    return ""


def require(service: Service) -> str:
    """The service's address; without it the test is skipped, or failed where CI=true."""
    if reason := trouble(service):
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return service.address

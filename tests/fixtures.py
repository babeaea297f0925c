"""Databases and brokers of a test's own, gone when it ends."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from pytest_django import DjangoDbBlocker

from tests import services
from tests.site import Broker

#: Which test a Redis database belongs to; it lapses should the test be killed.
_CLAIM = "bunce_sync:test"
_CLAIM_SECONDS = 3600


def _unique() -> str:
    return f"bunce_test_{uuid.uuid4().hex[:12]}"


def _at(url: str, path: str) -> str:
    return urlsplit(url)._replace(path=f"/{path}").geturl()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> str:
    """DATABASE_URL of an SQLite file of the test's own."""
    return f"sqlite:///{tmp_path / 'site.sqlite3'}"


@pytest.fixture
def postgres_database() -> Iterator[str]:
    """DATABASE_URL of an empty PostgreSQL database of the test's own."""
    url = services.require(services.POSTGRES)
    name = _unique()
    with services.connect_postgres(url) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield _at(url, name)
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def mariadb_database() -> Iterator[str]:
    """DATABASE_URL of an empty MariaDB database of the test's own."""
    url = services.require(services.MARIADB)
    name = _unique()
    with services.connect_mariadb(url) as server, server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        try:
            yield _at(url, name)
        finally:
            cursor.execute(f"DROP DATABASE {name}")


@pytest.fixture
def filesystem_broker(tmp_path: Path) -> Broker:
    """Celery's filesystem broker in a folder of the test's own."""
    return Broker(f"filesystem://localhost{tmp_path / 'broker'}")


@pytest.fixture
def redis_broker() -> Iterator[Broker]:
    """A Redis database that was empty, claimed for the test and emptied at its end."""
    url = services.require(services.REDIS)
    with redis.Redis.from_url(url) as server:
        count = int(server.config_get("databases")["databases"])
    for number in range(count - 1, 0, -1):
        with redis.Redis.from_url(_at(url, str(number))) as client:
            if client.set(_CLAIM, os.getpid(), nx=True, ex=_CLAIM_SECONDS):
                if client.dbsize() == 1:
                    try:
                        yield Broker(_at(url, str(number)))
                    finally:
                        client.flushdb()
                    return
                client.delete(_CLAIM)
    pytest.fail(f"None of the databases 1 to {count - 1} of Redis is empty; empty one.")


@pytest.fixture(scope="session")
def _rabbitmq_vhost() -> Iterator[str]:
    url = services.require(services.RABBITMQ)
    user = urlsplit(url).username or "guest"
    name = _unique()
    _rabbitmqctl("add_vhost", name)
    try:
        _rabbitmqctl("set_permissions", "--vhost", name, user, ".*", ".*", ".*")
        yield _at(url, name)
    finally:
        _rabbitmqctl("delete_vhost", name)


@pytest.fixture
def rabbitmq_broker(_rabbitmq_vhost: str) -> Broker:
    """A queue of the test's own, in a virtual host of the session's own."""
    return Broker(_rabbitmq_vhost, {"BUNCE_QUEUE": _unique()})


def _rabbitmqctl(*arguments: str) -> None:
    subprocess.run(["rabbitmqctl", "--quiet", *arguments], check=True, timeout=60)


@pytest.fixture
def database_access(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let the test read the databases of the `Site`s that it starts."""
    with django_db_blocker.unblock():
        yield

"""A database or broker for one test, removed when it ends."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from celery import Celery, current_app
from pytest_django import DjangoDbBlocker

from bunce_sync.publisher import publisher
from tests import services
from tests.site import Broker

#: Marks a Redis database as used by a test; it expires in case the test is killed.
_CLAIM = "bunce_sync:test"
_CLAIM_SECONDS = 3600


def _at(url: str, path: str) -> str:
    return urlsplit(url)._replace(path=f"/{path}").geturl()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> str:
    """Return the DATABASE_URL of a new SQLite file."""
    return f"sqlite:///{tmp_path / 'site.sqlite3'}"


@pytest.fixture
def postgres_database() -> Iterator[str]:
    """Yield the DATABASE_URL of a new PostgreSQL database."""
    with services.new_postgres_database(services.require(services.POSTGRES)) as url:
        yield url


@pytest.fixture
def mariadb_database() -> Iterator[str]:
    """Yield the DATABASE_URL of a new MariaDB database."""
    url = services.require(services.MARIADB)
    name = services.unique_name()
    with services.connect_mariadb(url) as server, server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        try:
            yield _at(url, name)
        finally:
            cursor.execute(f"DROP DATABASE {name}")


@pytest.fixture
def filesystem_broker(tmp_path: Path) -> Broker:
    """A filesystem broker in a new folder."""
    return Broker(f"filesystem://localhost{tmp_path / 'broker'}")


@pytest.fixture
def redis_broker() -> Iterator[Broker]:
    """Yield an empty Redis database, marked as used by the test and flushed afterwards."""
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
    pytest.fail(f"All Redis databases from 1 to {count - 1} are in use. Flush one of them.")


@pytest.fixture(scope="session")
def _rabbitmq_vhost() -> Iterator[str]:
    url = services.require(services.RABBITMQ)
    user = urlsplit(url).username or "guest"
    name = services.unique_name()
    _rabbitmqctl("add_vhost", name)
    try:
        _rabbitmqctl("set_permissions", "--vhost", name, user, ".*", ".*", ".*")
        yield _at(url, name)
    finally:
        _rabbitmqctl("delete_vhost", name)


@pytest.fixture
def rabbitmq_broker(_rabbitmq_vhost: str) -> Broker:
    """A new queue, in a virtual host of this test session."""
    return Broker(_rabbitmq_vhost, {"BUNCE_QUEUE": services.unique_name()})


def _rabbitmqctl(*arguments: str) -> None:
    subprocess.run(["rabbitmqctl", "--quiet", *arguments], check=True, timeout=60)


@pytest.fixture
def database_access(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Allow the test to read the databases of its sites."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def site_app() -> Iterator[Celery]:
    """Yield the sample site's Celery application, whose settings are restored afterwards."""
    app: Any = current_app
    changed = (
        *("beat_schedule", "task_always_eager", "task_create_missing_queues"),
        *("task_queues", "task_routes"),
    )
    before = {key: app.conf[key] for key in changed}
    _forget_routes(app)
    yield app
    app.conf.update(before)
    _forget_routes(app)
    publisher.reset()


def _forget_routes(app: Any) -> None:
    """Make the application read its routes and queues again when they are next needed."""
    app.amqp._rtable = None
    for name in ("router", "queues"):
        app.amqp.__dict__.pop(name, None)

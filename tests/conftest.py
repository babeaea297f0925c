"""Fixtures and settings of all tests."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.utils import translation
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import Settings

from bunce_sync.sync import clock
from bunce_sync.sync.sweep import forget_sweep
from bunce_sync.testing.local_bunce import LocalBunce

pytest_plugins = ["bunce_sync.testing.pytest_plugin", "tests.fixtures", "tests.faults.report"]

# On a shared machine a slow example is not an error.
hypothesis_settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("default")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Put the unit tests' SQLite database into a file.

    In memory, Django shares one connection's cache between threads. That locks whole tables and has
    no WAL, unlike any database in production.
    """
    if connection.vendor == "sqlite":
        name = tmp_path_factory.mktemp("database") / "test.sqlite3"
        connection.settings_dict["TEST"]["NAME"] = str(name)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """Empty PostgreSQL's tables with DELETE: TRUNCATE writes new files for each table and index."""
    if connection.vendor != "postgresql":
        yield
        return

    def delete(style: Any, tables: Iterable[str], **options: Any) -> list[str]:
        names = [connection.ops.quote_name(table) for table in tables]
        return [f"DELETE FROM {name};" for name in names]  # noqa: S608 - quoted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection.ops, "sql_flush", delete)
        yield


@pytest.fixture
def bunce(bunce: LocalBunce, settings: Settings) -> LocalBunce:
    """The fixture for sites, with the rate limits that apply in production."""
    settings.BUNCE_SYNC = {**settings.BUNCE_SYNC, "RATE_LIMIT": 500}
    bunce.set(rate_limit=500)
    return bunce


@pytest.fixture(autouse=True)
def reset_process_state() -> Iterator[None]:
    """Reset what a process keeps between requests and tasks.

    That is the language of the last request, and the last readings of the database's clock, which a
    test may have set to another year.
    """
    _forget_readings()
    yield
    translation.deactivate()
    _forget_readings()


def _forget_readings() -> None:
    clock.forget_readings()
    forget_sweep()

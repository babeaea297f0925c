"""What every test stands on."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.utils import translation
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from bunce_sync.sync import clock

pytest_plugins = ["bunce_sync.testing.pytest_plugin", "tests.fixtures", "tests.faults.report"]

# A shared machine is slow now and then: that is no finding.
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

    In memory Django would share one connection's cache between threads, which locks whole
    tables and knows no WAL: unlike anything that runs in earnest.
    """
    if connection.vendor == "sqlite":
        name = tmp_path_factory.mktemp("database") / "test.sqlite3"
        connection.settings_dict["TEST"]["NAME"] = str(name)


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> Iterator[None]:
    """Forget what a process keeps from one request or task to the next.

    The language of the last request stays with the thread, and the last reading of the database's
    clock, which a test may have set to another year, with the process.
    """
    clock._seen.clear()
    yield
    translation.deactivate()
    clock._seen.clear()

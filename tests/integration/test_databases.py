"""Behaviour that depends on the database, tested on the servers too, not only on SQLite."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.site import ROOT

#: The unit tests that depend on locks, compare-and-set, times or query plans, in groups that run at
#: the same time.
SELECTED = {
    "push": ("locks", "push", "sweep", "reconcile", "late_responses", "forgotten_create"),
    "rest": ("rate_limiter", "models", "indexes", "api_lists", "doctor", "two_saves"),
    "texts": ("texts", "lookups", "generated_responses"),
    "imports": ("importer", "linking", "rehome"),
    "customers": ("customers", "audiences"),
}

#: For libpq: these tests lose no server, so no commit has to wait for the disk.
QUICK_COMMITS = {"PGOPTIONS": "-c synchronous_commit=off"}

#: Those with concurrent transactions.
CONCURRENT = ("locks", "push", "rate_limiter")


@pytest.mark.parametrize("names", SELECTED.values(), ids=SELECTED)
@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_the_unit_tests_that_depend_on_the_database_pass_on_a_server(
    request: pytest.FixtureRequest, server: str, names: Sequence[str]
) -> None:
    run_unit_tests(names, request.getfixturevalue(f"{server}_database"))


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_concurrent_transactions_work_when_the_site_uses_a_higher_isolation_level(
    request: pytest.FixtureRequest, server: str
) -> None:
    url = request.getfixturevalue(f"{server}_database")
    run_unit_tests(CONCURRENT, url, "--ds=tests.integration.isolation_settings")


def run_unit_tests(names: Sequence[str], url: str, *options: str) -> None:
    """Run files of unit tests on another database."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"),
            *options,
            *(f"tests/unit/test_{name}.py" for name in names),
        ],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, **QUICK_COMMITS},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "passed" in done.stdout

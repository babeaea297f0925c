"""Behaviour that depends on the database, tested on the servers too, not only on SQLite."""

import os
import subprocess
import sys

import pytest

from tests.site import ROOT

#: The unit tests that depend on locks, compare-and-set, times or query plans.
SELECTED = (
    "locks",
    "push",
    "sweep",
    "reconcile",
    "late_responses",
    "forgotten_create",
    "rate_limiter",
    "models",
    "indexes",
    "api_lists",
    "texts",
    "lookups",
)


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_the_unit_tests_that_depend_on_the_database_pass_on_a_server(
    request: pytest.FixtureRequest, server: str
) -> None:
    url: str = request.getfixturevalue(f"{server}_database")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"),
            *(f"tests/unit/test_{name}.py" for name in SELECTED),
        ],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "passed" in done.stdout

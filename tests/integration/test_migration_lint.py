"""Migrations that a site can apply while its old code still runs, and without locking big tables.

The linter reads the SQL that each migration would run, which differs between the databases. The
first migration creates the tables, so every later one is checked.
"""

import os
import subprocess
import sys

import pytest

from tests.site import ROOT


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_no_migration_locks_a_big_table_or_breaks_the_code_of_the_release_before(
    request: pytest.FixtureRequest, server: str
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "manage.py", "lintmigrations", "bunce_sync"),
            *("--ignore-initial-migrations", "--no-cache", "--skip-checks", "--warnings-as-errors"),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": request.getfixturevalue(f"{server}_database"),
            "DJANGO_SETTINGS_MODULE": "tests.integration.migration_lint_settings",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(bunce_sync, 0001_initial)... IGNORE" in done.stdout
    assert "Valid migrations: 0/" not in done.stdout

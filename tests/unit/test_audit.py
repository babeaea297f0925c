"""`make audit`: it reports vulnerabilities, and never success without the database."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.site import ROOT

CLEAN = {"name": "celery", "version": "5.7.0", "vulns": []}
BAD = {
    "name": "django",
    "version": "5.2",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["5.2.1"], "aliases": []}],
}
UNKNOWN = {"name": "kombu", "skip_reason": "Dependency not found on PyPI"}


def audit(folder: Path, *lines: str) -> tuple[int, str]:
    """Run the script with a pip-audit of these lines; return exit code and output."""
    program = folder / "pip-audit"
    program.write_text("\n".join([f"#!{sys.executable}", "import sys", *lines]))
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, ROOT / ".ci/audit.py", program, "requirements.txt"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr
    return done.returncode, done.stdout


def reported(*packages: dict[str, Any]) -> str:
    return f"print({json.dumps({'dependencies': packages})!r})"


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([CLEAN], 0, "1 of 1 packages audited, 0 known vulnerabilities."),
        ([CLEAN, BAD], 1, "VULNERABLE: django 5.2: PYSEC-2026-1, fixed in 5.2.1"),
        ([CLEAN, UNKNOWN], 0, "NOT AUDITED: kombu"),
        ([CLEAN, UNKNOWN], 0, "1 of 2 packages audited, 0 known vulnerabilities."),
        ([BAD, UNKNOWN], 1, "VULNERABLE: django"),
    ],
)
def test_what_was_found_is_reported(
    tmp_path: Path, packages: list[dict[str, Any]], code: int, said: str
) -> None:
    exit_code, output = audit(tmp_path, reported(*packages))
    assert exit_code == code
    assert said in output


@pytest.mark.parametrize(
    "lines",
    [
        [reported(UNKNOWN)],
        [reported()],
        ["sys.exit('requests.exceptions.ConnectionError: no route to host')"],
        ["sys.exit(1)"],
        ["print('{}')", "sys.exit('no database')"],
    ],
)
def test_without_the_database_nothing_is_claimed(tmp_path: Path, lines: list[str]) -> None:
    exit_code, output = audit(tmp_path, *lines)
    assert exit_code == 0
    assert output.startswith("NOT AUDITED: the database of vulnerabilities could not be used: ")
    assert "0 known vulnerabilities" not in output

"""Runs cells of the matrix in the virtual environments that nox makes, and reports the results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nox

from tests.matrix import cells
from tests.matrix.cells import Cell, Environment
from tests.matrix.document import END_TO_END, PASSED, Line, summary, write

ROOT = Path(__file__).resolve().parents[2]
#: The output of each cell's tests.
LOGS = ROOT / "test-results" / "matrix"

EXTRAS = ("api", "cli", "files", "metrics", "mysql", "postgres", "redis")
#: Not among the extras, because sites choose them.
OPTIONAL = ("gevent", "psycopg-pool")
#: Whose versions docs/matrix.md shows.
SHOWN = ("Django", "celery", "kombu", "requests", "urllib3", "djangorestframework")
MYSQLCLIENT = "mariadb-mysqlclient"
DRIVERS = {
    "postgres": "psycopg",
    "postgres-pool": "psycopg",
    "postgres-pgbouncer": "psycopg",
    "mariadb-pymysql": "PyMySQL",
    MYSQLCLIENT: "mysqlclient",
}

#: Cells that run at the same time: each waits most of the time.
JOBS = int(os.environ.get("JOBS") or 3)
#: Seconds until the tests of a cell are ended.
TIME_LIMIT = 1800

#: The unit tests that depend most on the versions of what is installed.
CORE = (
    *("admin_actions", "admin_change", "admin_list", "api_lists", "api_schema", "api_segments"),
    *("checks", "client_connections", "client_responses", "client_sent", "customers"),
    *("files_export", "files_import", "importer", "models", "publisher", "push", "rate_limiter"),
    *("reconcile", "routing", "sweep", "tasks"),
)

#: It compares the page with the cells; until the end of a run, the page has the previous results.
ABOUT_MATRIX = "tests/unit/test_matrix.py"

#: What ran, by the numbers of the cells.
results: dict[int, Line] = {}


def selected() -> dict[int, Cell]:
    """Return the cells with their numbers; only some if the variable CELL names them.

    It holds numbers and parts of names, separated by commas.
    """
    wanted = [each for each in os.environ.get("CELL", "").split(",") if each]
    return {
        number: one
        for number, one in enumerate(cells.cells(), 1)
        if not wanted
        or any(int(each) == number if each.isdigit() else each in str(one) for each in wanted)
    }


def environments() -> list[Environment]:
    """Return the environments of the selected cells."""
    used = {one.environment for one in selected().values()}
    return [one for one in cells.environments() if one in used]


def run(session: nox.Session, environment: Environment) -> None:
    """Install an environment, run its cells, and print a line for each.

    A cell that fails ends neither the others nor the session: ``report`` tells about it.
    """
    own = {number: one for number, one in selected().items() if one.environment == environment}
    mysqlclient = install(session, environment, {one.database for one in own.values()})
    python = str(Path(session.bin) / "python")
    with ThreadPoolExecutor(JOBS) as jobs:
        results.update(jobs.map(partial(run_cell, python, mysqlclient), own, own.values()))


def install(session: nox.Session, environment: Environment, databases: set[str]) -> Path:
    """Install an environment; return the folder with mysqlclient, if one of the databases needs it.

    It is apart because the sample site uses mysqlclient where it is installed.
    """
    folder = Path(session.create_tmp())
    constraints, pins = folder / "constraints.txt", folder / "pins.txt"
    constraints.write_text("\n".join(environment.constraints))
    resolution = "lowest-direct" if environment.dependencies == "lowest" else "highest"
    session.run_install(
        *("uv", "pip", "compile", "pyproject.toml", "--quiet", "--no-header", "--no-annotate"),
        *(option for extra in EXTRAS for option in ("--extra", extra)),
        *("--resolution", resolution, "--python", environment.python, "--upgrade"),
        *("--constraint", str(constraints), "--output-file", str(pins)),
        silent=True,
    )
    session.install(
        *("--quiet", "-r", str(pins), *OPTIONAL),
        *("-r", "pyproject.toml", "--extra", "testing", "--group", "tests"),
    )
    mysqlclient = folder / "mysqlclient"
    if MYSQLCLIENT in databases:
        session.install("--quiet", "--target", str(mysqlclient), "mysqlclient")
    return mysqlclient


def run_cell(python: str, mysqlclient: Path, number: int, cell: Cell) -> tuple[int, Line]:
    """Run the tests of a cell, and print a line about it."""
    began = time.monotonic()
    env = {**os.environ, "CI": "true", "MATRIX_CELL": str(cell)}
    for name in ("DJANGO_SETTINGS_MODULE", "DATABASE_URL"):
        env.pop(name, None)
    if cell.database == MYSQLCLIENT:
        env["PYTHONPATH"] = str(mysqlclient)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{number:02}-{cell}.log"
    chosen, failed = tests(cell), []
    with log.open("w") as output:
        for name, arguments in chosen.items():
            command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
            output.write(f"$ {' '.join(command)}\n")
            output.flush()
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=TIME_LIMIT,
                check=False,
            )
            if done.returncode != 0:
                failed.append(name)
    seconds = time.monotonic() - began
    result = f"failed: {', '.join(failed)}" if failed else PASSED
    sys.stdout.write(f"{number:>2} {cell}: {result} ({seconds:.0f} s)\n")
    if failed:
        sys.stdout.write(f"   see {log.relative_to(ROOT)}\n")
    sys.stdout.flush()
    return number, Line(cell, list(chosen), versions(python, mysqlclient, cell), result, seconds)


def tests(cell: Cell) -> dict[str, list[str]]:
    """Return the options of pytest for the tests of a cell, by what they test."""
    chosen = {END_TO_END: ["-p", "no:xdist", "tests/matrix/end_to_end.py"]}
    kind = cells.unit_tests().get(cell)
    if os.environ.get("UNIT") == "core" and kind == "all":
        kind = "core"
    match kind if os.environ.get("UNIT") != "none" else None:
        case "all":
            chosen["all unit tests"] = ["-n", "2", "tests/unit", f"--ignore={ABOUT_MATRIX}"]
        case "core":
            chosen["core unit tests"] = ["-n", "2", *(f"tests/unit/test_{one}.py" for one in CORE)]
        case "database":
            chosen["database unit tests"] = ["-n", "2", "tests/matrix/database.py"]
    return chosen


def versions(python: str, mysqlclient: Path, cell: Cell) -> dict[str, str]:
    """Return the versions of Python and of the packages that a cell used."""
    names = [*SHOWN, *filter(None, [DRIVERS.get(cell.database)])]
    code = (
        "import importlib.metadata, json, platform\n"
        f"found = {{name: importlib.metadata.version(name) for name in {names}}}\n"
        "print(json.dumps({'Python': platform.python_version(), **found}))"
    )
    done = subprocess.run(
        [python, "-c", code],
        env={**os.environ, "PYTHONPATH": str(mysqlclient)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def report(session: nox.Session) -> None:
    """Print the results, and write them into docs/matrix.md.

    Some cells without all of their tests are a quick check, and change nothing on the page.
    """
    lines = [results[number] for number in sorted(results)]
    sys.stdout.write(summary(lines))
    if len(lines) == len(cells.cells()) or not os.environ.get("UNIT"):
        write(results)
    failed = sum(line.result != PASSED for line in lines)
    missing = len(selected()) - len(lines)
    if failed or missing or not lines:
        session.error(f"{failed} cells failed, {missing} did not run")

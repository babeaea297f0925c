"""The results of the matrix, as the tables of docs/matrix.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.matrix.cells import AXES, UNSUPPORTED, Cell

PAGE = Path(__file__).resolve().parents[2] / "docs" / "matrix.md"
BEGIN, END = "<!-- begin: written by `make matrix` -->\n", "<!-- end -->\n"
PASSED = "passed"
END_TO_END = "end to end"

#: How the pages name the values that are not words.
NAMES = {
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
    "postgres-pool": "PostgreSQL, Django's pool",
    "postgres-pgbouncer": "PostgreSQL, pgbouncer",
    "mariadb-mysqlclient": "MariaDB, mysqlclient",
    "mariadb-pymysql": "MariaDB, PyMySQL",
    "redis": "Redis",
    "rabbitmq-classic": "RabbitMQ, classic queues",
    "rabbitmq-quorum": "RabbitMQ, quorum queues",
}
AXIS_NAMES = {"python": "Python", "django": "Django", "celery": "Celery"}


@dataclass(frozen=True)
class Line:
    """How a cell ended.

    Attributes:
        tests: what ran.
        versions: of Python and of packages, by their names.
        result: PASSED, or what failed.
    """

    cell: Cell
    tests: Sequence[str]
    versions: Mapping[str, str]
    result: str
    seconds: float


def combination(number: int, cell: Cell) -> list[str]:
    """Return the columns of a cell that do not depend on a run."""
    return [
        str(number),
        *(NAMES.get(each, each) for each in (getattr(cell, axis) for axis in AXES)),
    ]


def tables(lines: Sequence[Line]) -> str:
    """Return the results of all cells, and the combinations that are not supported."""
    headings = ["cell", *(AXIS_NAMES.get(axis, axis) for axis in AXES), "tests"]
    rows = [
        [
            *combination(number, line.cell),
            ", ".join(line.tests),
            ", ".join(f"{name} {version}" for name, version in line.versions.items()),
            line.result,
        ]
        for number, line in enumerate(lines, 1)
    ]
    return (
        f"{table([*headings, 'versions as installed', 'result'], rows)}\n"
        f"{table(['combination', 'result'], unsupported())}"
    )


def unsupported() -> list[list[str]]:
    """Return the pairs that are not supported, each with the reason."""
    order = list(AXES)
    named = []
    for pair, reason in UNSUPPORTED.items():
        values = sorted(pair, key=lambda value: order.index(value[0]))
        shown = [
            f"{AXIS_NAMES[axis]} {value}" if axis in AXIS_NAMES else NAMES[value]
            for axis, value in values
        ]
        named.append([" with ".join(shown), f"not supported: {reason}"])
    return named


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write(lines: Sequence[Line]) -> None:
    """Replace the tables of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(lines)}\n{END}{rest.partition(END)[2]}")


def summary(lines: Iterable[Line]) -> str:
    """Return a line for each cell, for a terminal."""
    return "".join(f"{line.result:<10} {line.seconds:>5.0f} s  {line.cell}\n" for line in lines)

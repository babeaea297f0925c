"""The results of the matrix, as the tables of docs/matrix.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.matrix.cells import AXES, UNSUPPORTED, Cell, cells

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


def tables(lines: Mapping[int, Line], before: Mapping[str, list[str]]) -> str:
    """Return the results of all cells, and the combinations that are not supported.

    Args:
        lines: of the cells that ran, by their numbers.
        before: the rows that the page has, by their first column; kept for the other cells.
    """
    headings = ["cell", *(AXIS_NAMES.get(axis, axis) for axis in AXES)]
    rows = []
    for number, cell in enumerate(cells(), 1):
        row = combination(number, cell)
        if line := lines.get(number):
            versions = ", ".join(f"{name} {version}" for name, version in line.versions.items())
            row += [", ".join(line.tests), versions, line.result]
        elif before.get(row[0], [])[: len(row)] == row:
            row = before[row[0]]
        else:
            row += ["", "", "did not run"]
        rows.append(row)
    return (
        f"{table([*headings, 'tests', 'versions as installed', 'result'], rows)}\n"
        f"{table(['combination', 'result'], unsupported())}"
    )


def rows_of(page: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows of the two tables of a page, without headings."""
    written = page.read_text().partition(BEGIN)[2].partition(END)[0]
    first, _, second = written.strip().partition("\n\n")
    split = [
        [line[2:-2].split(" | ") for line in part.splitlines()[2:]] for part in (first, second)
    ]
    return split[0], split[1]


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
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(lines: Mapping[int, Line]) -> None:
    """Replace the rows of these cells, by their numbers, in the tables of the page."""
    kept = {row[0]: row for row in rows_of(PAGE)[0]}
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(lines, kept)}\n{END}{rest.partition(END)[2]}")


def summary(lines: Iterable[Line]) -> str:
    """Return a line for each cell, for a terminal."""
    return "".join(f"{line.result:<10} {line.seconds:>5.0f} s  {line.cell}\n" for line in lines)

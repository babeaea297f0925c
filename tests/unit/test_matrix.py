"""The matrix: its cells cover what is supported, and the page about it fits them."""

from __future__ import annotations

import re
from itertools import combinations, product
from pathlib import Path

import pytest

from tests.matrix import document
from tests.matrix.cells import (
    AXES,
    DRIVERS,
    INSTALLED,
    UNSUPPORTED,
    Cell,
    cells,
    environments,
    pairs,
    unit_tests,
)

CELLS = cells()


def test_every_supported_pair_of_values_occurs_and_no_unsupported_one() -> None:
    values = {axis: [(axis, value) for value in AXES[axis]] for axis in AXES}
    possible = {
        frozenset(two)
        for first, second in combinations(AXES, 2)
        for two in product(values[first], values[second])
    }
    assert set(UNSUPPORTED) < possible, "a pair that is excluded does not exist"
    found = set().union(*(pairs(one) for one in CELLS))
    assert found == possible - set(UNSUPPORTED)


def test_there_are_few_cells_each_once_and_always_the_same() -> None:
    assert len(CELLS) == len(set(CELLS)) <= 26
    assert cells() == CELLS
    assert {one.environment for one in CELLS} == set(environments())
    assert len(environments()) <= 8


def test_the_first_two_cells_are_on_the_oldest_and_on_the_newest_versions() -> None:
    for cell, end in zip(CELLS[:2], (0, -1), strict=True):
        assert [getattr(cell, axis) for axis in INSTALLED] == [
            AXES[axis][end] for axis in INSTALLED
        ]


def test_each_environment_and_each_driver_runs_its_unit_tests_once() -> None:
    chosen = unit_tests()
    ends = environments()[:2]
    whole = [one.environment for one, what in chosen.items() if what == "all"]
    core = [one.environment for one, what in chosen.items() if what == "core"]
    assert whole == ends
    assert sorted(whole + core) == sorted(environments())
    databases = [one.database for one, what in chosen.items() if what == "database"]
    assert databases == list(DRIVERS)
    assert set(chosen) <= set(CELLS)


@pytest.fixture
def rows() -> tuple[list[list[str]], list[list[str]]]:
    """The two tables of the page, without headings."""
    text = document.PAGE.read_text()
    written = text.partition(document.BEGIN)[2].partition(document.END)[0]
    tables = [part.splitlines()[2:] for part in written.strip().split("\n\n")]
    first, second = ([line[2:-2].split(" | ") for line in table] for table in tables)
    return first, second


def test_the_page_shows_all_cells_as_passed_on_their_versions(
    rows: tuple[list[list[str]], list[list[str]]],
) -> None:
    """If this fails, run `make matrix`, which writes the page."""
    assert [row[:-3] for row in rows[0]] == [
        document.combination(number, cell) for number, cell in enumerate(CELLS, 1)
    ]
    for cell, row in zip(CELLS, rows[0], strict=True):
        *_columns, tests, versions, result = row
        assert document.END_TO_END in tests
        assert result == document.PASSED
        for name, value in installed(cell).items():
            assert re.search(rf"\b{name} {re.escape(value)}(?:\.\d+)*(?:,|$)", versions), versions


def installed(cell: Cell) -> dict[str, str]:
    return {"Python": cell.python, "Django": cell.django, "celery": cell.celery}


def test_the_page_shows_what_is_not_supported(
    rows: tuple[list[list[str]], list[list[str]]],
) -> None:
    assert rows[1] == document.unsupported()


def test_writing_replaces_the_tables_and_keeps_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "matrix.md"
    monkeypatch.setattr(document, "PAGE", page)
    page.write_text(f"Before\n{document.BEGIN}old\n{document.END}After\n")
    line = document.Line(
        CELLS[0], [document.END_TO_END], {"Django": "5.2"}, "failed: end to end", 1.0
    )
    for _ in range(2):
        document.write([line])
        text = page.read_text()
        assert "| Django 5.2 | failed: end to end |" in text
        assert text.startswith("Before\n")
        assert text.endswith("After\n")
        assert "old" not in text
        assert text.count(document.BEGIN) == text.count("failed") == 1

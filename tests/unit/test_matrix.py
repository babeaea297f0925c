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
    return document.rows_of(document.PAGE)


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


def test_writing_replaces_the_rows_of_the_cells_that_ran_and_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "matrix.md"
    monkeypatch.setattr(document, "PAGE", page)
    page.write_text(f"Before\n{document.BEGIN}{document.END}After\n")

    def line(number: int, result: str) -> dict[int, document.Line]:
        return {number: document.Line(CELLS[number - 1], ["e"], {"Django": "5.2"}, result, 1.0)}

    document.write(line(1, "failed: e"))
    document.write(line(2, "passed"))
    first, second, *others = document.rows_of(page)[0]
    assert first == [*document.combination(1, CELLS[0]), "e", "Django 5.2", "failed: e"]
    assert second == [*document.combination(2, CELLS[1]), "e", "Django 5.2", "passed"]
    assert {row[-1] for row in others} == {"did not run"}
    document.write(line(1, "passed"))
    assert [row[-1] for row in document.rows_of(page)[0][:2]] == ["passed", "passed"]
    # A row of another combination is no result.
    monkeypatch.setattr(document, "cells", lambda: list(reversed(CELLS)))
    document.write({})
    assert {row[-1] for row in document.rows_of(page)[0]} == {"did not run"}
    text = page.read_text()
    assert text.startswith("Before\n")
    assert text.endswith("After\n")

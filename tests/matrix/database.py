"""The unit tests that depend on the database, on that of a cell.

Not named like a test, because only `make matrix` runs it, for one cell at a time.
"""

from tests.integration.test_databases import SELECTED, run_unit_tests
from tests.matrix.conftest import Database


def test_the_unit_tests_that_depend_on_the_database_pass(cell_database: Database) -> None:
    names = [name for group in SELECTED.values() for name in group]
    run_unit_tests(names, cell_database.url, *cell_database.unit_options)

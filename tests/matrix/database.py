"""The unit tests that depend on the database, on that of a cell.

Not named like a test, because only `make matrix` runs it, for one cell at a time.
"""

from collections.abc import Sequence

import pytest

from tests.integration.test_databases import SELECTED, run_unit_tests
from tests.matrix.conftest import Database


@pytest.mark.parametrize("names", SELECTED.values(), ids=SELECTED)
def test_the_unit_tests_that_depend_on_the_database_pass(
    names: Sequence[str], cell_database: Database
) -> None:
    run_unit_tests(names, cell_database.url, *cell_database.unit_options)

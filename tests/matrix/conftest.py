"""The database and the broker of a cell; the variable MATRIX_CELL says which cell."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import services
from tests.matrix.cells import Cell, cells
from tests.matrix.pgbouncer import running_pgbouncer
from tests.site import Broker


@dataclass(frozen=True)
class Database:
    """A database of a cell.

    Attributes:
        direct: the URL of the server.
        url: that of the site, which may lead through pgbouncer or use Django's pool.
        env: further variables of tests.matrix.settings.
        unit_options: further options of pytest for unit tests.
    """

    direct: str
    url: str
    env: Mapping[str, str] = field(default_factory=dict)
    unit_options: tuple[str, ...] = ()


@pytest.fixture(scope="session")
def cell() -> Cell:
    """The cell under test."""
    [found] = [one for one in cells() if str(one) == os.environ["MATRIX_CELL"]]
    return found


@pytest.fixture
def cell_database(cell: Cell, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Yield a new database of the cell's kind."""
    kind, _, driver = cell.database.partition("-")
    url: str = request.getfixturevalue(f"{kind}_database")
    match driver:
        case "pgbouncer":
            with running_pgbouncer(tmp_path, url) as pooled:
                # Django cannot drop its test database while pgbouncer is connected to it.
                unit_options = ("--ds=tests.matrix.unit_settings", "--reuse-db")
                yield Database(url, pooled, {"MATRIX_PGBOUNCER": "1"}, unit_options)
            with services.connect_postgres(services.POSTGRES.address) as server:
                name = f"test_{urlsplit(url).path[1:]}"
                server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        case "pool":
            yield Database(url, f"{url}?pool=true")
        case _:
            yield Database(url, url)


@pytest.fixture
def cell_broker(cell: Cell, request: pytest.FixtureRequest) -> Broker:
    """A new broker of the cell's kind."""
    kind, _, queue_type = cell.broker.partition("-")
    broker: Broker = request.getfixturevalue(f"{kind}_broker")
    if queue_type:
        # Its virtual host is new, so it needs no queue of its own.
        return Broker(broker.url, {"MATRIX_QUEUE_TYPE": queue_type})
    return broker

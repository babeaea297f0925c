"""The cells of the matrix: pairwise over the axes, without what the makers do not support.

Needs no package, because nox reads it before anything is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import combinations, product
from typing import TypeVar

#: The values of each axis, the oldest first.
AXES: Mapping[str, tuple[str, ...]] = {
    "python": ("3.11", "3.12", "3.13"),
    "django": ("5.2", "6.0", "6.1"),
    "celery": ("5.4", "5.7"),
    # The lowest that pyproject.toml allows, or the newest that fit; Django and Celery apart.
    "dependencies": ("lowest", "newest"),
    "database": (
        *("sqlite", "postgres", "postgres-pool", "postgres-pgbouncer"),
        *("mariadb-mysqlclient", "mariadb-pymysql"),
    ),
    "broker": ("redis", "rabbitmq-classic", "rabbitmq-quorum"),
    "pool": ("prefork", "threads", "gevent", "solo"),
}
#: The axes that decide what is installed; cells that agree on them share an installation.
INSTALLED = ("python", "django", "celery", "dependencies")

Pair = frozenset[tuple[str, str]]
One = TypeVar("One", bound="Environment")


def pair(first: tuple[str, str], second: tuple[str, str]) -> Pair:
    """Return two values, each with its axis, in any order."""
    return frozenset({first, second})


#: The pairs of values that do not work together according to their makers, with the reason.
UNSUPPORTED: Mapping[Pair, str] = {
    pair(("python", "3.11"), ("django", "6.0")): "Django 6.0 requires Python 3.12.",
    pair(("python", "3.11"), ("django", "6.1")): "Django 6.1 requires Python 3.12.",
    pair(("python", "3.13"), ("celery", "5.4")): "Celery supports Python 3.13 since 5.5.",
    pair(("celery", "5.4"), ("broker", "rabbitmq-quorum")): (
        "Celery supports quorum queues since 5.5."
    ),
}

#: The lowest versions that name a Django in their metadata, if pyproject.toml allows lower ones.
NEEDED_BY_DJANGO: Mapping[str, tuple[str, ...]] = {
    "5.2": (),
    "6.0": ("djangorestframework>=3.17", "django-filter>=25.2"),
    "6.1": ("djangorestframework>=3.18", "django-filter>=26.1"),
}


@dataclass(frozen=True, order=True)
class Environment:
    """What is installed together."""

    python: str
    django: str
    celery: str
    dependencies: str

    def __str__(self) -> str:
        return f"py{self.python}-django{self.django}-celery{self.celery}-{self.dependencies}"

    @property
    def constraints(self) -> list[str]:
        """The versions to install, as pip's requirements."""
        return [
            f"Django=={self.django}.*",
            f"celery=={self.celery}.*",
            *NEEDED_BY_DJANGO[self.django],
        ]


@dataclass(frozen=True, order=True)
class Cell(Environment):
    """One combination that is tested; its fields are the names of AXES."""

    database: str
    broker: str
    pool: str

    def __str__(self) -> str:
        return f"{self.environment}-{self.database}-{self.broker}-{self.pool}"

    @property
    def environment(self) -> Environment:
        return Environment(*(getattr(self, axis) for axis in INSTALLED))


def pairs(one: Environment) -> set[Pair]:
    """Return all pairs of values that occur in a cell or in an environment."""
    values = [(field.name, getattr(one, field.name)) for field in fields(one)]
    return {frozenset(two) for two in combinations(values, 2)}


def is_supported(one: Environment) -> bool:
    """Return whether all values of a cell or an environment work together."""
    return UNSUPPORTED.keys().isdisjoint(pairs(one))


def environments() -> list[Environment]:
    """Return the installations: the oldest, the newest, then what is missing for all pairs."""
    values = [AXES[axis] for axis in INSTALLED]
    ends = [Environment(*(axis[end] for axis in values)) for end in (0, -1)]
    return cover(ends, (Environment(*one) for one in product(*values)))


def cells() -> list[Cell]:
    """Return the cells, in which every supported pair of values occurs.

    The order is always the same; the first two are on the oldest and on the newest environment.
    """
    rest = [AXES[axis] for axis in AXES if axis not in INSTALLED]
    installed = environments()
    candidates = [
        Cell(*(getattr(one, axis) for axis in INSTALLED), *others)
        for one in installed
        for others in product(*rest)
    ]
    newest = next(
        one
        for one in candidates
        if one.environment == installed[1] and one.database == "postgres" and is_supported(one)
    )
    return cover([candidates[0], newest], candidates)


def cover(chosen: list[One], candidates: Iterable[One]) -> list[One]:
    """Add candidates until all pairs occur: always one that adds most, the first of equals.

    Args:
        chosen: the ones to begin with.
    """
    chosen = list(chosen)
    supported = [(one, pairs(one)) for one in candidates if is_supported(one)]
    missing = set[Pair]().union(*(found for _one, found in supported))
    for one in chosen:
        missing -= pairs(one)
    while missing:
        best, added = max(supported, key=lambda each: len(each[1] & missing))
        chosen.append(best)
        missing -= added
    return chosen


#: Kinds of databases whose unit tests `make test` does not run, or only with other versions.
DRIVERS = ("postgres-pool", "postgres-pgbouncer", "mariadb-mysqlclient", "mariadb-pymysql")


def unit_tests() -> dict[Cell, str]:
    """Return the unit tests that cells run in addition, if any: "all", "core" or "database".

    Each environment runs them once, the oldest and the newest one all of them. Each kind of
    database runs those that depend on it once.
    """
    every = cells()
    chosen: dict[Cell, str] = {}
    ends = environments()[:2]
    for installed in environments():
        first = next(one for one in every if one.environment == installed)
        chosen[first] = "all" if installed in ends else "core"
    for database in DRIVERS:
        first = next(one for one in every if one.database == database and one not in chosen)
        chosen[first] = "database"
    return chosen

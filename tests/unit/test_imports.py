"""The arrows of the layout: imports point one way, wherever in a file they stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bunce_sync

ROOT = Path(bunce_sync.__file__).parent
PACKAGE = "bunce_sync"

#: From the ground up: a module imports from its own layer and those before.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("conf", "exceptions", "choices", "fingerprint", "functions"),
    ("client",),
    ("results", "transitions"),
    ("models", "migrations"),
    ("database",),
    ("sync",),
    ("publisher", "tasks"),
    ("*",),  # services, status
    ("checks", "signals", "admin", "api", "management", "apps"),
)
#: The emulator and the pytest plugin, and the command that starts the emulator.
APART = ("testing",)
STARTERS = ("management.commands.bunce_emulator",)

HTTP = ("requests", "urllib3", "http", "socket", "httpx", "aiohttp")


def modules() -> list[str]:
    names = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts) or PACKAGE)
    return names


def source(module: str) -> Path:
    base = ROOT if module == PACKAGE else ROOT.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def imported(module: str) -> Iterator[str]:
    """The full names of all that a module imports, also inside functions."""
    path = source(module)
    package = [PACKAGE, *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            # `from package import module` may name a module as well as a name in it.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def inside(name: str) -> str | None:
    """A full name without the package's; None for one of another package."""
    if name == PACKAGE or not name.startswith(f"{PACKAGE}."):
        return None
    return name.removeprefix(f"{PACKAGE}.")


def within(name: str, *packages: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in packages)


def layer(name: str) -> int | None:
    """The number of a module's layer; None for what stands apart, and for the package itself."""
    if name in ("", PACKAGE, "__version__") or within(name, *APART, *STARTERS):
        return None
    named = [number for number, names in enumerate(LAYERS) if within(name, *names)]
    return named[0] if named else LAYERS.index(("*",))


@cache
def everywhere() -> list[tuple[str, str]]:
    return [(module, name) for module in modules() for name in imported(module)]


def test_imports_point_one_way() -> None:
    against = []
    for module, name in everywhere():
        below, above = layer(inside(name) or ""), layer(module)
        if below is not None and above is not None and below > above:
            against.append(f"{module} imports {name}")
    assert against == []


def test_conf_and_exceptions_know_nothing_of_the_rest() -> None:
    allowed = {"exceptions"}
    for module in ("conf", "exceptions", "fingerprint", "functions"):
        names = {inside(name) for name in imported(module)} - {None}
        assert {str(name).split(".")[0] for name in names} <= allowed, module


def test_the_client_is_http_only() -> None:
    for module, name in everywhere():
        if within(module, "client"):
            assert not within(name, "django", "celery", "kombu", "rest_framework"), module
            own = inside(name)
            assert own is None or within(
                own, "client", "exceptions", "fingerprint", "__version__"
            ), module


def test_the_protocol_knows_neither_celery_nor_http() -> None:
    for module, name in everywhere():
        if within(module, "sync"):
            assert not within(name, "celery", "kombu", *HTTP), f"{module} imports {name}"


def test_the_rows_know_nothing_of_the_wire() -> None:
    for module, name in everywhere():
        if within(module, "models"):
            assert not within(inside(name) or "", "client", "sync", "testing"), module
            assert not within(name, "celery", *HTTP), module


def test_testing_is_independent_and_only_its_command_imports_it() -> None:
    for module, name in everywhere():
        own = inside(name)
        if within(module, "testing"):
            assert own is None or within(own, "testing"), f"{module} imports {name}"
            assert not within(name, "django", "celery", "requests"), f"{module} imports {name}"
        elif module not in STARTERS:
            assert not within(own or "", "testing"), f"{module} imports {name}"


def test_only_the_running_emulator_imports_h11() -> None:
    users = {module for module, name in everywhere() if within(name, "h11")}
    assert users == {"testing.emulator.connection"}


def test_what_a_user_may_leave_out_is_imported_by_nothing_else() -> None:
    for module, name in everywhere():
        if not within(module, "api"):
            assert not within(name, "rest_framework", "drf_spectacular", "django_filters"), module
            assert not within(inside(name) or "", "api"), f"{module} imports {name}"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import requests.adapters", ["requests.adapters"]),
        ("from ..exceptions import Rejected", ["bunce_sync.exceptions.Rejected"]),
        ("from . import rate_limiter", ["bunce_sync.sync.rate_limiter"]),
        ("def f():\n    from bunce_sync.testing import emulator", ["bunce_sync.testing.emulator"]),
    ],
)
def test_every_way_to_import_is_seen(
    statement: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sync"
    folder.mkdir()
    (folder / "example.py").write_text(statement)
    monkeypatch.setattr("tests.unit.test_imports.ROOT", tmp_path)
    assert list(imported("sync.example")) == expected

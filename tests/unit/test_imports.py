"""The layers of the app: imports point one way, wherever they are in a file."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import bunce_sync

ROOT = Path(bunce_sync.__file__).parent
PACKAGE = "bunce_sync"

#: From the ground up: a module imports only from its own layer and those before it.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        *("clocks", "conf", "exceptions", "choices", "fingerprint", "functions", "log_events"),
        *("holding", "identifiers", "signals"),
    ),
    ("client", "customer_entries", "validators"),
    ("local_form",),
    ("results", "tracing", "transitions"),
    ("member_transitions",),
    ("models", "migrations"),
    ("audiences", "database"),
    ("sync",),
    ("routing", "publisher", "tasks"),
    ("services", "status"),
    ("doctor", "limiter", "sandbox_probe", "log_entries"),
    ("checks", "receivers", "admin", "api", "management", "monitoring", "apps"),
)
#: Outside the layers: the emulator and the pytest plugin, and the command that starts the emulator.
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


def imported(module: str, *, for_typing: bool = True) -> Iterator[str]:
    """Yield the full names of everything that a module imports, also inside functions.

    Args:
        for_typing: also what it imports under ``if TYPE_CHECKING``, and so not at run time.
    """
    path = source(module)
    package = [PACKAGE, *path.relative_to(ROOT).parent.parts]
    for node in nodes(ast.parse(path.read_text()), for_typing=for_typing):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            # `from package import module` may name a module as well as a name in it.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def nodes(node: ast.AST, *, for_typing: bool) -> Iterator[ast.AST]:
    """Yield a node of the syntax tree and all nodes below it."""
    yield node
    below: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and not for_typing and is_type_checking(node.test):
        below = node.orelse
    for child in below:
        yield from nodes(child, for_typing=for_typing)


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def inside(name: str) -> str | None:
    """Return a full name without the package's; None for one of another package."""
    if name == PACKAGE or not name.startswith(f"{PACKAGE}."):
        return None
    return name.removeprefix(f"{PACKAGE}.")


def within(name: str, *packages: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in packages)


def layer(name: str) -> int | None:
    """Return the number of a module's layer; None outside the layers and for the package itself."""
    if name in ("", PACKAGE, "__version__") or within(name, *APART, *STARTERS):
        return None
    [number] = [number for number, names in enumerate(LAYERS) if within(name, *names)]
    return number


def module_of(name: str, known: Iterable[str]) -> str | None:
    """Return the known module that a full name refers to or is in; None if there is none."""
    own = inside(name) or ""
    return next((one for one in (own, own.rpartition(".")[0]) if one in known), None)


def mutual_imports() -> list[str]:
    """Return the pairs of modules that import each other at run time."""
    known = set(modules())
    pairs = {
        (module, module_of(name, known))
        for module in known
        for name in imported(module, for_typing=False)
    }
    return sorted(
        f"{one} and {other}"
        for one, other in pairs
        if other is not None and one < other and (other, one) in pairs
    )


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


def test_every_module_has_one_layer() -> None:
    listed = {name for names in LAYERS for name in names}
    found = {module.split(".")[0] for module in modules()} - {PACKAGE, *APART}
    assert found == listed


def test_no_two_modules_import_each_other() -> None:
    assert mutual_imports() == []


def test_the_lowest_layer_imports_only_modules_that_import_nothing() -> None:
    allowed = {"exceptions", "fingerprint"}
    for module in allowed:
        assert not any(inside(name) for name in imported(module)), module
    for module in LAYERS[0]:
        names = {inside(name) for name in imported(module)} - {None}
        assert {str(name).split(".")[0] for name in names} <= allowed, module


def test_the_client_knows_only_http() -> None:
    for module, name in everywhere():
        if within(module, "client"):
            assert not within(name, "django", "celery", "kombu", "rest_framework"), module
            own = inside(name)
            assert own is None or within(
                own,
                *("client", "clocks", "exceptions", "fingerprint", "identifiers"),
                *("log_events", "__version__"),
            ), module


def test_the_sync_knows_neither_celery_nor_http() -> None:
    for module, name in everywhere():
        if within(module, "sync"):
            assert not within(name, "celery", "kombu", *HTTP), f"{module} imports {name}"


def test_models_know_neither_the_client_nor_the_sync() -> None:
    for module, name in everywhere():
        if within(module, "models"):
            assert not within(inside(name) or "", "client", "sync", "testing"), module
            assert not within(name, "celery", *HTTP), module


def test_the_emulator_is_independent_and_only_its_command_imports_testing() -> None:
    for module, name in everywhere():
        own = inside(name)
        if within(module, "testing.emulator"):
            assert own is None or within(own, "testing.emulator"), f"{module} imports {name}"
            assert not within(name, "django", "celery", "requests"), f"{module} imports {name}"
        elif module not in STARTERS and not within(module, "testing"):
            assert not within(own or "", "testing"), f"{module} imports {name}"


def test_only_the_running_emulator_imports_h11() -> None:
    users = {module for module, name in everywhere() if within(name, "h11")}
    assert users == {"testing.emulator.connection"}


def test_optional_packages_are_imported_only_by_the_api() -> None:
    for module, name in everywhere():
        if not within(module, "api"):
            assert not within(name, "rest_framework", "drf_spectacular", "django_filters"), module
            assert not within(inside(name) or "", "api"), f"{module} imports {name}"


def test_the_packages_for_files_are_imported_only_with_them() -> None:
    for module, name in everywhere():
        if not within(module, "admin.files"):
            assert not within(name, "import_export", "tablib", "openpyxl", "unfold.contrib"), module
        if module != "admin.files" and not within(module, "admin.files"):
            assert not within(inside(name) or "", "admin.files.views", "admin.files.resource")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import requests.adapters", ["requests.adapters"]),
        ("from ..exceptions import Rejected", ["bunce_sync.exceptions.Rejected"]),
        ("from . import rate_limiter", ["bunce_sync.sync.rate_limiter"]),
        ("def f():\n    from bunce_sync.testing import emulator", ["bunce_sync.testing.emulator"]),
    ],
)
def test_every_kind_of_import_is_found(
    statement: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sync"
    folder.mkdir()
    (folder / "example.py").write_text(statement)
    monkeypatch.setattr("tests.unit.test_imports.ROOT", tmp_path)
    assert list(imported("sync.example")) == expected


@pytest.mark.parametrize(
    ("statement", "mutual"),
    [
        ("from bunce_sync.sync import one", True),
        ("from bunce_sync.sync.one import NAME", True),
        ("import bunce_sync.sync.one", True),
        ("def f():\n    from . import one", True),
        ("if TYPE_CHECKING:\n    from . import one", False),
        ("if typing.TYPE_CHECKING:\n    from . import one", False),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    from . import one", True),
        ("if not TYPE_CHECKING:\n    from . import one", True),
        ("from . import another", False),
    ],
)
def test_mutual_imports_are_found(
    statement: str, mutual: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sync"
    folder.mkdir()
    (folder / "one.py").write_text("from .other import NAME")
    (folder / "other.py").write_text(statement)
    monkeypatch.setattr("tests.unit.test_imports.ROOT", tmp_path)
    assert mutual_imports() == (["sync.one and sync.other"] if mutual else [])

"""The samples of README and docs: those in Python are run, the others are checked.

docs/testing.md is run by test_docs.py, README.md by the test of the package.
"""

from __future__ import annotations

import configparser
import json
import logging
import logging.config
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.management import get_commands, load_command_class
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState
from django.db.models import QuerySet
from django.dispatch import Signal
from prometheus_client import REGISTRY

import bunce_sync
from bunce_sync import audiences, signals
from bunce_sync.conf import conf
from bunce_sync.models import ApiCall, PushHold, Segment
from bunce_sync.testing.local_bunce import LocalBunce
from tests.neighbours.models import Campaign

from .test_docs import FENCE, PAGES, ROOT, code

RUN_ELSEWHERE = ("README.md", "testing.md", "quickstart.md")
SAMPLES = [
    (str(page.relative_to(ROOT)), number, source)
    for page in PAGES
    if page.name not in RUN_ELSEWHERE
    for number, source in enumerate(code(page, "python"))
]


def blocks(*languages: str) -> list[Any]:
    """Return the samples in some languages, as parameters of tests."""
    found = []
    for page in PAGES:
        for number, (_, language, source) in enumerate(FENCE.findall(page.read_text())):
            if language in languages:
                name = f"{page.relative_to(ROOT)}-{number}"
                found.append(pytest.param(source, id=name))
    return found


# Python


@pytest.fixture
def clean_up() -> Iterator[None]:
    """Leave nothing registered or connected that a sample registers or connects."""
    registered = dict(audiences._registered)
    senders = [value for value in vars(signals).values() if isinstance(value, Signal)]
    receivers = {signal: list(signal.receivers) for signal in senders}
    collectors = set(REGISTRY._collector_to_names)
    yield
    audiences._registered.clear()
    audiences._registered.update(registered)
    for signal, before in receivers.items():
        signal.receivers = before
        signal.sender_receivers_cache.clear()
    for collector in set(REGISTRY._collector_to_names) - collectors:
        REGISTRY.unregister(collector)


@pytest.fixture
def names(bunce: LocalBunce, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the samples leave out: a segment, the site's models and settings, a file to read."""
    shop = ModuleType("shop.models")
    shop.Customer = Segment  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.models", shop)
    site = ModuleType("mysite.models")
    site.CustomerGroup = Segment  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mysite", ModuleType("mysite"))
    monkeypatch.setitem(sys.modules, "mysite.models", site)
    segment = Segment.objects.create(name="VIP")
    bunce.work()
    segment.refresh_from_db()
    monkeypatch.chdir(tmp_path)
    Path("customers.csv").write_text(
        f"{segment.bunce_id},c-1,f\n{segment.bunce_id},a@b.example,t\n"
    )
    return {
        "segment": segment,
        "Segment": Segment,
        "Campaign": Campaign,
        "bunce_sync": bunce_sync,
        "Audience": audiences.Audience,
        "migrations": migrations,
        "BUNCE_SYNC": {},
        "INSTALLED_APPS": [],
        "DATABASES": {"default": {}},
    }


def follow_up_of_load(names: dict[str, Any], bunce: LocalBunce) -> None:
    async_to_sync(names["load"])()
    bunce.work()
    assert [one.name for one in bunce.segments] == ["VIP", "Spring A"]


def follow_up_of_send_event(names: dict[str, Any], bunce: LocalBunce) -> None:
    names["send_event"](f"{conf.base_url}/segments", conf.API_KEY, {"name": "Event"})
    assert ApiCall.objects.filter(operation="site", outcome="confirmed").count() == 1


def follow_up_of_logging(names: dict[str, Any], bunce: LocalBunce) -> None:
    config = names["LOGGING"]
    logger = logging.getLogger("bunce_sync")
    handlers, level = logger.handlers[:], logger.level
    try:
        logging.config.dictConfig(config)
        [handler] = logger.handlers
        record = logger.makeRecord(
            "bunce_sync", logging.INFO, "x.py", 1, "Hello", (), None, extra={"event": "an event"}
        )
        assert json.loads(handler.format(record))["event"] == "an event"
    finally:
        logger.handlers, logger.level = handlers, level


def follow_up_of_queries(names: dict[str, Any], bunce: LocalBunce) -> None:
    assert isinstance(names["waiting"], QuerySet)
    assert list(names["waiting"]) == list(names["problems"]) == []


def follow_up_of_customers(names: dict[str, Any], bunce: LocalBunce) -> None:
    bunce.work()
    assert bunce.member_ids(names["segment"].bunce_id) == {"ann@example.com", "c-2"}


def follow_up_of_customers_file(names: dict[str, Any], bunce: LocalBunce) -> None:
    bunce.work()
    assert bunce.member_ids(names["segment"].bunce_id) == {"c-1", "a@b.example"}


def follow_up_of_add_index(names: dict[str, Any], bunce: LocalBunce) -> None:
    index = models.Index(fields=["name"], name="samples_name")
    before = ProjectState.from_apps(apps)
    after = before.clone()
    operation = names["AddIndexConcurrently"]("segment", index)
    operation.state_forwards("bunce_sync", after)
    with connection.schema_editor(atomic=False) as editor:
        operation.database_forwards("bunce_sync", editor, before, after)
    table = Segment._meta.db_table
    with connection.cursor() as cursor:
        assert index.name in connection.introspection.get_constraints(cursor, table)
    with connection.schema_editor(atomic=False) as editor:
        editor.remove_index(Segment, index)


#: What is called and examined after a sample, by words that it contains.
FOLLOW_UPS: dict[str, Callable[[dict[str, Any], LocalBunce], None]] = {
    "async def load": follow_up_of_load,
    "def send_event": follow_up_of_send_event,
    "LOGGING =": follow_up_of_logging,
    "waiting =": follow_up_of_queries,
    '"customers.csv"': follow_up_of_customers_file,
    "class AddIndexConcurrently": follow_up_of_add_index,
    'add_customers(["c-1", "ann': follow_up_of_customers,
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("clean_up")
@pytest.mark.parametrize(
    ("page", "number", "source"), SAMPLES, ids=[f"{page}-{n}" for page, n, _ in SAMPLES]
)
def test_a_sample_in_python_runs(
    page: str, number: int, source: str, names: dict[str, Any], bunce: LocalBunce
) -> None:
    shorter = source.replace("10_000", "20")
    exec(compile(shorter, f"{page}, block {number}", "exec"), names)  # noqa: S102 - our own pages
    follow_ups = [follow for words, follow in FOLLOW_UPS.items() if words in source]
    for follow_up in follow_ups:
        follow_up(names, bunce)
    PushHold.objects.all().delete()


def test_every_follow_up_belongs_to_a_sample() -> None:
    texts = [source for _, _, source in SAMPLES]
    assert [words for words in FOLLOW_UPS if not any(words in text for text in texts)] == []


def test_the_audiences_of_the_docs_find_customers_of_a_shop(tmp_path: Path) -> None:
    """In a process of its own, with the shop of the demo."""
    source = code(ROOT / "docs" / "audiences.md", "python")[0]
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys
import django
django.setup()
from django.core.management import call_command
from django.utils import timezone
import project.shop, project.shop.models
sys.modules |= {{"shop": project.shop, "shop.models": project.shop.models}}
call_command("migrate", verbosity=0)
from shop.models import Customer, Order
for number in (1, 2):
    customer = Customer.objects.create(email=f"c{{number}}@example.com", joined_at=timezone.now())
Order.objects.create(customer=customer, amount=1, paid_at=timezone.now())
exec({source!r})
print([one.email for one in PayingCustomers().get_queryset()])
""")
    ran = subprocess.run(
        [sys.executable, str(script)],
        env={
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "project.demo_settings",
            "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.sqlite3'}",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.strip() == "['c2@example.com']", ran.stderr


# Other languages


@pytest.mark.parametrize("source", blocks("sh"))
def test_a_sample_for_the_shell_is_valid_and_its_commands_exist(source: str) -> None:
    checked = subprocess.run(
        ["bash", "-n"], input=source, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    check_commands(source)


@pytest.mark.parametrize("source", blocks("console"))
def test_the_commands_of_a_sample_with_output_exist(source: str) -> None:
    typed = [line.removeprefix("$ ") for line in source.splitlines() if line.startswith("$ ")]
    assert typed
    check_commands("\n".join(typed))


def check_commands(source: str) -> None:
    """Assert that the management commands in lines for the shell exist, and their options."""
    known = get_commands()
    for line in source.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if "manage.py" not in words:
            continue
        name, *arguments = words[words.index("manage.py") + 1 :]
        assert name in known, line
        if not name.startswith("bunce_"):
            continue
        help_text = load_command_class(known[name], name).create_parser("manage.py", name)
        options = re.findall(r"--[a-z-]+", help_text.format_help() + _subcommands(help_text))
        unknown = {one.split("=")[0] for one in arguments if one.startswith("--")} - {*options}
        assert not unknown, line


def _subcommands(parser: Any) -> str:
    """Return the help of the subcommands of a parser."""
    choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return "".join(one.format_help() for found in choices for one in found.values())


@pytest.mark.parametrize("source", blocks("json"))
def test_a_sample_in_json_is_valid(source: str) -> None:
    json.loads(source)


@pytest.mark.parametrize("source", blocks("yaml"))
def test_a_sample_in_yaml_is_valid(source: str) -> None:
    assert yaml.safe_load(source)


@pytest.mark.parametrize("source", blocks("ini"))
def test_a_sample_of_a_unit_is_valid(source: str) -> None:
    # systemd and supervisor read them much like this; “%” is theirs.
    parser = configparser.ConfigParser(strict=True, interpolation=None, comment_prefixes=("#", ";"))
    parser.read_string(source)
    assert parser.sections()
    for section in parser.sections():
        assert all(value for value in parser[section].values())


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    sources = code(ROOT / "docs" / "operations.md", "ini")
    units = [one for one in sources if one.startswith("# /etc/systemd/")]
    for source in units:
        name = source.split()[1].rpartition("/")[2].strip(",")
        # It looks for the program, too.
        (tmp_path / name).write_text(
            re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", source, flags=re.M)
        )
    paths = sorted(tmp_path.glob("*.service"))
    assert len(paths) == len(units) == 2
    verified = subprocess.run(
        ["systemd-analyze", "verify", *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stderr
    # It also reads other units of the host, which may have problems of their own.
    assert [line for line in verified.stderr.splitlines() if "mysite-" in line] == []


def test_the_compose_file_names_what_the_site_needs() -> None:
    [source] = code(ROOT / "docs" / "operations.md", "yaml")
    services = yaml.safe_load(source)["services"]
    assert set(services) == {"web", "worker", "beat", "database", "broker"}
    for name in ("web", "worker", "beat"):
        assert "BUNCE_API_KEY" in services[name]["environment"]
        assert set(services[name]["depends_on"]) <= set(services)


def test_every_sample_has_a_language_that_is_checked() -> None:
    languages = {
        language
        for page in PAGES
        for _, language, source in FENCE.findall(page.read_text())
        if not source.lstrip().startswith((":", ".. "))  # a directive of the site
    }
    assert languages <= {"python", "sh", "json", "yaml", "ini", "sql", "console", ""}

"""A restored backup: the steps of docs/operations.md, with pg_dump, pg_restore and the emulator."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connections

from bunce_sync.models import Member
from bunce_sync.testing.emulator import Emulator
from tests import services
from tests.site import ROOT, Broker, Site
from tests.unit.test_docs import code

PAGE = ROOT / "docs" / "operations.md"
#: What the page calls the database, the one that was replaced, and the files.
NAMES = re.compile(r"mysite_before|mysite|backup\.dump|customers\.csv")
#: Without audiences, and with those of the shop: one of them is added after the backup.
PLAIN, SHOP = "project.settings", "project.demo_settings"

BEFORE = """
for name in ("Kept", "Edited", "Edited twice", "Deleted"):
    Segment.objects.create(name=name)
Segment.objects.get(name="Kept").add_customers(["stays", "leaves"])
"""
WAITING = """
Segment.objects.create(name="Waiting")
Segment.objects.create(name="Waiting, then edited")
Segment.objects.filter(name="Edited twice").update(name="Edited once")
Segment.objects.get(name="Kept").add_customers(["waits"])
"""
SINCE = """
from django.utils import timezone
from project.shop.models import Customer, Order
Segment.objects.filter(name="Edited").update(name="Edited since")
Segment.objects.filter(name="Edited once").update(name="Edited twice since")
Segment.objects.filter(name="Waiting, then edited").update(name="Edited before it was created")
Segment.objects.filter(name="Deleted").delete()
Segment.objects.create(name="Created since").add_customers(["early"])
kept = Segment.objects.get(name="Kept")
kept.add_customers(["joins"])
kept.remove_customers(["leaves", "waits"])
"""


class Backup:
    """The backup of a site's database, and the commands of the page with the names of the test."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        parts = urlsplit(site.env["DATABASE_URL"])
        self.database = parts.path[1:]
        self.kept = f"{self.database}_before"
        self._folder = folder
        self._server = {
            "PGHOST": parts.hostname or "",
            "PGPORT": str(parts.port or 5432),
            "PGUSER": parts.username or "",
            "PGPASSWORD": parts.password or "",
        }
        self.printed: dict[str, str] = {}

    def make(self) -> None:
        """Do what the page says about backups."""
        [line] = [line for block in code(PAGE, "sh") for line in block.splitlines()
                  if line.startswith("pg_dump ")]  # fmt: skip
        self._run(shlex.split(line))

    def follow(self, number: int) -> None:
        """Run the commands of a step of the restore."""
        _, _, text = PAGE.read_text().partition("### Restore")
        [block] = [block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
                   if block.startswith(f"# {number}.")]  # fmt: skip
        for line in block.splitlines():
            if words := shlex.split(line, comments=True):
                self._run(words)

    def _run(self, words: list[str]) -> None:
        program, *arguments = words
        ours = {
            "mysite": self.database,
            "mysite_before": self.kept,
            "backup.dump": str(self._folder / "backup.dump"),
            "customers.csv": str(self._folder / "customers.csv"),
        }
        arguments = [NAMES.sub(lambda found: ours[found[0]], each) for each in arguments]
        environment = {**os.environ, **{key: one for key, one in self._server.items() if one}}
        if program == "python":
            program, environment = sys.executable, self.site.env
        done = subprocess.run(
            [program, *arguments], cwd=ROOT, env=environment, timeout=120, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        expected = 3 if "bunce_plan" in words else 0
        assert done.returncode == expected, f"{words}\n{done.stdout}{done.stderr}"
        self.printed[words[2] if words[0] == "python" else words[0]] = done.stdout


@pytest.fixture
def site(
    database_access: None,
    postgres_database: str,
    filesystem_broker: Broker,
    bunce: Emulator,
    tmp_path: Path,
) -> Iterator[Site]:
    services.require(services.POSTGRES_PROGRAMS)
    shop = {"DJANGO_SETTINGS_MODULE": SHOP}
    with Site(tmp_path, postgres_database, filesystem_broker, bunce.base_url, shop) as site:
        site.manage("migrate")  # also the tables of the shop
        yield site


@pytest.fixture
def backup(site: Site, tmp_path: Path) -> Iterator[Backup]:
    backup = Backup(site, tmp_path)
    yield backup
    with services.connect_postgres(services.POSTGRES.address) as server:
        server.execute(f"DROP DATABASE IF EXISTS {backup.kept}".encode())


def test_after_a_restore_each_segment_exists_once_and_has_its_customers(
    site: Site, backup: Backup, bunce: Emulator, tmp_path: Path
) -> None:
    site.env["DJANGO_SETTINGS_MODULE"] = PLAIN
    site.shell(BEFORE)
    site.manage("bunce_sweep")
    site.shell(WAITING)
    backup.make()
    site.env["DJANGO_SETTINGS_MODULE"] = SHOP
    site.shell(SINCE)
    site.manage("bunce_sweep")
    assert {row.status for row in site.segments.all()} == {"synced"}
    stored = {one.id: one.name for one in bunce.segments}
    connections[site.alias].close()  # or the database could not be renamed

    for number in (1, 2, 3, 4):
        backup.follow(number)
    planned = re.findall(r"^([+~≠]) .*“(.+)”$", backup.printed["bunce_plan"], re.MULTILINE)
    assert planned == [("+", "Waiting, then edited"), ("~", "Edited once"), ("≠", "Edited")]
    assert {one.id: one.name for one in bunce.segments} == stored  # nothing was sent
    # What the page says about the three.
    site.segments.get(name="Waiting, then edited").delete()
    site.segments.filter(name="Edited once").update(name="Edited twice since")
    site.shell("from bunce_sync import services; services.take_theirs(Segment.objects.all())")
    backup.follow(5)
    [script] = [one for one in code(PAGE, "python") if "customers.csv" in one]
    site.shell(script.replace("customers.csv", str(tmp_path / "customers.csv")))
    backup.follow(6)
    site.manage("bunce_sweep")

    assert {one.id: one.name for one in bunce.segments} == stored
    assert dict(site.segments.values_list("bunce_id", "name")) == stored
    assert {row.status for row in site.segments.all()} == {"synced"}
    ids = {name: bunce_id for bunce_id, name in stored.items()}
    assert bunce.member_ids(ids["Kept"]) == {"stays", "joins"}
    assert bunce.member_ids(ids["Created since"]) == {"early"}
    known = Member.objects.using(site.alias).filter(in_bunce=True)
    assert set(known.values_list("segment__name", "identifier")) == {
        *(("Kept", "stays"), ("Kept", "joins"), ("Created since", "early")),
    }
    audience = site.segments.get(name="Paying customers")
    assert audience.customer_sync.key == "paying_customers"

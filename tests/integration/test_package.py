"""The package: its contents, and that the README's steps alone make a new site push a segment."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

import bunce_sync
from bunce_sync.testing.emulator import Emulator
from tests import services
from tests.site import LOGIN, ROOT, Broker, eventually, free_port

QUICKSTART = (ROOT / "README.md").read_text().partition("## Quickstart")[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: The first line of a block that belongs into a file, such as "# mysite/settings.py, at the end".
FILE = re.compile(r"# (mysite/\S+\.py)\b.*\n")


def blocks(language: str, text: str = QUICKSTART) -> list[str]:
    """Return the blocks of code in a language."""
    return [block for name, block in BLOCK.findall(text) if name == language]


#: What a new user runs and writes, in the README's order.
INSTALL, COMMANDS, EMULATOR, VARIABLES = blocks("sh")
FILES = [block for block in blocks("python") if FILE.match(block)]
#: The segment and its customers; the audience needs a shop, see tests/unit/test_shop.py.
CODE = "".join(
    block for block in blocks("python") if not FILE.match(block) and "@register" not in block
)

#: A test of a site that does not use the emulator.
OWN_TEST = """
from django.test import TestCase
from bunce_sync.models import Segment

class Tests(TestCase):
    def test_a_segment_waits(self):
        self.assertEqual(Segment.objects.create(name="VIP").status, "pending")
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheel and sdist with ``make release``; return their folder."""
    services.require(services.PACKAGE_INDEX)
    checkout = tmp_path_factory.mktemp("release") / "checkout"
    for folder in ("bunce_sync", "docs"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, checkout / folder, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, checkout)
    # What a working copy may contain, whether Git ignores it or not.
    for name in (".env", "bunce_sync/.env", "bunce_sync/.conf.py.swp", "db.sqlite3"):
        (checkout / name).write_text("secret")
    printed = run("make", "release", f"PYTHON={sys.executable}", cwd=checkout)
    assert "Nothing was uploaded" in printed
    assert "twine upload dist/*" in printed
    return checkout / "dist"


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_wheel_contains_the_app_and_nothing_else(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"django_bunce_sync-{bunce_sync.__version__}.dist-info/"
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "bunce_sync").rglob("[!.]*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.startswith(info)} == files
    assert {"bunce_sync/py.typed", "bunce_sync/locale/fr/LC_MESSAGES/django.mo"} <= names
    assert not [name for name in names if "test" in name and "/testing/" not in name]


def test_the_sdist_contains_no_tests_no_sample_site_and_no_secret(dist: Path) -> None:
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    top = {name.split("/")[0] for name in names}
    assert {"bunce_sync", "docs", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"} <= top
    assert top.isdisjoint({"tests", "project", "benchmarks", ".ci", "manage.py"})
    assert not [name for name in names if re.search(r"\.env|\.swp|sqlite3", name)]


def test_the_metadata_is_complete_and_its_links_are_absolute(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = archive.read(name).decode()
    assert "\nName: django-bunce-sync\n" in metadata
    assert f"\nVersion: {bunce_sync.__version__}\n" in metadata
    extras = set(re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE))
    assert extras == {"api", "cli", "files", "metrics", "mysql", "postgres", "redis", "testing"}
    description = metadata.partition("\n\n")[2]
    targets = re.findall(r"\]\(([^)]+)\)", description)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{bunce_sync.__version__}]" in changelog


class NewSite:
    """A new project in a new environment, in which only what the README says is done."""

    def __init__(self, folder: Path, wheel: Path, broker: Broker, bunce: Emulator) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self.wheel = wheel
        venv.create(folder / "venv", with_pip=True)
        self.bin = folder / "venv" / "bin"
        self.env = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(folder),
            # What the README has people export.
            "BUNCE_BASE_URL": bunce.base_url,
            "BUNCE_API_KEY": "sk_test_anything",
        }
        self.broker = broker

    def shell(self, command: str) -> str:
        """Run a command of the README, with the wheel for the name of the package."""
        command = command.replace('"django-bunce-sync', f'"{self.wheel}')
        # pip's configuration may name a mirror, the only one that this machine reaches.
        env = {**self.env, **{k: v for k, v in os.environ.items() if k.startswith("PIP_")}}
        return run("sh", "-ec", command, cwd=self.folder, env=env)

    def start_project(self) -> set[str]:
        """Install the package, start a project, and return the files that had to be written."""
        self.shell(INSTALL)
        command = "django-admin startproject mysite ."
        assert command in QUICKSTART
        self.shell(command)
        # Redis is as in the README, but other tests use that database as well.
        shown = '"redis://localhost:6379/0"'
        assert shown in "".join(FILES)
        return {self.write(block.replace(shown, repr(self.broker.url))) for block in FILES}

    def write(self, block: str) -> str:
        """Put a block into the file that its first line names, and return the file's name."""
        found = FILE.match(block)
        assert found, block
        path = self.folder / found[1]
        with path.open("a") as file:
            file.write(f"\n{block}")
        return found[1]

    @contextmanager
    def background(self, command: str) -> Iterator[Path]:
        """Run a command of the README beside the others; yield its log."""
        log = self.folder.parent / f"{command.split()[-1]}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-ec", f"exec {command}"],
                cwd=self.folder,
                env=self.env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield log
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def test_the_steps_of_the_readme_push_a_segment(
    tmp_path: Path, dist: Path, redis_broker: Broker, bunce: Emulator
) -> None:
    [wheel] = dist.glob("*.whl")
    site = NewSite(tmp_path, wheel, redis_broker, bunce)
    assert len(site.start_project()) <= 4
    assert site.shell("python manage.py check") == (
        "System check identified no issues (0 silenced).\n"
    )
    *before, worker = COMMANDS.strip().splitlines()
    for command in before:
        site.shell(command)
    with site.background(worker) as log:
        (site.folder / "add.py").write_text(f"{CODE}\nprint(segment.pk)\n")
        site.shell("python manage.py shell < add.py")
        show = (
            "from bunce_sync.models import Segment\n"
            "print(*Segment.objects.values_list('status', 'bunce_id', 'bunce_type').get())\n"
        )
        (site.folder / "show.py").write_text(show)
        synced = eventually(
            lambda: "synced" in site.shell("python manage.py shell -v 0 < show.py"), 60
        )
        assert synced, log.read_text()
        [stored] = bunce.segments
        assert stored.name == "Paying customers"
        assert eventually(lambda: bunce.member_ids(stored.id) == {"c-2"}, 60), log.read_text()
        site.shell("python manage.py bunce_doctor")


def test_without_a_key_its_own_tests_the_emulator_the_admin_and_the_fixture_work(
    tmp_path: Path, dist: Path, redis_broker: Broker, bunce: Emulator
) -> None:
    [wheel] = dist.glob("*.whl")
    site = NewSite(tmp_path, wheel, redis_broker, bunce)
    site.env.pop("BUNCE_API_KEY")
    site.start_project()
    *install, emulator = EMULATOR.strip().splitlines()
    *before, worker = COMMANDS.strip().splitlines()
    for command in before:
        site.shell(command)
    name, password = LOGIN
    site.env["DJANGO_SUPERUSER_PASSWORD"] = password
    site.shell(f"python manage.py createsuperuser --noinput --username {name} --email a@b.example")
    (site.folder / "mysite" / "tests.py").write_text(OWN_TEST)
    site.shell("python manage.py test")

    # The ports of the README may be in use.
    port, web_port = free_port(), free_port()
    assert "8790" in VARIABLES
    for variable in VARIABLES.replace("8790", str(port)).split()[1:]:
        key, _, value = variable.partition("=")
        site.env[key] = value
    for command in install:
        site.shell(command)
    with (
        site.background(f"{emulator} --port {port}"),
        site.background(worker) as worker_log,
        site.background(f"python manage.py runserver --noreload {web_port}") as web_log,
        requests.Session() as browser,
    ):
        admin = f"http://127.0.0.1:{web_port}/admin"
        assert eventually(lambda: responds(f"{admin}/login/"), 60), web_log.read_text()
        log_in = {"username": name, "password": password}
        submit(browser, f"{admin}/login/?next=/admin/", log_in)
        submit(browser, f"{admin}/bunce_sync/segment/add/", {"name": "Paying customers"})

        def shown() -> str:
            page = browser.get(f"{admin}/bunce_sync/segment/", timeout=30).text
            return page.partition('<table id="result_list"')[2].partition("</table>")[0]

        assert "Paying customers" in shown()
        assert eventually(lambda: "Synced" in shown()), worker_log.read_text()
        assert responds(f"http://127.0.0.1:{web_port}/static/bunce_sync/admin.css")

    examples = blocks("python", (ROOT / "docs" / "testing.md").read_text())
    for number, example in enumerate(examples):
        (site.folder / f"test_example_{number}.py").write_text(example)
    # pytest finds the fixture by the entry point of the installed package.
    assert f"{sum(example.count('def test_') for example in examples)} passed" in site.shell(
        "python -m pytest -q --ds mysite.settings"
    )


def responds(url: str) -> bool:
    try:
        return requests.get(url, timeout=30).ok
    except requests.ConnectionError:
        return False


def submit(browser: requests.Session, url: str, fields: dict[str, str]) -> None:
    """Open a page of the admin, fill in its form, and expect to be sent to another page."""
    browser.get(url, timeout=30).raise_for_status()
    form = {**fields, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
    response = browser.post(url, data=form, timeout=30)
    assert response.ok
    assert response.url != url, response.text

"""The documentation: links lead somewhere, code is valid, and the examples for tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from django.utils.functional import Promise

from bunce_sync.choices import Status
from bunce_sync.status import messages
from docs import messages_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

FENCE = re.compile(r"^([ ]*)```(\w*)[^\n]*\n(.*?)^\1```[ ]*$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)[^)]*\)")
#: A file of a repository, as a page that is also shown elsewhere has to link it.
HOSTED = re.compile(r"https://(?:[^/]+/)+(?:blob|raw|tree|main)/(?:main/)?(?P<path>[^?]+)")

SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "bunce_sync"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3"}}
USE_TZ = True
"""


def code(page: Path, language: str) -> list[str]:
    """Return the blocks of code in a language."""
    found = FENCE.findall(page.read_text())
    return [dedent(block) for _, name, block in found if name == language]


def links(page: Path) -> Iterator[str]:
    """Yield the targets of the links, those in code left out."""
    text = FENCE.sub("", page.read_text())
    yield from LINK.findall(re.sub(r"`[^`\n]*`", "", text))


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing(page: Path, link: str) -> bool:
    """Return whether a link to a file of the project leads nowhere."""
    if hosted := HOSTED.fullmatch(link):
        page, link = ROOT / "README.md", hosted["path"]
    if re.match(r"[a-z]+:", link):
        return False
    path, _, anchor = link.partition("#")
    target = (page.parent / path) if path else page
    if not target.exists() or not target.resolve().is_relative_to(ROOT):
        return True
    return bool(anchor) and anchor not in anchors(target)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_a_file_and_a_heading(name: str) -> None:
    page = ROOT / name
    assert [link for link in links(page) if missing(page, link)] == []


@pytest.mark.parametrize(
    ("link", "is_missing"),
    [
        ("docs/guarantees.md", False),
        ("docs/guarantees.md#remaining-risks", False),
        ("docs/guarantees.md#no-such-heading", True),
        ("docs/no_such_page.md", True),
        ("../outside.md", True),
        ("https://example.com/docs", False),
        ("https://example.com/one/project/blob/main/docs/guarantees.md#assumptions", False),
        ("https://example.com/one/project/blob/main/docs/no_such_page.md", True),
        ("https://raw.example.com/one/project/main/docs/no_such_picture.png", True),
    ],
)
def test_a_link_that_leads_nowhere_is_found(link: str, is_missing: bool) -> None:
    assert missing(ROOT / "README.md", link) is is_missing


@pytest.mark.parametrize("name", NAMES)
def test_python_code_compiles(name: str) -> None:
    for number, block in enumerate(code(ROOT / name, "python"), start=1):
        errors = []
        for shown in (block, f"{{{block}}}", f"[{block}]"):  # an excerpt of a dict or a list
            try:
                compile(shown, f"{name}, block {number}", "exec")
            except SyntaxError as error:
                errors.append(error)
        assert len(errors) < 3, errors[0]


# The examples of docs/testing.md, in a site of their own


def site(folder: Path) -> dict[str, str]:
    """Write the examples as tests of a site; return the environment to run them in."""
    (folder / "site_settings.py").write_text(SETTINGS)
    for number, example in enumerate(code(ROOT / "docs" / "testing.md", "python"), start=1):
        kind = "unit" if "TestCase" in example else "pytest"
        (folder / f"test_{kind}_{number}.py").write_text(example)
    return {
        **os.environ,
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "DJANGO_SETTINGS_MODULE": "site_settings",
    }


def run(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """Run a module of Python, and return what it printed if it succeeded."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_the_examples_for_tests_pass_with_pytest(tmp_path: Path) -> None:
    environment = site(tmp_path)
    # The checkout has no installed entry point, which names the plugin in a user's environment.
    plugin = ("-p", "bunce_sync.testing.pytest_plugin", "-p", "no:cacheprovider")
    printed = run(
        tmp_path, environment, "pytest", "-q", "-c", os.devnull, "--rootdir", ".", *plugin
    )
    tests = sum(path.read_text().count("def test_") for path in tmp_path.glob("test_*.py"))
    assert f"{tests} passed" in printed


def test_the_examples_for_test_cases_pass_with_djangos_runner_and_without_pytest(
    tmp_path: Path,
) -> None:
    environment = site(tmp_path)
    (tmp_path / "pytest.py").write_text("raise ImportError('pytest is not installed')\n")
    printed = run(tmp_path, environment, "django", "test", "--pattern", "test_unit_*.py")
    assert re.search(r"Ran [2-9] tests", printed), printed


# Pages that are made from the code, or show what it has


def test_the_page_of_messages_is_up_to_date() -> None:
    """To update it: ``python -m docs.messages_page``."""
    assert messages_page.PAGE.read_text() == messages_page.page()


def test_every_text_is_on_the_page_or_no_message_of_a_problem() -> None:
    page = messages_page.page()
    missing = {
        name
        for name, value in vars(messages).items()
        if not messages_page.LABELS.fullmatch(name)
        for text in texts(value)
        if messages_page.shown(text) not in page
    }
    assert missing == set()


def texts(value: object) -> Iterator[object]:
    """Yield the translated texts in a constant of the messages, as a reader with all rights."""
    match value:
        case messages.MessageTemplate():
            yield from (value.summary, value.cause)
        case Promise():
            yield value
        case dict():
            for each in value.values():
                yield from texts(each)
        case tuple() | list():
            for each in value:
                yield from texts(each)


def test_every_message_has_a_remedy() -> None:
    rows = [line for line in messages_page.page().splitlines() if line.startswith("| ")]
    assert len(rows) > 120
    assert [row for row in rows if re.search(r"\|\s+\|", row)] == []


def test_the_picture_of_the_states_shows_those_of_the_code() -> None:
    picture = (ROOT / "docs" / "images" / "states.svg").read_text()
    boxes = dict(re.findall(r'data-status="(\w+)".*?font-size="16">([^<]+)<', picture))
    assert boxes == {status.value: str(status.label) for status in Status}
    edges = set(re.findall(r'data-from="(\w*)" data-to="(\w+)"', picture))
    # As in the table of docs/architecture.md, without what people and other programs do.
    assert edges == {
        ("", "pending"),
        ("pending", "sending"),
        *(("sending", other) for other in ("pending", "synced", "in_doubt", "rejected")),
        *(("in_doubt", other) for other in ("pending", "synced", "rejected")),
        *(("synced", "pending"), ("rejected", "pending")),
    }


def test_the_pages_name_every_state() -> None:
    text = (ROOT / "docs" / "how-it-works.md").read_text()
    assert [
        one for one in Status if f"`{one.value}`" not in text or str(one.label) not in text
    ] == []

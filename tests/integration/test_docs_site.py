"""The documentation site: it builds without a warning, and loads nothing from other hosts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import sync_playwright

from tests import services

ROOT = Path(__file__).resolve().parents[2]
#: What a browser loads by itself. Links that a person follows may lead anywhere.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc\s*=\s*["']([^"']+)"""
    r"""|<link\b[^>]*\brel=["'](?:stylesheet|preload|icon|preconnect)[^>]*\bhref=["']([^"']+)"""
)
IN_CSS = re.compile(r"""(?:url\(|@import\s+)\s*["']?([^"')]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with the same options as by ``make docs``."""
    folder = tmp_path_factory.mktemp("docs")
    built = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"),
            *("-d", str(folder / "doctrees"), str(ROOT / "docs"), str(folder / "html")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


def loaded(site: Path) -> Iterator[tuple[str, str]]:
    """Yield the files and the addresses that they load."""
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = path.read_text()
        pattern = IN_CSS if path.suffix == ".css" else LOADED
        for found in pattern.findall(text):
            address = found if isinstance(found, str) else next(filter(None, found))
            yield path.name, address


def test_every_page_is_built(site: Path) -> None:
    sources = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert sources == {path.stem for path in site.glob("*.html")} - {"genindex", "search"} - {
        "py-modindex"
    }


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    found = list(loaded(site))
    assert len(found) > 100
    assert [one for one in found if re.match(r"(?:[a-z]+:)?//", one[1])] == []


def test_pictures_and_styles_are_there(site: Path) -> None:
    pages = [*site.glob("*.html")]
    missing = [
        (path.name, address)
        for path in pages
        for found in LOADED.findall(path.read_text())
        for address in filter(None, found)
        if not (path.parent / address.partition("?")[0].partition("#")[0]).exists()
    ]
    assert missing == []


@pytest.fixture(scope="module")
def searched(site: Path) -> Iterator[Callable[[str], list[str]]]:
    """A function that searches in Chromium, and returns the first five results."""
    path = shutil.which(services.require(services.CHROMIUM))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()

        def search(words: str) -> list[str]:
            page.goto(f"{(site / 'search.html').as_uri()}?{urlencode({'q': words})}")
            page.locator("#search-results .search-summary", has_text="finished").wait_for()
            return page.locator("#search-results ul.search > li > a").all_inner_texts()[:5]

        yield search
        browser.close()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("install", "Quickstart"),
        ("states", "How it works"),
        ("Bunce is down", "How it works > When Bunce is down"),
        ("webhook", "How it works"),
        ("duplicate", "Guarantees"),
        ("429", "Troubleshooting > 429"),
        ("W009", "Messages"),
        ("restore", "Operations"),
        ("systemd", "Operations"),
        ("alerts", "Observability"),
        ("pgbouncer", "Compatibility"),
        ("fixture", "Testing your own code"),
        ("add_customers", "add_customers"),
    ],
)
def test_the_search_shows_the_page_for_the_words_people_look_for(
    searched: Callable[[str], list[str]], words: str, found: str
) -> None:
    results = searched(words)
    assert any(found in one for one in results), results

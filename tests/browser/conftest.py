"""Fixtures that open a sample site in Chromium."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from bunce_sync.testing.emulator import Emulator
from tests import services
from tests.browser.people import TIMEOUT, Person
from tests.site import Broker, Site

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without cookies."""
    path = shutil.which(services.require(services.CHROMIUM))
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright runs an event loop in this thread, which Django mistakes for asynchronous code.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=TIMEOUT)
        yield browser
        browser.close()


@pytest.fixture
def settings_module() -> str:
    """Settings of the site, with a strict Content-Security-Policy; test modules override it."""
    return "tests.browser.settings"


@pytest.fixture
def site(
    browser: Browser,
    database_access: None,
    tmp_path: Path,
    sqlite_database: str,
    filesystem_broker: Broker,
    bunce: Emulator,
    settings_module: str,
) -> Iterator[Site]:
    """Yield the sample site with its web server running."""
    env = {"DJANGO_SETTINGS_MODULE": settings_module, "BUNCE_SWEEP_INTERVAL": "2"}
    with Site(tmp_path, sqlite_database, filesystem_broker, bunce.base_url, env) as site:
        site.start_web()
        yield site


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Person]]:
    """Open browsers for users; options as for Playwright's ``new_context``.

    Fails at the end if a console has an error.
    """
    people: list[Person] = []

    def open_browser(site: Site, **options: object) -> Person:
        context = browser.new_context(**{"locale": "en-GB", **options})  # type: ignore[arg-type]
        people.append(Person(context, site))
        return people[-1]

    yield open_browser
    for person in people:
        person.context.close()
    assert [error for person in people for error in person.errors] == []


@pytest.fixture
def person(site: Site, visit: Callable[..., Person]) -> Person:
    """A user who is not logged in, whose browser is closed before the site."""
    return visit(site)

"""The API documentation page in a browser, under its own Content-Security-Policy."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.people import Person
from tests.site import Site


@pytest.fixture
def settings_module() -> str:
    return "project.settings"


def test_a_logged_in_user_can_read_and_try_the_api(
    site: Site, visit: Callable[..., Person]
) -> None:
    person = visit(site)
    asked: list[str] = []
    person.page.on("request", lambda request: asked.append(request.url))
    person.log_in(*site.create_login())
    person.open("/api/docs/")
    page = person.page
    expect(page.get_by_role("heading", name="Bunce segments")).to_be_visible()
    page.get_by_role("button", name="post /segments/", exact=True).click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    answer = page.locator(".live-responses-table")
    expect(answer.get_by_role("cell", name="201", exact=True)).to_be_visible()
    assert site.segments.get().name == "Newsletter readers"
    assert [url for url in asked if not url.startswith((site.url, "data:"))] == []


def test_where_static_files_are_not_served_the_page_says_what_to_do(
    site: Site, visit: Callable[..., Person]
) -> None:
    person = visit(site)
    person.log_in(*site.create_login())
    for missing in ("**/static/**", "**/swagger-ui-bundle.js"):
        person.page.route(missing, lambda route: route.fulfill(status=404))
        person.open("/api/docs/")
        expect(person.page.get_by_text("collectstatic")).to_be_visible()
        person.page.unroute(missing)
    person.open("/api/docs/")
    expect(person.page.get_by_role("heading", name="Bunce segments")).to_be_visible()
    expect(person.page.get_by_text("collectstatic")).to_have_count(0)
    person.errors.clear()  # the browser logs each 404


def test_an_anonymous_user_does_not_see_the_api(site: Site, visit: Callable[..., Person]) -> None:
    person = visit(site)
    response = person.page.goto(f"{site.url}/api/docs/")
    assert response is not None
    assert response.status == 401
    assert "swagger" not in person.page.content()
    person.errors.clear()  # the browser logs the 401

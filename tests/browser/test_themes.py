"""The change page in other admin themes: nothing covers anything else, wide or narrow."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
from playwright.sync_api import expect

from tests.browser import states
from tests.browser.layout import overlapping
from tests.browser.people import Person
from tests.site import Site

needs_grappelli = pytest.mark.skipif(not find_spec("grappelli"), reason="needs django-grappelli")


@pytest.fixture(
    params=[
        "tests.browser.settings",
        "tests.browser.unfold_settings",
        pytest.param("tests.browser.grappelli_settings", marks=needs_grappelli),
    ]
)
def settings_module(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_change_page_can_be_read_and_used(site: Site, visit: Callable[..., Person]) -> None:
    states.fill(site)
    person = visit(site, viewport={"width": 1280, "height": 900}).arrive_as_admin()
    for width in (1280, 360):
        person.page.set_viewport_size({"width": width, "height": 900})
        for name in ("Loyal since 2019", "VIP customers"):
            person.open_segment(name)
            expect(person.state).to_be_visible()
            assert overlapping(person.page) == [], f"{name} at {width} px"
    person.page.get_by_role("textbox", name="Name").fill("Very important customers")
    site.segments.filter(name="VIP customers").update(description="Theirs")
    person.press("Save")
    expect(person.page.get_by_text("is now “Theirs”")).to_be_visible()
    person.press("Save")
    expect(person.panel).to_be_visible()
    assert site.segments.filter(name="Very important customers", description="Theirs").exists()

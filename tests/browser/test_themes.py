"""The pages in other admin themes: nothing covers anything else, wide or narrow."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
from playwright.sync_api import expect

from tests.browser import states
from tests.browser.layout import overlapping
from tests.browser.people import LIST, Person
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


def test_imports_and_pauses_can_be_requested(site: Site, visit: Callable[..., Person]) -> None:
    person = visit(site, viewport={"width": 1280, "height": 900}).arrive_as_admin()
    for width in (1280, 360):
        person.page.set_viewport_size({"width": width, "height": 900})
        for name, title in (("bunce_import", "Import from Bunce"), ("pause", "Pause pushes")):
            person.open(f"{LIST}bunce/{name}/")
            expect(person.page.get_by_role("heading", name=title)).to_be_visible()
            assert overlapping(person.page) == [], f"{name} at {width} px"
    person.page.get_by_label("Reason").fill("Moving house")
    person.press("Pause pushes")
    expect(person.panel).to_contain_text("Reason: “Moving house”.")
    assert overlapping(person.page) == []
    person.press("Resume pushes")
    expect(person.panel).not_to_contain_text("Moving house")
    person.page.set_viewport_size({"width": 1280, "height": 900})
    person.page.get_by_role("link", name="Import from Bunce").click()
    person.page.get_by_label("Link waiting segments").check()
    person.press("Start import")
    expect(person.panel).to_contain_text("No segment is created until the import ends")
    person.press("Cancel import")
    expect(person.panel).to_contain_text("cancelled at")

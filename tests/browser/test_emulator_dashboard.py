"""The forms of the emulator's dashboard, in a browser that runs no scripts."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from bunce_sync.testing.emulator import Emulator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def page(browser: Browser, emulator: Emulator) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(emulator.url)
    yield page
    context.close()


def test_a_person_adds_changes_and_removes_a_segment(emulator: Emulator, page: Page) -> None:
    page.get_by_role("link", name="Add a segment").click()
    page.get_by_label("Name").fill("VIP & co")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("cell", name="VIP & co")).to_be_visible()
    (segment,) = emulator.segments
    assert (segment.name, segment.description) == ("VIP & co", None)

    page.get_by_role("link", name="Change").click()
    expect(page.locator("textarea:visible")).to_have_count(2)
    page.get_by_label("Name").fill("")
    page.get_by_label("Description").fill("two\nlines")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("cell", name="two lines")).to_be_visible()
    changed = emulator.segment(segment.id)
    assert (changed.name, changed.description) == ("", "two\nlines")

    page.get_by_role("link", name="Change").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("No segments yet.")).to_be_visible()
    assert emulator.segments == []


def test_a_text_that_no_browser_returns_unchanged_is_kept(emulator: Emulator, page: Page) -> None:
    odd = "\n\r\n a\x00\x01\x1f\x7f\x85\ud800\r</textarea>&amp;\u2028 \n"
    segment = emulator.add_segment(odd, odd)
    page.goto(f"{emulator.url}/dashboard/{segment.id}")
    page.get_by_label("Description").fill("changed")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("cell", name="changed")).to_be_visible()
    assert emulator.segment(segment.id).name == odd
    assert emulator.segment(segment.id).description == "changed"

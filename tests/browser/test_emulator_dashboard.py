"""The emulator's dashboard, in a browser that runs no scripts."""

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from bunce_sync.testing.emulator import Emulator
from tests.browser.test_looks import AXE


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


def violations(page: Page) -> list[str]:
    """Return the rules of axe-core that the page breaks, besides that about refreshing."""
    page.evaluate(AXE)
    broken: list[str] = page.evaluate(
        "async () => (await axe.run()).violations.map((rule) => rule.id)"
    )
    return [rule for rule in broken if rule != "meta-refresh"]


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


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_customers_of_a_segment_fit_a_phone(
    emulator: Emulator, browser: Browser, theme: Literal["light", "dark"]
) -> None:
    segment = emulator.add_segment("x" * 200)
    emulator.add_members(segment.id, [f"customer-{number}@example.com" for number in range(101)])
    context = browser.new_context(color_scheme=theme, viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(emulator.url)
    assert violations(page) == []
    page.get_by_role("link", name="101", exact=True).click()
    expect(page.get_by_text("The newest 100 of 101 customers")).to_be_visible()
    expect(page.get_by_role("cell", name="customer-100@example.com")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert violations(page) == []
    context.close()

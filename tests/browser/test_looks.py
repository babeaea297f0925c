"""The pages in both themes and on a phone, judged by axe-core, with the README's pictures."""

import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Locator, expect

from tests.browser import states
from tests.browser.people import LIST, Person
from tests.site import ROOT, Site

#: With SCREENSHOTS=1 the README's pictures are made anew.
IMAGES = ROOT / "docs" / "images" if os.environ.get("SCREENSHOTS") else None


AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


@pytest.fixture
def full_site(site: Site) -> Site:
    """A site with rows in every state and a worker."""
    states.fill(site)
    site.start_worker()
    return site


def violations(person: Person) -> list[str]:
    """What axe-core finds wrong, in one line for each."""
    person.page.evaluate(AXE)
    found = person.page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{rule['id']}: {rule['help']} at {[node['target'] for node in rule['nodes']]}"
        for rule in found
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(
    full_site: Site, visit: Callable[..., Person], theme: Literal["light", "dark"]
) -> None:
    # axe-core itself sets inline styles; the other tests hold the pages to the policy.
    person = visit(full_site, color_scheme=theme, bypass_csp=True).arrive_as_admin()
    person.open_list()
    expect(person.row("Trial users")).to_be_visible()
    assert violations(person) == []
    person.open(f"{LIST}add/")
    assert violations(person) == []
    for name in full_site.segments.values_list("name", flat=True):
        person.open_segment(name)
        for details in person.page.locator("details").all():
            details.evaluate("details => { details.open = true }")
        assert violations(person) == [], name


def test_nothing_is_wider_than_a_phone(full_site: Site, visit: Callable[..., Person]) -> None:
    person = visit(full_site, viewport={"width": 360, "height": 740}).arrive_as_admin()
    pk = full_site.segments.get(name="VIP customers").pk
    for path in (LIST, f"{LIST}add/", f"{LIST}{pk}/change/", f"{LIST}{pk}/delete/"):
        person.open(path)
        expect(person.page.get_by_role("heading").first).to_be_visible()
        assert person.page.evaluate("document.documentElement.scrollWidth") <= 360, path
        outside = person.page.evaluate(
            "() => [...document.querySelectorAll('[class^=bunce-], #result_list *, .vTextField')]"
            ".filter((one) => one.getBoundingClientRect().right > 361 && one.offsetWidth > 1)"
            ".map((one) => one.className)"
        )
        assert outside == [], path


def test_the_readmes_pictures(
    full_site: Site, visit: Callable[..., Person], tmp_path: Path
) -> None:
    person = visit(full_site, viewport={"width": 1180, "height": 800}).arrive_as_admin()
    # Only what is ours and the list: the README is about segments.
    person.open_list()
    person.press("Toggle navigation")
    expect(person.panel).to_contain_text("s ago")
    picture(person.panel, "panel", tmp_path)
    picture(person.page.locator("#main"), "list", tmp_path)
    person.open_segment("Loyal since 2019")
    person.page.locator("details").first.locator("summary").click()
    expect(person.page.get_by_text("curl -X GET").first).to_be_visible()
    picture(person.page.locator("#main"), "change", tmp_path)


def picture(part: Locator, name: str, folder: Path) -> None:
    path = (IMAGES or folder) / f"{name}.png"
    part.screenshot(path=path)
    assert path.stat().st_size < 300_000

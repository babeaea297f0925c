"""The pages in both themes and on a phone, checked by axe-core, and the README's pictures."""

import os
from collections.abc import Callable
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Literal

import pytest
from django.db.models import QuerySet
from django.utils import timezone
from playwright.sync_api import Locator, expect

from bunce_sync.models import Segment, SyncState
from tests.browser import states
from tests.browser.people import CALL_LOG, LIST, Person
from tests.site import ROOT, Site

#: With SCREENSHOTS=1 the README's pictures are replaced.
IMAGES = ROOT / "docs" / "images" if os.environ.get("SCREENSHOTS") else None


#: A segment that Bunce has.
LINKED = "Loyal since 2019"
AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


@pytest.fixture
def full_site(site: Site) -> Site:
    """A site with segments in every status and a worker."""
    states.fill(site)
    site.start_worker()
    return site


def violations(person: Person) -> list[str]:
    """Return one line for each violation that axe-core finds."""
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
    # axe-core itself sets inline styles; the other tests run with the policy.
    person = visit(full_site, color_scheme=theme, bypass_csp=True).arrive_as_admin()
    person.open_list()
    expect(person.row("Trial users")).to_be_visible()
    assert violations(person) == []
    refused, allowed = (full_site.segments.get(name=n).pk for n in ("Trial users", LINKED))
    call = full_site.calls.filter(segment=allowed)[0].pk
    for path in (
        *(f"{LIST}add/", f"{LIST}{refused}/delete/", f"{LIST}{allowed}/delete/"),
        *(CALL_LOG, f"{CALL_LOG}{call}/change/"),
    ):
        person.open(path)
        assert violations(person) == [], path
    for name in full_site.segments.values_list("name", flat=True):
        person.open_segment(name)
        for details in person.page.locator("details").all():
            details.evaluate("details => { details.open = true }")
        assert violations(person) == [], name

    # With a notice, on a phone, and with a form error.
    person.page.set_viewport_size({"width": 360, "height": 740})
    SyncState.objects.using(full_site.alias).update(
        blocked_until=timezone.now() + timedelta(minutes=9), blocked_reason="key_refused"
    )
    person.open_list()
    expect(person.panel).to_contain_text("Bunce refused the API key.")
    assert violations(person) == []
    person.open_segment(LINKED)
    person.page.get_by_label("Name").fill(" ")
    person.press("Save")
    expect(person.page.get_by_text("This field is required.")).to_be_visible()
    assert violations(person) == []


#: Texts, buttons and fields that overflow the screen, or their list.
OUTSIDE = """() => {
  const list = document.querySelector('#changelist-form .results');
  const edge = (one) => list?.contains(one)
    ? list.getBoundingClientRect().right : document.documentElement.clientWidth;
  const all = document.querySelectorAll(
    '[class^=bunce-], #result_list *, #changelist-search *, .vTextField, h2, .breadcrumbs'
  );
  return [...all].filter((one) => one.getBoundingClientRect().right > edge(one) + 1)
    .filter((one) => one.offsetWidth > 1).map((one) => one.className || one.tagName);
}"""


def test_nothing_overflows_the_screen_with_a_long_name(
    full_site: Site, visit: Callable[..., Person]
) -> None:
    person = visit(full_site).arrive_as_admin()
    rejected, linked = (full_site.segments.get(name=n).pk for n in ("VIP customers", LINKED))
    name = "Averylongname" * 19
    # Django's own update leaves the statuses unchanged.
    rows: QuerySet[Segment] = QuerySet(Segment, using=full_site.alias)
    rows.filter(pk__in=(rejected, linked)).update(name=name, bunce_name=name)
    pages = (LIST, f"{LIST}add/", f"{LIST}{rejected}/change/", f"{LIST}{linked}/change/", CALL_LOG)
    for path in (*pages, f"{LIST}{rejected}/delete/"):
        person.open(path)
        expect(person.page.get_by_role("heading").first).to_be_visible()
        for width in (360, 768, 1024, 1280, 1460):  # at the last width rows are not cards
            person.page.set_viewport_size({"width": width, "height": 740})
            assert person.page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert person.page.evaluate(OUTSIDE) == [], f"{path} at {width}"


def test_the_readmes_pictures(
    full_site: Site, visit: Callable[..., Person], tmp_path: Path
) -> None:
    person = visit(full_site, viewport={"width": 1180, "height": 800}).arrive_as_admin()
    # Without the sidebar.
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

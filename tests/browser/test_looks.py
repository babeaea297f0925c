"""The pages in both themes and on a phone, checked by axe-core, and the README's pictures."""

import os
from collections.abc import Callable
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pytest
from django.db.models import QuerySet
from django.utils import timezone
from playwright.sync_api import Locator, expect

from bunce_sync.models import ImportRun, PushHold, Segment, SyncState
from bunce_sync.transitions import taken_over
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


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation_while_an_import_and_a_pause_are_under_way(
    full_site: Site, visit: Callable[..., Person], theme: Literal["light", "dark"]
) -> None:
    put_both_directions(full_site)
    person = visit(full_site, color_scheme=theme, bypass_csp=True).arrive_as_admin()
    for width in (1280, 360):
        person.page.set_viewport_size({"width": width, "height": 740})
        for path in (LIST, f"{LIST}bunce/bunce_import/", f"{LIST}bunce/pause/"):
            person.open(path)
            expect(person.page.get_by_role("heading").first).to_be_visible()
            assert violations(person) == [], f"{path} at {width}"
        person.press("Pause pushes")
        expect(person.page.get_by_text("This field is required.")).to_be_visible()
        assert violations(person) == []
        for name in ("Elsewhere", "Long"):
            person.open_segment(name)
            assert violations(person) == [], name
        open_links(person)
        assert violations(person) == []


def put_both_directions(site: Site) -> None:
    """Add an import and a pause, and segments that were imported or belong elsewhere."""
    now = timezone.now()
    holds = PushHold.objects.using(site.alias)
    holds.create(pauses_all=True, reason="Moving house", by="ada")
    block = holds.create(reason="nightly load", by="www@web1, process 42")
    ImportRun.objects.using(site.alias).create(
        environment=site.environment,
        requested_by="ada",
        adopt=True,
        pages=12,
        counts={"imported": 1200, "changed": 3},
    )
    here: dict[str, Any] = {"environment": site.environment, "imported_at": now, "synced_at": now}
    there = "https://api.bunce.so:443 live"
    site.put("Held", hold=block)
    site.put("Elsewhere", status="synced", bunce_id="e", bunce_name="Elsewhere", environment=there)
    site.put(
        "Long", status="synced", bunce_id="l", bunce_name="Long" * 99, last_code="drift", **here
    )
    site.put("Waiting")
    imported = site.put("Waiting", status="synced", bunce_id="w", **here)
    site.segments.filter(pk=imported.pk).update_sync_fields(**taken_over(imported))


def open_links(person: Person) -> None:
    """Open the preview of the action that links segments."""
    person.open(f"{LIST}?q=Waiting")
    for box in person.page.locator(".action-select").all():
        box.check()
    person.page.locator("select[name=action]").first.select_option("link_selected")
    person.page.locator("#changelist-form .actions button[type=submit]").first.click()
    expect(person.page.get_by_role("button", name="Link")).to_be_visible()


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
    put_both_directions(full_site)
    pages = (LIST, f"{LIST}add/", f"{LIST}{rejected}/change/", f"{LIST}{linked}/change/", CALL_LOG)
    controls = (f"{LIST}bunce/bunce_import/", f"{LIST}bunce/pause/")
    for path in (*pages, f"{LIST}{rejected}/delete/", *controls):
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

"""The lists at the widths of a phone and of two screens, with the admin's sidebar open."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models import QuerySet
from django.utils import timezone
from playwright.sync_api import Page, expect

from bunce_sync.models import Segment, SyncState
from tests.browser import states
from tests.browser.people import CALL_LOG, LIST, Person
from tests.site import Site

PHONE, SCREENS = 360, (1280, 1440)
SEGMENT_COLUMNS = ["Name", "Status", "Bunce id", "Type", "Created in Bunce", "Updated at"]
CALL_COLUMNS = ["When", "Operation", "Segment", "Outcome", "Status", "Duration", "Message"]
LONG_NAME = "Averylongname" * 19

#: Whether page or list scroll sideways.
SCROLLS = """() => [document.documentElement, document.querySelector('#changelist-form .results')]
  .some((one) => one && one.scrollWidth > one.clientWidth)"""
#: How much narrower the panel is than the content.
PANEL_GAP = """() => document.querySelector('#content-main').getBoundingClientRect().width
  - document.querySelector('#bunce-panel').getBoundingClientRect().width"""


@pytest.fixture
def full_site(site: Site) -> Site:
    """A site with segments in every status, two of them with long names, and notices."""
    states.fill(site)
    # Django's own update leaves the statuses unchanged.
    rows: QuerySet[Segment] = QuerySet(Segment, using=site.alias)
    rows.filter(name__in=("VIP customers", "Loyal since 2019")).update(name=LONG_NAME)
    SyncState.objects.using(site.alias).update(
        blocked_until=timezone.now() + timedelta(minutes=9),
        blocked_reason="key_refused",
    )
    return site


def resize(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})


def shown_headings(page: Page) -> list[str]:
    headings = page.locator("#result_list thead th .text").filter(visible=True).all_text_contents()
    return [text for text in map(str.strip, headings) if text]


def assert_table(page: Page, columns: list[str]) -> None:
    """Check that the list is a table with these headings, each above its value."""
    assert shown_headings(page) == columns
    row = page.locator("#result_list tbody tr").first
    assert row.evaluate("row => getComputedStyle(row).display") == "table-row"
    lefts = "cells => cells.map(cell => Math.round(cell.getBoundingClientRect().left))"
    headings = page.locator("#result_list thead th")
    assert headings.evaluate_all(lefts) == row.locator("th, td").evaluate_all(lefts)
    expect(row.locator(".bunce-heading").first).to_be_hidden()


def assert_cards(page: Page, labels: list[str]) -> None:
    """Check that each card shows all values, with these labels."""
    for row in page.locator("#result_list tbody tr").all():
        shown = row.locator(".bunce-heading").filter(visible=True)
        assert shown.all_text_contents() == labels
        for cell in row.locator("th, td").all():
            expect(cell).to_be_visible()


@pytest.mark.parametrize("language", ["en-GB", "fr-FR"])
def test_lists_are_tables_beside_the_open_sidebar_and_cards_on_a_phone(
    full_site: Site, visit: Callable[..., Person], language: str
) -> None:
    page = (person := visit(full_site, locale=language).arrive_as_admin()).page
    for path, columns in ((LIST, SEGMENT_COLUMNS), (CALL_LOG, CALL_COLUMNS)):
        person.open(path)
        for width in (*SCREENS, PHONE):
            resize(page, width)
            assert not page.evaluate(SCROLLS), f"{path} at {width}"
            if path == LIST:
                assert page.evaluate(PANEL_GAP) == pytest.approx(0, abs=1), width
            if width != PHONE:
                expect(page.locator("#nav-sidebar")).to_be_visible()
            if language == "fr-FR":
                continue
            if width != PHONE:
                assert_table(page, columns)
            else:
                # A segment's name is the title of its card.
                assert_cards(page, columns[1:] if path == LIST else columns)


def test_sorting_and_filters_are_at_hand_on_a_phone(
    full_site: Site, visit: Callable[..., Person]
) -> None:
    page = (person := visit(full_site).arrive_as_admin()).page
    resize(page, PHONE)
    person.open_list()
    names = page.locator("#result_list tbody th")
    page.locator("#result_list thead").get_by_text("Name").click()
    expect(names.first).to_have_text("Abandoned carts")

    tile = page.get_by_role("link", name="Synced")
    tile.click()
    expect(names).to_have_count(3)
    expect(tile).to_have_attribute("aria-current", "true")
    page.locator("#changelist-filter").get_by_role("link", name="Manual").click()
    expect(names).to_have_text(["Customers in Lagos"])
    expect(tile).to_have_attribute("aria-current", "true")
    tile.click()
    expect(names).to_have_count(7)


def test_an_open_list_keeps_its_filter_marked(full_site: Site, person: Person) -> None:
    full_site.start_worker()
    person.arrive_as_admin().open(f"{LIST}?status__exact=synced")
    person.mark()
    tile = person.page.get_by_role("link", name="Synced")
    full_site.put("Another one", status="synced", bunce_id="another")
    expect(tile).to_contain_text("4")
    expect(tile).to_have_attribute("aria-current", "true")
    person.assert_not_reloaded()


def test_the_panel_has_the_full_width_of_every_list_but_a_popups(
    site: Site, visit: Callable[..., Person]
) -> None:
    admin = visit(site).arrive_as_admin()
    reader = visit(site).arrive_with("view_segment")
    for person in (admin, reader):
        for rows in (0, 1):
            if rows and not site.segments.exists():
                site.put("Only one", status="synced", bunce_id="only")
            person.open_list()
            for width in (PHONE, *SCREENS):
                resize(person.page, width)
                assert person.page.evaluate(PANEL_GAP) == pytest.approx(0, abs=1), width
                assert not person.page.evaluate(SCROLLS), width
    expect(admin.page.get_by_role("link", name="Add segment")).to_be_visible()
    admin.open(f"{LIST}?_popup=1")
    expect(admin.page.get_by_role("link", name="Only one")).to_be_visible()
    expect(admin.panel).to_have_count(0)
    for width in (PHONE, *SCREENS):
        resize(admin.page, width)
        assert not admin.page.evaluate(SCROLLS), width

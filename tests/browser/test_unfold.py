"""The pages in a site that uses django-unfold."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from bunce_sync.testing.emulator import Emulator
from tests.browser import states
from tests.browser.people import LIST, Person
from tests.site import Site


@pytest.fixture
def settings_module() -> str:
    return "tests.browser.unfold_settings"


def test_segments_are_added_followed_retried_and_deleted_in_unfold(
    site: Site, visit: Callable[..., Person], bunce: Emulator, tmp_path: Path
) -> None:
    states.fill(site)
    site.start_worker()
    person = visit(site, viewport={"width": 1400, "height": 900}).arrive_as_admin()
    person.add_segment("Newsletter")
    row = person.row("Newsletter").filter(has_not_text="readers")
    expect(row).to_contain_text("Synced")
    expect(person.panel).to_contain_text("requests used this minute")
    person.page.screenshot(path=tmp_path / "list.png", full_page=True)
    person.open(f"{LIST}?q=VIP&status__exact=rejected")
    expect(person.row("VIP customers")).to_contain_text("Needs attention")

    person.open_segment("VIP customers")
    expect(person.state).to_contain_text("Bunce refused to create it.")
    expect(person.page.get_by_role("region", name="API calls")).to_contain_text("Rejected")
    person.page.screenshot(path=tmp_path / "change.png", full_page=True)
    person.press("Retry")
    expect(person.state).to_contain_text("Synced")

    person.open(f"{LIST}{site.segments.get(name='Newsletter').pk}/delete/")
    expect(person.page.get_by_text("Bunce keeps those it has")).to_be_visible()
    person.open(f"{LIST}{site.segments.get(name='Birthday in May').pk}/delete/")
    expect(person.page.get_by_text("It is not known whether")).to_be_visible()

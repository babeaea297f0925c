"""Customers in the browser: an audience from held to confirmed, and customers by hand."""

import re

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from bunce_sync.testing.emulator import Emulator
from tests.browser.people import Person
from tests.site import Site, eventually


@pytest.fixture
def settings_module() -> str:
    return "tests.browser.audience_settings"


def members(bunce: Emulator, name: str) -> set[str]:
    """Return who is in a segment in Bunce; empty while it has none."""
    found = [one for one in bunce.segments if one.name == name]
    return bunce.member_ids(found[0].id) if found else set()


def test_an_audience_fills_is_held_and_is_confirmed(
    site: Site, person: Person, bunce: Emulator
) -> None:
    users = User.objects.using(site.alias)
    users.bulk_create(User(username=f"c-{place}") for place in range(200))
    site.start_worker()
    person.arrive_as_admin()
    assert eventually(lambda: len(members(bunce, "Colleagues")) == 200)

    leaving = [f"c-{place}" for place in range(50, 200)]
    users.filter(username__in=leaving).update(is_active=False)
    users.create(username="c-new")
    person.open_list()
    expect(person.panel).to_contain_text("The audience “colleagues” is held: 150 of 20")
    assert eventually(lambda: "c-new" in members(bunce, "Colleagues")), "adds flow"
    assert len(members(bunce, "Colleagues")) == 201

    person.open_segment("Colleagues")
    customers = person.page.get_by_role("region", name="Customers")
    # Of 200, or of 201 since the new one was compared, too.
    held = re.compile("150 of 20[01] customers would be removed: held since")
    expect(customers).to_contain_text(held)
    customers.get_by_role("link", name="Decide about the removals").click()
    expect(person.page.get_by_role("heading", name="Removals to decide about")).to_be_visible()
    expect(person.page.locator("code", has_text="c-100")).to_be_visible()
    person.press("Remove 150 customers")
    expect(person.page.get_by_text("Confirmed. A worker compares the audience")).to_be_visible()
    assert eventually(lambda: len(members(bunce, "Colleagues")) == 51)
    expect(customers).not_to_contain_text("held since")
    expect(customers).to_contain_text(re.compile(r"In Bunce\s*51"))


def test_pasted_customers_reach_bunce(site: Site, person: Person, bunce: Emulator) -> None:
    site.start_worker()
    person.arrive_as_admin()
    person.add_segment("VIP")
    expect(person.row("VIP")).to_contain_text("Synced")
    person.open_segment("VIP")
    page = person.page
    page.get_by_role("link", name="Add customers").click()
    page.get_by_role("textbox", name="Customers").fill("c-1\nann@example.com\n")
    person.press("Add customers")
    expect(page.get_by_text("2 customers added, 0 changed, 0 unchanged.")).to_be_visible()
    assert eventually(lambda: members(bunce, "VIP") == {"c-1", "ann@example.com"})
    customers = page.get_by_role("region", name="Customers")
    expect(customers).to_contain_text(re.compile(r"In Bunce\s*2"))
    customers.get_by_role("link", name="List of customers").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(2)

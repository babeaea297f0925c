"""Customers in the browser: an audience from held to confirmed, and customers by hand."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Literal

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import expect

from bunce_sync.models import CustomerSync, Member
from bunce_sync.testing.emulator import Emulator
from tests.browser.layout import overlapping
from tests.browser.people import LIST, Person
from tests.browser.test_looks import violations
from tests.site import Site, eventually

MEMBERS = "/admin/bunce_sync/member/"


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

    person.panel.get_by_role("link", name="Open the segment").click()
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


@pytest.fixture
def full_site(site: Site) -> Site:
    """A site whose segments have customers in every status, and a held audience."""
    now = timezone.now()
    for name, key in (("VIP", None), ("Colleagues", "colleagues"), ("Former", "former")):
        segment = site.put(
            name,
            status="synced",
            bunce_id=name.lower(),
            bunce_name=name,
            bunce_customers_count=20,
            synced_at=now,
            sent_at=now,
        )
        CustomerSync.objects.using(site.alias).create(
            pk=segment.pk,
            key=key,
            bunce_id=name.lower(),
            last_run_at=now if key else None,
            next_run_at=now + timedelta(hours=1) if key else None,
            sent_all_at=now,
            sent_count=30,
        )
        Member.objects.using(site.alias).bulk_create(
            Member(
                segment_id=segment.pk,
                identifier=f"someone.with.a.long.address.{number}@subdomain.example.com",
                is_email=True,
                wanted=number > 0,
                status=["pending", "in_bunce", "refused"][number % 3]
                if key is None
                else "in_bunce",
                due_at=now + timedelta(hours=1),
                last_error="The email field must be valid." if number % 3 == 2 else "",
            )
            for number in range(30)
        )
    held = Member.objects.using(site.alias).filter(segment__name="Colleagues")
    CustomerSync.objects.using(site.alias).filter(key="colleagues").update(
        held_at=now,
        held_removals=25,
        held_members=30,
        held_examples=[*held.values_list("pk", flat=True)[:10]],
    )
    site.calls.create(
        environment=site.environment,
        segment_id=site.segments.get(name="VIP").pk,
        operation="add",
        path="/segments/vip/customers",
        body={"customers": 10},
        outcome="confirmed",
        started_at=now,
    )
    return site


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_can_be_read_wide_and_narrow(
    full_site: Site, visit: Callable[..., Person], theme: Literal["light", "dark"]
) -> None:
    person = visit(full_site, color_scheme=theme, bypass_csp=True).arrive_as_admin()
    vip, colleagues, former = (
        full_site.segments.get(name=name).pk for name in ("VIP", "Colleagues", "Former")
    )
    paths = (
        *(LIST, f"{LIST}{vip}/change/", f"{LIST}{colleagues}/change/", f"{LIST}{former}/change/"),
        *(f"{LIST}{colleagues}/customers/decide/", f"{LIST}{vip}/customers/resync/"),
        *(f"{LIST}{vip}/delete/", f"{MEMBERS}?segment={vip}", MEMBERS),
        f"{LIST}{vip}/customers/add/",
    )
    for width in (1280, 360):
        person.page.set_viewport_size({"width": width, "height": 800})
        for path in paths:
            person.open(path)
            expect(person.page.get_by_role("heading").first).to_be_visible()
            if path.endswith("/add/"):
                person.page.get_by_role("textbox", name="Customers").fill('c-1\n"c-2')
                person.press("Add customers")
                expect(person.page.get_by_text("Line 2: not valid CSV")).to_be_visible()
            assert violations(person) == [], f"{path} at {width}"
            assert overlapping(person.page) == [], f"{path} at {width}"
            assert person.page.evaluate("document.documentElement.scrollWidth") <= width, path

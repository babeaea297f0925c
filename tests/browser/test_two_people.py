"""Two people on one change page: each sees what the other saves, and loses nothing."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.people import Person
from tests.site import Site


def test_what_another_saves_appears_in_the_open_page(person: Person, site: Site) -> None:
    row = site.put("VIP", "old", status="synced", bunce_id="a1")
    person.arrive_as_admin().open(f"/admin/bunce_sync/segment/{row.pk}/change/")
    page = person.page
    page.get_by_label("Description").fill("mine, not saved yet")
    site.segments.filter(pk=row.pk).update(name="Gold", description="theirs")

    notice = page.locator("[data-bunce-changed]")
    expect(notice).to_contain_text("Changed while this page was open, and updated here: Name.")
    expect(notice).to_contain_text("saving shows the new value first: Description.")
    expect(page.get_by_label("Name")).to_have_value("Gold")
    expect(page.get_by_label("Description")).to_have_value("mine, not saved yet")

    page.get_by_role("button", name="Save", exact=True).click()
    errors = page.locator(".errorlist.nonfield")
    expect(errors).to_contain_text("Description: “old” is now “theirs”.")
    expect(page.get_by_label("Description")).to_have_value("mine, not saved yet")
    assert site.segments.get(pk=row.pk).description == "theirs", "nothing is saved yet"

    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("was changed successfully")
    stored = site.segments.get(pk=row.pk)
    assert (stored.name, stored.description) == ("Gold", "mine, not saved yet")
    assert person.errors == []


def test_a_field_that_was_updated_is_not_unsaved(person: Person, site: Site) -> None:
    row = site.put("VIP", status="rejected", last_code="conflict")
    person.arrive_as_admin().open(f"/admin/bunce_sync/segment/{row.pk}/change/")
    site.segments.filter(pk=row.pk).update_sync_fields(status="rejected")
    site.segments.filter(pk=row.pk).update(description="theirs")
    expect(person.page.get_by_label("Description")).to_have_value("theirs")
    person.page.get_by_role("button", name="Refresh from Bunce").or_(
        person.page.get_by_role("button", name="Push now")
    ).first.click()
    expect(person.page.locator("[data-bunce-unsaved]")).to_be_hidden()
    expect(person.page.locator(".messagelist")).to_be_visible()


def test_a_reader_is_told_to_reload(person: Person, site: Site) -> None:
    row = site.put("VIP", status="synced", bunce_id="a1")
    person.arrive_with("view_segment").open(f"/admin/bunce_sync/segment/{row.pk}/change/")
    site.segments.filter(pk=row.pk).update(name="Gold")
    expect(person.page.locator("[data-bunce-changed]")).to_contain_text("Reload the page")

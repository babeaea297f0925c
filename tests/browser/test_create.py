"""From the login to a synced segment with its Bunce id."""

from playwright.sync_api import expect

from bunce_sync.testing.emulator import Emulator
from tests.browser.people import Person
from tests.site import Site


def test_a_segment_added_in_the_admin_becomes_synced_with_its_bunce_id(
    site: Site, person: Person, bunce: Emulator
) -> None:
    site.start_worker()
    person.log_in(*site.create_login())
    person.add_segment("Newsletter readers", "Asked for it")
    row = person.row("Newsletter readers")
    person.mark()
    expect(row).to_contain_text("Synced")
    [stored] = bunce.segments
    expect(row).to_contain_text(stored.id)
    expect(row).to_contain_text("Manual")
    person.assert_not_reloaded()

    person.open_segment("Newsletter readers")
    expect(person.state).to_contain_text("In Bunce, with the content shown here.")
    expect(person.page.get_by_role("region", name="In Bunce")).to_contain_text(stored.id)
    expect(person.page.get_by_role("region", name="API calls")).to_contain_text("Confirmed")


def test_an_invalid_name_is_refused_with_a_message(site: Site, person: Person) -> None:
    person.arrive_as_admin()
    person.open("/admin/bunce_sync/segment/add/")
    person.page.get_by_label("Name").fill("   ")
    person.press("Save")
    expect(person.page.get_by_text("This field is required.")).to_be_visible()
    assert not site.segments.exists()

"""Both directions in the browser: drift, imports, links, the pause, and another environment."""

from collections.abc import Callable

from playwright.sync_api import expect

from bunce_sync.testing.emulator import Emulator
from tests.browser.people import Person
from tests.site import Site


def test_a_change_in_bunce_is_seen_shown_and_settled_both_ways(
    site: Site, person: Person, bunce: Emulator
) -> None:
    site.start_worker()
    person.arrive_as_admin()
    person.add_segment("VIP", "the best")
    expect(person.row("VIP")).to_contain_text("Synced")
    [stored] = bunce.segments
    page = person.page

    # Seen and shown after a refresh; what Bunce has is taken.
    bunce.change_segment(stored.id, name="VIP customers")
    person.open_segment("VIP")
    person.press("Refresh from Bunce")
    expect(person.state).to_contain_text("Changed in Bunce")
    remote = page.get_by_role("region", name="In Bunce")
    expect(remote).to_contain_text("VIP customers differs from here")
    requests = bunce.served
    person.press("Take theirs")
    expect(page.get_by_text("1 segment has Bunce's content now.")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("VIP customers")
    expect(person.state).to_contain_text("Synced")
    expect(remote).not_to_contain_text("differs from here")
    assert bunce.served == requests, "nothing is sent"

    # Seen after an import, and listed; what is here replaces it.
    bunce.change_segment(stored.id, name="Renamed", description="again")
    person.open_list()
    person.mark()
    page.get_by_role("link", name="Import from Bunce").click()
    person.press("Start import")
    expect(person.panel).to_contain_text("Last import from Bunce")
    expect(person.panel).to_contain_text("1 refreshed.")
    expect(person.row("VIP customers")).to_contain_text("Changed in Bunce")
    person.panel.get_by_role("link", name="1 segment was changed in Bunce.").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.locator(".action-select").check()
    choose(person, "push_ours_selected")
    expect(page.get_by_text("1 segment will be sent; the result appears here.")).to_be_visible()
    person.open_list()
    expect(person.row("VIP customers")).to_contain_text("Synced")
    expect(person.panel).not_to_contain_text("changed in Bunce")
    [stored] = bunce.segments
    assert (stored.name, stored.description) == ("VIP customers", "the best")


def test_a_button_of_an_outdated_page_does_nothing(
    site: Site, person: Person, bunce: Emulator
) -> None:
    row = site.put("VIP", status="synced", bunce_id="b", bunce_name="Theirs", last_code="drift")
    person.arrive_as_admin().open_segment("VIP")
    person.page.route("**/live/**", lambda route: route.abort())  # it learns nothing new
    site.segments.filter(pk=row.pk).update_sync_fields(bunce_name="Changed again")
    person.press("Take theirs")
    expect(
        person.page.get_by_text("Nothing was done: the content here or in Bunce")
    ).to_be_visible()
    assert site.segments.get(pk=row.pk).name == "VIP"
    person.press("Take theirs")
    expect(person.page.get_by_label("Name")).to_have_value("Changed again")
    person.errors.clear()  # of the requests that failed on purpose


def test_pushes_are_paused_and_resumed_in_the_panel(
    site: Site, visit: Callable[..., Person], bunce: Emulator
) -> None:
    site.start_worker()
    person = visit(site).arrive_as_admin()
    person.open_list()
    person.page.get_by_role("link", name="Pause pushes").click()
    person.press("Pause pushes")
    expect(person.page.get_by_text("This field is required.")).to_be_visible()
    person.page.get_by_label("Reason").fill("Moving house")
    person.page.keyboard.press("Enter")
    expect(person.panel).to_contain_text("nothing is created or changed in Bunce")
    expect(person.panel).to_contain_text("Reason: “Moving house”.")
    person.add_segment("Patient")
    expect(person.row("Patient")).to_contain_text("Paused")

    reader = visit(site).arrive_with("view_segment")
    reader.open_list()
    expect(reader.panel).to_contain_text("Moving house")
    expect(reader.page.get_by_role("button", name="Resume pushes")).to_have_count(0)
    reader.mark()
    assert bunce.segments == []

    button = person.page.get_by_role("button", name="Resume pushes")
    button.focus()
    person.page.keyboard.press("Enter")
    expect(person.page.get_by_text("Pushes have resumed.")).to_be_visible()
    expect(person.row("Patient")).to_contain_text("Synced")
    expect(reader.panel).not_to_contain_text("Moving house")
    expect(reader.row("Patient")).to_contain_text("Synced")
    reader.assert_not_reloaded()


def test_waiting_segments_are_linked_after_a_preview(
    site: Site, person: Person, bunce: Emulator
) -> None:
    known = bunce.add_segment("VIP")
    site.shell("from bunce_sync import services\nservices.pause(reason='Migration', by='ada')")
    site.start_worker()
    person.arrive_as_admin()
    for name in ("VIP", "New"):
        person.add_segment(name)
    page = person.page
    page.get_by_role("link", name="Import from Bunce").click()
    person.press("Start import")
    expect(person.panel).to_contain_text("1 added.")
    person.open_list()
    expect(page.locator("#result_list tbody tr")).to_have_count(3)
    for box in page.locator(".action-select").all():
        box.check()
    choose(person, "link_selected")
    expect(page.get_by_role("listitem").filter(has_text=f"VIP → {known.id}")).to_be_visible()
    expect(
        page.get_by_text("2 selected segments have no unedited imported segment")
    ).to_be_visible()
    person.press("Link")
    expect(page.get_by_text("1 segment was linked to the existing one.")).to_be_visible()
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    person.press("Resume pushes")
    expect(person.row("New")).to_contain_text("Synced")
    assert sorted(one.name for one in bunce.segments) == ["New", "VIP"]
    assert site.segments.get(name="VIP").bunce_id == known.id


def test_segments_of_another_environment_are_shown_and_left_alone(
    site: Site, person: Person, bunce: Emulator
) -> None:
    site.start_worker()
    person.arrive_as_admin()
    person.add_segment("VIP")
    expect(person.row("VIP")).to_contain_text("Synced")
    before = site.environment.split("//")[1].split()[0]
    person.page.goto("about:blank")
    for process in site.processes:
        process.stop()
    served = bunce.served
    with Emulator() as other:
        other.set(key="sk_live_of_this_site")
        site.env |= {"BUNCE_BASE_URL": other.base_url, "BUNCE_API_KEY": "sk_live_of_this_site"}
        site.start_web()
        site.start_worker()
        person.open_list()
        expect(person.panel).to_contain_text(
            f"1 segment belongs to sandbox ({before}); this site uses live ("
        )
        expect(person.panel).to_contain_text("python manage.py bunce_rehome")
        expect(person.row("VIP")).to_contain_text("Belongs to sandbox")
        person.open_segment("VIP")
        expect(person.state).to_contain_text(f"Belongs to sandbox ({before}).")
        expect(person.state.get_by_role("button")).to_have_count(0)
        calls = person.page.get_by_role("region", name="API calls")
        expect(calls).to_contain_text(f"Sent to sandbox ({before}).")
        expect(calls.locator("pre")).to_have_count(0)
        person.page.get_by_label("Name").fill("Renamed")
        person.press("Save")
        person.add_segment("New here")
        expect(person.row("New here")).to_contain_text("Synced")
        expect(person.row("Renamed")).to_contain_text("Belongs to sandbox")
        assert [one.name for one in other.segments] == ["New here"]
        for method, path in {(one.method, one.path) for one in other.requests}:
            assert (method, path) == ("POST", "/v1/segments")
    assert bunce.served == served
    assert [one.name for one in bunce.segments] == ["VIP"]


def choose(person: Person, action: str) -> None:
    """Run an action of the list on the selected rows."""
    person.page.locator("select[name=action]").first.select_option(action)
    person.page.locator("#changelist-form .actions button[type=submit]").first.click()

"""What users see when a request fails or waits, and how they resolve it."""

from collections.abc import Callable

from playwright.sync_api import expect

from bunce_sync.testing.emulator import Emulator, Faults
from tests.browser.people import LIST, Person
from tests.site import Site


def test_a_rejected_segment_is_retried_changed_and_synced(
    site: Site, person: Person, bunce: Emulator
) -> None:
    bunce.set(unique_names=True)
    taken = bunce.add_segment("VIP")
    site.start_worker()
    person.arrive_as_admin()
    person.add_segment("VIP")
    expect(person.row("VIP")).to_contain_text("Needs attention")

    person.open_segment("VIP")
    expect(person.state).to_contain_text("Bunce refused to create it.")
    expect(person.state).to_contain_text("already")  # Bunce's message
    person.press("Retry")
    expect(person.page.get_by_text("1 segment will be sent again")).to_be_visible()
    site.wait_until(lambda: site.calls.filter(http_status=422).count() == 2, "it is refused again")
    expect(person.state).to_contain_text("Needs attention")

    person.page.get_by_label("Name").fill("VIP customers")
    person.press("Retry")  # unsaved changes are not discarded
    expect(person.page.get_by_role("alert")).to_contain_text("There are unsaved changes.")
    assert person.page.get_by_label("Name").input_value() == "VIP customers"
    person.page.get_by_label("Name").fill("   ")
    person.page.get_by_label("Description").fill("Typed with care")
    person.press("Save and continue editing")
    expect(person.page.get_by_text("This field is required.")).to_be_visible()
    person.press("Retry")  # nor after a failed save
    expect(person.page.get_by_role("alert")).to_contain_text("There are unsaved changes.")
    assert person.page.get_by_label("Description").input_value() == "Typed with care"
    person.page.get_by_label("Name").fill("VIP customers")
    person.press("Save and continue editing")
    person.mark()
    expect(person.state).to_contain_text("Synced")
    person.assert_not_reloaded()
    [stored] = [segment for segment in bunce.segments if segment.id != taken.id]
    assert stored.name == "VIP customers"
    expect(person.page.get_by_role("region", name="In Bunce")).to_contain_text(stored.id)


def test_retry_sends_unchanged_content_once_the_cause_is_gone(
    site: Site, person: Person, bunce: Emulator
) -> None:
    bunce.set(unique_names=True)
    bunce.add_segment("VIP")
    site.start_worker()
    person.arrive_as_admin()
    person.add_segment("VIP")
    expect(person.row("VIP")).to_contain_text("Needs attention")
    bunce.set(unique_names=False)
    person.open_segment("VIP")
    person.press("Retry")
    expect(person.state).to_contain_text("Synced")
    assert len(bunce.segments) == 2


def test_a_requested_pause_is_shown_with_a_countdown_and_ends(
    site: Site, person: Person, bunce: Emulator
) -> None:
    bunce.set_faults(Faults(retry_seconds=12), script=["limit_429"])
    site.start_worker()
    person.arrive_as_admin()
    person.add_segment("Patient")
    person.mark()
    expect(person.panel).to_contain_text("Paused until")
    row = person.row("Patient")
    expect(row).to_contain_text("Paused, resumes")
    countdown = row.locator("time[data-bunce-until]")
    expect(countdown).to_contain_text("in ")
    first = countdown.text_content()
    assert first is not None
    expect(countdown).not_to_have_text(first)
    expect(row).to_contain_text("Synced")
    expect(person.panel).not_to_contain_text("Bunce asked us to pause")
    person.assert_not_reloaded()


def test_a_refused_key_is_shown_until_bunce_accepts_it(
    site: Site, person: Person, bunce: Emulator
) -> None:
    bunce.set_faults(Faults(unauthorized=1.0))
    site.start_worker()
    person.arrive_as_admin()
    person.add_segment("Keyless")
    expect(person.panel).to_contain_text("Bunce refused the API key.")
    expect(person.panel).to_contain_text("Set a valid key")
    person.open_segment("Keyless")
    expect(person.state).to_contain_text("Bunce refused the API key.")


def test_a_plan_limit_pauses_only_creates_until_it_is_lifted(
    site: Site, person: Person, bunce: Emulator
) -> None:
    known = bunce.add_segment("Known")
    linked = site.put("Known", status="synced", bunce_id=known.id)
    bunce.set(plan_limit=1)
    site.start_worker()
    person.arrive_as_admin()
    for number in range(3):
        person.add_segment(f"New {number}")
    expect(person.panel).to_contain_text("Creating segments in Bunce is paused.")
    expect(person.panel).to_contain_text("You have reached the limit of your plan.")
    expect(person.row("New 0")).to_contain_text("Paused")
    person.open_segment("New 2")
    expect(person.state).to_contain_text("Creating segments in Bunce is paused.")
    expect(person.state).to_contain_text("You have reached the limit of your plan.")
    site.shell(f"row = Segment.objects.get(pk={linked.pk})\nrow.name = 'Known better'\nrow.save()")
    site.wait_until(
        lambda: [one.name for one in bunce.segments] == ["Known better"], "updates continue"
    )
    bunce.set(plan_limit=None)
    person.mark()
    expect(person.state).to_contain_text("Synced")
    person.assert_not_reloaded()
    person.open_list()
    expect(person.panel).not_to_contain_text("is paused")
    assert len(bunce.segments) == 4


def test_without_a_worker_the_panel_says_how_to_start_one(site: Site, person: Person) -> None:
    worker = site.start_worker()
    person.arrive_as_admin()
    person.open_list()
    person.mark()
    expect(person.panel).to_contain_text("Last sweep")
    expect(person.panel).to_contain_text("s ago")
    expect(person.panel).not_to_contain_text("No worker")
    worker.stop()
    expect(person.panel).to_contain_text("No sweep has run since")
    expect(person.panel).to_contain_text("celery -A project worker -B")
    site.start_worker()
    expect(person.panel).not_to_contain_text("No sweep has run since")
    person.assert_not_reloaded()


def test_a_viewer_has_no_buttons_and_cannot_post(site: Site, visit: Callable[..., Person]) -> None:
    viewer = visit(site).arrive_with("view_segment")
    for name, state in (("push", "pending"), ("retry", "rejected"), ("refresh", "synced")):
        bunce_id = "b-1" if state == "synced" else None
        site.put(name, status=state, bunce_id=bunce_id)
        viewer.open_segment(name)
        expect(viewer.state).to_be_visible()
        for label in ("Push now", "Retry", "Refresh from Bunce", "Save"):
            expect(viewer.page.get_by_role("button", name=label, exact=True)).to_have_count(0)
        [token] = [c for c in viewer.context.cookies() if c["name"] == "csrftoken"]
        answer = viewer.context.request.post(
            f"{site.url}{LIST}{site.segments.get(name=name).pk}/{name}/",
            form={"csrfmiddlewaretoken": token["value"]},
            headers={"Referer": site.url},
        )
        assert answer.status == 403
        assert site.segments.get(name=name).status == state
    assert not site.segments.refresh_requested().exists()

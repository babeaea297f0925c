"""An open page polls for updates, and works with keyboard and screen reader."""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Request, Route, expect

from bunce_sync.models import SyncState
from tests.browser.people import Person
from tests.site import Site

#: Records the intervals between polls, and shortens them to a twentieth.
HURRY = """
window.waits = [];
window.timers = new Set();
const realSetTimeout = window.setTimeout;
const realClearTimeout = window.clearTimeout;
window.setTimeout = (work, milliseconds) => {
  if (!(milliseconds >= 2000)) return realSetTimeout(work, milliseconds);  // not a poll
  window.waits.push(Math.round(milliseconds));
  const timer = realSetTimeout(() => { window.timers.delete(timer); work(); }, milliseconds / 20);
  window.timers.add(timer);
  return timer;
};
window.clearTimeout = (timer) => { window.timers.delete(timer); realClearTimeout(timer); };
"""


class Polls:
    """The polls of a page."""

    def __init__(self, person: Person) -> None:
        self.page = person.page
        self.page.add_init_script(HURRY)

    def wait_for(self, count: int) -> list[int]:
        """Return the first ``count`` intervals in milliseconds, once the page has set them."""
        self.page.wait_for_function("count => window.waits.length >= count", arg=count)
        waits: list[int] = self.page.evaluate("window.waits")
        return waits[:count]

    def wait_until_it_stopped(self) -> None:
        self.page.wait_for_function("() => window.timers.size === 0")

    def hide(self, hidden: bool) -> None:
        """Hide the tab, or show it again."""
        self.page.evaluate(
            "(hidden) => {"
            " Object.defineProperty(document, 'hidden', {configurable: true, value: hidden});"
            " document.dispatchEvent(new Event('visibilitychange')); }",
            hidden,
        )


@pytest.fixture
def polls(person: Person, site: Site) -> Polls:
    """The list of a site in which nothing changes."""
    later = timezone.now() + timedelta(days=1)
    site.put("VIP", due_at=later)
    SyncState.objects.using(site.alias).update_or_create(
        pk=site.environment, defaults={"swept_at": later}
    )
    person.arrive_as_admin()
    polls = Polls(person)
    person.open_list()
    return polls


#: The address that the page polls.
POLL = re.compile("/live/")


def is_poll(request: Request) -> bool:
    return bool(POLL.search(request.url))


def test_while_nothing_changes_the_page_polls_less_and_less_often(polls: Polls) -> None:
    assert polls.wait_for(9) == [2000, 3000, 4500, 6750, 10125, 15188, 22781, 30000, 30000]


def test_a_change_resets_the_polling_interval(polls: Polls, person: Person, site: Site) -> None:
    assert polls.wait_for(4)[-1] == 6750
    site.segments.update_sync_fields(status="synced", bunce_id="b-1")
    expect(person.row("VIP")).to_contain_text("Synced")
    person.page.wait_for_function("() => window.waits.lastIndexOf(2000) > 0")


def test_a_hidden_tab_does_not_poll_and_polls_at_once_when_shown(
    polls: Polls, person: Person
) -> None:
    polls.wait_for(2)
    polls.hide(True)
    polls.wait_until_it_stopped()
    with person.page.expect_request(is_poll):
        polls.hide(False)


def test_a_change_is_announced_to_screen_readers(polls: Polls, person: Person, site: Site) -> None:
    announcer = person.page.get_by_role("status")
    expect(announcer).to_have_text("")
    site.segments.update_sync_fields(status="synced", bunce_id="b-1")
    expect(announcer).to_have_text("VIP: Synced.")


def test_a_page_without_responses_shows_its_last_update_and_recovers(
    polls: Polls, person: Person, site: Site
) -> None:
    age = person.panel.get_by_text("Last sweep")
    notice = person.page.locator("[data-bunce-outdated]")
    announcer = person.page.get_by_role("status")
    expect(age).to_be_visible()
    person.page.route(POLL, lambda route: route.abort(), times=1)
    polls.wait_for(5)
    expect(announcer).to_have_text("")  # a single failure is not announced
    for status in (None, 408, 429, 502):
        fail = fails(status)
        person.page.route(POLL, fail)
        expect(notice).to_contain_text(
            re.compile(r"is not responding\. This page shows the status at \d\d:\d\d:\d\d")
        )
        expect(announcer).to_contain_text("The site is not responding")
        expect(age).to_be_hidden()
        site.segments.update_sync_fields(status="synced", bunce_id="b-1")
        person.page.unroute(POLL, fail)
        expect(notice).to_be_hidden()
        expect(age).to_be_visible()
    expect(person.row("VIP")).to_contain_text("Synced")
    person.errors.clear()  # the browser logs each failed response


def fails(status: int | None) -> Callable[[Route], None]:
    """Return a handler that responds with a status, or aborts the request."""
    return lambda route: route.abort() if status is None else route.fulfill(status=status)


def test_a_notice_is_announced_when_it_appears_and_when_it_disappears(
    polls: Polls, person: Person, site: Site
) -> None:
    announcer = person.page.get_by_role("status")
    state = SyncState.objects.using(site.alias)
    until = timezone.now() + timedelta(minutes=9)
    state.update(blocked_until=until, blocked_reason="rate_limited")
    expect(announcer).to_contain_text("Paused until")
    state.update(blocked_until=None, blocked_reason="")
    expect(announcer).to_contain_text("Requests have resumed.")
    # A row deleted meanwhile does not keep its old status.
    site.segments.all().delete()
    expect(person.row("VIP")).to_contain_text("Deleted")


def test_after_a_logout_the_page_says_that_it_is_no_longer_updated(
    polls: Polls, person: Person
) -> None:
    cookies = person.context.cookies()
    notice = person.page.locator("[data-bunce-outdated]")
    person.context.clear_cookies()
    expect(notice).to_have_text("This page is no longer updated. Reload it.")
    polls.wait_until_it_stopped()

    # Logged in again in another tab.
    person.context.add_cookies(cookies)  # type: ignore[arg-type]  # one type to read, one to write
    polls.hide(True)
    polls.hide(False)
    expect(notice).to_be_hidden()


def test_countdowns_do_not_depend_on_the_browsers_clock(site: Site, person: Person) -> None:
    person.page.clock.set_system_time("2001-01-01T00:00:00")
    due = timezone.now() + timedelta(seconds=3601)
    site.put("VIP", due_at=due, last_code="refused")
    person.arrive_as_admin()
    person.open_list()
    expect(person.row("VIP")).to_contain_text("Retrying in 60 min")


def test_an_id_can_be_copied_with_the_keyboard(site: Site, person: Person) -> None:
    site.put("VIP", status="synced", bunce_id="b-1")
    person.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    person.arrive_as_admin()
    person.open_list()
    person.page.get_by_role("link", name="VIP", exact=True).focus()
    person.page.keyboard.press("Tab")
    expect(person.page.get_by_role("button", name="Copy the Bunce id b-1")).to_be_focused()
    person.page.keyboard.press("Enter")
    expect(person.page.get_by_role("status")).to_have_text("Copied")
    copied = person.page.get_by_role("button", name="Copied")
    expect(copied).to_be_focused()
    expect(copied.locator("svg:visible")).to_have_count(1)
    expect(copied.locator("svg").last).to_be_visible()  # shown by more than its colour
    expect(person.page.get_by_role("button", name="Copy the Bunce id b-1")).to_be_focused()
    assert person.page.evaluate("navigator.clipboard.readText()") == "b-1"


def test_a_button_keeps_the_focus_when_the_page_is_updated(site: Site, person: Person) -> None:
    site.put("VIP", status="synced", bunce_id="b-1")
    person.arrive_as_admin()
    person.open_segment("VIP")
    button = person.page.get_by_role("button", name="Refresh from Bunce")
    button.focus()
    site.segments.update_sync_fields(last_code="drift")
    expect(person.state).to_contain_text("Changed in Bunce")
    expect(button).to_be_focused()
    person.page.keyboard.press("Enter")
    expect(person.page.get_by_text("1 segment will be refreshed from Bunce")).to_be_visible()
    assert site.segments.refresh_requested().exists()


def test_other_focusable_elements_keep_the_focus(site: Site, person: Person) -> None:
    segment = site.put("VIP", status="rejected", sent_at=timezone.now())
    call = {"operation": "create", "path": "/segments", "started_at": timezone.now()}
    site.calls.create(segment=segment, **call)
    person.arrive_as_admin()
    person.open_list()
    tile = person.panel.get_by_role("link", name="Needs attention")
    tile.focus()
    site.segments.update_sync_fields(status="pending")
    expect(tile).to_contain_text("0")
    expect(tile).to_be_focused()

    person.open_segment("VIP")
    calls = person.page.get_by_role("region", name="API calls")
    calls.locator("summary").click()
    for number, part in enumerate(("summary", "pre")):
        calls.locator(part).last.focus()
        site.calls.create(segment=segment, **call)
        expect(calls.locator("summary")).to_have_count(number + 2)
        expect(calls.locator(part).last).to_be_focused()
    button = person.page.get_by_role("button", name="Push now")
    button.focus()
    site.segments.update_sync_fields(
        status="sending", lease_token=uuid.uuid4(), lease_until=timezone.now()
    )
    expect(button).to_have_count(0)
    expect(person.state).to_be_focused()

"""An open page keeps itself up to date, gently, and can be used by keyboard and by ear."""

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

#: Notes how long the page means to wait each time, and lets it wait a twentieth of that.
HURRY = """
window.waits = [];
window.timers = new Set();
const realSetTimeout = window.setTimeout;
const realClearTimeout = window.clearTimeout;
window.setTimeout = (work, milliseconds) => {
  if (!(milliseconds >= 2000)) return realSetTimeout(work, milliseconds);  // somebody else's
  window.waits.push(Math.round(milliseconds));
  const timer = realSetTimeout(() => { window.timers.delete(timer); work(); }, milliseconds / 20);
  window.timers.add(timer);
  return timer;
};
window.clearTimeout = (timer) => { window.timers.delete(timer); realClearTimeout(timer); };
"""


class Polls:
    """How often the page asks for news."""

    def __init__(self, person: Person) -> None:
        self.page = person.page
        self.page.add_init_script(HURRY)

    def wait_for(self, count: int) -> list[int]:
        """The first waits, in milliseconds, once the page has decided on so many."""
        self.page.wait_for_function("count => window.waits.length >= count", arg=count)
        waits: list[int] = self.page.evaluate("window.waits")
        return waits[:count]

    def wait_until_it_stopped(self) -> None:
        self.page.wait_for_function("() => window.timers.size === 0")

    def hide(self, hidden: bool) -> None:
        """Put the tab behind another one, or back to the front."""
        self.page.evaluate(
            "(hidden) => {"
            " Object.defineProperty(document, 'hidden', {configurable: true, value: hidden});"
            " document.dispatchEvent(new Event('visibilitychange')); }",
            hidden,
        )


@pytest.fixture
def polls(person: Person, site: Site) -> Polls:
    """The list of a site in which nothing happens, just opened."""
    later = timezone.now() + timedelta(days=1)
    site.put("VIP", due_at=later)
    SyncState.objects.using(site.alias).update_or_create(pk=1, defaults={"swept_at": later})
    person.arrive_as_admin()
    polls = Polls(person)
    person.open_list()
    return polls


#: Where the page asks for news.
NEWS = re.compile("/live/")


def asks_for_news(request: Request) -> bool:
    return bool(NEWS.search(request.url))


def test_while_nothing_changes_the_page_asks_less_and_less_often(polls: Polls) -> None:
    assert polls.wait_for(9) == [2000, 3000, 4500, 6750, 10125, 15188, 22781, 30000, 30000]


def test_a_change_makes_it_ask_often_again(polls: Polls, person: Person, site: Site) -> None:
    assert polls.wait_for(4)[-1] == 6750
    site.segments.update_sync_fields(status="synced", bunce_id="b-1")
    expect(person.row("VIP")).to_contain_text("Synced")
    person.page.wait_for_function("() => window.waits.lastIndexOf(2000) > 0")


def test_a_hidden_tab_asks_nothing_and_a_tab_shown_again_asks_at_once(
    polls: Polls, person: Person
) -> None:
    polls.wait_for(2)
    polls.hide(True)
    polls.wait_until_it_stopped()
    with person.page.expect_request(asks_for_news):
        polls.hide(False)


def test_a_change_is_announced_once_to_those_who_listen(
    polls: Polls, person: Person, site: Site
) -> None:
    listened = person.page.locator("[aria-live=polite]")
    expect(listened).to_have_text("")
    site.segments.update_sync_fields(status="synced", bunce_id="b-1")
    expect(listened).to_have_text("VIP: Synced.")


def test_a_page_that_gets_no_answer_says_since_when_and_recovers_by_itself(
    polls: Polls, person: Person, site: Site
) -> None:
    age = person.panel.get_by_text("Last sweep by a worker")
    notice = person.page.locator("[data-bunce-outdated]")
    listened = person.page.locator("[aria-live=polite]")
    expect(age).to_be_visible()
    person.page.route(NEWS, lambda route: route.abort(), times=1)
    polls.wait_for(5)
    expect(listened).to_have_text("")  # one that is lost is not worth a word
    for status in (None, 408, 429, 502):
        fail = fails(status)
        person.page.route(NEWS, fail)
        expect(notice).to_contain_text(
            re.compile(r"does not answer: what you see is as it was at \d\d:\d\d:\d\d\.")
        )
        expect(listened).to_contain_text("The site does not answer")
        expect(age).to_be_hidden()
        site.segments.update_sync_fields(status="synced", bunce_id="b-1")
        person.page.unroute(NEWS, fail)
        expect(notice).to_be_hidden()
        expect(age).to_be_visible()
    expect(person.row("VIP")).to_contain_text("Synced")
    person.errors.clear()  # the browser notes each answer that failed


def fails(status: int | None) -> Callable[[Route], None]:
    """Answers a request with a status, or with nothing at all."""
    return lambda route: route.abort() if status is None else route.fulfill(status=status)


def test_what_keeps_all_requests_waiting_is_announced_when_it_comes_and_when_it_goes(
    polls: Polls, person: Person, site: Site
) -> None:
    listened = person.page.locator("[aria-live=polite]")
    state = SyncState.objects.using(site.alias)
    until = timezone.now() + timedelta(minutes=9)
    state.update(blocked_until=until, blocked_reason="rate_limited")
    expect(listened).to_contain_text("Paused until")
    state.update(blocked_until=None, blocked_reason="")
    expect(listened).to_contain_text("Requests have resumed.")
    # And a row that somebody else deleted does not keep its old state.
    site.segments.all().delete()
    expect(person.row("VIP")).to_contain_text("Deleted")


def test_a_page_whose_person_was_logged_out_says_that_it_is_no_longer_kept_up_to_date(
    polls: Polls, person: Person
) -> None:
    cookies = person.context.cookies()
    notice = person.page.locator("[data-bunce-outdated]")
    person.context.clear_cookies()
    expect(notice).to_have_text("This page is no longer kept up to date: reload it.")
    polls.wait_until_it_stopped()

    # Logged in again beside it, and back to the tab.
    person.context.add_cookies(cookies)  # type: ignore[arg-type]  # one type to read, one to write
    polls.hide(True)
    polls.hide(False)
    expect(notice).to_be_hidden()


def test_times_are_right_in_a_browser_whose_clock_is_wrong(site: Site, person: Person) -> None:
    person.page.clock.set_system_time("2001-01-01T00:00:00")
    due = timezone.now() + timedelta(seconds=3601)
    site.put("VIP", due_at=due, last_code="refused")
    person.arrive_as_admin()
    person.open_list()
    expect(person.row("VIP")).to_contain_text("Retrying in 60 min")


def test_an_id_is_copied_by_keyboard_alone(site: Site, person: Person) -> None:
    site.put("VIP", status="synced", bunce_id="b-1")
    person.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    person.arrive_as_admin()
    person.open_list()
    person.page.get_by_role("link", name="VIP", exact=True).focus()
    person.page.keyboard.press("Tab")
    expect(person.page.get_by_role("button", name="Copy the Bunce id b-1")).to_be_focused()
    person.page.keyboard.press("Enter")
    expect(person.page.locator("[aria-live=polite]")).to_have_text("Copied")
    copied = person.page.get_by_role("button", name="Copied")
    expect(copied).to_be_focused()
    expect(copied.locator("svg:visible")).to_have_count(1)
    expect(copied.locator("svg").last).to_be_visible()  # not by its colour alone
    expect(person.page.get_by_role("button", name="Copy the Bunce id b-1")).to_be_focused()
    assert person.page.evaluate("navigator.clipboard.readText()") == "b-1"


def test_a_button_keeps_the_focus_when_the_page_changes_below_it(
    site: Site, person: Person
) -> None:
    site.put("VIP", status="synced", bunce_id="b-1")
    person.arrive_as_admin()
    person.open_segment("VIP")
    button = person.page.get_by_role("button", name="Refresh from Bunce")
    button.focus()
    site.segments.update_sync_fields(last_code="drift")
    expect(person.state).to_contain_text("Changed in Bunce")
    expect(button).to_be_focused()
    person.page.keyboard.press("Enter")
    expect(person.page.get_by_text("A worker will look up 1 segment in Bunce")).to_be_visible()
    assert site.segments.refresh_requested().exists()


def test_all_else_that_can_have_the_focus_keeps_it_too(site: Site, person: Person) -> None:
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

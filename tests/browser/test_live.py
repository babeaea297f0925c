"""An open page keeps itself up to date, gently, and can be used by keyboard and by ear."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Request, expect

from bunce_sync.models import Segment
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
    site.segments.bulk_create([Segment(name="VIP", due_at=later)])
    person.arrive_as_admin()
    polls = Polls(person)
    person.open_list()
    return polls


def asks_for_news(request: Request) -> bool:
    return "/live/" in request.url


def test_while_nothing_changes_the_page_asks_less_and_less_often(polls: Polls) -> None:
    assert polls.wait_for(9) == [2000, 3000, 4500, 6750, 10125, 15188, 22781, 30000, 30000]


def test_a_change_makes_it_ask_often_again(polls: Polls, person: Person, site: Site) -> None:
    assert polls.wait_for(4)[-1] == 6750
    site.segments.update(status="synced", bunce_id="b-1")
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
    site.segments.update(status="synced", bunce_id="b-1")
    expect(listened).to_have_text("VIP: Synced")


def test_a_page_whose_person_was_logged_out_says_that_it_is_no_longer_kept_up_to_date(
    polls: Polls, person: Person
) -> None:
    person.context.clear_cookies()
    expect(person.page.get_by_text("This page is no longer kept up to date")).to_be_visible()
    polls.wait_until_it_stopped()


def test_times_are_right_in_a_browser_whose_clock_is_wrong(site: Site, person: Person) -> None:
    person.page.clock.set_system_time("2001-01-01T00:00:00")
    due = timezone.now() + timedelta(seconds=3601)
    site.segments.bulk_create([Segment(name="VIP", due_at=due, last_code="refused")])
    person.arrive_as_admin()
    person.open_list()
    expect(person.row("VIP")).to_contain_text("Retrying in 60 min")


def test_an_id_is_copied_by_keyboard_alone(site: Site, person: Person) -> None:
    site.segments.bulk_create([Segment(name="VIP", status="synced", bunce_id="b-1")])
    person.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    person.arrive_as_admin()
    person.open_list()
    person.page.get_by_role("link", name="VIP", exact=True).focus()
    person.page.keyboard.press("Tab")
    expect(person.page.get_by_role("button", name="Copy the Bunce id b-1")).to_be_focused()
    person.page.keyboard.press("Enter")
    expect(person.page.locator("[aria-live=polite]")).to_have_text("Copied")
    assert person.page.evaluate("navigator.clipboard.readText()") == "b-1"


def test_a_button_keeps_the_focus_when_the_page_changes_below_it(
    site: Site, person: Person
) -> None:
    site.segments.bulk_create([Segment(name="VIP", status="synced", bunce_id="b-1")])
    person.arrive_as_admin()
    person.open_segment("VIP")
    button = person.page.get_by_role("button", name="Check with Bunce")
    button.focus()
    site.segments.update(last_code="drift")
    expect(person.state).to_contain_text("Changed in Bunce")
    expect(button).to_be_focused()
    person.page.keyboard.press("Enter")
    expect(person.page.get_by_text("A worker looks what Bunce has of 1 segment")).to_be_visible()
    assert site.segments.asked().exists()

""" "Push now", "Retry" and "Refresh from Bunce": who may ask, and what it does to rows."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from bunce_sync.admin import actions as asking
from bunce_sync.client import BunceClient
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import Segment, SyncState
from bunce_sync.status import counts
from tests.unit.admin_people import LIST, page, person, row

pytestmark = pytest.mark.django_db

NO_WORKER = "No worker has run yet. Start one: celery -A project worker -B"
ASKS = ["push", "retry", "check"]


@pytest.fixture
def client() -> Client:
    return person("view_segment", "push_segment")


@pytest.fixture(autouse=True)
def worker(settings: Settings) -> None:
    """A site that can send, whose worker has just looked after the rows."""
    settings.BUNCE_SYNC = {"API_KEY": "sk_test_asking"}
    SyncState.objects.update_or_create(pk=1, defaults={"swept_at": DatabaseNow()})


@pytest.fixture(autouse=True)
def no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to Bunce from the web process would be a mistake."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the admin made a request to Bunce")

    for name in ("create_segment", "update_segment", "get_segment", "list_page"):
        monkeypatch.setattr(BunceClient, name, refuse)


def ask(client: Client, name: str, *segments: Segment, everywhere: bool = False) -> list[str]:
    """Choose an action for rows of the list, and return what the person is told."""
    return told(
        client,
        LIST,
        {
            "action": f"{name}_selected",
            "_selected_action": [segment.pk for segment in segments],
            "select_across": "1" if everywhere else "0",
        },
    )


def told(client: Client, address: str, form: dict[str, Any] | None = None) -> list[str]:
    """Post a form and return what the person reads on the page that follows."""
    answer = client.post(address, form, follow=True)
    assert answer.redirect_chain
    return [str(message) for message in answer.context["messages"]]


def buttons(client: Client, segment: Segment) -> list[str]:
    shown = client.get(page(segment)).content.decode()
    return [name for name in ASKS if f'id="bunce-button-{name}"' in shown]


class TestOneSegment:
    @pytest.mark.parametrize(
        ("status", "code", "offered"),
        [
            ("pending", "", ["push"]),
            ("sending", "", []),
            ("synced", "", ["check"]),
            ("synced", "drift", ["push", "check"]),
            ("in_doubt", "read_timeout", ["check"]),
            ("rejected", "conflict", ["retry"]),
        ],
    )
    def test_only_buttons_that_make_sense_are_offered(
        self, client: Client, status: str, code: str, offered: list[str]
    ) -> None:
        assert buttons(client, row(status, last_code=code)) == offered

    def test_push_now_ends_the_wait(self, client: Client) -> None:
        segment = row(due_at=timezone.now() + timedelta(hours=1), last_code="refused")
        answer = client.post(page(segment, "push"))
        assert answer.headers["Location"] == page(segment)
        assert Segment.objects.due().get() == segment

    def test_retry_sends_a_rejected_row_again(self, client: Client) -> None:
        segment = row("rejected")
        client.post(page(segment, "retry"))
        segment.refresh_from_db()
        assert (segment.status, segment.last_code) == ("pending", "")

    def test_check_asks_for_a_look(self, client: Client) -> None:
        segment = row("synced")
        client.post(page(segment, "check"))
        assert Segment.objects.refresh_requested().get() == segment

    @pytest.mark.parametrize("name", ASKS)
    def test_is_written_into_the_history(self, client: Client, name: str) -> None:
        segment = row({"push": "pending", "retry": "rejected", "check": "synced"}[name])
        client.post(page(segment, name))
        entry = LogEntry.objects.get()
        assert entry.object_id == str(segment.pk)
        assert entry.user_id == int(client.session["_auth_user_id"])
        assert (
            entry.change_message
            == {
                "push": "Push now",
                "retry": "Retry",
                "check": "Refresh from Bunce",
            }[name]
        )

    def test_what_makes_no_sense_changes_nothing_and_says_so(self, client: Client) -> None:
        segment = row("synced")
        [message] = told(client, page(segment, "retry"))
        assert "only segments that need attention can be retried" in message
        assert not LogEntry.objects.exists()
        segment.refresh_from_db()
        assert segment.status == "synced"

    def test_the_history_is_kept_in_one_language_whatever_the_actors(self, client: Client) -> None:
        client.cookies["django_language"] = "fr"
        client.post(page(row("rejected"), "retry"))
        assert LogEntry.objects.get().change_message == "Retry"

    @pytest.mark.parametrize("name", ASKS)
    def test_what_keeps_it_from_being_sent_is_told_at_once(self, client: Client, name: str) -> None:
        status = {"push": "pending", "retry": "rejected", "check": "synced"}[name]

        def warnings() -> list[str]:
            return told(client, page(row(status), name))[1:]

        assert warnings() == []
        SyncState.objects.update(
            blocked_until=timezone.now() + timedelta(seconds=30), blocked_reason="rate_limited"
        )
        assert warnings()[0].startswith("Paused until")
        SyncState.objects.update(swept_at=None)
        assert warnings() == [NO_WORKER]

    @pytest.mark.parametrize("name", ASKS)
    def test_only_a_post_does_it(self, client: Client, name: str) -> None:
        assert client.get(page(row(), name)).status_code == 405

    @pytest.mark.parametrize("name", ASKS)
    def test_not_without_the_forms_token(self, name: str) -> None:
        client = person("view_segment", "push_segment", csrf=True)
        assert client.post(page(row(), name)).status_code == 403

    @pytest.mark.parametrize("name", ASKS)
    def test_a_viewer_sees_no_button_and_may_not_post_by_hand(self, name: str) -> None:
        viewer = person("view_segment", "change_segment", "delete_segment")
        segment = row({"push": "pending", "retry": "rejected", "check": "synced"}[name])
        assert buttons(viewer, segment) == []
        assert viewer.post(page(segment, name)).status_code == 403
        assert not LogEntry.objects.exists()

    def test_somebody_not_logged_in_is_sent_to_the_login(self) -> None:
        answer = Client().post(page(row(), "push"))
        assert answer.status_code == 302
        assert "/login/" in answer.headers["Location"]

    def test_who_may_push_but_not_view_is_not_sent_to_a_page_that_refuses(self) -> None:
        segment = row("rejected")
        answer = person("push_segment").post(page(segment, "retry"))
        assert answer.headers["Location"] == "/admin/"
        segment.refresh_from_db()
        assert segment.status == "pending"

    def test_a_segment_that_is_gone_is_told(self, client: Client) -> None:
        answer = client.post(f"{LIST}4711/push/", follow=True)
        assert "Perhaps it was deleted?" in answer.content.decode()


class TestManySegments:
    def test_counts_what_it_did_and_what_it_left_alone(self, client: Client) -> None:
        answer = ask(client, "retry", row("rejected"), row("rejected", "B"), row("synced", "C"))
        assert answer == [
            "2 segments will be sent again; the results appear here.",
            "1 segment was skipped: only segments that need attention can be retried.",
        ]
        assert Segment.objects.filter(status="pending").count() == 2
        assert LogEntry.objects.count() == 2

    def test_push_now(self, client: Client) -> None:
        answer = ask(client, "push", row(), row("synced", "B", last_code="drift"), row("sending"))
        assert answer[0] == "2 segments will be sent; the results appear here."
        assert "1 segment was skipped" in answer[1]

    def test_check_tells_apart_what_is_looked_for_anyway(self, client: Client) -> None:
        answer = ask(client, "check", row("synced"), row("in_doubt"), row("pending"))
        assert [line.split()[0] for line in answer] == ["1", "1", "1"]
        assert "searched for in Bunce's list" in answer[1]
        assert "Bunce does not have it yet" in answer[2]
        assert Segment.objects.refresh_requested().count() == 1

    def test_all_rows_that_match_in_batches(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(asking, "BATCH", 7)
        rows = [row("rejected", f"S{number}") for number in range(20)]
        answer = ask(client, "retry", rows[0], everywhere=True)
        assert answer == ["20 segments will be sent again; the results appear here."]
        assert LogEntry.objects.count() == 20

    def test_no_more_than_the_list_shows_at_once(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(counts, "CAP", 5)
        rows = [row("rejected", f"S{number}") for number in range(8)]
        answer = ask(client, "retry", rows[0], everywhere=True)
        assert answer[0] == "5 segments will be sent again; the results appear here."
        assert answer[1] == "These were the first 5. Repeat the action for the others."
        assert Segment.objects.filter(status="rejected").count() == 3

    @pytest.mark.parametrize("name", ASKS)
    def test_asking_again_for_more_than_the_list_shows_goes_on_with_the_others(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setattr(counts, "CAP", 5)
        later = timezone.now() + timedelta(hours=1)
        status = {"push": "pending", "retry": "rejected", "check": "synced"}[name]
        rows = [row(status, f"S{number}", due_at=later) for number in range(8)]
        ask(client, name, rows[0], everywhere=True)
        answer = ask(client, name, rows[0], everywhere=True)
        assert answer[0].startswith("3 segments will be")
        if name != "retry":  # of those nothing is left to be told
            [message] = ask(client, name, rows[0], everywhere=True)
            assert message.startswith("This was requested for all of them already;")
        asked_for = {entry.object_id for entry in LogEntry.objects.all()}
        assert asked_for == {str(segment.pk) for segment in rows}

    def test_are_offered_only_to_those_who_may(self) -> None:
        row()
        offered = {
            "view_segment": set(),
            "push_segment": {"push_selected", "retry_selected", "check_selected"},
            "delete_segment": {"delete_selected"},
        }
        for permission, names in offered.items():
            answer = person("view_segment", permission).get(LIST)
            form = answer.context["action_form"]
            choices = {value for value, _ in form.fields["action"].choices} if form else set()
            assert choices - {""} == names

    def test_cannot_be_posted_by_hand_by_a_viewer(self) -> None:
        segment = row("rejected")
        person("view_segment", "delete_segment").post(
            LIST, {"action": "retry_selected", "_selected_action": [segment.pk]}
        )
        segment.refresh_from_db()
        assert segment.status == "rejected"

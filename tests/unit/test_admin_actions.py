"""The admin's actions on segments: who may run them, and what they change."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from bunce_sync.admin import actions
from bunce_sync.client import BunceClient
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import PushHold, Segment, SyncState
from bunce_sync.status import messages
from tests.unit.admin_people import LIST, page, person, row
from tests.unit.core import fresh

pytestmark = pytest.mark.django_db

NO_WORKER = "No worker has run yet. Start one: celery -A project worker -B"
#: Each action with its label and a segment it applies to.
ACTIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "push": ("Push now", "pending", {}),
    "retry": ("Retry", "rejected", {}),
    "refresh": (str(messages.REFRESH), "synced", {}),
    "push_ours": ("Push ours", "synced", {"last_code": "drift"}),
    "take_theirs": ("Take theirs", "synced", {"last_code": "drift"}),
    "create_again": ("Create again", "rejected", {"last_code": "not_found"}),
}


@pytest.fixture
def client() -> Client:
    return person("view_segment", "push_segment", "change_segment")


def fitting(action: str, name: str = "VIP", **values: Any) -> Segment:
    """Create a segment to which an action applies."""
    _label, status, needed = ACTIONS[action]
    if status != "pending":
        needed = {"bunce_id": str(uuid.uuid4()), "bunce_name": f"{name} in Bunce"} | needed
    return row(status, name, **{**needed, **values})


@pytest.fixture(autouse=True)
def worker(settings: Settings) -> None:
    """Set an API key, and record a sweep that has just run."""
    settings.BUNCE_SYNC = {"API_KEY": "sk_test_actions"}
    SyncState.objects.update_or_create(pk=conf.environment, defaults={"swept_at": DatabaseNow()})


@pytest.fixture(autouse=True)
def no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test on any request to Bunce: the web process must make none."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the admin made a request to Bunce")

    for name in ("create_segment", "update_segment", "get_segment", "list_page"):
        monkeypatch.setattr(BunceClient, name, refuse)


def run(client: Client, name: str, *segments: Segment, everywhere: bool = False) -> list[str]:
    """Run an action on rows of the list, and return the messages."""
    return post(
        client,
        LIST,
        {
            "action": f"{name}_selected",
            "_selected_action": [segment.pk for segment in segments],
            "select_across": "1" if everywhere else "0",
        },
    )


def post(client: Client, path: str, form: dict[str, Any] | None = None) -> list[str]:
    """Post a form and return the messages on the page that follows."""
    response = client.post(path, form, follow=True)
    assert response.redirect_chain
    return [str(message) for message in response.context["messages"]]


def buttons(client: Client, segment: Segment) -> list[str]:
    content = client.get(page(segment)).content.decode()
    return [name for name in ACTIONS if f'id="bunce-button-{name}"' in content]


class TestOneSegment:
    @pytest.mark.parametrize(
        ("status", "code", "offered"),
        [
            ("pending", "", ["push"]),
            ("sending", "", []),
            ("synced", "", ["refresh"]),
            ("synced", "drift", ["refresh", "push_ours", "take_theirs"]),
            ("synced", "stored_differently", ["refresh", "push_ours", "take_theirs"]),
            ("in_doubt", "read_timeout", ["refresh"]),
            ("rejected", "conflict", ["retry"]),
            ("rejected", "not_found", ["retry", "refresh", "create_again"]),
        ],
    )
    def test_only_buttons_of_actions_that_apply_are_shown(
        self, client: Client, status: str, code: str, offered: list[str]
    ) -> None:
        bunce_id = "b-1" if code == "not_found" or status == "synced" else None
        assert buttons(client, row(status, last_code=code, bunce_id=bunce_id)) == offered

    def test_no_button_is_shown_for_a_segment_of_another_environment(self, client: Client) -> None:
        for name in ACTIONS:
            assert buttons(client, fitting(name, environment="https://a.test:443 live")) == []

    def test_push_now_ends_the_wait(self, client: Client) -> None:
        segment = row(due_at=timezone.now() + timedelta(hours=1), last_code="refused")
        response = client.post(page(segment, "push"))
        assert response.headers["Location"] == page(segment)
        assert Segment.objects.due().get() == segment

    def test_retry_makes_a_rejected_row_pending(self, client: Client) -> None:
        segment = row("rejected")
        client.post(page(segment, "retry"))
        segment.refresh_from_db()
        assert (segment.status, segment.last_code) == ("pending", "")

    def test_refresh_marks_the_row(self, client: Client) -> None:
        segment = row("synced")
        client.post(page(segment, "refresh"))
        assert Segment.objects.refresh_requested().get() == segment

    @pytest.mark.parametrize("name", ACTIONS)
    def test_every_action_is_recorded_in_the_history(self, client: Client, name: str) -> None:
        segment = fitting(name)
        client.post(page(segment, name))
        entry = LogEntry.objects.get()
        assert entry.object_id == str(segment.pk)
        assert entry.user_id == int(client.session["_auth_user_id"])
        assert entry.change_message == ACTIONS[name][0]

    def test_an_action_that_does_not_apply_changes_nothing_and_says_so(
        self, client: Client
    ) -> None:
        segment = row("synced")
        [message] = post(client, page(segment, "retry"))
        assert "only segments that need attention can be retried" in message
        assert not LogEntry.objects.exists()
        segment.refresh_from_db()
        assert segment.status == "synced"

    def test_the_language_of_the_history_does_not_depend_on_the_user(self, client: Client) -> None:
        client.cookies["django_language"] = "fr"
        client.post(page(row("rejected"), "retry"))
        assert LogEntry.objects.get().change_message == "Retry"

    @pytest.mark.parametrize("name", [name for name in ACTIONS if name != "take_theirs"])
    def test_a_reason_to_wait_is_shown_at_once(self, client: Client, name: str) -> None:
        def warnings() -> list[str]:
            return post(client, page(fitting(name), name))[1:]

        assert warnings() == []
        SyncState.objects.update(
            blocked_until=timezone.now() + timedelta(seconds=30), blocked_reason="rate_limited"
        )
        assert warnings()[0].startswith("Paused until")
        SyncState.objects.update(swept_at=None)
        assert warnings() == [NO_WORKER]

    @pytest.mark.parametrize("name", ACTIONS)
    def test_requires_post(self, client: Client, name: str) -> None:
        assert client.get(page(row(), name)).status_code == 405

    @pytest.mark.parametrize("name", ACTIONS)
    def test_requires_a_csrf_token(self, name: str) -> None:
        client = person("view_segment", "push_segment", "change_segment", csrf=True)
        assert client.post(page(row(), name)).status_code == 403

    @pytest.mark.parametrize("name", ACTIONS)
    def test_a_viewer_has_no_buttons_and_cannot_post(self, name: str) -> None:
        viewer = person("view_segment", "change_segment", "delete_segment")
        segment = fitting(name)
        assert buttons(viewer, segment) == []
        assert viewer.post(page(segment, name)).status_code == 403
        assert not LogEntry.objects.exists()

    def test_an_anonymous_user_is_redirected_to_the_login(self) -> None:
        response = Client().post(page(row(), "push"))
        assert response.status_code == 302
        assert "/login/" in response.headers["Location"]

    @pytest.mark.parametrize("action", ACTIONS)
    def test_requires_the_permission_to_see_the_segment(self, action: str) -> None:
        segment = row("rejected")
        user = person("push_segment", "add_segment", "delete_segment")
        assert user.post(page(segment, action)).status_code == 403
        segment.refresh_from_db()
        assert (segment.status, segment.refresh_requested_at) == ("rejected", None)

    def test_a_deleted_segment_is_reported(self, client: Client) -> None:
        response = client.post(f"{LIST}4711/push/", follow=True)
        assert "Perhaps it was deleted?" in response.content.decode()


class TestManySegments:
    def test_shows_how_many_were_changed_and_skipped(self, client: Client) -> None:
        shown = run(client, "retry", row("rejected"), row("rejected", "B"), row("synced", "C"))
        assert shown == [
            "2 segments will be sent again; the results appear here.",
            "1 segment was skipped: only segments that need attention can be retried.",
        ]
        assert Segment.objects.filter(status="pending").count() == 2
        assert LogEntry.objects.count() == 2

    def test_push_now(self, client: Client) -> None:
        shown = run(client, "push", row(), row(name="B"), row("sending"))
        assert shown[0] == "2 segments will be sent; the results appear here."
        assert "1 segment was skipped" in shown[1]

    def test_refresh_counts_segments_in_doubt_separately(self, client: Client) -> None:
        shown = run(client, "refresh", row("synced"), row("in_doubt"), row("pending"))
        assert [line.split()[0] for line in shown] == ["1", "1", "1"]
        assert "searched for in Bunce's list" in shown[1]
        assert "Bunce does not have it yet" in shown[2]
        assert Segment.objects.refresh_requested().count() == 1

    def test_runs_on_all_matching_rows_in_batches(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(actions, "BATCH_SIZE", 7)
        rows = [row("rejected", f"S{number}") for number in range(20)]
        shown = run(client, "retry", rows[0], everywhere=True)
        assert shown == ["20 segments will be sent again; the results appear here."]
        assert LogEntry.objects.count() == 20

    def test_changes_a_limited_number_of_rows_at_once(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(actions, "MAX_SELECTED", 5)
        rows = [row("rejected", f"S{number}") for number in range(8)]
        shown = run(client, "retry", rows[0], everywhere=True)
        assert shown[0] == "5 segments will be sent again; the results appear here."
        assert shown[1] == "These were the first 5. Repeat the action for the others."
        assert Segment.objects.filter(status="rejected").count() == 3

    @pytest.mark.parametrize("name", ACTIONS)
    def test_repeating_an_action_reaches_the_rows_beyond_the_limit(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setattr(actions, "MAX_SELECTED", 5)
        later = timezone.now() + timedelta(hours=1)
        rows = [fitting(name, f"S{number}", due_at=later) for number in range(8)]
        run(client, name, rows[0], everywhere=True)
        shown = run(client, name, rows[0], everywhere=True)
        assert shown[0].startswith("3 segments ")
        if name in ("push", "refresh"):  # otherwise the rows have another status now
            [message] = run(client, name, rows[0], everywhere=True)
            assert message.startswith(
                "This was requested for all of them already; the results appear here."
            )
        logged = {entry.object_id for entry in LogEntry.objects.all()}
        assert logged == {str(segment.pk) for segment in rows}

    def test_are_offered_only_with_permission(self) -> None:
        row()
        offered = {
            "view_segment": set(),
            "change_segment": set(),
            "push_segment": {f"{name}_selected" for name in ACTIONS if name != "take_theirs"},
            "push_segment change_segment": {f"{name}_selected" for name in (*ACTIONS, "link")},
            "delete_segment": {"delete_selected"},
        }
        for permissions, names in offered.items():
            response = person("view_segment", *permissions.split()).get(LIST)
            form = response.context["action_form"]
            choices = {value for value, _ in form.fields["action"].choices} if form else set()
            assert choices - {"", "export_selected"} == names

    def test_segments_of_another_environment_are_skipped_and_counted(self, client: Client) -> None:
        for name in ACTIONS:
            here = fitting(name)
            there = fitting(name, environment="https://a.test:443 live")
            shown = run(client, name, here, there)
            assert "1 segment" in shown[0], name
            assert shown[1] == "1 segment was skipped: it belongs to another environment."
            assert LogEntry.objects.filter(object_id=there.pk).count() == 0
            assert fresh(there).updated_at == there.updated_at

    def test_what_a_block_holds_is_named(self, client: Client) -> None:
        block = PushHold.objects.create(by="www@web1, process 42")
        for name, held in (("push", True), ("retry", True), ("refresh", False)):
            shown = run(client, name, fitting(name, hold=block), fitting(name, "B"))
            text = "1 segment is held by a no_push() block, and is sent when that ends."
            assert (text in shown) is held, name

    def test_cannot_be_posted_by_a_viewer(self) -> None:
        segment = row("rejected")
        person("view_segment", "delete_segment").post(
            LIST, {"action": "retry_selected", "_selected_action": [segment.pk]}
        )
        segment.refresh_from_db()
        assert segment.status == "rejected"

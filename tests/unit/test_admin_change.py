"""The add and change pages: a form for three fields, and the status of the segment."""

import json
import shlex
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from bunce_sync.admin.timeline import curl
from bunce_sync.models import ApiCall, Segment
from tests.unit.admin_people import LIST, call, editor, page, person, row

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return editor()


def html(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, response
    return response.content.decode()


class TestAdding:
    def test_the_form_has_only_the_fields_that_are_sent(self, client: Client) -> None:
        fields = client.get(f"{LIST}add/").context["adminform"].form.fields
        assert list(fields) == ["name", "description", "add_all_customers"]

    def test_creates_a_pending_row(self, client: Client) -> None:
        response = client.post(f"{LIST}add/", {"name": "  VIP ", "description": " "})
        assert response.status_code == 302
        segment = Segment.objects.get()
        assert (segment.name, segment.description) == ("VIP", None)
        assert segment.status == "pending"

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("", "This field is required."),
            ("   ", "This field is required."),
            ("x" * 256, "at most 255 characters (it has 256)"),
        ],
    )
    def test_an_invalid_name_is_refused_with_a_message(
        self, client: Client, name: str, error: str
    ) -> None:
        response = client.post(f"{LIST}add/", {"name": name})
        assert error in response.content.decode()
        assert not Segment.objects.exists()


class TestChanging:
    def test_saving_a_rejected_row_makes_it_pending(self, client: Client) -> None:
        segment = row("rejected")
        client.post(page(segment), {"name": "VIP 2", "description": ""})
        segment.refresh_from_db()
        assert (segment.name, segment.status, segment.last_code) == ("VIP 2", "pending", "")

    def test_add_all_customers_is_read_only_once_sent_and_the_page_says_why(
        self, client: Client
    ) -> None:
        unsent, sent = row("pending"), row("synced", "B", add_all_customers=True)
        assert 'name="add_all_customers"' in html(client, page(unsent))
        shown = html(client, page(sent))
        assert 'name="add_all_customers"' not in shown
        assert "because Bunce's API cannot change it." in shown
        client.post(page(sent), {"name": "B", "add_all_customers": ""})
        sent.refresh_from_db()
        assert sent.add_all_customers is True

    def test_read_only_all_customers_is_a_word_and_not_a_red_cross(self, client: Client) -> None:
        for added, word in ((False, "No"), (True, "Yes")):
            shown = html(client, page(row("synced", add_all_customers=added)))
            field = shown.split('field-added_all_customers"')[1].split("</fieldset>")[0]
            assert f'<div class="readonly">{word}</div>' in field
            assert "<img" not in field
        viewer = html(person("view_segment"), page(row()))
        assert '<div class="readonly">No</div>' in viewer

    def test_after_a_failed_save_unsaved_fields_are_not_marked_as_differing(
        self, client: Client
    ) -> None:
        segment = row("synced", "VIP", bunce_name="VIP", bunce_description="")
        response = client.post(page(segment), {"name": "", "description": "Not saved"})
        shown = response.content.decode()
        assert "This field is required." in shown
        assert "Not saved</textarea>" in shown
        assert "differs from here" not in shown

    def test_an_id_recorded_during_a_save_is_kept(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        segment = row("pending")
        full_clean = Segment.full_clean

        def record_meanwhile(self: Segment, *args: object, **kwargs: object) -> None:
            Segment.objects.filter(pk=self.pk).update_sync_fields(bunce_id="b-1", status="synced")
            full_clean(self)

        monkeypatch.setattr(Segment, "full_clean", record_meanwhile)
        client.post(page(segment), {"name": "New", "description": ""})
        segment.refresh_from_db()
        assert (segment.bunce_id, segment.name, segment.status) == ("b-1", "New", "pending")


class TestStatus:
    def test_content_in_bunce_is_shown_with_differences_marked(self, client: Client) -> None:
        segment = row(
            "synced",
            bunce_name="VIPs",
            description="Same",
            bunce_description=" Same ",
            bunce_type="manual",
            bunce_customers_count=12345,
            bunce_all_customers=False,
            bunce_conditions=[{"field": "<country>"}],
        )
        shown = html(client, page(segment)).split('id="bunce-remote"')[1].split("</section>")[0]
        assert shown.count("differs from here") == 1
        assert 'class="bunce-differs"><dt>Name</dt><dd>VIPs' in shown
        for part in (segment.bunce_id or "", "12,345", "Manual", "&lt;country&gt;"):
            assert part in shown

    def test_a_difference_of_all_customers_is_marked_too(self, client: Client) -> None:
        shown = html(client, page(row("synced", bunce_all_customers=True)))
        assert '<div class="bunce-differs"><dt>All customers</dt><dd>Yes' in shown

    def test_content_that_is_no_longer_in_bunce_is_not_shown_as_current(
        self, client: Client
    ) -> None:
        gone = row("rejected", bunce_id="b-1", bunce_name="VIP", last_code="not_found")
        assert "This is what Bunce last showed." in html(client, page(gone))
        assert "This is what Bunce last showed." not in html(client, page(row("synced")))

    def test_before_the_search_of_bunces_list_the_page_does_not_say_that_it_is_under_way(
        self, client: Client
    ) -> None:
        shown = html(client, page(row("in_doubt", due_at=timezone.now() + timedelta(hours=1))))
        assert "being searched" not in shown
        assert "will show whether Bunce created it" in shown

    def test_shows_summary_cause_action_and_bunces_message(self, client: Client) -> None:
        shown = html(client, page(row("rejected", last_error="name is <taken>")))
        assert "Bunce refused to create it." in shown
        assert "Bunce's message:" in shown
        assert "name is &lt;taken&gt;" in shown
        assert "Correct it below and save" in shown

    def test_the_id_of_a_duplicate_can_be_copied(self, client: Client) -> None:
        shown = html(client, page(row("synced", bunce_duplicate_id="b7")))
        assert 'id="bunce-copy-id-duplicate" data-bunce-copy="b7"' in shown

    def test_a_technical_detail_is_not_shown_as_bunces_message(self, client: Client) -> None:
        shown = html(client, page(row(last_code="refused", last_error="127.0.0.1:1: refused")))
        assert "Technical detail:" in shown
        assert "Bunce's message:" not in shown

    @pytest.mark.parametrize("status", Segment.Status.values)
    def test_every_status_can_be_shown(self, client: Client, status: str) -> None:
        assert 'id="bunce-state"' in html(client, page(row(status)))

    def test_the_page_has_no_inline_style_or_script(self, client: Client) -> None:
        segment = row("rejected")
        call(segment, outcome="rejected")
        shown = html(client, page(segment))
        for tag in shown.split("<")[1:]:
            assert " style=" not in tag.split(">")[0]
            assert " onclick=" not in tag.split(">")[0]
            if tag.startswith("script"):
                assert " src=" in tag

    def test_the_number_of_queries_does_not_grow_with_the_calls(self, client: Client) -> None:
        segment = row("synced")
        call(segment)
        client.get(page(segment))

        def count() -> int:
            with CaptureQueriesContext(connection) as queries:
                client.get(page(segment))
            return len(queries)

        few = count()
        for _ in range(60):
            call(segment)
        assert count() == few <= 24


@pytest.mark.parametrize(
    ("permissions", "text"),
    [
        ((), "Ask a colleague who can change segments"),
        (("change_segment",), "a colleague who can push segments can send it unchanged"),
        (("push_segment",), "“Retry” sends it unchanged"),
    ],
)
def test_the_action_is_one_that_the_reader_may_take(
    permissions: tuple[str, ...], text: str
) -> None:
    segment = row("rejected")
    who = person("view_segment", *permissions)
    fragments = json.loads(html(who, page(segment, "live")))["fragments"]
    for shown in (html(who, page(segment)), fragments["bunce-state"]):
        assert text in shown
        assert ("Correct it below" in shown) is ("change_segment" in permissions)
        assert ("“Retry”" in shown) is ("push_segment" in permissions)


class TestTimeline:
    def test_shows_each_call_newest_first(self, client: Client) -> None:
        segment = row("synced")
        now = timezone.now()
        call(
            segment,
            outcome="unknown",
            code="closed",
            message="connection lost",
            duration_ms=20004,
            decision="adopted",
            decided_at=now,
        )
        call(segment, operation="update", outcome="confirmed", http_status=200, duration_ms=87)
        shown = html(client, page(segment)).split('class="bunce-timeline"')[1].split("</ol>")[0]
        first, second = shown.split("<li ")[1:]
        for part in (
            "Update",
            "Confirmed",
            "Status 200",
            "87 ms",
            "Bunce carried out the request.",
        ):
            assert part in first
        for part in (
            "Create",
            "Outcome unknown",
            "20.0 s",
            "Bunce may have acted",
            "The connection was closed before Bunce had responded.",
            "connection lost",
            "Found in Bunce&#x27;s list at",
            "this command creates another segment",
        ):
            assert part in second
        assert "this command creates" not in first

    @pytest.mark.parametrize("outcome", ApiCall.Outcome.values)
    def test_every_outcome_can_be_shown(self, client: Client, outcome: str) -> None:
        segment = row("synced")
        call(segment, outcome=outcome, code="a_code_of_tomorrow")
        assert str(ApiCall.Outcome(outcome).label) in html(client, page(segment))

    def test_ids_in_the_page_have_no_separators(self, client: Client, settings: Settings) -> None:
        settings.USE_THOUSAND_SEPARATOR = True
        segment = row("synced")
        call(segment, pk=12345)
        shown = html(client, page(segment))
        for part in ("call", "request", "command", "copy"):
            assert f'id="bunce-{part}-12345"' in shown

    def test_a_long_timeline_ends_with_a_link_to_the_call_log(self, client: Client) -> None:
        segment = row("synced")
        for _ in range(51):
            call(segment)
        shown = html(client, page(segment))
        assert shown.count('<li class="bunce-open"') == 50
        address = "/admin/bunce_sync/apicall/"
        assert f'<a href="{address}?q={segment.pk}">Older calls are in the call log.</a>' in shown
        assert "51 API calls" in html(client, f"{address}?q={segment.pk}")

    def test_a_segment_without_calls_shows_the_number_of_days(
        self, client: Client, settings: Settings
    ) -> None:
        settings.BUNCE_SYNC = {"LEDGER_DAYS": 7}
        assert "No calls in the last 7 days." in html(client, page(row()))

    def test_requires_the_permission_to_view_calls(self) -> None:
        segment = row("synced")
        call(segment, message="a secret of the call log")
        shown = html(person("view_segment"), page(segment))
        assert "a secret of the call log" not in shown
        assert "“Can view API call”" in shown


class TestCurl:
    def test_a_shell_parses_the_command_and_the_key_is_left_out(self, settings: Settings) -> None:
        settings.BUNCE_SYNC = {"API_KEY": "sk_test_secret", "BASE_URL": "https://bunce.test/v1"}
        body = {"name": 'It\'s "VIP" $(rm -rf) `x` \\ é\n2', "description": None}
        words = shlex.split(curl(ApiCall(operation="create", path="/segments", body=body)))
        assert words[:4] == ["curl", "-X", "POST", "https://bunce.test/v1/segments"]
        assert "X-Authorization: $BUNCE_API_KEY" in words
        assert json.loads(words[words.index("--data-raw") + 1]) == body
        assert not any("secret" in word for word in words)

    def test_a_read_sends_no_body(self) -> None:
        words = shlex.split(curl(ApiCall(operation="list", path="/segments?page=1&per_page=9")))
        assert words[2:4] == ["GET", "https://api.bunce.so/v1/segments?page=1&per_page=9"]
        assert "--data-raw" not in words

    def test_an_invalid_base_url_does_not_break_the_page(self, settings: Settings) -> None:
        settings.BUNCE_SYNC = {"BASE_URL": 7}
        assert "/segments" in curl(ApiCall(operation="create", path="/segments", body={}))

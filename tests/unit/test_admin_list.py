"""The list of segments: what it shows, and how few queries it takes."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from zoneinfo import ZoneInfo

import pytest
from django.contrib import admin
from django.contrib.admin import site
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from pytest_django.asserts import assertHTMLEqual

from bunce_sync.models import OperationState, Segment, SyncState
from bunce_sync.status import counts
from tests.unit.admin_people import LIST, call, editor, page, person, row

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return editor()


def html(client: Client, query: str = "") -> str:
    answer = client.get(LIST + query)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def names(client: Client, query: str) -> set[str]:
    answer = client.get(LIST + query)
    assert answer.status_code == 200, answer
    return {segment.name for segment in answer.context["cl"].result_list}


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("pending", "Waiting"),
        ("sending", "Sending"),
        ("synced", "Synced"),
        ("in_doubt", "Checking with Bunce"),
        ("rejected", "Needs attention"),
    ],
)
def test_a_state_is_an_icon_and_a_word(client: Client, status: str, word: str) -> None:
    row(status)
    badge = html(client).split('class="bunce-badge ')[1].split("</span></span>")[0]
    assert f"<span>{word}" in badge
    assert "<svg" in badge


def test_the_box_that_chooses_a_row_is_what_django_draws() -> None:
    shown = site.get_model_admin(Segment)
    segment = row("synced", "A & <b>")
    segment.pk = 1234
    djangos = admin.ModelAdmin.action_checkbox(shown, segment)
    assertHTMLEqual(shown.action_checkbox(segment), djangos)


def test_a_row_that_will_be_retried_says_when_and_the_browser_gets_the_moment(
    client: Client,
) -> None:
    due = timezone.now() + timedelta(seconds=42)
    row(due_at=due, last_code="refused")
    shown = html(client)
    assert "Retrying" in shown
    assert f'data-bunce-until="{due.timestamp():.3f}"' in shown


def test_a_row_that_waits_for_the_rate_limiter_says_until_when(client: Client) -> None:
    until = timezone.now() + timedelta(seconds=30)
    SyncState.objects.update_or_create(
        pk=1, defaults={"blocked_until": until, "blocked_reason": "rate_limited"}
    )
    row()
    shown = html(client)
    assert "Paused, resumes" in shown
    assert f'data-bunce-until="{until.timestamp():.3f}"' in shown
    assert "Paused until" in shown


@pytest.mark.parametrize(("operation", "bunce_id"), [("create", None), ("update", "a1")])
@pytest.mark.parametrize("due", [-5, 60])
def test_a_row_stays_paused_while_its_operation_is_about_to_be_tried(
    client: Client, operation: str, bunce_id: str | None, due: int
) -> None:
    now = timezone.now()
    segment = row(due_at=now + timedelta(seconds=due), bunce_id=bunce_id)
    state = OperationState.objects.create(
        operation=operation, code="forbidden", since=now, blocked_until=now - timedelta(seconds=5)
    )
    for address in (LIST, page(segment)):
        shown = client.get(address).content.decode()
        assert 'data-bunce-status="paused"' in shown
        assert "<span>Paused</span>" in shown
        assert "data-bunce-until" not in shown
    OperationState.objects.update(blocked_until=now + timedelta(seconds=90))
    for address in (LIST, page(segment)):
        shown = client.get(address).content.decode()
        assert "<span>Paused, resumes" in shown
        assert "data-bunce-until" in shown
    state.delete()
    assert 'data-bunce-status="paused"' not in html(client)


def test_synced_rows_that_need_a_look_say_so(client: Client) -> None:
    row("synced", last_code="drift")
    row("synced", "B", bunce_duplicate_id="another-id")
    shown = html(client)
    assert "Changed in Bunce" in shown
    assert "Twice in Bunce" in shown


def test_the_id_has_a_button_that_copies_it_with_a_label(client: Client) -> None:
    segment = row("synced")
    shown = html(client)
    assert f'data-bunce-copy="{segment.bunce_id}"' in shown
    assert f'aria-label="Copy the Bunce id {segment.bunce_id}"' in shown


def test_names_from_people_and_types_from_bunce_are_escaped(client: Client) -> None:
    row("synced", "<script>alert(1)</script>", bunce_type="<b>manual</b>")
    shown = html(client)
    assert "<script>alert" not in shown
    assert "<b>manual" not in shown


@pytest.mark.parametrize("query", ["?q=newsletter", "?q=subscribers", "?q=9da67caa"])
def test_search_finds_by_name_description_and_part_of_the_id(client: Client, query: str) -> None:
    row("synced", "Newsletter", description="All subscribers", bunce_id="9da67caa-b803-4691")
    row("synced", "Other")
    assert names(client, query) == {"Newsletter"}


@pytest.mark.parametrize(("term", "looks"), [("9da6-7c", True), ("cafe", True), ("gold", False)])
def test_ids_are_looked_into_only_for_what_can_be_part_of_one(
    client: Client, term: str, looks: bool
) -> None:
    with CaptureQueriesContext(connection) as queries:
        names(client, f"?q={term}")
    [search] = [query["sql"] for query in queries if "LIKE" in query["sql"]]
    assert ("bunce_id" in search) is looks
    assert "description" in search


def test_a_search_without_hits_can_be_taken_back_without_losing_the_rest(client: Client) -> None:
    row()
    query = "_popup=1&_to_field=id&q=nobody&status__exact=pending"
    shown = html(client, f"?{query}")
    [address] = re.findall(r'<a href="([^"]*)">Clear search</a>', shown)
    assert QueryDict(unescape(address)[1:]).dict() == {
        "_popup": "1",
        "_to_field": "id",
        "status__exact": "pending",
    }


def test_filters_are_named_as_the_columns_are(client: Client) -> None:
    row()
    titles = [spec.title for spec in client.get(LIST).context["cl"].filter_specs]
    assert titles == [
        *("status", "type", "all customers", "problem", "creation in Bunce", "last change")
    ]


@pytest.mark.parametrize("shape", [str.lower, str.upper])
def test_a_whole_id_is_found_by_its_index_alone(client: Client, shape: type) -> None:
    row("synced", "Newsletter", bunce_id="9da67caa-b803-4691-a2b6-bdcd58008aaf")
    row("synced", "Other", description="9da67caa-b803-4691-a2b6-bdcd58008aaf")
    query = "?q=" + shape("9da67caa-b803-4691-a2b6-bdcd58008aaf")
    with CaptureQueriesContext(connection) as queries:
        assert names(client, query) == {"Newsletter"}
    assert not any("LIKE" in query["sql"] for query in queries)


def test_filters_find_what_they_say(client: Client) -> None:
    row("synced", "Auto", bunce_type="automatic")
    row("synced", "New kind", bunce_type="smart")
    row("rejected", "Bad")
    row("pending", "Everyone", add_all_customers=True)
    assert names(client, "?status__exact=rejected") == {"Bad"}
    assert names(client, "?type=automatic") == {"Auto"}
    assert names(client, "?type=other") == {"New kind"}
    assert names(client, "?type=none") == {"Bad", "Everyone"}
    assert names(client, "?error=yes") == {"Bad"}
    assert names(client, "?error=no") == {"Auto", "New kind", "Everyone"}
    assert names(client, "?add_all_customers__exact=1") == {"Everyone"}
    assert names(client, "?bunce_created_at__isnull=True") == names(client, "")


@pytest.mark.parametrize("query", ["", "?q=VIP", "?p=2", "?status__exact=synced"])
def test_the_number_of_queries_does_not_grow_with_the_rows(query: str) -> None:
    client = editor()
    client.get(LIST)  # permissions and content types are cached from here on

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            names(client, query.replace("?p=2", ""))
        return len(queries)

    segment = row("synced", "VIP 0")
    call(segment)
    few = count()
    for number in range(60):
        call(row("synced", f"VIP {number + 1}"))
    with CaptureQueriesContext(connection) as queries:
        names(client, query)
    assert len(queries) == few
    assert few <= 12


def test_no_query_counts_the_table(client: Client) -> None:
    row("synced")
    with CaptureQueriesContext(connection) as queries:
        html(client)
    for query in queries:
        counted = "COUNT(*)" in query["sql"] and 'FROM "bunce_sync_segment"' in query["sql"]
        assert not counted or "LIMIT 10001" in query["sql"], query["sql"]
        assert "DISTINCT" not in query["sql"], query["sql"]


def test_more_rows_than_can_be_paged_through_are_not_counted_and_the_page_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "CAP", 120)
    Segment.objects.bulk_create(Segment(name=f"S{number:03}") for number in range(130))
    monkeypatch.setattr(counts, "estimated_rows", lambda *_: 1_234_567)
    shown = html(client)
    assert "The first 120 of about 1,230,000 segments. The number is estimated" in shown
    assert "130 segments" not in shown
    assert names(client, "?p=3") == {f"S{number:03}" for number in range(10, 30)}
    assert client.get(LIST + "?p=4").status_code == 302
    assert "The first 120 segments of more, which are not counted" in html(client, "?q=S")


def test_rows_up_to_the_cap_are_counted(client: Client) -> None:
    Segment.objects.bulk_create(Segment(name=f"S{number:03}") for number in range(60))
    assert "60 segments" in html(client)
    assert names(client, "?p=2") == {f"S{number:03}" for number in range(10)}
    assert len(names(client, "?all=")) == 60


class TestDates:
    """The dates above the list, offered without asking for each row's."""

    @pytest.fixture(autouse=True)
    def rows(self) -> None:
        for name, created in (
            ("Old", datetime(2024, 12, 31, 23, 30, tzinfo=UTC)),
            ("Spring", datetime(2025, 3, 4, 12, 0, tzinfo=UTC)),
        ):
            segment = row("synced", name)
            Segment.objects.filter(pk=segment.pk).update_sync_fields(created_at=created)

    def choices(self, client: Client, query: str) -> list[str]:
        return [step.title for step in client.get(LIST + query).context["dates"].choices]

    def test_years_from_the_oldest_row_to_today(self, client: Client) -> None:
        years = range(2024, timezone.localdate().year + 1)
        assert self.choices(client, "") == [str(year) for year in years]

    def test_months_and_days_of_what_was_chosen(self, client: Client) -> None:
        assert self.choices(client, "?created_at__year=2024") == ["December 2024"]
        days = self.choices(client, "?created_at__year=2025&created_at__month=3")
        assert days[0] == "March 1"
        assert len(days) == 31

    def test_rows_are_those_of_the_date(self, client: Client) -> None:
        assert names(client, "?created_at__year=2024") == {"Old"}
        day = "?created_at__year=2025&created_at__month=3&created_at__day=4"
        assert names(client, day) == {"Spring"}
        assert self.choices(client, day) == ["March 4"]

    def test_a_date_that_is_none_leads_back_to_the_list(self, client: Client) -> None:
        answer = client.get(LIST + "?created_at__year=2025&created_at__month=13")
        assert answer.status_code == 302


@pytest.mark.parametrize(
    "query",
    [
        *(
            "year=9999",
            "year=9999&created_at__month=12",
            "year=0",
            "year=99999",
            "month=3",
            "day=4",
        ),
        "year=9999&created_at__month=12&created_at__day=31",
        "year=1&created_at__month=1&created_at__day=1",
    ],
)
def test_a_date_that_no_clock_shows_is_no_error(client: Client, query: str) -> None:
    row()
    assert client.get(f"{LIST}?created_at__{query}").status_code in (200, 302)


def test_a_list_without_rows_has_no_dates(client: Client) -> None:
    assert client.get(LIST).context["dates"] is None


def test_somebody_who_may_not_see_segments_sees_no_list() -> None:
    assert person("push_segment").get(LIST).status_code == 403


def test_the_panel_shows_the_figures_in_words_and_as_bars(client: Client) -> None:
    row("rejected")
    for _ in range(3):
        call(None, operation="list", outcome="confirmed")
    call(None, operation="list", outcome="unknown")
    shown = html(client)
    assert "4 of 500 requests used this minute" in shown
    assert "3 accepted, 1 failed" in shown
    assert 'role="img"' in shown
    assert "No worker has run yet." not in shown, "one has made these requests"
    assert f'href="{LIST}?status__exact=rejected"' in shown
    assert "style=" not in shown.split('id="bunce-panel"')[1].split("</section>")[0]


def test_the_panel_says_that_no_worker_has_run_and_how_to_start_one(client: Client) -> None:
    shown = html(client)
    assert "No worker has run yet." in shown
    assert "celery -A project worker -B" in shown


def test_the_panel_names_its_time_zone_and_without_script_the_time_of_the_last_sweep(
    client: Client, settings: Settings
) -> None:
    settings.TIME_ZONE = "Africa/Lagos"
    at = timezone.now()
    SyncState.objects.update_or_create(pk=1, defaults={"swept_at": at})
    shown = html(client)
    assert "Times are in Africa/Lagos." in shown
    local = timezone.localtime(at, ZoneInfo("Africa/Lagos"))
    assert f"<span data-bunce-swept>at {local:%H:%M:%S}</span>" in shown


def test_the_command_that_starts_a_worker_can_be_copied(client: Client) -> None:
    shown = html(client)
    assert ">celery -A project worker -B</code>" in shown
    assert 'data-bunce-copy="celery -A project worker -B"' in shown


def test_figures_are_whole_in_every_language(client: Client) -> None:
    for _ in range(7):
        call(None, operation="list", outcome="confirmed")
    client.cookies["django_language"] = "fr"
    shown = html(client)
    drawn = shown.split('class="bunce-chart"')[1].split("</svg>")[0]
    assert 'viewBox="0 0 1200 160"' in drawn
    assert "," not in drawn.partition(">")[2].replace("</title>", "").split("<title>")[0]

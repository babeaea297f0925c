"""The list of segments: what it shows, and its number of queries."""

from datetime import timedelta
from html import unescape
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from bunce_sync.conf import conf
from bunce_sync.models import OperationState, Segment, SyncState
from tests.unit.admin_people import LIST, call, editor, page, person, row
from tests.unit.core import ago, set_state

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return editor()


def html(client: Client, query: str = "") -> str:
    response = client.get(LIST + query)
    assert response.status_code == 200, response
    return response.content.decode()


def names(client: Client, query: str) -> set[str]:
    response = client.get(LIST + query)
    assert response.status_code == 200, response
    return {segment.name for segment in response.context["cl"].result_list}


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
def test_a_status_is_an_icon_and_a_label(client: Client, status: str, word: str) -> None:
    row(status)
    badge = html(client).split('class="bunce-badge ')[1].split("</span></span>")[0]
    assert f"<span>{word}" in badge
    assert "<svg" in badge


def test_a_row_waiting_for_its_retry_says_when(
    client: Client,
) -> None:
    due = timezone.now() + timedelta(seconds=42)
    row(due_at=due, last_code="refused")
    shown = html(client)
    assert "Retrying" in shown
    assert f'data-bunce-until="{due.timestamp():.3f}"' in shown


def test_a_row_waiting_for_the_rate_limiter_says_until_when(client: Client) -> None:
    until = timezone.now() + timedelta(seconds=30)
    SyncState.objects.update_or_create(
        pk=conf.environment, defaults={"blocked_until": until, "blocked_reason": "rate_limited"}
    )
    row()
    shown = html(client)
    assert "Paused, resumes" in shown
    assert f'data-bunce-until="{until.timestamp():.3f}"' in shown
    assert "Paused until" in shown


@pytest.mark.parametrize(("operation", "bunce_id"), [("create", None), ("update", "a1")])
@pytest.mark.parametrize("due", [-5, 60])
def test_a_row_is_paused_until_the_probe_of_its_operation_succeeds(
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


def test_synced_rows_that_differ_in_bunce_say_so(client: Client) -> None:
    row("synced", last_code="drift")
    row("synced", "B", bunce_duplicate_id="another-id")
    shown = html(client)
    assert "Changed in Bunce" in shown
    assert "Twice in Bunce" in shown


def test_the_id_has_a_labelled_button_that_copies_it(client: Client) -> None:
    segment = row("synced")
    shown = html(client)
    assert f'data-bunce-copy="{segment.bunce_id}"' in shown
    assert f'aria-label="Copy the Bunce id {segment.bunce_id}"' in shown


def test_names_and_types_are_escaped(client: Client) -> None:
    row("synced", "<script>alert(1)</script>", bunce_type="<b>manual</b>")
    shown = html(client)
    assert "<script>alert" not in shown
    assert "<b>manual" not in shown


@pytest.mark.parametrize("query", ["?q=newsletter", "?q=subscribers", "?q=9da67caa"])
def test_search_finds_by_name_description_and_part_of_the_id(client: Client, query: str) -> None:
    row("synced", "Newsletter", description="All subscribers", bunce_id="9da67caa-b803-4691")
    row("synced", "Other")
    assert names(client, query) == {"Newsletter"}


def test_filters_are_named_after_their_fields(client: Client) -> None:
    row()
    titles = [spec.title for spec in client.get(LIST).context["cl"].filter_specs]
    assert titles == ["problem", "type", "origin", "add all customers", "created in Bunce"]


def test_filters_find_the_rows_they_name(client: Client) -> None:
    row("synced", "Auto", bunce_type="automatic")
    row("synced", "New kind", bunce_type="smart")
    row("rejected", "Bad")
    row("pending", "Everyone", add_all_customers=True)
    assert names(client, "?status__exact=rejected") == {"Bad"}
    assert names(client, "?type=automatic") == {"Auto"}
    assert names(client, "?type=other") == {"New kind"}
    assert names(client, "?type=none") == {"Bad", "Everyone"}
    assert names(client, "?problem=yes") == {"Bad"}
    assert names(client, "?problem=no") == {"Auto", "New kind", "Everyone"}
    assert names(client, "?add_all_customers__exact=1") == {"Everyone"}
    assert names(client, "?bunce_created_at__isnull=True") == names(client, "")


def test_the_tile_of_the_lists_status_is_marked_and_removes_the_filter(client: Client) -> None:
    def tiles(shown: str) -> dict[str, bool]:
        links = shown.split('class="bunce-tiles"')[1].split("</ul>")[0].split("<a ")[1:]
        return {link.split('href="')[1].split('"')[0]: "aria-current" in link for link in links}

    assert not any(tiles(html(client)).values())
    response = client.get(f"{LIST}?status__exact=rejected")
    live = response.context["live"]["url"]
    for shown in (
        response.content.decode(),
        client.get(live).json()["fragments"]["bunce-panel"],
    ):
        assert [url for url, marked in tiles(shown).items() if marked] == [LIST]
        assert f"{LIST}?status__exact=rejected" not in tiles(shown)
        assert f"{LIST}?status__exact=synced" in tiles(shown)


def test_a_status_in_the_address_is_escaped(client: Client) -> None:
    shown = html(client, "?status__exact=%22%3E%3Cscript%3Ealert(1)")
    assert "<script>alert" not in shown


@pytest.mark.parametrize("query", ["", "?q=VIP", "?p=2", "?status__exact=synced"])
def test_the_number_of_queries_does_not_grow_with_the_rows(query: str) -> None:
    client = editor()
    client.get(LIST)  # caches permissions and content types

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
    assert few <= 23 + 2  # a savepoint, since the test is in a transaction


def test_all_rows_are_counted_and_can_be_paged_through(client: Client) -> None:
    Segment.objects.bulk_create(Segment(name=f"S{number:03}") for number in range(130))
    assert "130 segments" in html(client)
    assert names(client, "?p=3") == {f"S{number:03}" for number in range(30)}
    assert len(names(client, "?all=")) == 130


def test_requires_the_view_permission() -> None:
    assert person("push_segment").get(LIST).status_code == 403


def test_the_panel_shows_the_figures_as_text_and_as_bars(client: Client) -> None:
    row("rejected")
    for _ in range(3):
        call(None, operation="list", outcome="confirmed")
    call(None, operation="list", outcome="unknown")
    shown = html(client)
    assert "4 of 500 requests used this minute" in shown
    assert "3 accepted, 1 failed" in shown
    assert 'role="img"' in shown
    assert "No worker has run yet." not in shown, "a worker made these requests"
    assert f'href="{LIST}?status__exact=rejected"' in shown
    assert "style=" not in shown.split('id="bunce-panel"')[1].split("</section>")[0]


def test_the_panel_says_that_no_worker_has_run_and_how_to_start_one(client: Client) -> None:
    shown = html(client)
    assert "No worker has run yet." in shown
    assert "celery -A project worker -B" in shown


def test_the_panel_names_a_host_whose_clock_is_wrong(client: Client) -> None:
    entry = {"ahead": 240.0, "seen_at": ago(60).isoformat(), "by_itself": True}
    set_state(clocks={"worker-2": entry})
    shown = unescape(html(client))
    assert "The clock of the host “worker-2” is at least 240 s ahead of the database's." in shown
    assert "Let the host set its clock by NTP." in shown


def test_the_panel_names_the_time_zone_and_without_script_the_time_of_the_last_sweep(
    client: Client, settings: Settings
) -> None:
    settings.TIME_ZONE = "Africa/Lagos"
    at = timezone.now()
    SyncState.objects.update_or_create(pk=conf.environment, defaults={"swept_at": at})
    shown = html(client)
    assert "Times are in Africa/Lagos." in shown
    local = timezone.localtime(at, ZoneInfo("Africa/Lagos"))
    assert f"<span data-bunce-swept>at {local:%H:%M:%S}</span>" in shown


def test_the_command_that_starts_a_worker_can_be_copied(client: Client) -> None:
    shown = html(client)
    assert ">celery -A project worker -B</code>" in shown
    assert 'data-bunce-copy="celery -A project worker -B"' in shown


def test_the_drawings_have_no_decimal_commas_in_any_language(client: Client) -> None:
    for _ in range(7):
        call(None, operation="list", outcome="confirmed")
    client.cookies["django_language"] = "fr"
    shown = html(client)
    drawn = shown.split('class="bunce-chart"')[1].split("</svg>")[0]
    assert 'viewBox="0 0 1200 160"' in drawn
    assert "," not in drawn.partition(">")[2].replace("</title>", "").split("<title>")[0]


def test_no_filter_needs_the_database_to_know_time_zones(
    client: Client, settings: Settings
) -> None:
    """MariaDB without time zone tables converts every time to NULL, and finds no row."""
    settings.TIME_ZONE = "Africa/Lagos"
    row("synced")
    choices = client.get(LIST).context["cl"]
    queries = {
        choice["query_string"]
        for spec in choices.filter_specs
        for choice in spec.choices(choices)
        if "query_string" in choice
    }
    assert any("created_at__gte" in query for query in queries)
    with CaptureQueriesContext(connection) as captured:
        for query in queries:
            html(client, query)
    converts = ("CONVERT_TZ", "AT TIME ZONE", "django_datetime_")
    assert not [one for one in captured if any(word in one["sql"] for word in converts)]


def test_a_name_of_which_nothing_can_be_seen_has_a_link(client: Client) -> None:
    segment = row(name="\u200b\ufeff")
    address = f"{LIST}{segment.pk}/change/"
    assert f'<a href="{address}">#{segment.pk}</a>' in html(client)
    assert f"#{segment.pk}" in client.get(address).content.decode()

"""The JSON that keeps an open page up to date."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import Segment, SyncState
from tests.unit.admin_people import LIST, call, editor, page, person, row

pytestmark = pytest.mark.django_db

LIVE = f"{LIST}live/"


@pytest.fixture
def client() -> Client:
    return editor()


@pytest.fixture(autouse=True)
def swept() -> None:
    """Record a sweep that has just run."""
    SyncState.objects.update_or_create(pk=conf.environment, defaults={"swept_at": DatabaseNow()})


def ask(client: Client, address: str, etag: str = "") -> Any:
    return client.get(address, headers={"If-None-Match": etag} if etag else None)


def parts(client: Client, address: str) -> dict[str, str]:
    response = ask(client, address)
    assert response.status_code == 200
    fragments: dict[str, str] = json.loads(response.content)["fragments"]
    return fragments


def test_the_list_gets_the_panel_and_the_cells_of_its_rows(client: Client) -> None:
    first, second, other = row("synced", "A"), row("pending", "B"), row("pending", "C")
    got = parts(client, f"{LIVE}?ids={first.pk},{second.pk}")
    assert "Synced" in got[f"bunce-badge-{first.pk}"]
    assert first.bunce_id is not None
    assert first.bunce_id in got[f"bunce-bunce_id-{first.pk}"]
    assert "Waiting" in got[f"bunce-badge-{second.pk}"]
    assert f"bunce-badge-{other.pk}" not in got
    assert "requests used this minute" in got["bunce-panel"]
    assert "Due now:" in got["bunce-panel"]


def test_each_fragment_has_its_element_in_the_page(client: Client) -> None:
    segment = row("rejected")
    call(segment)
    for address, ask_at in (
        (LIST, f"{LIVE}?ids={segment.pk}"),
        (page(segment), page(segment, "live")),
    ):
        shown = client.get(address).content.decode()
        for part in parts(client, ask_at):
            assert f'id="{part}"' in shown


def test_a_deleted_row_is_marked_as_deleted(client: Client) -> None:
    gone, kept = row("synced"), row("synced", "B")
    Segment.objects.filter(pk=gone.pk).delete()
    got = parts(client, f"{LIVE}?ids={gone.pk},{kept.pk}")
    assert "Deleted" in got[f"bunce-badge-{gone.pk}"]
    assert "Synced" in got[f"bunce-badge-{kept.pk}"]


def test_a_response_has_its_time_as_text(client: Client, settings: Settings) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"
    SyncState.objects.update(swept_at=DatabaseNow())
    now = timezone.localtime(SyncState.objects.get().swept_at)
    text = ask(client, LIVE).headers["Bunce-Time"]
    assert text[:3] == f"{now:%H:}"
    assert len(text) == len("12:03:21")


def test_invalid_ids_are_ignored(client: Client) -> None:
    row()
    assert list(parts(client, f"{LIVE}?ids=,x,-1,²,{'9' * 30},1e3")) == ["bunce-panel"]
    assert list(parts(client, LIVE)) == ["bunce-panel"]


@pytest.mark.parametrize("where", ["list", "page"])
def test_an_unchanged_page_is_a_304(client: Client, where: str) -> None:
    segment = row("pending")
    address = f"{LIVE}?ids={segment.pk}" if where == "list" else page(segment, "live")
    etag = ask(client, address).headers["ETag"]
    unchanged = ask(client, address, etag)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert float(unchanged.headers["Bunce-Now"]) > 0
    assert float(unchanged.headers["Bunce-Sweep-Age"]) >= 0
    Segment.objects.filter(pk=segment.pk).update_sync_fields(status="synced", bunce_id="b-1")
    assert ask(client, address, etag).status_code == 200


def test_passing_time_and_another_sweep_change_nothing(client: Client) -> None:
    segment = row("pending", due_at=timezone.now() + timedelta(hours=1), last_code="refused")
    address = f"{LIVE}?ids={segment.pk}"
    etag = ask(client, address).headers["ETag"]
    SyncState.objects.update(swept_at=DatabaseNow() - timedelta(seconds=9))
    later = ask(client, address, etag)
    assert later.status_code == 304
    assert float(later.headers["Bunce-Sweep-Age"]) >= 9


def test_an_overdue_sweep_is_a_change(client: Client) -> None:
    etag = ask(client, LIVE).headers["ETag"]
    SyncState.objects.update(swept_at=DatabaseNow() - timedelta(minutes=5))
    assert ask(client, LIVE, etag).status_code == 200
    assert "No sweep has run since" in parts(client, LIVE)["bunce-panel"]


def test_the_change_page_gets_state_remote_fields_and_timeline(client: Client) -> None:
    segment = row("synced", "VIP")
    call(segment, outcome="confirmed")
    got = parts(client, page(segment, "live"))
    assert set(got) == {"bunce-state", "bunce-remote", "bunce-timeline", "bunce-customers"}
    assert segment.bunce_id is not None
    assert segment.bunce_id in got["bunce-remote"]
    assert "Bunce carried out the request." in got["bunce-timeline"]
    assert 'id="bunce-button-refresh"' in got["bunce-state"]


def test_a_viewer_gets_no_buttons_and_no_calls() -> None:
    segment = row("rejected")
    call(segment, message="a row of the call log")
    got = parts(person("view_segment"), page(segment, "live"))
    assert "<button" not in got["bunce-state"]
    assert "a row of the call log" not in got["bunce-timeline"]


@pytest.mark.parametrize("where", ["list", "page"])
def test_requires_the_view_permission(where: str) -> None:
    address = LIVE if where == "list" else page(row(), "live")
    assert person("push_segment").get(address).status_code == 403
    assert Client().get(address).status_code == 302


def test_a_deleted_segment_is_a_404(client: Client) -> None:
    assert client.get(f"{LIST}4711/live/").status_code == 404


def test_responses_are_not_cached(client: Client) -> None:
    assert "no-store" in ask(client, LIVE).headers["Cache-Control"]


def test_the_number_of_queries_does_not_grow_with_the_rows(client: Client) -> None:
    def count(ids: list[int]) -> int:
        with CaptureQueriesContext(connection) as queries:
            ask(client, f"{LIVE}?ids={','.join(map(str, ids))}")
        return len(queries)

    ids = [row("synced", f"S{number}").pk for number in range(50)]
    count(ids[:1])
    assert count(ids[:1]) == count(ids) <= 21

"""The JSON from which an open page is kept up to date."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

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
    """A worker has just looked after the rows."""
    SyncState.objects.update_or_create(pk=1, defaults={"swept_at": DatabaseNow()})


def ask(client: Client, address: str, etag: str = "") -> Any:
    return client.get(address, headers={"If-None-Match": etag} if etag else None)


def parts(client: Client, address: str) -> dict[str, str]:
    answer = ask(client, address)
    assert answer.status_code == 200
    fragments: dict[str, str] = json.loads(answer.content)["fragments"]
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


def test_each_part_has_its_place_in_the_page(client: Client) -> None:
    segment = row("rejected")
    call(segment)
    for address, ask_at in (
        (LIST, f"{LIVE}?ids={segment.pk}"),
        (page(segment), page(segment, "live")),
    ):
        shown = client.get(address).content.decode()
        for part in parts(client, ask_at):
            assert f'id="{part}"' in shown


def test_a_row_that_was_deleted_meanwhile_is_said_to_be_gone(client: Client) -> None:
    gone, kept = row("synced"), row("synced", "B")
    Segment.objects.filter(pk=gone.pk).delete()
    got = parts(client, f"{LIVE}?ids={gone.pk},{kept.pk}")
    assert "Deleted" in got[f"bunce-badge-{gone.pk}"]
    assert "Synced" in got[f"bunce-badge-{kept.pk}"]


def test_an_answer_tells_its_time_as_people_read_it(client: Client, settings: Settings) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"
    SyncState.objects.update(swept_at=DatabaseNow())
    now = timezone.localtime(SyncState.objects.get().swept_at)
    told = ask(client, LIVE).headers["Bunce-Time"]
    assert told[:3] == f"{now:%H:}"
    assert len(told) == len("12:03:21")


def test_what_is_no_id_is_ignored(client: Client) -> None:
    row()
    assert list(parts(client, f"{LIVE}?ids=,x,-1,²,{'9' * 30},1e3")) == ["bunce-panel"]
    assert list(parts(client, LIVE)) == ["bunce-panel"]


@pytest.mark.parametrize("where", ["list", "page"])
def test_nothing_new_is_a_304_until_something_changes(client: Client, where: str) -> None:
    segment = row("pending")
    address = f"{LIVE}?ids={segment.pk}" if where == "list" else page(segment, "live")
    etag = ask(client, address).headers["ETag"]
    unchanged = ask(client, address, etag)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert float(unchanged.headers["Bunce-Now"]) > 0
    assert float(unchanged.headers["Bunce-Sweep-Age"]) >= 0
    Segment.objects.filter(pk=segment.pk).update_sync_fields(status="synced", bunce_id="b-1")
    assert ask(client, address, etag).status_code == 200


def test_time_passing_and_another_sweep_are_nothing_new(client: Client) -> None:
    segment = row("pending", due_at=timezone.now() + timedelta(hours=1), last_code="refused")
    address = f"{LIVE}?ids={segment.pk}"
    etag = ask(client, address).headers["ETag"]
    SyncState.objects.update(swept_at=DatabaseNow() - timedelta(seconds=9))
    later = ask(client, address, etag)
    assert later.status_code == 304
    assert float(later.headers["Bunce-Sweep-Age"]) >= 9


def test_a_sweep_that_is_overdue_is_news(client: Client) -> None:
    etag = ask(client, LIVE).headers["ETag"]
    SyncState.objects.update(swept_at=DatabaseNow() - timedelta(minutes=5))
    assert ask(client, LIVE, etag).status_code == 200
    assert "No worker is running." in parts(client, LIVE)["bunce-panel"]


def test_one_segments_parts_are_its_state_what_bunce_has_and_the_calls(client: Client) -> None:
    segment = row("synced", "VIP")
    call(segment, outcome="confirmed")
    got = parts(client, page(segment, "live"))
    assert set(got) == {"bunce-state", "bunce-remote", "bunce-calls"}
    assert segment.bunce_id is not None
    assert segment.bunce_id in got["bunce-remote"]
    assert "Bunce carried out the request." in got["bunce-calls"]
    assert 'id="bunce-button-check"' in got["bunce-state"]


def test_a_viewer_gets_no_buttons_and_no_ledger() -> None:
    segment = row("rejected")
    call(segment, message="a line of the ledger")
    got = parts(person("view_segment"), page(segment, "live"))
    assert "<button" not in got["bunce-state"]
    assert "a line of the ledger" not in got["bunce-calls"]


@pytest.mark.parametrize("where", ["list", "page"])
def test_needs_the_permission_to_see_segments(where: str) -> None:
    address = LIVE if where == "list" else page(row(), "live")
    assert person("push_segment").get(address).status_code == 403
    assert Client().get(address).status_code == 302


def test_a_segment_that_is_gone_is_a_404(client: Client) -> None:
    assert client.get(f"{LIST}4711/live/").status_code == 404


def test_the_answers_are_kept_by_no_cache(client: Client) -> None:
    assert "no-store" in ask(client, LIVE).headers["Cache-Control"]


def test_the_number_of_queries_does_not_grow_with_the_rows(client: Client) -> None:
    def count(ids: list[int]) -> int:
        with CaptureQueriesContext(connection) as queries:
            ask(client, f"{LIVE}?ids={','.join(map(str, ids))}")
        return len(queries)

    ids = [row("synced", f"S{number}").pk for number in range(50)]
    count(ids[:1])
    assert count(ids[:1]) == count(ids) <= 10

"""Export of files in the admin: what a file contains, and of which segments."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import Any

import openpyxl
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from bunce_sync.models import Segment

from .admin_people import LIST, editor, person, row
from .file_pages import FORMATS, export, exported

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return editor()


def names(client: Client, query: str = "") -> list[str]:
    return [segment["name"] for segment in exported(client, query)]


def test_a_file_has_all_that_people_see(client: Client, settings: Settings) -> None:
    settings.TIME_ZONE = "Africa/Lagos"
    at = timezone.now().replace(year=2026, month=1, day=5, hour=7, minute=30, second=9)
    segment = row(
        "synced",
        "VIP",
        description="Spends much",
        bunce_id="a1",
        bunce_description="In Bunce",
        bunce_type="manual",
        bunce_all_customers=False,
        bunce_customers_count=1283,
        bunce_created_at=at,
        synced_at=at,
    )
    [shown] = exported(client)
    assert {name: shown[name] for name in [*shown][:16]} == {
        "id": segment.pk,
        "name": "VIP",
        "description": "Spends much",
        "add_all_customers": False,
        "status": "Synced",
        "problem": "",
        "bunce_id": "a1",
        "bunce_name": "VIP",
        "bunce_description": "In Bunce",
        "bunce_type": "manual",
        "bunce_all_customers": False,
        "bunce_customers_count": 1283,
        "bunce_created_at": "2026-01-05 08:30:09+01:00",
        "bunce_updated_at": None,
        "environment": "https://api.bunce.so:443 live",
        "synced_at": "2026-01-05 08:30:09+01:00",
    }
    assert [*shown][16:] == ["created_at", "updated_at"]


def test_problems_are_in_words_and_in_the_users_language(client: Client) -> None:
    row("rejected", "A", last_error="The name has already been taken.")
    row("synced", "B", last_code="drift")
    row("synced", "C", bunce_duplicate_id="another-id")
    row("pending", "D", last_code="refused")
    found = {one["name"]: (one["status"], one["problem"]) for one in exported(client)}
    assert found["A"][0] == "Needs attention"
    assert found["A"][1].endswith("existing data. The name has already been taken.")
    assert found["B"][0] == "Changed in Bunce"
    assert found["C"][0] == "Twice in Bunce"
    assert "another-id" in found["C"][1]
    assert found["D"][0] == "Waiting"
    assert all(problem for _, problem in found.values())
    client.cookies["django_language"] = "fr"
    french = {one["name"]: one["status"] for one in exported(client)}
    assert french["A"] != "Needs attention"


def test_the_formats_have_the_same_columns_and_rows(client: Client) -> None:
    row("synced", "VIP", description="a;b", bunce_customers_count=5)
    row("rejected", "Gold")
    objects = exported(client)
    lines = list(csv.DictReader(io.StringIO(export(client, "csv").decode("utf-8-sig"))))
    sheet: Any = openpyxl.load_workbook(io.BytesIO(export(client, "xlsx"))).active
    headers, *cells = sheet.iter_rows(values_only=True)
    assert [*headers] == [*lines[0]] == [*objects[0]]
    assert [line["name"] for line in lines] == [line[1] for line in cells] == ["Gold", "VIP"]
    assert lines[1]["bunce_customers_count"] == "5"
    assert cells[1][headers.index("bunce_customers_count")] == 5


def test_a_workbook_has_times_in_the_sites_zone(client: Client, settings: Settings) -> None:
    settings.TIME_ZONE = "Africa/Lagos"
    segment = row("synced", "VIP")
    sheet: Any = openpyxl.load_workbook(io.BytesIO(export(client, "xlsx"))).active
    headers, cells = sheet.iter_rows(values_only=True)
    assert segment.synced_at is not None
    lagos = (segment.synced_at + timedelta(hours=1)).replace(tzinfo=None, microsecond=0)
    assert cells[headers.index("synced_at")] == lagos


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["Bad", "Auto", "Everyone"]),
        ("?status__exact=rejected", ["Bad"]),
        ("?type=automatic", ["Auto"]),
        ("?problem=no&add_all_customers__exact=1", ["Everyone"]),
        ("?q=every", ["Everyone"]),
        ("?o=1", ["Auto", "Bad", "Everyone"]),
        ("?p=7", ["Bad", "Auto", "Everyone"]),
        ("?q=nothing", []),
    ],
)
def test_the_lists_filters_search_and_order_apply(
    client: Client, query: str, expected: list[str]
) -> None:
    row("pending", "Everyone", add_all_customers=True)
    row("synced", "Auto", bunce_type="automatic")
    row("rejected", "Bad")
    assert names(client, query) == expected
    page: Any = client.get(f"{LIST}export/{query}")
    assert page.context["count"] == len(expected)
    listed = client.get(f"{LIST}{query}").content.decode()
    assert f'href="{LIST}export/' in listed


@pytest.mark.parametrize(
    "query",
    [
        *("?nothing=1", "?status__nothing=1", "?bunce_created_at__gte=x", "?id__in=x"),
        *("?bunce_created_at__year=99999999999", "?id__exact=99999999999999999999999"),
        "?name__regex=(",
    ],
)
def test_a_filter_that_is_no_filter_leads_back_to_the_list(client: Client, query: str) -> None:
    row()
    for response in (
        client.get(f"{LIST}export/{query}"),
        client.post(f"{LIST}export/{query}", {"format": 0}),
    ):
        assert response.status_code in (302, 400, 200)
        if response.streaming:
            assert b"".join(response.streaming_content)  # type: ignore[attr-defined]
        if response.status_code == 302:
            assert response.headers["Location"].startswith(f"{LIST}?e=1")


class TestTheSelected:
    def select(self, client: Client, *keys: object, query: str = "", across: int = 0) -> Any:
        response = client.post(
            LIST + query,
            {
                "action": "export_selected",
                "_selected_action": [str(key) for key in keys],
                "select_across": str(across),
            },
        )
        assert response.status_code == 200
        return response

    def follow(self, client: Client, response: Any) -> list[str]:
        """Submit the form of the page as it is, with the format JSON."""
        form = response.context["form"]
        content = client.post(
            response.context["export_url"],
            {"selected": form.initial["selected"], "format": FORMATS.index("json")},
        )
        data = b"".join(content.streaming_content)  # type: ignore[attr-defined]
        return [segment["name"] for segment in json.loads(data)]

    def test_only_they_are_exported(self, client: Client) -> None:
        rows = [row("synced", f"S{number}") for number in range(4)]
        response = self.select(client, rows[0].pk, rows[2].pk)
        assert "2 segments will be exported." in response.content.decode()
        assert self.follow(client, response) == ["S2", "S0"]

    def test_all_that_match_the_filters(self, client: Client) -> None:
        rows = [row("rejected" if number % 2 else "synced", f"S{number}") for number in range(6)]
        query = "?status__exact=rejected"
        response = self.select(client, rows[1].pk, query=query, across=1)
        assert "3 segments will be exported." in response.content.decode()
        assert response.context["form"].initial["selected"] == ""
        assert self.follow(client, response) == ["S5", "S3", "S1"]

    @pytest.mark.parametrize("selected", ["x", "1,", "1;2", "9" * 25, "1," * 10_001 + "1"])
    def test_a_selection_that_no_list_sends_is_refused(self, client: Client, selected: str) -> None:
        form = {"format": 0, "selected": selected}
        assert client.post(f"{LIST}export/", form).status_code == 400

    def test_a_missing_format_keeps_the_selection(self, client: Client) -> None:
        rows = [row("synced", f"S{number}") for number in range(2)]
        page: Any = client.post(f"{LIST}export/", {"selected": str(rows[0].pk)})
        assert page.context["count"] == 1
        assert f'name="selected" value="{rows[0].pk}"' in page.content.decode()


def test_the_number_of_queries_does_not_grow_with_the_rows(client: Client) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            exported(client)
        return len(queries)

    row("synced", "VIP", description="x")
    exported(client)
    few = count()
    for number in range(30):
        row("rejected", f"S{number}", description="x")
    assert count() == few


def test_many_segments_are_read_in_portions_and_stay_in_order(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunce_sync.admin.files.resource.EXPORT_CHUNK", 3)
    for number in range(8):
        row("synced", f"S{number * 5 % 8}")
    assert names(client, "?o=1") == [f"S{number}" for number in range(8)]


def test_a_text_that_a_workbook_would_cut_is_reported(client: Client) -> None:
    segment = row("synced", "VIP")
    Segment.objects.filter(pk=segment.pk).update_sync_fields(bunce_description="x" * 40_000)
    response: Any = client.post(f"{LIST}export/", {"format": FORMATS.index("xlsx")})
    [message] = [str(message) for message in response.context["messages"]]
    assert message.startswith("A text is longer than 32,767 characters")
    assert len(exported(client)[0]["bunce_description"]) == 40_000


class TestPermissions:
    def test_who_may_view_may_export(self) -> None:
        row("synced", "VIP")
        user = person("view_segment")
        assert f'href="{LIST}export/?"' in user.get(LIST).content.decode()
        assert names(user) == ["VIP"]

    def test_others_may_not(self) -> None:
        user = person("add_segment", "push_segment")
        assert user.get(f"{LIST}export/").status_code == 403
        assert user.post(f"{LIST}export/", {"format": 0}).status_code == 403

    def test_a_site_may_require_a_permission_of_its_own(self, settings: Settings) -> None:
        settings.IMPORT_EXPORT_EXPORT_PERMISSION_CODE = "push"
        row()
        without, with_it = person("view_segment"), person("view_segment", "push_segment")
        assert without.get(f"{LIST}export/").status_code == 403
        assert with_it.get(f"{LIST}export/").status_code == 200
        for user, offered in ((without, False), (with_it, True)):
            content = user.get(LIST).content.decode()
            assert ('value="export_selected"' in content) is offered

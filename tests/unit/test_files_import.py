"""Import of files in the admin: what is stored, what is refused, and what a preview shows."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.core import signing
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from pytest_django.fixtures import DjangoCaptureOnCommitCallbacks

from bunce_sync import services
from bunce_sync.admin.files.resource import SegmentResource
from bunce_sync.client import BunceClient
from bunce_sync.models import Segment
from bunce_sync.testing.emulator import Emulator

from .admin_people import LIST, editor, page, person, row
from .broker_queue import BrokerQueue
from .core import Status, fresh, in_threads, make
from .file_pages import (
    can_confirm,
    confirm,
    csv_bytes,
    errors,
    export,
    flashed,
    form_error,
    import_rows,
    preview,
    totals,
)

pytestmark = pytest.mark.django_db

NEW = [("name", "description"), ("VIP", "Spends much"), ("Gold", "")]


@pytest.fixture
def client() -> Client:
    return editor()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of files between preview and import; no file may be left in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test on any request to Bunce."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the admin made a request to Bunce")

    for name in ("create_segment", "update_segment", "get_segment", "list_page"):
        monkeypatch.setattr(BunceClient, name, refuse)


def stored() -> set[tuple[str, str | None]]:
    return {*Segment.objects.values_list("name", "description")}


def sync_values(segment: Segment) -> dict[str, Any]:
    return dict(Segment.objects.filter(pk=segment.pk).values(*Segment.SYNC_FIELDS).get())


class TestWhatIsStored:
    def test_a_preview_stores_nothing(self, client: Client) -> None:
        previewed = preview(client, NEW)
        assert totals(previewed) == {"new": "2", "changed": "0", "unchanged": "0", "refused": "0"}
        assert stored() == set()

    def test_rows_without_an_id_create_segments(self, client: Client) -> None:
        message = import_rows(client, NEW)
        assert message == "Imported: 2 new, 0 changed, 0 unchanged."
        assert stored() == {("VIP", "Spends much"), ("Gold", None)}
        assert {*Segment.objects.values_list("status", flat=True)} == {Status.PENDING}

    def test_rows_with_an_id_change_segments_and_have_them_pushed(self, client: Client) -> None:
        one, other = row("synced", "VIP"), row("synced", "Gold", description="Same")
        data = [("id", "name", "description"), (one.pk, "Best", ""), (other.pk, "Gold", "Same")]
        assert import_rows(client, data) == "Imported: 0 new, 1 changed, 1 unchanged."
        assert (fresh(one).name, fresh(one).status) == ("Best", Status.PENDING)
        assert fresh(other).status == Status.SYNCED
        assert fresh(other).updated_at == other.updated_at

    def test_columns_that_are_missing_leave_the_fields_as_they_are(self, client: Client) -> None:
        segment = make("VIP", "Spends much")
        import_rows(client, [("id", "description"), (segment.pk, "Pays")])
        assert stored() == {("VIP", "Pays")}
        import_rows(client, json.dumps([{"id": segment.pk, "name": "Best"}]).encode(), "json")
        assert stored() == {("Best", "Pays")}

    def test_an_empty_cell_clears_a_text_and_leaves_a_yes_or_no(self, client: Client) -> None:
        segment = row("pending", "VIP", description="x", add_all_customers=True)
        data = [("id", "description", "add_all_customers"), (segment.pk, "", "")]
        import_rows(client, data)
        assert (fresh(segment).description, fresh(segment).add_all_customers) == (None, True)

    def test_only_editable_columns_are_written(self, client: Client) -> None:
        segment = row("synced", "VIP")
        before = sync_values(segment)
        names = [*Segment.PROTECTED_FIELDS, "problem", "hold_id", "pk"]
        cells = ["synced" if name == "status" else "7" for name in names]
        data = [("id", "name", *names), (segment.pk, "VIP", *cells), ("", "New", *cells)]
        previewed = preview(client, data)
        shown = " ".join(previewed.context["preview"]["notes"])
        assert "These columns are not imported: " in shown
        confirm(client, previewed)
        assert sync_values(segment) == before
        new = Segment.objects.get(name="New")
        assert (new.status, new.bunce_id, new.attempts) == (Status.PENDING, None, 0)

    def test_an_export_that_comes_back_changes_nothing(self, client: Client) -> None:
        names = ("=1+1", "-10 % off", "'=quoted", "007", "_x0041_", 'say "hi"', "Café; 日本")
        for name in names:
            row("synced", name, description="two\r\nlines")
        # Names as Bunce may have them, which nobody may enter here.
        odd = row("synced", "bell \x07")
        Segment.objects.filter(pk=odd.pk).update(name="\x07 " + "x" * 200)
        for kind in ("csv", "xlsx", "json"):
            data = export(client, kind)
            previewed = preview(client, data, kind)
            assert totals(previewed)["unchanged"] == str(len(names) + 1), kind
            assert not can_confirm(previewed)
            assert "already as in the file" in previewed.content.decode()

    def test_a_change_of_one_field_leaves_the_others_exactly_as_they_were(
        self, client: Client
    ) -> None:
        segment = row("synced", "x")
        Segment.objects.filter(pk=segment.pk).update(name=" \x07 as in Bunce ")
        data = [("id", "name", "description"), (segment.pk, "\x07 as in Bunce", "New")]
        import_rows(client, data)
        assert stored() == {(" \x07 as in Bunce ", "New")}

    def test_line_breaks_and_spaces_at_the_ends_are_no_change(self, client: Client) -> None:
        segment = make("VIP", "two\r\nlines")
        data = [("id", "name", "description"), (segment.pk, " VIP ", "two\nlines\n")]
        assert totals(preview(client, data))["unchanged"] == "1"

    @pytest.mark.parametrize(("cell", "name"), [(123, "123"), (1.0, "1"), (0.5, "0.5")])
    def test_numbers_in_a_workbook_are_names(self, client: Client, cell: float, name: str) -> None:
        book = openpyxl.Workbook()
        assert book.active is not None
        book.active.append(["name", "add_all_customers"])
        book.active.append([cell, True])
        file = io.BytesIO()
        book.save(file)
        import_rows(client, file.getvalue(), "xlsx")
        assert Segment.objects.get().name == name
        assert Segment.objects.get().add_all_customers

    def test_ids_in_a_workbook_are_numbers(self, client: Client) -> None:
        segment = make("VIP")
        data = json.dumps([{"id": float(segment.pk), "name": "Best"}]).encode()
        import_rows(client, data, "json")
        assert stored() == {("Best", None)}

    @pytest.mark.parametrize("word", ["1", "yes", "TRUE", "Vrai", " oui "])
    def test_words_for_yes(self, client: Client, word: str) -> None:
        import_rows(client, [("name", "add_all_customers"), ("VIP", word)])
        assert Segment.objects.get().add_all_customers

    def test_everything_is_in_the_history(self, client: Client) -> None:
        segment = make("VIP")
        client.cookies["django_language"] = "fr"
        import_rows(client, [("id", "name"), (segment.pk, "Best"), ("", "New")])
        entries = {
            (entry.action_flag, entry.object_repr, entry.change_message, entry.object_id)
            for entry in LogEntry.objects.all()
        }
        new = Segment.objects.get(name="New")
        assert entries == {
            (CHANGE, "Best", "Imported from a file: name.", str(segment.pk)),
            (ADDITION, "New", "Imported from a file.", str(new.pk)),
        }
        assert client.get(page(new, "history")).status_code == 200

    def test_a_site_may_switch_the_history_off(self, client: Client, settings: Settings) -> None:
        settings.IMPORT_EXPORT_SKIP_ADMIN_LOG = True
        import_rows(client, NEW)
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize("storage", ["CacheStorage", "MediaStorage"])
    def test_a_site_may_store_files_elsewhere_until_they_are_confirmed(
        self, client: Client, settings: Settings, tmp_path: Path, storage: str
    ) -> None:
        settings.IMPORT_EXPORT_TMP_STORAGE_CLASS = f"import_export.tmp_storages.{storage}"
        settings.MEDIA_ROOT = str(tmp_path / "media")
        previewed = preview(client, NEW)
        assert flashed(confirm(client, previewed))[0].startswith("Imported: 2 new")
        assert "no longer stored" in flashed(confirm(client, previewed))[0]
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_a_site_may_switch_the_preview_off(self, client: Client, settings: Settings) -> None:
        settings.IMPORT_EXPORT_SKIP_ADMIN_CONFIRM = True
        data = {"format": 0, "import_file": io.BytesIO(csv_bytes(NEW))}
        response = client.post(f"{LIST}import/", data, follow=True)
        assert flashed(response)[0] == "Imported: 2 new, 0 changed, 0 unchanged."
        wrong = {"format": 0, "import_file": io.BytesIO(csv_bytes([*NEW, ("", "no name")]))}
        assert errors(client.post(f"{LIST}import/", wrong)) == {"4": [BLANK_NAME]}
        assert Segment.objects.count() == 2


ALLOWED = "Only text, tabs and line breaks are allowed."
BLANK_NAME = "name: This field cannot be blank."


class TestWhatIsRefused:
    def test_one_wrong_row_keeps_all_from_being_stored(self, client: Client) -> None:
        data = [*NEW, ("", "no name"), (" \u200b ", ""), ("x" * 256, "")]
        assert errors(preview(client, data)) == {
            "4": [BLANK_NAME],
            "5": ["name: Enter a name with at least one visible character."],
            "6": ["name: Ensure this value has at most 255 characters (it has 256)."],
        }

    def test_all_errors_of_a_row_are_shown(self, client: Client) -> None:
        data = [
            ("name", "description", "add_all_customers"),
            ("bell \x07", "x" * 10_001, "perhaps"),
        ]
        found = errors(preview(client, data))["2"]
        assert sorted(message.split(": ")[0] for message in found) == [
            *("add_all_customers", "description", "name")
        ]

    @pytest.mark.parametrize("cell", ["4711", "x", "-1", "1.5", "9" * 30, "²"])
    def test_an_id_that_no_segment_has(self, client: Client, cell: str) -> None:
        [message] = errors(preview(client, [("id", "name"), (cell, "VIP")]))["2"]
        assert message.startswith("id: There is no segment with this id.")

    def test_an_id_twice(self, client: Client) -> None:
        segment = make("VIP")
        data = [("id", "name"), (segment.pk, "One"), (segment.pk, "Two")]
        assert errors(preview(client, data)) == {"3": ["id: An earlier row has the same id."]}

    @pytest.mark.parametrize("status", ["synced", "sending", "in_doubt"])
    def test_what_only_a_create_sends_cannot_change_afterwards(
        self, client: Client, status: str
    ) -> None:
        segment = row(status, "VIP")
        data = [("id", "name", "add_all_customers"), (segment.pk, "Best", "yes")]
        [message] = errors(preview(client, data))["2"]
        assert message.startswith("add_all_customers: This cannot be changed here")
        data = [("id", "name", "add_all_customers"), (segment.pk, "Best", "no")]
        import_rows(client, data)
        assert fresh(segment).name == "Best"

    def test_a_list_is_no_name(self, client: Client) -> None:
        data = json.dumps([{"name": ["VIP"]}, {"name": {"a": 1}}, {"name": "\ud800"}]).encode()
        assert errors(preview(client, data, "json")) == {
            "1": ["name: Enter a text."],
            "2": ["name: Enter a text."],
            "3": [
                "name: Remove the character U+D800. Only text, tabs and line breaks are allowed."
            ],
        }

    def test_a_file_without_names_and_ids(self, client: Client) -> None:
        previewed = preview(client, [("title",), ("VIP",)])
        assert not can_confirm(previewed)
        [problem] = previewed.context["preview"]["problems"]
        assert problem == "The file needs a column “name”, or “id” to change segments."

    @pytest.mark.parametrize("kind", ["csv", "xlsx", "json"])
    @pytest.mark.parametrize(
        "data",
        [b"\x00", b"\x81\x8d", b"PK\x03\x04", b"[]", b"name", b"\xff\xfe", b'[{"": 1}]', b"null"],
    )
    def test_no_file_makes_the_page_fail(self, client: Client, kind: str, data: bytes) -> None:
        previewed = preview(client, data, kind)
        assert not can_confirm(previewed)
        assert previewed.context.get("preview") or form_error(previewed)

    def test_why_a_file_cannot_be_read(self, client: Client) -> None:
        assert form_error(preview(client, b"name\nA,B\n")).startswith("Row 2 has more cells")
        assert form_error(preview(client, b"x", "xlsx")).startswith("This is not an Excel")

    def test_a_file_that_is_too_large(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bunce_sync.admin.files.forms.MAX_BYTES", 2**20)
        data = b"name\n" + b"A\n" * 2**20
        assert form_error(preview(client, data)) == "The file is larger than 1 MB."

    def test_files_that_cannot_be_imported_are_not_kept(self, client: Client, folder: Path) -> None:
        preview(client, [*NEW, ("", "no name")])
        preview(client, b"name\nA,B\n")
        preview(client, [("name",)])
        make("VIP")
        preview(client, [("id", "name"), (Segment.objects.get().pk, "VIP")])
        assert os.listdir(folder) == []  # noqa: PTH208
        import_rows(client, NEW)
        assert os.listdir(folder) == []  # noqa: PTH208


class TestThePreview:
    def test_it_shows_what_changes(self, client: Client) -> None:
        segment = row("pending", "VIP", description="Old <b>")
        data = [
            ("id", "name", "description", "add_all_customers"),
            (segment.pk, "VIP", "New", "yes"),
            ("", "Gold", "", "0"),
        ]
        previewed = preview(client, data)
        changed, new = previewed.context["preview"]["rows"]
        assert changed["changes"] == [
            {"label": "Description", "before": "Old <b>", "after": "New"},
            {"label": "Add all customers", "before": "No", "after": "Yes"},
        ]
        assert (new["number"], new["name"], new["changes"]) == ("3", "Gold", [])
        content = previewed.content.decode()
        assert f'href="{page(segment)}"' in content
        assert "Old &lt;b&gt;" in content

    def test_it_says_what_cannot_be_undone(self, client: Client) -> None:
        make("VIP")
        data = [("name", "add_all_customers"), ("VIP", "1"), ("Gold", ""), ("Gold", ""), ("A", "")]
        previewed = preview(client, data)
        notes = " ".join(previewed.context["preview"]["notes"])
        assert "Bunce's API cannot delete segments" in notes
        assert "1 new segment adds all customers" in notes
        assert "3 new segments have the names of other segments" in notes
        doubled = [one["doubled"] for one in previewed.context["preview"]["rows"]]
        assert doubled == [True, True, True, False]

    def test_long_values_are_cut(self, client: Client) -> None:
        [shown] = preview(client, [("name", "description"), ("A", "x" * 9_000)]).context["preview"][
            "rows"
        ]
        assert len(shown["changes"][0]["after"]) == 120

    def test_ten_thousand_rows_are_a_small_page_made_with_few_queries(self, client: Client) -> None:
        Segment.objects.bulk_create(Segment(name=f"Old {n}") for n in range(2_000))
        keys = Segment.objects.values_list("pk", flat=True)
        rows: list[tuple[object, ...]] = [("id", "name")]
        rows += [(key, f"Changed {key}") for key in keys]
        rows += [("", f"New {n}") for n in range(8_000)]
        with CaptureQueriesContext(connection) as queries:
            previewed = preview(client, rows)
        assert totals(previewed) == {
            "new": "8,000",
            "changed": "2,000",
            "unchanged": "0",
            "refused": "0",
        }
        assert len(previewed.context["preview"]["rows"]) == 100
        assert previewed.context["preview"]["hidden"] == 9_900
        assert len(previewed.content) < 100_000
        assert len(queries) < 50
        assert not [query for query in queries if not query["sql"].startswith("SELECT")]

    def test_the_errors_of_many_rows_are_a_small_page(self, client: Client) -> None:
        previewed = preview(client, [("name", "description"), *[("", "x")] * 500])
        assert len(errors(previewed)) == 100
        assert "400 more rows are not shown." in previewed.content.decode()


class TestTwoPeople:
    def test_an_edit_after_the_preview_is_shown_before_it_is_replaced(self, client: Client) -> None:
        segment = make("VIP", "Old")
        data = [("id", "description"), (segment.pk, "Mine")]
        previewed = preview(client, data)
        Segment.objects.filter(pk=segment.pk).update(description="Theirs")
        again = confirm(client, previewed)
        assert flashed(again)[0].startswith("Nothing was imported: segments were changed")
        assert fresh(segment).description == "Theirs"
        [shown] = again.context["preview"]["rows"]
        assert shown["changes"][0]["before"] == "Theirs"
        assert flashed(confirm(client, again))[0].startswith("Imported: 0 new, 1 changed")
        assert fresh(segment).description == "Mine"

    def test_an_edit_of_another_field_is_kept(self, client: Client) -> None:
        segment = make("VIP", "Old")
        previewed = preview(client, [("id", "description"), (segment.pk, "Mine")])
        Segment.objects.filter(pk=segment.pk).update(name="Theirs")
        confirm(client, previewed)
        assert stored() == {("Theirs", "Mine")}

    def test_a_segment_that_was_deleted_after_the_preview(self, client: Client) -> None:
        segment = make("VIP")
        previewed = preview(client, [("id", "name"), (segment.pk, "Best"), ("", "New")])
        segment.delete()
        response = confirm(client, previewed)
        assert response.redirect_chain[-1][0] == f"{LIST}import/"
        [message] = flashed(response)
        assert message.startswith("Nothing was imported. id: There is no segment with this id.")
        assert stored() == set()

    def test_a_segment_that_is_sent_between_reading_and_storing(self) -> None:
        segment = make("VIP")
        changed = Segment.objects.get()
        changed.add_all_customers = True
        Segment.objects.update_sync_fields(bunce_id="a1")
        with pytest.raises(services.SegmentsChanged):
            services.save_segments([], [(changed, {"add_all_customers": False})])
        assert not fresh(segment).add_all_customers

    @pytest.mark.parametrize("change", [{"name": "Theirs"}, None])
    def test_an_edit_between_reading_and_storing_keeps_all_from_being_stored(
        self, change: dict[str, str] | None
    ) -> None:
        segment = make("VIP")
        read = Segment.objects.get()
        read.name = "Mine"
        rows = Segment.objects.filter(pk=segment.pk)
        if change is None:
            rows.delete()
        else:
            rows.update(**change)
        with pytest.raises(services.SegmentsChanged):
            services.save_segments([Segment(name="New")], [(read, {"name": "VIP"})])
        assert not Segment.objects.filter(name__in=("Mine", "New")).exists()

    def test_a_preview_that_is_confirmed_twice_is_imported_once(
        self, client: Client, folder: Path
    ) -> None:
        previewed = preview(client, NEW)
        [file] = folder.iterdir()
        kept = file.read_bytes()
        confirm(client, previewed)
        response = confirm(client, previewed)
        assert "was imported before, or is no longer stored" in flashed(response)[0]
        file.write_bytes(kept)  # as if both had been confirmed at the same moment
        response = confirm(client, previewed)
        assert flashed(response) == ["Nothing was imported: this file was imported before."]
        assert Segment.objects.count() == 2
        assert import_rows(client, NEW).startswith("Imported: 2 new"), "chosen again on purpose"

    def test_a_preview_can_be_confirmed_for_some_hours(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        previewed = preview(client, NEW)
        monkeypatch.setattr("bunce_sync.admin.files.forms.CONFIRM_SECONDS", -1)
        response = confirm(client, previewed)
        assert flashed(response) == ["This preview has expired. Choose the file again."]
        assert stored() == set()

    @pytest.mark.parametrize("value", ["", "x", "signed for something else"])
    def test_only_what_a_preview_signed_is_imported(self, client: Client, value: str) -> None:
        if value.startswith("signed"):
            value = signing.dumps({"file": "/etc/passwd", "format": "0"})
        response = client.post(f"{LIST}process_import/", {"preview": value}, follow=True)
        assert response.redirect_chain[-1][0] == f"{LIST}import/"
        assert len(flashed(response)) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no row locks")
def test_of_two_confirmations_at_the_same_moment_one_is_imported(client: Client) -> None:
    for number in range(5):
        previewed = preview(client, [("name",), (f"VIP {number}",)])

        def run() -> None:
            other = Client()
            other.cookies = client.cookies
            confirm(other, previewed)  # noqa: B023

        in_threads([run, run])
        assert Segment.objects.filter(name=f"VIP {number}").count() == 1


class TestWakingWorkers:
    @pytest.fixture
    def broker_queue(self, bunce: Emulator, settings: Settings) -> BrokerQueue:
        return BrokerQueue(settings)

    def test_an_import_wakes_workers_once(
        self,
        client: Client,
        broker_queue: BrokerQueue,
        django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    ) -> None:
        segment = make("VIP")
        rows = [("id", "name"), (segment.pk, "Best"), *[("", f"S{n}") for n in range(300)]]
        with django_capture_on_commit_callbacks(execute=True):
            import_rows(client, rows)
        assert broker_queue.sent() == [("push_segment", [])]

    def test_a_preview_and_an_unchanged_file_wake_nobody(
        self,
        client: Client,
        broker_queue: BrokerQueue,
        django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            preview(client, NEW)
        assert broker_queue.sent() == []


class TestPermissions:
    ALL = ("view_segment", "add_segment", "change_segment")

    @pytest.mark.parametrize("missing", ["add_segment", "change_segment"])
    def test_an_import_requires_to_add_and_to_change(self, missing: str) -> None:
        user = person(*{*self.ALL} - {missing})
        assert user.get(f"{LIST}import/").status_code == 403
        assert user.post(f"{LIST}process_import/").status_code == 403
        assert "Import file" not in user.get(LIST).content.decode()

    def test_who_may_add_and_change_may_import(self) -> None:
        user = person(*self.ALL)
        assert f'href="{LIST}import/"' in user.get(LIST).content.decode()
        assert import_rows(user, NEW).startswith("Imported: 2 new")

    def test_a_site_may_require_a_permission_of_its_own(self, settings: Settings) -> None:
        settings.IMPORT_EXPORT_IMPORT_PERMISSION_CODE = "push"
        assert person(*self.ALL).get(f"{LIST}import/").status_code == 403
        assert person(*self.ALL, "push_segment").get(f"{LIST}import/").status_code == 200

    def test_requires_post_and_a_csrf_token(self) -> None:
        user = person(*self.ALL, csrf=True)
        assert user.get(f"{LIST}process_import/").status_code == 405
        for name in ("import", "process_import"):
            assert user.post(f"{LIST}{name}/").status_code == 403

    def test_an_anonymous_user_is_redirected_to_the_login(self) -> None:
        for name in ("import", "process_import", "export"):
            assert "/login/" in Client().post(f"{LIST}{name}/").headers["Location"]


class TestTheResource:
    """``SegmentResource`` in a site's own code."""

    def dataset(self, *rows: dict[str, Any]) -> Any:
        import tablib

        dataset = tablib.Dataset()
        dataset.dict = list(rows)
        return dataset

    def test_it_imports_without_the_admin(self) -> None:
        segment = make("VIP")
        result = SegmentResource().import_data(
            self.dataset({"id": segment.pk, "name": "Best"}, {"id": "", "name": "New"})
        )
        assert (len(result.new), len(result.changed)) == (1, 1)
        assert stored() == {("Best", None), ("New", None)}

    def test_a_dry_run_stores_nothing(self) -> None:
        SegmentResource().import_data(self.dataset({"name": "New"}), dry_run=True)
        assert stored() == set()

    def test_errors_can_be_raised(self) -> None:
        from import_export.exceptions import ImportError as RowError

        with pytest.raises(RowError):
            SegmentResource().import_data(self.dataset({"name": ""}), raise_errors=True)

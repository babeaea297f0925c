"""A file of segments is previewed, imported and exported in the browser."""

import csv
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import FilePayload, Locator, expect

from tests.browser import states
from tests.browser.people import LIST, Person
from tests.browser.test_looks import LINKED, picture, violations
from tests.site import Site

#: Rows of the large file.
ROWS = 10_000
#: Seconds within which a preview or an import of it is shown, on a busy machine.
SECONDS = 60


def csv_file(rows: Sequence[Sequence[object]]) -> FilePayload:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return {"name": "segments.csv", "mimeType": "text/csv", "buffer": text.getvalue().encode()}


def choose(person: Person, file: FilePayload) -> None:
    """Choose a file, whose name selects the format, and show its preview."""
    person.page.get_by_label("File to import").set_input_files(file)
    expect(person.page.get_by_label("Format")).to_have_value("0")
    person.press("Submit")


def preview_of(person: Person) -> Locator:
    return person.page.get_by_role("region", name="Preview")


def test_a_file_of_ten_thousand_rows_is_previewed_and_imported(
    site: Site, person: Person, tmp_path: Path
) -> None:
    existing = [site.put(f"Old {n}", "Of last year") for n in range(3)]
    rows: list[Sequence[object]] = [("id", "name", "description", "status")]
    rows += [(row.pk, f"New name of {row.pk}", row.description, "synced") for row in existing[:2]]
    rows += [(existing[2].pk, existing[2].name, existing[2].description, "synced")]
    rows += [("", f"Segment {n}", f"Customers of shop {n}", "") for n in range(ROWS - 3)]
    person.arrive_as_admin().open_list()
    person.page.get_by_role("link", name="Import file").click()
    started = time.monotonic()
    choose(person, csv_file(rows))
    preview = preview_of(person)
    expect(preview).to_contain_text("9,997 new")
    shown = time.monotonic() - started
    expect(preview).to_contain_text("2 changed")
    expect(preview).to_contain_text("1 unchanged")
    expect(preview).to_contain_text("These columns are not imported: status.")
    expect(preview).to_contain_text("9,899 more rows are not shown.")
    expect(preview.get_by_role("row").nth(1)).to_contain_text("Old 0 → New name of")
    assert site.segments.count() == 3, "a preview stores nothing"
    person.page.screenshot(path=tmp_path / "preview.png")

    started = time.monotonic()
    person.press("Confirm import")
    expect(person.page.locator(".messagelist")).to_contain_text(
        "Imported: 9,997 new, 2 changed, 1 unchanged."
    )
    imported = time.monotonic() - started
    assert max(shown, imported) < SECONDS, f"preview {shown:.1f} s, import {imported:.1f} s"
    assert site.segments.count() == ROWS
    assert site.segments.get(pk=existing[0].pk).name == f"New name of {existing[0].pk}"
    person.page.screenshot(path=tmp_path / "imported.png")


def mixed_file(site: Site) -> FilePayload:
    """Return a file that changes two of the segments of ``states`` and adds three."""
    one, other = (site.segments.get(name=name) for name in ("Newsletter readers", LINKED))
    return csv_file(
        [
            ("id", "name", "description", "add_all_customers", "status"),
            (one.pk, "Readers of the newsletter", one.description, "", "Synced"),
            (other.pk, other.name, "", "no", "Synced"),
            ("", "Customers in Abuja", "Everyone who bought in the shop", "no", ""),
            ("", "VIP customers", "", "yes", ""),
            ("", "Averylongname" * 19, "x" * 800, "", ""),
        ]
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_are_accessible_and_fit_the_screen(
    site: Site, visit: Callable[..., Person], theme: Literal["light", "dark"]
) -> None:
    states.fill(site)
    # axe-core itself sets inline styles; the test above runs with the policy.
    person = visit(site, color_scheme=theme, bypass_csp=True).arrive_as_admin()

    def check(what: str) -> None:
        assert violations(person) == [], what
        for width in (360, 768, 1280):
            person.page.set_viewport_size({"width": width, "height": 800})
            assert person.page.evaluate("document.documentElement.scrollWidth") <= width, what

    for path in ("import/", "export/"):
        person.open(LIST + path)
        check(path)
    person.open(f"{LIST}import/")
    choose(person, mixed_file(site))
    expect(preview_of(person)).to_contain_text("3 new")
    check("preview")
    person.open(f"{LIST}import/")
    choose(person, csv_file([("id", "name"), ("", ""), (4711, "y" * 255)]))
    expect(preview_of(person)).to_contain_text("There is no segment with this id.")
    check("errors")


def test_a_preview_that_is_out_of_date_is_shown_again(site: Site, person: Person) -> None:
    states.fill(site)
    person.arrive_as_admin().open(f"{LIST}import/")
    choose(person, mixed_file(site))
    expect(preview_of(person)).to_contain_text("Asked for it in the shop → (empty)")
    site.segments.filter(name=LINKED).update(description="Theirs")
    person.press("Confirm import")
    messages = person.page.locator(".messagelist")
    expect(messages).to_contain_text("Nothing was imported: segments were changed")
    expect(preview_of(person)).to_contain_text("Theirs → (empty)")
    person.press("Confirm import")
    expect(messages).to_contain_text("Imported: 3 new, 2 changed, 0 unchanged.")


def test_selected_segments_are_exported(site: Site, person: Person) -> None:
    states.fill(site)
    person.arrive_as_admin().open(f"{LIST}?status__exact=synced")
    for name in ("Newsletter readers", LINKED):
        person.row(name).get_by_role("checkbox").check()
    person.page.get_by_label("Action:").select_option("export_selected")
    person.page.locator("button[name=index]").click()
    expect(person.page.get_by_text("2 segments will be exported.")).to_be_visible()
    person.page.get_by_label("Format").select_option("csv")
    with person.page.expect_download() as download:
        person.press("Submit")
    text = Path(download.value.path()).read_text("utf-8-sig")
    names = [row["name"] for row in csv.DictReader(io.StringIO(text))]
    assert names == [LINKED, "Newsletter readers"]


def test_the_picture_of_a_preview(site: Site, visit: Callable[..., Person], tmp_path: Path) -> None:
    states.fill(site)
    person = visit(site, viewport={"width": 1180, "height": 800}).arrive_as_admin()
    person.open(f"{LIST}import/")
    person.press("Toggle navigation")
    choose(person, mixed_file(site))
    expect(preview_of(person)).to_be_visible()
    picture(person.page.locator("#main"), "preview", tmp_path)


class TestUnfold:
    @pytest.fixture
    def settings_module(self) -> str:
        return "tests.browser.unfold_settings"

    def test_a_file_is_imported_and_exported(
        self, site: Site, visit: Callable[..., Person]
    ) -> None:
        states.fill(site)
        person = visit(site, viewport={"width": 1400, "height": 900}).arrive_as_admin()
        person.open_list()
        person.page.get_by_role("link", name="Import file").click()
        choose(person, mixed_file(site))
        expect(preview_of(person)).to_contain_text("3 new")
        for width in (360, 1280):
            person.page.set_viewport_size({"width": width, "height": 800})
            assert person.page.evaluate("document.documentElement.scrollWidth") <= width
        person.press("Confirm import")
        expect(person.page.get_by_text("Imported: 3 new, 2 changed, 0 unchanged.")).to_be_visible()
        person.page.get_by_role("link", name="Export").click()
        expect(person.page.get_by_text("10 segments will be exported.")).to_be_visible()
        person.page.get_by_label("Format").select_option("xlsx")
        with person.page.expect_download() as download:
            person.press("Submit")
        assert download.value.suggested_filename.endswith(".xlsx")

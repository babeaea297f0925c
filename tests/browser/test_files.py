"""A file of segments is previewed, imported and exported in the browser."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import FilePayload, expect

from tests.browser.people import Person
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
    preview = person.page.get_by_role("region", name="Preview")
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

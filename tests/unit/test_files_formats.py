"""Files as people save them: what is read, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import openpyxl
import pytest
from openpyxl.cell import WriteOnlyCell

from bunce_sync.admin.files import formats
from bunce_sync.admin.files.formats import CSV, JSON, MISSING, XLSX, FileError, Table

#: Texts that spreadsheets, CSV or XML treat in a special way.
TEXTS = [
    *("=1+1", "+1", "-10 % off", "@home", "'=quoted", "''=twice", "'tis", "\tTab", "#N/A", "#REF!"),
    *(
        "007",
        "1e5",
        "TRUE",
        "a,b;c",
        'say "hi"',
        "two\nlines",
        "two\r\nlines",
        "Café",
        "日本",
        "🎂",
    ),
    *("_x0041_", "_x005F_", " ends ", "x" * 300),
]


def workbook(*rows: list[Any], active: int = 0) -> bytes:
    """Return a workbook; the rows are in the sheet that is selected."""
    book = openpyxl.Workbook()
    for _ in range(active):
        book.create_sheet()
    book.active = active
    for row in rows:
        book.worksheets[active].append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def read(format_class: type[Any], data: bytes) -> Table:
    table = format_class().create_dataset(data)
    assert isinstance(table, Table)
    return table


def rows(table: Table) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in table]


def written(format_class: type[Any], headers: list[str], *lines: list[Any]) -> bytes:
    file = io.BytesIO()
    format_class().write(file, headers, lines)
    return file.getvalue()


class TestCSV:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
    def test_delimiters_and_encodings_are_recognized(self, delimiter: str, encoding: str) -> None:
        text = f"name{delimiter}description\r\nCafé{delimiter}„schön“\r\n"
        bom = "\ufeff" if encoding == "utf-16-be" else ""
        table = read(CSV, (bom + text).encode(encoding))
        assert table.headers == ["name", "description"]
        assert rows(table) == [("Café", "„schön“")]
        assert table.notes == []

    def test_another_encoding_is_read_as_windows_1252_and_said_to_be(self) -> None:
        table = read(CSV, "name\nCafé: 5 €\n".encode("cp1252"))
        assert rows(table) == [("Café: 5 €",)]
        assert "Windows-1252" in table.notes[0]

    def test_bytes_of_no_encoding_are_refused(self) -> None:
        with pytest.raises(FileError, match="CSV UTF-8"):
            read(CSV, b"name\n\x81\x8d\xff\n")

    def test_headers_are_compared_without_case_and_spaces(self) -> None:
        assert read(CSV, b" Name ,ADD_all_customers,,\nVIP,1,,\n").headers == [
            "name",
            "add_all_customers",
        ]

    def test_empty_rows_are_left_out_but_counted(self) -> None:
        table = read(CSV, b"\nname,description\n\nVIP,\n , \nGold,x\n,,,\n")
        assert rows(table) == [("VIP", ""), ("Gold", "x")]
        assert table.numbers == [4, 6]

    def test_short_rows_are_filled(self) -> None:
        assert rows(read(CSV, b"name,description\nVIP\n")) == [("VIP", None)]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"name,name\nA,B\n", "two columns “name”"),
            (b"name\nParis, Lyon\n", "Row 2 has more cells"),
            (b'name\n"never ends\n', "Row 2 cannot be read"),
            (b"name\n" + b"x" * 1_000_000 + b"\n", "Row 2 cannot be read"),
            (b"PK\x03\x04", "Choose the format xlsx"),
        ],
    )
    def test_what_would_have_to_be_guessed_is_refused(self, data: bytes, message: str) -> None:
        with pytest.raises(FileError, match=message):
            read(CSV, data)

    @pytest.mark.parametrize("data", [b"", b"\n\n", b"name\n", b"\xef\xbb\xbf"])
    def test_an_empty_file_has_no_rows(self, data: bytes) -> None:
        assert len(read(CSV, data)) == 0

    def test_there_is_a_limit_of_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(formats, "MAX_ROWS", 2)
        assert len(read(CSV, b"name\nA\nB\n\n")) == 2
        with pytest.raises(FileError, match="more than 2 rows"):
            read(CSV, b"name\nA\nB\nC\n")

    def test_a_spreadsheet_does_not_read_texts_as_formulas(self) -> None:
        data = written(CSV, ["name"], *([text] for text in TEXTS))
        cells = data.decode("utf-8-sig").replace('"', "").splitlines()
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]

    def test_values_of_other_kinds(self) -> None:
        at = datetime(2026, 1, 5, 8, 30, tzinfo=ZoneInfo("Africa/Lagos"))
        data = written(CSV, list("abcde"), [None, True, False, -5, at])
        assert data.decode("utf-8-sig").splitlines()[1] == ",1,0,-5,2026-01-05 08:30:00+01:00"


class TestXLSX:
    def test_numbers_dates_and_booleans(self) -> None:
        day = datetime(2026, 1, 5)  # noqa: DTZ001 - workbooks know no time zones
        data = workbook(["Name", "x"], [123, 1.0], [0.5, True], [day, day.replace(hour=8)])
        texts = [[formats.as_text(cell) for cell in row] for row in rows(read(XLSX, data))]
        assert texts == [["123", "1"], ["0.5", "true"], ["2026-01-05", "2026-01-05 08:00:00"]]
        assert formats.as_text(date(2026, 1, 5)) == "2026-01-05"

    def test_a_formula_is_read_as_the_value_that_excel_stored(self) -> None:
        # openpyxl stores no values of formulas.
        data = workbook(["name", "description"], ["=A1", "x"])
        assert rows(read(XLSX, data)) == [(None, "x")]

    def test_the_error_of_a_formula_is_refused(self) -> None:
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet()
        sheet.append(["name"])
        cell = WriteOnlyCell(sheet, value="#REF!")
        cell.data_type = "e"
        sheet.append([cell])
        file = io.BytesIO()
        book.save(file)
        with pytest.raises(FileError, match="Row 2 has the error #REF! in the column A"):
            read(XLSX, file.getvalue())

    def test_the_selected_sheet_is_read(self) -> None:
        assert rows(read(XLSX, workbook(["name"], ["VIP"], active=2))) == [("VIP",)]

    def test_empty_rows_are_left_out_but_counted(self) -> None:
        table = read(XLSX, workbook(["name"], [None], ["VIP"], [" "], ["Gold"]))
        assert rows(table) == [("VIP",), ("Gold",)]
        assert table.numbers == [3, 5]

    @pytest.mark.parametrize("data", [b"", b"name\nVIP\n", b"PK\x03\x04 but no archive"])
    def test_another_file_is_refused(self, data: bytes) -> None:
        with pytest.raises(FileError, match=r"not an Excel workbook"):
            read(XLSX, data)

    def test_a_workbook_that_unpacks_to_too_much_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/workbook.xml", b"0" * 1_000_000)
        monkeypatch.setattr(formats, "MAX_UNPACKED_BYTES", 999_999)
        with pytest.raises(FileError, match="too large"):
            read(XLSX, file.getvalue())

    def test_there_is_a_limit_of_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(formats, "MAX_ROWS", 2)
        monkeypatch.setattr(formats, "MAX_EXCEL_ROWS", 5)
        for lines in (["A"] * 3, [None] * 5):
            with pytest.raises(FileError, match="more than 2 rows"):
                read(XLSX, workbook(["name"], *([line] for line in lines)))

    def test_texts_are_texts_and_not_formulas_or_errors(self) -> None:
        data = written(XLSX, ["name"], *([text] for text in TEXTS))
        sheet = openpyxl.load_workbook(io.BytesIO(data)).active
        assert sheet is not None
        assert {cell.data_type for (cell,) in sheet.iter_rows(min_row=2)} == {"s"}

    def test_a_text_that_excel_would_cut_is_refused(self) -> None:
        with pytest.raises(ValueError, match="32,767 characters"):
            written(XLSX, ["name"], ["x" * 32_768])

    def test_values_of_other_kinds(self) -> None:
        at = datetime(2026, 1, 5, 8, 30, tzinfo=ZoneInfo("Africa/Lagos"))
        data = written(XLSX, list("abcde"), [None, True, -5, 10**17, at])
        [row] = rows(read(XLSX, data))
        local = at.replace(tzinfo=None)  # workbooks know no time zones
        assert row == (None, True, -5, str(10**17), local)


class TestJSON:
    def test_objects_may_lack_keys(self) -> None:
        table = read(JSON, b'[{"name": "VIP"}, {"description": null, "name": 123}]')
        assert table.headers == ["name", "description"]
        assert rows(table) == [("VIP", MISSING), (123, None)]
        assert table.numbers == [1, 2]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "not valid JSON"),
            (b"[", "not valid JSON"),
            (b"[" * 100_000, "not valid JSON"),
            (b'[{"name": ' + b"9" * 5_000 + b"}]", "not valid JSON"),
            (b"\x81", "not valid JSON"),
            (b'{"name": "VIP"}', "list of objects"),
            (b'[["name"], ["VIP"]]', "list of objects"),
            (b'[{"name": "A", "NAME": "B"}]', "two columns “name”"),
        ],
    )
    def test_anything_else_is_refused(self, data: bytes, message: str) -> None:
        with pytest.raises(FileError, match=message):
            read(JSON, data)

    def test_half_a_surrogate_pair_in_a_key_can_be_shown(self) -> None:
        assert read(JSON, b'[{"\\ud800": 1}]').headers == ["\\ud800"]

    def test_no_rows_are_a_list(self) -> None:
        assert json.loads(written(JSON, ["name"])) == []


@pytest.mark.parametrize("format_class", [CSV, XLSX, JSON])
def test_texts_come_back_as_they_were(format_class: type[Any]) -> None:
    data = written(format_class, ["number", "name"], *([n, t] for n, t in enumerate(TEXTS)))
    back = [formats.as_text(name) for _, name in rows(read(format_class, data))]
    assert back == TEXTS


def test_control_characters_come_back_from_workbooks_and_json() -> None:
    """Bunce may have such names; CSV programs keep them as well, but need no care."""
    text = "".join(map(chr, [*range(1, 32), 127, 0xFFFE, 0xFFFF]))
    for format_class in (XLSX, JSON):
        assert rows(read(format_class, written(format_class, ["name"], [text]))) == [(text,)]

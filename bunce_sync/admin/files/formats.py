"""The formats of files: CSV, Excel workbooks and JSON, written row by row in bounded memory.

Reading is tolerant of what spreadsheets save (semicolons, a byte order mark, UTF-16, empty rows),
and refuses what it would have to guess.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, BinaryIO, Final

import tablib
from django.utils import formats
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from import_export.formats import base_formats

#: The most rows of a file that are read; a web request has to check and store them.
MAX_ROWS: Final = 20_000
#: The most rows of a worksheet, with those that are empty.
MAX_EXCEL_ROWS: Final = 100_000
#: The most bytes of a file, and of the unpacked contents of a workbook.
MAX_BYTES: Final = 20 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 200 * 1024 * 1024
#: The most characters of an Excel cell.
MAX_EXCEL_TEXT: Final = 32_767
#: Numbers with more digits would be rounded by Excel.
MAX_EXCEL_NUMBER: Final = 10**15

#: A cell that a row of a JSON file does not have. An empty cell would clear the field.
MISSING: Final = object()

DELIMITERS: Final = (",", ";", "\t")
#: The beginnings of cells that spreadsheets read as formulas from a CSV file, and of those that
#: were escaped by one more quote.
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")
_ESCAPED_FORMULA: Final = re.compile(r"'+[=+\-@\t\r\n]")
#: What XML cannot hold, and what Excel would read as an escaped character.
_UNSAFE_IN_XML: Final = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_ESCAPED_IN_XML: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")

NOT_UTF8: Final = gettext_lazy(
    "The file is not encoded in UTF-8. It was read as Windows-1252: check the accented letters."
)


class FileError(ValueError):
    """A file cannot be read as a table. The message is for the person who chose it."""


class Table(tablib.Dataset):
    """The rows of a file under their headers.

    Attributes:
        numbers: the number of each row in the file, as spreadsheets count them.
        notes: what the person should know about how the file was read.
    """

    def __init__(self, headers: Sequence[str], notes: Iterable[str] = ()) -> None:
        super().__init__(headers=headers)
        self.numbers: list[int] = []
        self.notes: list[str] = [*notes]


def read_table(rows: Iterable[tuple[int, Sequence[Any]]], notes: Iterable[str] = ()) -> Table:
    """Return the table of numbered rows, the first of which contains the headers.

    Raises:
        FileError: a header is repeated, a row is too long, or there are too many rows.
    """
    numbered = ((number, cells) for number, cells in rows if not is_blank(cells))
    _number, first = next(numbered, (0, ()))
    headers = [_as_header(cell) for cell in first]
    while headers and not headers[-1]:
        headers.pop()
    if repeated := [name for name in dict.fromkeys(headers) if name and headers.count(name) > 1]:
        raise FileError(_("The file has two columns “%(name)s”.") % {"name": repeated[0]})
    table = Table(headers, notes)
    for number, cells in numbered:
        if len(table.numbers) >= MAX_ROWS:
            raise FileError(too_many_rows())
        row = [*cells[: len(headers)]]
        if not is_blank(cells[len(headers) :]):
            raise FileError(
                _(
                    "Row %(number)d has more cells than the first row. In a CSV file, put texts"
                    " that contain a comma or semicolon in quotes."
                )
                % {"number": number}
            )
        table.append(row + [None] * (len(headers) - len(row)))
        table.numbers.append(number)
    return table


def is_blank(cells: Iterable[Any]) -> bool:
    """Return whether no cell has a value."""
    return all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in cells)


def too_many_rows() -> str:
    """Return the message about a file with more than ``MAX_ROWS`` rows."""
    return _("The file has more than %(max)s rows. Split it into several files.") % {
        "max": grouped(MAX_ROWS)
    }


def _as_header(cell: Any) -> str:
    return "" if cell is None else printable(as_text(cell)).strip().casefold()


class _SegmentFormat(base_formats.TablibFormat):
    """A format that reads bytes, and writes rows to a file.

    Cells to write are None, booleans, numbers, texts and local times; others become texts.
    """

    def is_binary(self) -> bool:
        return True  # the bytes say how a text is encoded

    def get_read_mode(self) -> str:
        return "rb"

    def create_dataset(self, in_stream: bytes, **kwargs: Any) -> Table:
        """Return the table in a file.

        Raises:
            FileError: the file cannot be read.
        """
        raise NotImplementedError

    def write(self, file: BinaryIO, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a table.

        Raises:
            ValueError: the format cannot hold a value.
        """
        raise NotImplementedError


class CSV(_SegmentFormat):
    """CSV as spreadsheets read it: commas, UTF-8 with a byte order mark, formulas escaped."""

    TABLIB_MODULE = "tablib.formats._csv"
    CONTENT_TYPE = "text/csv; charset=utf-8"

    def create_dataset(self, in_stream: bytes, **kwargs: Any) -> Table:
        if in_stream.startswith(b"PK\x03\x04"):
            raise FileError(_("This is a workbook, not a CSV file. Choose the format xlsx."))
        text, notes = decode(in_stream)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
        return read_table(_numbered_records(reader), notes)

    def write(self, file: BinaryIO, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        writer = csv.writer(text)
        writer.writerow(headers)
        writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
        text.detach()


def decode(data: bytes) -> tuple[str, list[str]]:
    """Return a text file's text, and notes about how it was read.

    Raises:
        FileError: the encoding is not known.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return text, [str(NOT_UTF8)] if encoding == "cp1252" else []
    raise FileError(
        _("The file's encoding is not known. In a spreadsheet, save it as “CSV UTF-8”.")
    )


def _delimiter(text: str) -> str:
    """Return what separates the most headers."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(DELIMITERS, key=first.count)


def _numbered_records(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    number = 0
    try:
        for number, record in enumerate(reader, start=1):
            yield number, [_unescaped(cell) for cell in record]
    except csv.Error as error:
        # Such as a quote that does not end, or a cell beyond csv.field_size_limit().
        message = _("Row %(number)d cannot be read: %(reason)s.")
        raise FileError(message % {"number": number + 1, "reason": error}) from error


def _unescaped(cell: str) -> str:
    return cell[1:] if _ESCAPED_FORMULA.match(cell) else cell


def _csv_cell(cell: Any) -> Any:
    match cell:
        case None:
            return ""
        case bool():  # spreadsheets translate TRUE and FALSE
            return int(cell)
        case int() | float():
            return cell
    text = as_text(cell)
    return f"'{text}" if _FORMULA.match(text) else text


class XLSX(_SegmentFormat):
    """The first, or the selected, worksheet of an Excel workbook."""

    TABLIB_MODULE = "tablib.formats._xlsx"
    CONTENT_TYPE = base_formats.XLSX.CONTENT_TYPE

    def create_dataset(self, in_stream: bytes, **kwargs: Any) -> Table:
        import openpyxl

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about features that openpyxl leaves out
            try:
                with zipfile.ZipFile(io.BytesIO(in_stream)) as archive:
                    unpacked = sum(entry.file_size for entry in archive.infolist())
            except zipfile.BadZipFile as error:
                raise FileError(_("This is not an Excel workbook (.xlsx).")) from error
            if unpacked > MAX_UNPACKED_BYTES:
                raise FileError(_("The workbook is too large."))
            # data_only: the values of formulas that Excel stored, not the formulas.
            book = openpyxl.load_workbook(io.BytesIO(in_stream), read_only=True, data_only=True)
            try:
                sheet = book.active if book.active in book.worksheets else book.worksheets[0]
                sheet.reset_dimensions()  # some programs write wrong ones
                return read_table(_numbered_excel_rows(sheet.iter_rows()))
            finally:
                book.close()

    def write(self, file: BinaryIO, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        import openpyxl
        from openpyxl.cell import WriteOnlyCell

        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet()

        def cell(value: Any) -> Any:
            match value:
                case None | bool():
                    return value
                case int() | float() if abs(value) < MAX_EXCEL_NUMBER:
                    return value
                case datetime():
                    return value.replace(tzinfo=None)  # a workbook's times have no zone
            text = _excel_text(as_text(value))
            if text[:1] not in ("=", "#"):
                return text
            # A formula or an error, unless the cell says that it is a text.
            shown = WriteOnlyCell(sheet, value=text)
            shown.data_type = "s"
            shown.quotePrefix = True
            return shown

        try:
            sheet.append([*headers])
            for row in rows:
                sheet.append([cell(value) for value in row])
        except BaseException:
            book.save(io.BytesIO())  # which removes the temporary file of the sheet
            raise
        book.save(file)


def _numbered_excel_rows(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[int, list[Any]]]:
    for number, row in enumerate(rows, start=1):
        if number > MAX_EXCEL_ROWS:
            raise FileError(too_many_rows())
        yield number, [_excel_value(cell, number) for cell in row]


def _excel_value(cell: Any, row: int) -> Any:
    """Return the value of a cell.

    Raises:
        FileError: it is the error of a formula.
    """
    if cell.data_type == "e":
        message = _("Row %(row)d has the error %(error)s in the column %(column)s.")
        values = {"row": row, "error": cell.value, "column": cell.column_letter}
        raise FileError(message % values)
    if isinstance(cell.value, str):
        return _ESCAPED_IN_XML.sub(lambda found: chr(int(found[1], 16)), cell.value)
    return cell.value


def _excel_text(text: str) -> str:
    """Return a text for the XML of a workbook.

    Raises:
        ValueError: Excel would cut it.
    """
    text = _UNSAFE_IN_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
    if len(text) > MAX_EXCEL_TEXT:
        raise ValueError(
            _("A text is longer than %(max)s characters, which Excel would cut. Choose csv.")
            % {"max": grouped(MAX_EXCEL_TEXT)}
        )
    return text


class JSON(_SegmentFormat):
    """A list of objects, one for each segment."""

    TABLIB_MODULE = "tablib.formats._json"
    CONTENT_TYPE = "application/json"

    def create_dataset(self, in_stream: bytes, **kwargs: Any) -> Table:
        try:
            items = json.loads(in_stream)
        except (ValueError, RecursionError) as error:
            raise FileError(_("This is not valid JSON: %(reason)s.") % {"reason": error}) from error
        if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
            raise FileError(_("The JSON file must be a list of objects, one for each segment."))
        keys = list(dict.fromkeys(key for item in items for key in item))
        rows = ([item.get(key, MISSING) for key in keys] for item in items)
        # Numbered from 1, without a row of headers.
        return read_table(enumerate([keys, *rows]))

    def write(self, file: BinaryIO, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        separator = "[\n"
        for row in rows:
            item = {name: _json_value(cell) for name, cell in zip(headers, row, strict=True)}
            file.write((separator + json.dumps(item, ensure_ascii=False)).encode())
            separator = ",\n"
        file.write(b"[]\n" if separator == "[\n" else b"\n]\n")


def _json_value(cell: Any) -> Any:
    return cell if cell is None or isinstance(cell, bool | int | float) else as_text(cell)


#: The formats to choose from; a workbook needs openpyxl.
FORMATS: Final = tuple(one for one in (CSV, XLSX, JSON) if one.is_available())


def as_text(value: Any) -> str:
    """Return a value as a text, which ``ModelField.clean`` reads.

    Whole numbers of spreadsheets have no decimal point, and dates without a time have none.
    """
    match value:
        case str():
            return value
        case datetime():
            is_date = value.tzinfo is None and value.time() == time()
            return value.date().isoformat() if is_date else value.isoformat(" ")
        case date() | time():
            return value.isoformat()
        case float() if value.is_integer() and abs(value) < MAX_EXCEL_NUMBER:
            return str(int(value))
        case bool() | dict() | list():
            return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def grouped(count: int) -> str:
    """Return a number with separators between thousands."""
    return formats.number_format(count, use_l10n=True, force_grouping=True)


def printable(text: str) -> str:
    """Return a text without lone surrogates, which no response can contain."""
    return text.encode("utf-8", "backslashreplace").decode()

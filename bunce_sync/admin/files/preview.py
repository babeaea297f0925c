"""What the preview of an import shows: totals, and the first rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bunce_sync.admin.files.formats import grouped, printable
from bunce_sync.admin.files.resource import FileResult, Row
from bunce_sync.models import Segment
from bunce_sync.status import messages

#: Rows that the preview shows of those that change something, and of those with errors.
MAX_SHOWN: Final = 100
#: Characters of a value that it shows.
VALUE_LENGTH: Final = 120


def preview(result: FileResult, link: Callable[[Segment], str]) -> dict[str, Any]:
    """Return the context of ``import_preview.html``.

    Args:
        link: returns the URL of a segment's page.
    """
    if result.base_errors:  # the rows cannot be read, or were not stored
        return {"problems": [printable(str(error.error)) for error in result.base_errors]}
    refused = result.invalid
    valid = [row for row in result.rows if row.is_valid()]
    rows = [] if refused else valid
    totals = {
        "new": (len(result.new), _("new")),
        "changed": (len(result.changed), _("changed")),
        "unchanged": (result.totals["skip"], _("unchanged")),
        "refused": (len(refused), _("with errors")),
    }
    hidden = max(0, len(refused or rows) - MAX_SHOWN)
    return {
        "totals": [
            {"name": name, "count": grouped(count), "label": label, "empty": not count}
            for name, (count, label) in totals.items()
        ],
        "notes": _notes(result),
        "nothing": not (valid or refused),
        "refused": [_refused(row) for row in refused[:MAX_SHOWN]],
        "rows": [_row(row, link) for row in rows[:MAX_SHOWN]],
        "hidden": hidden,
        "hidden_count": grouped(hidden),
    }


def _notes(result: FileResult) -> list[str]:
    """Return what the person should know before confirming."""
    notes = [*result.notes]
    if result.ignored:
        names = printable(", ".join(result.ignored))
        notes.append(_("These columns are not imported: %(names)s.") % {"names": _short(names)})
    new = [] if result.invalid else result.new
    if new:
        notes.append(
            _("Bunce's API cannot delete segments: check the new ones before you import them.")
        )
    if count := sum(row.instance.add_all_customers for row in new):
        notes.append(
            ngettext(
                "%(n)s new segment adds all customers, which cannot be changed later.",
                "%(n)s new segments add all customers, which cannot be changed later.",
                count,
            )
            % {"n": grouped(count)}
        )
    if count := sum(row.doubled for row in new):
        notes.append(
            ngettext(
                "%(n)s new segment has the name of another segment. To change that one instead,"
                " give its id.",
                "%(n)s new segments have the names of other segments. To change those instead,"
                " give their ids.",
                count,
            )
            % {"n": grouped(count)}
        )
    return notes


def _row(row: Row, link: Callable[[Segment], str]) -> dict[str, Any]:
    segment = row.instance
    return {
        "number": str(row.number),  # as text: a template would add thousands separators
        "new": row.is_new(),
        "doubled": row.doubled,
        "name": printable(str(segment)) if row.is_new() else row.label_before,
        "url": "" if row.is_new() else link(segment),
        "changes": [
            {
                "label": _label(segment, name),
                "before": "" if row.is_new() else _readable(before),
                "after": _readable(after),
            }
            for name, (before, after) in row.changes.items()
            if not (row.is_new() and name == "name")
        ],
    }


def _refused(row: Row) -> dict[str, Any]:
    return {
        "number": str(row.number),
        "name": _short(printable(row.label)),
        "messages": [*_messages(row)],
    }


def _messages(row: Row) -> Sequence[str]:
    """Return the errors of a row, each with the column it is about."""
    if not isinstance(row.validation_error, ValidationError):
        return [printable(str(error.error)) for error in row.errors]
    error = row.validation_error
    by_column = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
    return [
        printable(message if column in ("", NON_FIELD_ERRORS) else f"{column}: {message}")
        for column, found in by_column.items()
        for message in found
    ]


def _label(segment: Segment, name: str) -> str:
    field: Any = segment._meta.get_field(name)
    return capfirst(str(field.verbose_name))


def _readable(value: Any) -> str:
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    return _short(printable(str(value))) if value not in (None, "") else str(messages.EMPTY_VALUE)


def _short(text: str) -> str:
    return Truncator(text).chars(VALUE_LENGTH)

"""What the list shows of a segment, cell by cell; an open page gets the same cells anew.

Each cell has an id, by which the script in the page exchanges it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet, Subquery
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from bunce_sync.admin.icons import icon
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ApiCall, OperationState, Segment, SyncState
from bunce_sync.status import messages
from bunce_sync.status.presenters import format_time

Status = Segment.Status

#: What stands for a value that is not there.
NONE = SafeString('<span class="bunce-none">-</span>')


def annotated(rows: QuerySet[Segment]) -> QuerySet[Segment]:
    """The rows with what a badge needs to know beside them, in the same query.

    They get ``db_now``, the database's time; ``gate_until``, when the rate limiter opens if closed; and
    ``create_until`` and ``update_until``, when these operations are tried again if paused.
    """
    rate_limiter = SyncState.objects.filter(pk=1).values("blocked_until")
    operations = OperationState.objects.values("blocked_until")
    return rows.annotate(
        db_now=DatabaseNow(),
        gate_until=Subquery(rate_limiter),
        create_until=Subquery(operations.filter(pk=ApiCall.Operation.CREATE)),
        update_until=Subquery(operations.filter(pk=ApiCall.Operation.UPDATE)),
    )


def badge(
    segment: Segment, *, now: datetime, gate_until: datetime | None, paused: bool = False
) -> SafeString:
    """The state as an icon and a word, with the time until the next try counting down.

    Args:
        now: the database's time.
        gate_until: until when no such request may be made, if that lies ahead.
        paused: the operation that the row needs is paused, though perhaps to be tried right now.
    """
    look, word, until = segment.status, str(segment.get_status_display()), None
    if segment.status == Status.PENDING:
        closed = gate_until is not None and gate_until > now
        waits = [at for at in (segment.due_at, gate_until) if at is not None and at > now]
        until = max(waits, default=None)
        if paused and not closed:
            look, word, until = "paused", str(messages.BADGE_PAUSE_OVER), None
        elif until is not None:
            look = "paused" if closed else look
            word = str(messages.BADGE_PAUSED if closed else messages.BADGE_RETRYING)
    elif segment.status == Status.SYNCED and segment.trouble in messages.BADGE_SYNCED:
        look, word = "drift", str(messages.BADGE_SYNCED[segment.trouble])
    return format_html(
        '<span class="bunce-badge bunce-badge-{}" data-bunce-status="{}" data-bunce-say="{}">'
        "{}<span>{}{}</span></span>",
        look,
        look,
        f"{segment.name}: {word}.",
        icon(look),
        word,
        _countdown(until, now) if until else "",
    )


def gone() -> SafeString:
    """In place of the badge of a row that was deleted while its list was open."""
    return format_html(
        '<span class="bunce-badge bunce-badge-gone" data-bunce-status="gone" data-bunce-say="{}">'
        "{}<span>{}</span></span>",
        f"{messages.BADGE_GONE}.",
        icon("gone"),
        messages.BADGE_GONE,
    )


def _countdown(until: datetime, now: datetime) -> SafeString:
    """The clock time for a page without script; the script counts the seconds down instead."""
    return format_html(
        ' <time class="bunce-countdown" datetime="{}" data-bunce-until="{}">{}</time>',
        until.isoformat(),
        f"{until.timestamp():.3f}",
        messages.AT_TIME % {"time": format_time(until, now)},
    )


def bunce_id(segment: Segment) -> SafeString:
    """The id with a button that copies it."""
    if not segment.bunce_id:
        return NONE
    return with_copy(
        segment.bunce_id, f"id-{segment.pk}", messages.COPY_ID % {"id": segment.bunce_id}
    )


def with_copy(text: str, name: str, label: str) -> SafeString:
    """A text with a button that copies it, and shows for a moment that it did.

    Args:
        name: tells this button from the others of the page.
        label: for those who do not see beside what it stands.
    """
    return format_html(
        '<span class="bunce-id"><code title="{}">{}</code><button type="button" class="bunce-copy"'
        ' id="bunce-copy-{}" data-bunce-copy="{}" title="{}" aria-label="{}">{}{}</button></span>',
        text,
        text,
        name,
        text,
        messages.COPY,
        label,
        icon("copy"),
        icon("synced"),
    )


def bunce_type(segment: Segment) -> SafeString:
    known = segment.bunce_type
    return format_html("{}", messages.TYPES.get(known, known)) if known else NONE


def bunce_created_at(segment: Segment) -> SafeString:
    return time(segment.bunce_created_at)


def updated_at(segment: Segment) -> SafeString:
    return time(segment.updated_at)


def time(at: datetime | None, *, seconds: bool = False) -> SafeString:
    """A moment in the site's zone, or what stands for none."""
    if at is None:
        return NONE
    local = timezone.localtime(at)
    return format_html(
        '<time class="bunce-time" datetime="{}"><span>{}</span> <span>{}</span></time>',
        at.isoformat(),
        formats.date_format(local, "SHORT_DATE_FORMAT"),
        formats.time_format(local, "H:i:s" if seconds else "TIME_FORMAT"),
    )


def _badge_of_row(row: Any) -> SafeString:
    paused = row.create_until if row.creates else row.update_until
    until = max(filter(None, (row.gate_until, paused)), default=None)
    return badge(row, now=row.db_now, gate_until=until, paused=paused is not None)


#: The cells that change by themselves; the rows are those of ``annotated``.
CELLS: Final[Mapping[str, Callable[[Any], SafeString]]] = {
    "badge": _badge_of_row,
    "bunce_id": bunce_id,
    "type": bunce_type,
    "created": bunce_created_at,
    "updated": updated_at,
}


def cell(name: str, row: Any) -> SafeString:
    """A cell with its id."""
    return format_html('<span id="{}">{}</span>', cell_id(name, row.pk), CELLS[name](row))


def cell_id(name: str, pk: int) -> str:
    """The id of a cell in the page."""
    return f"bunce-{name}-{pk}"

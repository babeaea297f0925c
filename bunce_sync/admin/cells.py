"""The cells of the segment list, and the icons, as HTML.

Each cell has an id, so that the script of an open page can replace it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, wraps
from typing import Any, Final

from django.contrib import admin
from django.db.models import Exists, QuerySet, Subquery
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst

from bunce_sync.choices import Operation, Status
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ImportRun, OperationState, PushHold, Segment, SyncState
from bunce_sync.status import messages
from bunce_sync.status.presenters import format_time

#: Shown for a missing value.
EMPTY = SafeString('<span class="bunce-empty">-</span>')

#: Paths in a square of 16, stroked in the text's colour. Inline, since an icon font or a sprite
#: from another host would need a looser Content-Security-Policy.
ICONS: Final = {
    "pending": "M8 4.5V8l2.5 1.5M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
    "sending": "M8 13V3M4 7l4-4 4 4",
    "synced": "m3 8.5 3.5 3.5L13 4.5",
    "in_doubt": "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10Zm3.5-1.5L14 14",
    "rejected": "M8 2 15 14H1L8 2Zm0 4.5V10m0 2v.01",
    "drift": "M3 6h9l-3-3m4 7H4l3 3",
    "paused": "M5.5 3v10M10.5 3v10",
    "import": "M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11",
    "copy": "M5.5 5.5v-3h8v8h-3m-8-5h8v8h-8v-8Z",
    "deleted": "M3 8h10",
}


@cache
def icon(name: str) -> SafeString:
    """Return an icon, hidden from screen readers: a word beside it says the same."""
    return format_html(
        '<svg class="bunce-icon" viewBox="0 0 16 16" width="16" height="16" fill="none"'
        ' stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"'
        ' aria-hidden="true" focusable="false"><path d="{}"/></svg>',
        mark_safe(ICONS[name]),  # noqa: S308 - one of the constants above
    )


def with_pauses(segments: QuerySet[Segment]) -> QuerySet[Segment]:
    """Annotate segments with what their badges show, in the same query.

    The annotations are ``db_now``, the database's time; ``limiter_until``, until when the rate
    limiter is closed; ``create_until`` and ``update_until``, until when these operations are
    paused; ``all_held`` and ``creates_held``, whether a person or an import holds pushes.
    """
    here = conf.environment
    limiter = SyncState.objects.filter(environment=here).values("blocked_until")
    operations = OperationState.objects.filter(environment=here).values("blocked_until")
    imports = ImportRun.objects.filter(environment=here, finished_at=None, adopt=True)
    return segments.annotate(
        db_now=DatabaseNow(),
        limiter_until=Subquery(limiter),
        create_until=Subquery(operations.filter(operation=Operation.CREATE)),
        update_until=Subquery(operations.filter(operation=Operation.UPDATE)),
        all_held=Exists(PushHold.objects.filter(pauses_all=True)),
        creates_held=Exists(imports),
    )


def badge(
    segment: Segment, *, now: datetime, blocked_until: datetime | None, paused: bool, held: bool
) -> SafeString:
    """Return the status as icon and label, with a countdown to the next attempt.

    Args:
        now: the database's time.
        blocked_until: until when no request may be made for the segment.
        paused: whether its next operation is paused, or about to be probed.
        held: whether a person, a block or an import holds it.
    """
    style, label, until = segment.status, str(segment.get_status_display()), None
    if not segment.is_here:
        kind = segment.environment.partition(" ")[2]
        style, label = "paused", str(messages.BADGE_ELSEWHERE % {"environment": kind})
    elif segment.status == Status.PENDING and held:
        by_block = segment.hold_id is not None
        label = str(messages.BADGE_HELD if by_block else messages.BADGE_PAUSE_OVER)
        style = "paused"
    elif segment.status == Status.PENDING:
        closed = blocked_until is not None and blocked_until > now
        times = [at for at in (segment.due_at, blocked_until) if at is not None and at > now]
        until = max(times, default=None)
        if paused and not closed:
            style, label, until = "paused", str(messages.BADGE_PAUSE_OVER), None
        elif until is not None:
            style = "paused" if closed else style
            label = str(messages.BADGE_PAUSED if closed else messages.BADGE_RETRYING)
    elif segment.status == Status.SYNCED and segment.problem_code in messages.BADGE_SYNCED:
        style, label = "drift", str(messages.BADGE_SYNCED[segment.problem_code])
    return _badge(style, label, f"{segment.name}: {label}.", _countdown(until, now))


def deleted_badge() -> SafeString:
    """Return the badge of a segment that was deleted while its list was open."""
    return _badge("deleted", messages.BADGE_GONE, f"{messages.BADGE_GONE}.")


def _badge(
    style: str, label: messages.Text, announcement: str, countdown: SafeString | str = ""
) -> SafeString:
    return format_html(
        '<span class="bunce-badge bunce-badge-{}" data-bunce-status="{}"'
        ' data-bunce-announcement="{}">{}<span>{}{}</span></span>',
        style,
        style,
        announcement,
        icon(style),
        label,
        countdown,
    )


def _countdown(until: datetime | None, now: datetime) -> SafeString | str:
    """Return the time of day; the script replaces it with the seconds left."""
    if until is None:
        return ""
    return format_html(
        ' <time class="bunce-countdown" datetime="{}" data-bunce-until="{}">{}</time>',
        until.isoformat(),
        f"{until.timestamp():.3f}",
        messages.AT_TIME % {"time": format_time(until, now)},
    )


def copyable(text: str, key: str, label: str) -> SafeString:
    """Return a text with a button that copies it and briefly confirms that.

    Args:
        key: makes the button's id unique on the page.
        label: for screen readers.
    """
    return format_html(
        '<span class="bunce-id"><code title="{}">{}</code><button type="button" class="bunce-copy"'
        ' id="bunce-copy-{}" data-bunce-copy="{}" title="{}" aria-label="{}">{}{}</button></span>',
        text,
        text,
        key,
        text,
        messages.COPY,
        label,
        icon("copy"),
        icon("synced"),
    )


def copyable_id(bunce_id: str, key: object) -> SafeString:
    """Return a Bunce id with a button that copies it."""
    return copyable(bunce_id, f"id-{key}", messages.COPY_ID % {"id": bunce_id})


def grouped(number: int) -> str:
    """Return a number with thousands separators."""
    return formats.number_format(number, use_l10n=True, force_grouping=True)


def type_label(segment: Segment) -> SafeString:
    """Return the translated type; one that Bunce does not document is shown unchanged."""
    known = segment.bunce_type
    return format_html("{}", messages.TYPES.get(known, known)) if known else EMPTY


def time(at: datetime | None, *, seconds: bool = False) -> SafeString:
    """Return date and time in the site's time zone, as short as a column needs them."""
    if at is None:
        return EMPTY
    local = timezone.localtime(at)
    return format_html(
        '<time class="bunce-time" datetime="{}"><span>{}</span> <span>{}</span></time>',
        at.isoformat(),
        formats.date_format(local, "SHORT_DATE_FORMAT"),
        formats.time_format(local, "H:i:s" if seconds else "H:i"),
    )


def column(
    label: Any, ordering: str | None = None
) -> Callable[[Callable[[Any, Any], SafeString | str]], Callable[[Any, Any], SafeString]]:
    """Return a decorator for a method of a ``ModelAdmin`` that returns a cell of a list.

    The cell contains its heading as well, which is shown where rows are cards.
    """

    def decorate(
        content: Callable[[Any, Any], SafeString | str],
    ) -> Callable[[Any, Any], SafeString]:
        @wraps(content)
        def show(model_admin: Any, row: Any) -> SafeString:
            return format_html(
                '<span class="bunce-heading">{}</span> {}',
                capfirst(str(label)),
                content(model_admin, row),
            )

        return admin.display(show, description=label, ordering=ordering)

    return decorate


def _row_badge(row: Any) -> SafeString:
    operation_until = row.create_until if row.creates else row.update_until
    until = max(filter(None, (row.limiter_until, operation_until)), default=None)
    paused = operation_until is not None
    held = row.hold_id is not None or row.all_held or (row.creates and row.creates_held)
    return badge(row, now=row.db_now, blocked_until=until, paused=paused, held=held)


#: The cells that an open page updates; their rows come from ``with_pauses``.
CELLS: Final[Mapping[str, Callable[[Any], SafeString]]] = {
    "badge": _row_badge,
    "bunce_id": lambda row: copyable_id(row.bunce_id, row.pk) if row.bunce_id else EMPTY,
    "type": type_label,
    "created": lambda row: time(row.bunce_created_at),
    "updated": lambda row: time(row.updated_at),
}


def cell(name: str, row: Any) -> SafeString:
    """Return a cell with its id."""
    return format_html('<span id="{}">{}</span>', cell_id(name, row.pk), CELLS[name](row))


def cell_id(name: str, pk: int) -> str:
    """Return the id of a cell in the page."""
    return f"bunce-{name}-{pk}"

"""The panel above the list: what is shown of the overview, and in which words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import formats, timezone
from django.utils.safestring import SafeString

from bunce_sync.admin.cells import with_copy
from bunce_sync.admin.chart import chart
from bunce_sync.admin.icons import icon
from bunce_sync.models import Segment
from bunce_sync.status import messages
from bunce_sync.status.presenters import StatusMessage, format_time, reasons_to_wait, worker_command
from bunce_sync.status.status import SyncStatus, Usage

Status = Segment.Status

#: The width of the usage bar, in the drawing's own units.
BAR_WIDTH: Final = 1000
TILES: Final = (
    Status.PENDING,
    Status.SENDING,
    Status.IN_DOUBT,
    Status.REJECTED,
    Status.SYNCED,
)


@dataclass(frozen=True, slots=True)
class Tile:
    """How many rows are in a state, and the list of them."""

    status: str
    word: str
    number: str
    some: bool
    icon: SafeString
    link: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that keeps all requests waiting; ``command`` puts an end to it, if one does."""

    told: StatusMessage
    icon: SafeString
    todo: str
    command: SafeString | str


def panel(overview: SyncStatus, admin_name: str, *, whole: bool = False) -> SafeString:
    """The panel as HTML. It holds no age and no countdown, so it changes only with the facts.

    Args:
        admin_name: of the admin site, for the links.
        whole: with the time of the last sweep, for a browser without script; for one with it, the
            age stands there instead.
    """
    changelist = reverse("admin:bunce_sync_segment_changelist", current_app=admin_name)
    return render_to_string(
        "bunce_sync/admin/panel.html",
        {
            "tiles": [_tile(status, overview.counts[status], changelist) for status in TILES],
            "notices": notices(overview),
            "usage": overview.usage,
            "usage_text": usage_text(overview.usage),
            "usage_width": _width(overview.usage),
            "bar_width": BAR_WIDTH,
            "sweep": overview.sweep,
            "swept": _at(overview) if whole else "",
            "zone_text": messages.ZONE % {"zone": timezone.get_current_timezone_name()},
            "scan": overview.scan,
            "chart": chart(overview.hour),
        },
    )


def notices(overview: SyncStatus) -> list[Notice]:
    """What keeps everything waiting, the urgent first."""
    return [_notice(told) for told in reasons_to_wait(overview)]


def _notice(told: StatusMessage) -> Notice:
    looks = icon("rejected" if told.urgent else "paused")
    todo, command, _ = told.action.partition(worker_command())
    copied = with_copy(command, "command", str(messages.COPY_COMMAND)) if command else ""
    return Notice(told, looks, todo, copied)


def _at(overview: SyncStatus) -> str:
    return str(messages.AT_TIME % {"time": format_time(overview.sweep.at, overview.now)})


def usage_text(usage: Usage) -> str:
    """The used part of the rate limit in words."""
    values = {"used": usage.used, "limit": usage.limit, "seconds": f"{usage.seconds:g}"}
    if usage.limit is None:
        return str(messages.USAGE_UNLIMITED) % values
    return str(messages.USAGE_MINUTE if usage.seconds == 60 else messages.USAGE) % values


def _width(usage: Usage) -> int:
    if not usage.limit:
        return 0
    return min(BAR_WIDTH, round(usage.used / usage.limit * BAR_WIDTH))


def _tile(status: Segment.Status, count: int, changelist: str) -> Tile:
    return Tile(
        status=status.value,
        word=str(status.label),
        number=formats.number_format(count, use_l10n=True, force_grouping=True),
        some=bool(count),
        icon=icon(status.value),
        link=f"{changelist}?status__exact={status.value}",
    )

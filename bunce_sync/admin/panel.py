"""The status panel above the list: notices, counts by status, rate limit, the last hour's chart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from django.template.loader import render_to_string
from django.utils import formats, timezone
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from bunce_sync.admin.cells import copyable, grouped, icon
from bunce_sync.admin.filters import ProblemFilter
from bunce_sync.choices import Status
from bunce_sync.status import messages
from bunce_sync.status.counts import Bucket
from bunce_sync.status.presenters import (
    StatusMessage,
    describe_clocks,
    format_time,
    reasons_to_wait,
)
from bunce_sync.status.status import SyncStatus, Usage
from bunce_sync.sync.work import KINDS

TILES: Final = (*(Status.PENDING, Status.SENDING, Status.IN_DOUBT, Status.REJECTED, Status.SYNCED),)
#: The list's parameter by which a tile filters.
STATUS_FILTER: Final = "status__exact"
#: Widths and heights are in the units of the drawings.
USAGE_WIDTH: Final = 1000
CHART_WIDTH: Final = 1200
CHART_HEIGHT: Final = 160
BAR_GAP: Final = 16
MIN_BAR_HEIGHT: Final = 8
#: Requests in a bucket that fill the chart's height, unless a bucket has more.
MIN_SCALE: Final = 5


def panel(
    status: SyncStatus,
    changelist: str,
    *,
    controls: Mapping[str, str],
    chosen: str = "",
    with_times: bool = False,
) -> SafeString:
    """Return the panel as HTML.

    Args:
        changelist: the URL of the list of segments.
        controls: the URLs of the views that the user may use, by name.
        chosen: the status by which the list is filtered. Its tile removes the filter.
        with_times: whether to include the time of the last sweep, for browsers without script. An
            update leaves it out, so that it differs only if something other than the time changed.
    """
    swept_at = format_time(status.sweep.at, status.now)
    context = {
        "notices": [
            _notice(number, message, controls, changelist)
            for number, message in enumerate([*reasons_to_wait(status), *describe_clocks(status)])
        ],
        "tiles": [
            _tile(name, status.counts[name], changelist, chosen=name == chosen) for name in TILES
        ],
        "usage": status.usage,
        "usage_text": _usage_text(status.usage),
        "usage_width": _usage_width(status.usage),
        "usage_full_width": USAGE_WIDTH,
        "sweep": status.sweep,
        "swept_at": messages.AT_TIME % {"time": swept_at} if with_times else "",
        "zone_text": messages.ZONE % {"zone": timezone.get_current_timezone_name()},
        "due": _due_text(status.due),
        "scan": status.scan,
        "import": _import(status, controls),
        "changed_text": _changed_text(status.changed_in_bunce),
        "changed_url": f"{changelist}?{urlencode({ProblemFilter.parameter_name: 'drift'})}",
        "drift_icon": icon("drift"),
        "pause_url": controls.get("pause", "") if status.pause is None else "",
        "pause_label": messages.PAUSE,
        "pause_icon": icon("paused"),
        "chart": _chart(status.hour),
    }
    return render_to_string("bunce_sync/admin/panel.html", context)


def _notice(
    number: int, message: StatusMessage, controls: Mapping[str, str], changelist: str
) -> dict[str, Any]:
    """Return a notice, with buttons that copy its command and that end what it is about."""
    is_urgent = message.urgent or message.segment_id is not None
    action, command, _rest = message.action.partition(message.command or "\0")
    copied = copyable(command, f"command-{number}", str(messages.COPY_COMMAND)) if command else ""
    return {
        "message": message,
        "urgent": is_urgent,
        "icon": icon("rejected" if is_urgent else "paused"),
        "action": action,
        "command": copied,
        "button": message.remedy if message.remedy in controls else "",
        "button_label": messages.RESUME,
        "url": "" if message.segment_id is None else f"{changelist}{message.segment_id}/change/",
        "link": messages.OPEN_SEGMENT,
    }


def _import(status: SyncStatus, controls: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the open import or the last one, in words; None before the first."""
    run = status.imported
    if run is None:
        return None
    is_open = run.finished_at is None
    if is_open:
        template: Any = messages.IMPORT_RUNNING
    else:
        template = messages.IMPORT_ENDED_EARLY if run.cancelled else messages.IMPORT_DONE
    text = template % {
        "by": run.requested_by or messages.BY_SCHEDULE,
        "time": format_time(run.requested_at if is_open else run.finished_at, status.now),
        "pages": grouped(run.pages),
        "number": run.pages,
    }
    counts = [
        str(messages.IMPORT_COUNTS[name]) % {"n": grouped(count)}
        for name, count in run.counts.items()
        if count
    ]
    return {
        "text": text,
        "counts": ", ".join(counts),
        "open": is_open,
        "icon": icon("import"),
        "button": "cancel_import" if is_open and "cancel_import" in controls else "",
        "button_label": messages.IMPORT_CANCEL,
    }


def _changed_text(count: int) -> str:
    if not count:
        return ""
    return str(messages.CHANGED_IN_BUNCE % {"n": grouped(count), "number": count})


def _tile(status: Status, count: int, changelist: str, *, chosen: bool) -> dict[str, Any]:
    return {
        "status": status.value,
        "label": status.label,
        "count": grouped(count),
        "empty": not count,
        "icon": icon(status.value),
        "chosen": chosen,
        "url": changelist if chosen else f"{changelist}?{STATUS_FILTER}={status.value}",
    }


def _usage_text(usage: Usage) -> str:
    values = {"used": usage.used, "limit": usage.limit, "seconds": f"{usage.seconds:g}"}
    if usage.limit is None:
        return str(messages.USAGE_UNLIMITED) % values
    return str(messages.USAGE_MINUTE if usage.seconds == 60 else messages.USAGE) % values


def _due_text(due: Mapping[str, int]) -> str:
    """Return how many segments are due for each kind of work, without those that have none."""
    counts = [
        f"{grouped(due[kind.name])}{kind.plus(due[kind.name])} {kind.label}"
        for kind in reversed(KINDS)
        if due[kind.name]
    ]
    return str(messages.DUE) % {"counts": ", ".join(counts)} if counts else ""


def _usage_width(usage: Usage) -> int:
    return min(USAGE_WIDTH, round(usage.used / usage.limit * USAGE_WIDTH)) if usage.limit else 0


def _chart(hour: Sequence[Bucket]) -> dict[str, Any]:
    """Return the stacked bars, the totals and a text alternative of the last hour's requests."""
    scale = max([MIN_SCALE, *(sum(_counts(bucket).values()) for bucket in hour)])
    totals = [(kind, sum(getattr(bucket, kind) for bucket in hour)) for kind in messages.CHART]
    descriptions = [_describe(bucket) for bucket in hour if any(_counts(bucket).values())]
    return {
        "width": CHART_WIDTH,
        "height": CHART_HEIGHT,
        "bars": [
            bar for n, bucket in enumerate(hour) for bar in _bars(n, bucket, scale, len(hour))
        ],
        "totals": [
            {"kind": kind, "label": messages.CHART[kind], "count": count} for kind, count in totals
        ],
        "text": "; ".join(descriptions) or _("No requests in the last hour"),
    }


def _counts(bucket: Bucket) -> dict[str, int]:
    return {kind: getattr(bucket, kind) for kind in messages.CHART}


def _bars(position: int, bucket: Bucket, scale: int, buckets: int) -> Iterator[dict[str, Any]]:
    # Whole numbers only: a localized decimal comma would break the SVG.
    step = CHART_WIDTH // buckets
    y = CHART_HEIGHT
    for kind, count in _counts(bucket).items():
        if count:
            height = max(MIN_BAR_HEIGHT, round(count / scale * CHART_HEIGHT))
            y = max(y - height, 0)
            x = position * step + BAR_GAP // 2
            size = {"x": x, "y": y, "width": step - BAR_GAP, "height": height}
            yield {"kind": kind, "title": _describe(bucket), **size}


def _describe(bucket: Bucket) -> str:
    start = formats.time_format(timezone.localtime(bucket.start), "H:i")
    parts = [f"{count} {messages.CHART[kind]}" for kind, count in _counts(bucket).items() if count]
    return f"{start}: {', '.join(parts) or 0}"

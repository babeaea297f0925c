"""Finding a segment, and saying why its state does not allow what was asked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import NotFound

from bunce_sync.api.problems import Conflict
from bunce_sync.models import Segment
from bunce_sync.models.segment_queryset import SegmentQuerySet
from bunce_sync.sync import rate_limiter

Status = Segment.Status

#: The highest id a database can give.
MAX_ID = 2**63 - 1

#: Why a segment cannot be sent now, by its state.
NOT_PUSHED: Mapping[str, str | Promise] = {
    Status.PENDING: gettext_lazy("Its state has just changed. Try again."),
    Status.SENDING: gettext_lazy("It is being sent right now. Look again in a moment."),
    Status.IN_DOUBT: gettext_lazy(
        "It was sent, and whether it arrived is not known. A look into Bunce will settle that."
    ),
    Status.SYNCED: gettext_lazy("Bunce has it as it stands here. An edit would send it again."),
    Status.REJECTED: gettext_lazy(
        "Bunce refused this content. Edit it, or retry it if Bunce would take it by now."
    ),
}
#: Why there is nothing to retry, by its state.
NOT_RETRIED: Mapping[str, str | Promise] = {
    **NOT_PUSHED,
    Status.PENDING: gettext_lazy("It waits to be sent already. Push it to send it at once."),
    Status.REJECTED: gettext_lazy("Its state has just changed. Try again."),
}
#: Why a segment cannot be deleted now, by its state.
NOT_DELETED: Mapping[str, str | Promise] = {
    Status.SENDING: gettext_lazy(
        "It is being sent right now: were it deleted, its segment in Bunce would belong to nobody."
    ),
    Status.IN_DOUBT: gettext_lazy(
        "Whether Bunce has it is being checked: were it deleted, nobody would find out."
    ),
}


def written() -> SegmentQuerySet:
    """All segments in the database where they are changed; a replica may be behind."""
    rows = Segment.objects.all()
    return rows.using(rows.write_alias)


def find(word: str, rows: Any) -> Segment:
    """The segment that an address names.

    Args:
        word: as it stands in the address.
        rows: a queryset of segments.

    Raises:
        NotFound: there is none.
    """
    # One address for each: 0001 is not another way to write 1.
    number = int(word) if re.fullmatch(r"[1-9][0-9]{,18}", word) else 0
    segment: Segment | None = rows.filter(pk=number).first() if 0 < number <= MAX_ID else None
    if segment is None:
        raise NotFound(_("There is no such segment."))
    return segment


def refused(segment: Segment, reasons: Mapping[str, str | Promise]) -> Conflict:
    """The error for a segment whose state does not allow it, with the time to wait if known."""
    segment = written().filter(pk=segment.pk).first() or segment
    until = {
        Status.SENDING: segment.lease_until,
        Status.IN_DOUBT: segment.due_at,
    }.get(Status(segment.status))
    wait = None
    if until is not None:
        now = rate_limiter.read_state(written().db)[1]
        wait = max(1, math.ceil((until - now).total_seconds()))
    reason = reasons.get(segment.status) or _("Its state has just changed. Try again.")
    return Conflict(str(reason), f"segment_{segment.status}", wait=wait)

"""The last hour's requests as bars: only whole numbers, for SVG knows no decimal commas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from django.utils import formats, timezone
from django.utils.translation import gettext as _

from bunce_sync.status import messages
from bunce_sync.status.counts import Bucket

#: The size of the drawing, in its own units.
WIDTH: Final = 1200
HEIGHT: Final = 160
GAP: Final = 16
#: So that a single request among many can still be seen.
SMALLEST: Final = 8
#: The bars' full height stands for this many requests at least.
SCALE: Final = 5
KINDS: Final = ("accepted", "rejected", "failed")


@dataclass(frozen=True, slots=True)
class Bar:
    kind: str
    x: int
    y: int
    width: int
    height: int
    title: str


@dataclass(frozen=True, slots=True)
class Sum:
    kind: str
    word: str
    count: int


@dataclass(frozen=True, slots=True)
class Chart:
    """What the template draws; ``text`` says the same in words."""

    bars: list[Bar]
    sums: list[Sum]
    text: str
    width: int = WIDTH
    height: int = HEIGHT


def chart(hour: Sequence[Bucket]) -> Chart:
    """The bars of an hour."""
    highest = max([SCALE, *(sum(_counts(bucket)) for bucket in hour)])
    sums = [
        Sum(kind, str(messages.CHART[kind]), sum(getattr(bucket, kind) for bucket in hour))
        for kind in KINDS
    ]
    told = [_told(bucket) for bucket in hour if any(_counts(bucket))]
    return Chart(
        bars=[bar for place, bucket in enumerate(hour) for bar in _stack(place, bucket, highest)],
        sums=sums,
        text="; ".join(told) if told else _("No requests in the last hour"),
    )


def _counts(bucket: Bucket) -> list[int]:
    return [getattr(bucket, kind) for kind in KINDS]


def _stack(place: int, bucket: Bucket, highest: int) -> Iterator[Bar]:
    step = WIDTH // 12
    bottom = HEIGHT
    title = _told(bucket)
    for kind, count in zip(KINDS, _counts(bucket), strict=True):
        if count:
            height = max(SMALLEST, round(count / highest * HEIGHT))
            bottom -= height
            x = place * step + GAP // 2
            yield Bar(kind, x, max(bottom, 0), step - GAP, height, title)


def _told(bucket: Bucket) -> str:
    start = formats.time_format(timezone.localtime(bucket.start), "H:i")
    parts = [
        f"{count} {messages.CHART[kind]}"
        for kind, count in zip(KINDS, _counts(bucket), strict=True)
        if count
    ]
    return f"{start}: {', '.join(parts) or 0}"

"""A date hierarchy that asks for one row instead of for every date there is.

Django's own reads all rows that match to find the years, months and days among them. Here all
that lie between the oldest row and today are offered.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date

from django.contrib.admin.views.main import ChangeList
from django.utils import dates, formats, timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _

FIELD = "created_at"
YEAR, MONTH, DAY = (f"{FIELD}__{part}" for part in ("year", "month", "day"))


@dataclass(frozen=True, slots=True)
class Step:
    """A link of the hierarchy; the names are those of Django's template. A link may be none."""

    title: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """What Django's template ``date_hierarchy.html`` needs."""

    back: Step | None
    choices: list[Step]
    show: bool = True


def hierarchy(changelist: ChangeList) -> Hierarchy | None:
    """The steps from where the list now is; None when there is not a row."""
    oldest = changelist.root_queryset.order_by("pk").values_list(FIELD, flat=True).first()
    if oldest is None:
        return None
    first, last = timezone.localdate(oldest), timezone.localdate()
    year, month, day = (_number(changelist, name) for name in (YEAR, MONTH, DAY))

    def link(**parts: int) -> str:
        return changelist.get_query_string(
            {f"{FIELD}__{name}": value for name, value in parts.items()}, [f"{FIELD}__"]
        )

    if year and month and day:
        back = Step(_month_and_year(year, month), link(year=year, month=month))
        title = formats.date_format(date(year, month, day), "MONTH_DAY_FORMAT")
        return Hierarchy(back, [Step(capfirst(title))])
    if year and month:
        days = range(1, calendar.monthrange(year, month)[1] + 1)
        offered = [date(year, month, number) for number in days]
        return Hierarchy(
            Step(str(year), link(year=year)),
            [
                Step(
                    capfirst(formats.date_format(one, "MONTH_DAY_FORMAT")),
                    link(year=year, month=month, day=one.day),
                )
                for one in offered
                if first <= one <= last
            ],
        )
    if year or first.year == last.year:
        year = year or last.year
        return Hierarchy(
            Step(_("All dates"), link()) if first.year != last.year else None,
            [
                Step(_month_and_year(year, number), link(year=year, month=number))
                for number in range(1, 13)
                if (first.year, first.month) <= (year, number) <= (last.year, last.month)
            ],
        )
    years = range(first.year, last.year + 1)
    return Hierarchy(None, [Step(str(number), link(year=number)) for number in years])


def _month_and_year(year: int, month: int) -> str:
    return f"{capfirst(str(dates.MONTHS[month]))} {year}"


def _number(changelist: ChangeList, name: str) -> int | None:
    value = str(changelist.params.get(name, ""))
    return int(value) if value.isdecimal() else None

"""Pages of a list whose rows nobody counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.paginator import Page, Paginator
from django.utils.functional import cached_property

from bunce_sync import counting
from bunce_sync.models import Segment
from bunce_sync.querysets import SegmentQuerySet

if TYPE_CHECKING:
    SegmentPaginator = Paginator[Segment]
else:
    SegmentPaginator = Paginator


class CappedPaginator(SegmentPaginator):
    """Reads the ids of the first rows once, counts those, and takes every page from them.

    A search has to read the table anyway: this way it does so once, not once to count and once
    more for the page. Rows beyond ``counting.CAP`` are reached by narrowing the list down.
    """

    object_list: SegmentQuerySet

    @cached_property
    def ids(self) -> list[int]:
        """The primary keys of the first rows, at most one more than can be paged through."""
        return list(self.object_list.values_list("pk", flat=True)[: counting.CAP + 1])

    @property
    def capped(self) -> bool:
        """Whether there are more rows than can be paged through."""
        return len(self.ids) > counting.CAP

    @cached_property
    def count(self) -> int:
        return min(len(self.ids), counting.CAP)

    def page(self, number: int | str) -> Page[Segment]:
        valid = self.validate_number(number)
        first = (valid - 1) * self.per_page
        last = min(first + self.per_page, self.count)
        return Page(self.rows(first, last), valid, self)

    def rows(self, first: int = 0, last: int | None = None) -> SegmentQuerySet:
        """Some of the rows, by their places in the list."""
        return self.object_list.filter(
            pk__in=self.ids[first : self.count if last is None else last]
        )

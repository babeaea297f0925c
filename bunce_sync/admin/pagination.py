"""Lists whose rows nobody counts, and which come in the order of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import formats
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from bunce_sync.admin.base import UNFOLD, ChangeList, ModelAdmin
from bunce_sync.status import counts

if TYPE_CHECKING:
    AnyPaginator = Paginator[Any]
else:
    AnyPaginator = Paginator

#: The order of keys, for which no further column is needed.
BY_KEY: Final = ("-pk", "-id")


class CappedPaginator(AnyPaginator):
    """Counts only the first rows; those beyond ``counts.CAP`` are reached by narrowing down.

    A search or a filter may have to read the table: this way it does so once, for the ids, from
    which the count and the page are taken. The first rows of all are counted in an index, and a
    page of them is read as it comes.
    """

    object_list: QuerySet[Any]

    @property
    def _narrowed(self) -> bool:
        return bool(self.object_list.query.where)

    @cached_property
    def _ids(self) -> list[int]:
        """The primary keys of the first rows, at most one more than can be paged through."""
        return list(self.object_list.values_list("pk", flat=True)[: counts.CAP + 1])

    @cached_property
    def _found(self) -> int:
        if self._narrowed:
            return len(self._ids)
        return self.object_list[: counts.CAP + 1].count()

    @property
    def capped(self) -> bool:
        """Whether there are more rows than can be paged through."""
        return self._found > counts.CAP

    @cached_property
    def count(self) -> int:
        return min(self._found, counts.CAP)

    def page(self, number: int | str) -> Page[Any]:
        valid = self.validate_number(number)
        first = (valid - 1) * self.per_page
        last = min(first + self.per_page, self.count)
        return Page(self.rows(first, last), valid, self)

    def rows(self, first: int = 0, last: int | None = None) -> QuerySet[Any]:
        """Some of the rows, by their places in the list."""
        end = self.count if last is None else last
        if self._narrowed:
            return self.object_list.filter(pk__in=self._ids[first:end])
        return self.object_list[first:end]


class CappedChangeList(ChangeList):
    """The rows of one page, in an order that an index has."""

    paginator: CappedPaginator
    unfold = UNFOLD

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        try:
            return super().get_queryset(request, *args, **kwargs)
        except (OverflowError, ValueError) as error:  # a date beyond the last one there is
            raise IncorrectLookupParameters(error) from error

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """One column and, in the same direction, the key: what an index has in order.

        Django's own order would go back and forth, as in "name, -id", and take further columns.
        """
        first = str(super().get_ordering(request, queryset)[0])
        return [first] if first in BY_KEY else [first, "-pk" if first.startswith("-") else "pk"]

    def get_ordering_field_columns(self) -> dict[int, Literal["asc", "desc"]]:
        """The one column by which the rows are really ordered."""
        return dict(list(super().get_ordering_field_columns().items())[:1])

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.capped = self.paginator.capped
        if not self.multi_page or (self.show_all and self.can_show_all):
            self.result_list = self.paginator.rows()

    @property
    def without_search(self) -> str:
        """The address of the same list, with its filters and in its popup, without the search."""
        return self.get_query_string(remove=[SEARCH_VAR])

    @property
    def capped_text(self) -> str:
        """Why not every row can be paged to, and how to get at the others."""
        total = None
        if not self.get_filters_params() and not self.query:
            total = counts.estimated_rows(self.model, self.queryset.db)
        values = {"shown": _grouped(counts.CAP), "rows": self.opts.verbose_name_plural}
        if total and total > counts.CAP:
            rounded = round(total, 2 - len(str(total)) + 1)
            return _(
                "The first %(shown)s of about %(total)s %(rows)s. The number is estimated, as"
                " counting them would take long. Search, filter or choose a date to see others."
            ) % {**values, "total": _grouped(rounded)}
        return (
            _(
                "The first %(shown)s %(rows)s of more, which are not counted, as that would take"
                " long. Search, filter or choose a date to see others."
            )
            % values
        )


class Capped(ModelAdmin):
    """A list of such pages, for the classes of the admin."""

    list_per_page = 50
    list_max_show_all = 200
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CappedChangeList

    def get_paginator(self, *args: Any, **kwargs: Any) -> Paginator[Any]:
        return CappedPaginator(*args[1:], **kwargs)


def _grouped(number: int) -> str:
    return formats.number_format(number, use_l10n=True, force_grouping=True)

"""The list of a model: it loads no long texts, and no parameter of its URL makes it fail."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError, NotSupportedError, connections, transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from bunce_sync.admin.base import ModelAdmin

#: What a value in the URL can cause that Django finds only when the query is built or run, such
#: as a year or a number that is out of range, or a lookup that the database does not offer.
UNUSABLE: Final = (
    *(ValueError, TypeError, OverflowError, NotImplementedError),
    *(DataError, NotSupportedError),
)
#: Lookups that one text cannot serve, that are not complete on every database, or whose cost
#: and errors are up to the pattern.
REFUSED_LOOKUPS: Final = frozenset({"range", "search", "regex", "iregex"})


class LeanChangeList(ChangeList):
    """A list that leaves out columns, and treats an unusable value as Django does others."""

    #: The columns that are not loaded, unless the list shows them.
    long_fields: tuple[str, ...] = ()

    def get_queryset(self, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        rows = super().get_queryset(*args, **kwargs)
        shown = {*map(str, self.list_display)}
        return rows.defer(*(name for name in self.long_fields if name not in shown))

    def get_results(self, request: HttpRequest) -> None:
        """Count the rows: the first query with the values of the URL.

        Raises:
            IncorrectLookupParameters: one of them is unusable; Django then shows the whole list.
        """
        try:
            # A failed query must not spoil the transaction of a whole request.
            database = self.queryset.db
            within = connections[database].in_atomic_block
            with transaction.atomic(using=database) if within else nullcontext():
                super().get_results(request)
        except UNUSABLE as error:
            raise IncorrectLookupParameters(error) from error


class LeanListMixin(ModelAdmin):
    """The admin of a model with a ``LeanChangeList``."""

    #: The columns that the list does not load.
    long_fields: tuple[str, ...] = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        base = super().get_changelist(request, **kwargs)
        # The site's own class, such as django-unfold's, stays the base.
        return type(base.__name__, (LeanChangeList, base), {"long_fields": self.long_fields})

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        if REFUSED_LOOKUPS & {*lookup.split("__")}:
            return False
        return super().lookup_allowed(lookup, value, request)

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Run the chosen action.

        Raises:
            BadRequest: a selected key is impossible: only a changed form sends it.
        """
        key: Any = self.opts.pk
        key = getattr(key, "target_field", key)
        for value in request.POST.getlist(ACTION_CHECKBOX_NAME):
            try:
                key.clean(value, None)
            except ValidationError as error:
                raise BadRequest("The selection contains an impossible key.") from error
        return super().response_action(request, *args, **kwargs)

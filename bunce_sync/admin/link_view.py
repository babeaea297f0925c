"""The action that links waiting segments to segments that an import found, after a preview."""

from __future__ import annotations

import re
from typing import Any, Final

from django.contrib import admin
from django.contrib import messages as flash
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION
from django.core.exceptions import BadRequest
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import formats, timezone

from bunce_sync import database, services
from bunce_sync.admin import cells
from bunce_sync.admin.actions import MAX_SELECTED, first_ids, log_changes
from bunce_sync.admin.controls import ControlsMixin
from bunce_sync.models import Segment
from bunce_sync.status import messages

#: Pairs that one page shows and links.
MAX_PAIRS: Final = 200
#: The hidden field of the preview with the pairs that it shows: "waiting:imported", and commas.
PAIRS: Final = "bunce_pairs"
PAIRS_FORM: Final = re.compile(r"\d{1,18}:\d{1,18}(,\d{1,18}:\d{1,18})*", re.ASCII)
TEMPLATE: Final = "admin/bunce_sync/segment/link.html"


class LinkMixin(ControlsMixin):
    """The action and its preview; it requires ``push_segment`` and ``change_segment``."""

    actions: tuple[str, ...] = (*ControlsMixin.actions, "link_selected")

    @admin.action(description=messages.LINK_MANY, permissions=["settle"])
    def link_selected(
        self, request: HttpRequest, queryset: QuerySet[Segment]
    ) -> HttpResponse | None:
        """Show which selected segments can be linked, or link those that were shown."""
        if PAIRS in request.POST:
            self._link_pairs(request, _read_pairs(request.POST[PAIRS]))
            return None
        ids = first_ids(queryset)
        selected = database.segments().filter(pk__in=ids[:MAX_SELECTED])
        pairs = services.adoptable(selected)
        shown = pairs[:MAX_PAIRS]
        unmatched = min(len(ids), MAX_SELECTED) - len(pairs)
        context: dict[str, Any] = {
            "pairs": [self._describe_pair(waiting, imported) for waiting, imported in shown],
            "pairs_name": PAIRS,
            "pairs_value": ",".join(f"{one.pk}:{other.pk}" for one, other in shown),
            "action_name": "link_selected",
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME)[:1],
            "unmatched": messages.LINK_UNMATCHED
            % {"n": cells.grouped(unmatched), "number": unmatched}
            if unmatched
            else "",
            "import_hint": messages.LINK_IMPORT_FIRST,
            "import_label": messages.IMPORT_FROM_BUNCE,
            "import_url": self.url("bunce_import"),
            "more": len(pairs) > len(shown) or len(ids) > MAX_SELECTED,
            "more_text": messages.LINK_MORE % {"n": cells.grouped(len(shown))},
            "submit": messages.LINK_BUTTON,
        }
        texts = [messages.LINK_INTRO if pairs else messages.LINK_NONE]
        return self.page(request, messages.LINK_TITLE, texts=texts, template=TEMPLATE, **context)

    def _describe_pair(self, waiting: Segment, imported: Segment) -> dict[str, Any]:
        facts = (
            (messages.LINK_CREATED, imported.bunce_created_at),
            (messages.LINK_IMPORTED, imported.imported_at),
        )
        return {
            "name": str(waiting),
            "bunce_id": imported.bunce_id,
            "facts": [
                text % {"time": formats.date_format(timezone.localtime(at), "DATETIME_FORMAT")}
                for text, at in facts
                if at is not None
            ],
        }

    def _link_pairs(self, request: HttpRequest, pairs: list[tuple[int, int]]) -> None:
        keys = [key for pair in pairs for key in pair]
        # Users link only what they may change, and rows of the model of this admin.
        own = self.get_queryset(request).filter(id__in=keys)
        waiting = {row.id: row for row in own if self.has_settle_permission(request, row)}
        imported = database.segments().filter(pk__in=keys).without_long_fields().in_bulk()
        linked = 0
        for key, other_key in pairs:
            if key not in waiting or other_key not in imported:
                continue
            other = imported[other_key]
            with transaction.atomic(using=database.alias()), self.revision(request):
                if not services.adopt([(key, other_key)]):
                    continue
                row = waiting[key]
                log_changes(request, [row], messages.LINKED_TO, CHANGE, id=other.bunce_id)
                log_changes(request, [other], messages.GAVE_WAY_TO, DELETION, id=row.id)
            linked += 1
        if linked:
            flash.success(request, messages.LINKED % {"n": linked})
        if not_linked := len(pairs) - linked:
            flash.warning(request, messages.NOT_LINKED % {"n": not_linked})


def _read_pairs(text: str) -> list[tuple[int, int]]:
    """Return the pairs of a preview.

    Raises:
        BadRequest: they are not those of a preview: only a changed form sends them.
    """
    if not PAIRS_FORM.fullmatch(text) or text.count(",") >= MAX_PAIRS:
        raise BadRequest("The pairs are not those of a preview.")
    pairs = (pair.partition(":") for pair in text.split(","))
    return [(int(key), int(other)) for key, _colon, other in pairs]

"""Segments in the admin."""

from __future__ import annotations

from django.contrib import admin
from django.forms import Media

from bunce_sync.admin.change_view import ChangeViewMixin
from bunce_sync.admin.delete_view import DeleteViewMixin
from bunce_sync.admin.list_view import ListViewMixin
from bunce_sync.models import Segment


@admin.register(Segment)
class SegmentAdmin(DeleteViewMixin, ChangeViewMixin, ListViewMixin):
    """The admin for segments. No view makes a request to Bunce."""

    actions = (*ChangeViewMixin.actions, "delete_selected")

    @property
    def media(self) -> Media:
        own = Media(css={"all": ["bunce_sync/admin.css"]}, js=["bunce_sync/admin.js"])
        return super().media + own

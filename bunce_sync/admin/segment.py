"""Segments in the admin, put together from the parts beside this file."""

from __future__ import annotations

from django.contrib import admin
from django.forms import Media

from bunce_sync.admin.change_view import Changing
from bunce_sync.admin.delete_view import Deleting
from bunce_sync.admin.list_view import Listing
from bunce_sync.models import Segment


@admin.register(Segment)
class SegmentAdmin(Deleting, Changing, Listing):
    """No request to Bunce is made by any of its pages."""

    actions = (*Changing.actions, "delete_selected")

    @property
    def media(self) -> Media:
        own = Media(css={"all": ["bunce_sync/admin.css"]}, js=["bunce_sync/admin.js"])
        return super().media + own

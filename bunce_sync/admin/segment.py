"""Segments in the admin."""

from __future__ import annotations

from typing import Final

from django.contrib import admin
from django.forms import Media

from bunce_sync.admin.customers import CustomersMixin
from bunce_sync.admin.delete_view import DeleteViewMixin
from bunce_sync.admin.files import FilesMixin
from bunce_sync.admin.link_view import LinkMixin
from bunce_sync.admin.list_view import ListViewMixin
from bunce_sync.models import Segment

TEMPLATES: Final = {
    f"{page}_template": f"{page}.html"
    for page in (
        "change_form",
        "change_list",
        "delete_confirmation",
        "delete_selected_confirmation",
    )
}


@admin.register(Segment)
class SegmentAdmin(FilesMixin, DeleteViewMixin, CustomersMixin, LinkMixin, ListViewMixin):
    """The admin for segments. No view makes a request to Bunce."""

    actions = (*LinkMixin.actions, *FilesMixin.actions, "delete_selected")

    def __init__(self, model: type[Segment], admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        # A subclass of the model, in whatever app, has the same pages.
        for attribute, name in TEMPLATES.items():
            if getattr(self, attribute) is None:
                own = f"admin/{self.opts.app_label}/{self.opts.model_name}/{name}"
                setattr(self, attribute, [own, f"admin/bunce_sync/segment/{name}"])

    @property
    def media(self) -> Media:
        own = Media(css={"all": ["bunce_sync/admin.css"]}, js=["bunce_sync/admin.js"])
        return super().media + own

"""The base ``ModelAdmin``: Django's, or django-unfold's if the site has it installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django
from django.apps import apps
from django.contrib import admin
from django.urls import reverse

UNFOLD = apps.is_installed("unfold")
THEME = UNFOLD or apps.is_installed("grappelli")

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
elif UNFOLD:
    from unfold.admin import ModelAdmin as Base
else:
    Base = admin.ModelAdmin


class ModelAdmin(Base):
    #: For the templates, as ``cl.model_admin.unfold``.
    unfold = UNFOLD
    #: Whether the object tools (the button "Add") are part of the content: they float beside the
    #: title. From Django 6.1 they are outside.
    tools_in_content = not UNFOLD and django.VERSION < (6, 1)
    #: How Django's own templates mark up breadcrumbs; other themes have their own way.
    breadcrumb_style = ("list" if django.VERSION >= (6, 1) else "line") if not THEME else ""

    def url_name(self, view: str) -> str:
        """Return the name of a view's URL; a site may register a subclass of the model, too."""
        return f"{self.opts.app_label}_{self.opts.model_name}_{view}"

    def url(self, view: str, *args: Any) -> str:
        """Return the URL of a view of this model in this admin site."""
        name = f"admin:{self.url_name(view)}"
        return reverse(name, args=args, current_app=self.admin_site.name)

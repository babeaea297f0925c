"""The base ``ModelAdmin``: Django's, or django-unfold's if the site has it installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django
from django.apps import apps
from django.contrib import admin

UNFOLD = apps.is_installed("unfold")

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

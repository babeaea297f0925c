"""The classes to build on: the stock admin's, or django-unfold's where a site uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.views import main

UNFOLD = apps.is_installed("unfold")

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ChangeList = main.ChangeList
elif UNFOLD:
    from unfold.admin import ModelAdmin
    from unfold.views import ChangeList
else:
    ModelAdmin = admin.ModelAdmin
    ChangeList = main.ChangeList

__all__ = ["UNFOLD", "ChangeList", "ModelAdmin"]

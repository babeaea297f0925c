"""Segments in files: import with a preview, and export.

They need django-import-export (the extra ``files``) and ``import_export`` in ``INSTALLED_APPS``.
Without it, the admin has neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import apps

from bunce_sync.admin.base import ModelAdmin

if TYPE_CHECKING or apps.is_installed("import_export"):
    from bunce_sync.admin.files.views import FilesMixin
else:

    class FilesMixin(ModelAdmin):
        actions: tuple[str, ...] = ()


__all__ = ("FilesMixin",)

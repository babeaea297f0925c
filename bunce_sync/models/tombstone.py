"""What is left of deleted segments."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync.functions import DatabaseNow


class Tombstone(models.Model):
    """A segment in Bunce whose row was deleted here, so that no import brings it back."""

    environment = models.CharField(_("environment"), max_length=255)
    bunce_id = models.CharField(_("Bunce id"), max_length=255)
    deleted_at = models.DateTimeField(_("deleted at"), db_default=DatabaseNow())

    class Meta:
        verbose_name = _("tombstone")
        verbose_name_plural = _("tombstones")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["bunce_id", "environment"], name="bunce_tombstone_unique"
            ),
        ]

    def __str__(self) -> str:
        return self.bunce_id

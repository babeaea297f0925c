"""Segments in Bunce that have no row here on purpose."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync.functions import DatabaseNow


class Tombstone(models.Model):
    """A segment in Bunce whose row was deleted or moved away, so that no import makes another."""

    environment = models.CharField(_("environment"), max_length=255)
    bunce_id = models.CharField(_("Bunce id"), max_length=255)
    #: The row, if it still exists: moved back, it gets this segment again.
    segment_id = models.BigIntegerField(_("segment"), null=True, db_index=True)
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

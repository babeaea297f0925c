"""The imports of Bunce's segments."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync.functions import DatabaseNow


class ImportRun(models.Model):
    """One import of all segments of the account, from the request to the end.

    Any worker continues it page by page. ``scan`` and its lease are those of ``list_scan.Walk``.
    """

    #: ``conf.environment`` when it was requested; only processes of this environment work on it.
    environment = models.CharField(_("environment"), max_length=255)
    requested_at = models.DateTimeField(_("requested at"), db_default=DatabaseNow())
    requested_by = models.CharField(_("requested by"), max_length=255, default="", blank=True)
    #: Link segments that wait to be created to segments of the same content in Bunce.
    adopt = models.BooleanField(_("adopt"), default=False)
    #: Bring back segments that were deleted here.
    include_deleted = models.BooleanField(_("include deleted segments"), default=False)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    cancelled = models.BooleanField(_("cancelled"), default=False)
    #: How many segments were imported, changed, unchanged and so on; see ``importer.COUNTS``.
    counts = models.JSONField(_("counts"), default=dict)
    pages = models.PositiveIntegerField(_("pages"), default=0)
    scan = models.JSONField(null=True)
    scan_lease_until = models.DateTimeField(null=True)
    scan_token = models.UUIDField(null=True)

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        ordering = ("-id",)
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["environment", "finished_at"], name="bunce_importrun_open"),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.requested_at:%Y-%m-%d %H:%M:%S}"

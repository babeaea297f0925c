"""The idempotency keys of the REST API."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync.functions import DatabaseNow


class IdempotencyKey(models.Model):
    """A create that came over the REST API, so that repeating it makes no twin.

    Written before the segment is, then given the segment's id in the segment's own transaction.
    Only digests are kept: they are compared exactly on every database, and keys may be secrets.
    """

    #: The same key later makes a new segment; clients that repeat do so within minutes.
    KEPT_FOR: ClassVar = timedelta(hours=24)

    digest = models.CharField(_("digest of user and key"), max_length=64, unique=True)
    body_digest = models.CharField(_("digest of the body"), max_length=64)
    token = models.UUIDField(_("token of the request at work"))
    started_at = models.DateTimeField(_("started at"), db_default=DatabaseNow(), db_index=True)
    segment_ids = models.JSONField(
        _("segments made"), null=True, help_text=_("None while the first request is at work.")
    )

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        default_permissions = ()

    def __str__(self) -> str:
        return self.digest[:12]

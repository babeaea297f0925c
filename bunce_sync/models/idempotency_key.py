"""The idempotency keys of the REST API, and the files that were imported."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync.functions import DatabaseNow


class IdempotencyKey(models.Model):
    """The key of a request to the REST API, inserted in one transaction with what it does.

    An imported file has one, too: a preview that is confirmed twice is imported once.

    Only digests are stored: keys may be secrets, and digests compare the same on every database.
    That of the body is keyed with ``SECRET_KEY``, since the body may be no more than an address.
    """

    #: A key may be reused after this time. Clients repeat a request within minutes.
    KEPT_FOR: ClassVar = timedelta(hours=24)
    #: The condition for keys older than ``KEPT_FOR``.
    EXPIRED: ClassVar = models.Q(started_at__lt=DatabaseNow() - KEPT_FOR)

    digest = models.CharField(_("digest of user and key"), max_length=64, unique=True)
    body_digest = models.CharField(_("digest of the body"), max_length=64)
    started_at = models.DateTimeField(_("started at"), db_default=DatabaseNow(), db_index=True)
    #: What a repeat returns: the ids of the segments, or how many customers were added, say.
    result = models.JSONField(default=list)

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        default_permissions = ()

    def __str__(self) -> str:
        return self.digest[:12]

"""Customers that must not be added again."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync.functions import DatabaseNow

#: Identifiers that are looked up at a time.
BATCH: Final = 1_000


class ForgottenCustomer(models.Model):
    """A customer who was forgotten at their request: only a keyed digest, not the identifier.

    The key is ``SECRET_KEY``; after a rotation the old one has to stay in ``SECRET_KEY_FALLBACKS``.
    """

    digest = models.CharField(_("digest"), max_length=64, unique=True)
    forgotten_at = models.DateTimeField(_("forgotten at"), db_default=DatabaseNow())

    class Meta:
        verbose_name = _("forgotten customer")
        verbose_name_plural = _("forgotten customers")
        default_permissions = ()

    def __str__(self) -> str:
        return f"#{self.pk}"

    @staticmethod
    def digests_of(identifier: str) -> list[str]:
        """Return the digests under which a customer may be stored, that of today's key first."""
        keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
        text = b"bunce_sync.forgotten:" + identifier.encode()
        return [hmac.new(str(key).encode(), text, hashlib.sha256).hexdigest() for key in keys]


def forgotten_among(identifiers: Sequence[str], *, using: str | None) -> set[str]:
    """Return those of the identifiers whose customer must not be added again."""
    forgotten = ForgottenCustomer.objects.using(using)
    if not identifiers or not forgotten.exists():
        return set()
    found: set[str] = set()
    for start in range(0, len(identifiers), BATCH):
        by_digest = {
            digest: one
            for one in identifiers[start : start + BATCH]
            for digest in ForgottenCustomer.digests_of(one)
        }
        digests = forgotten.filter(digest__in=[*by_digest]).values_list("digest", flat=True)
        found |= {by_digest[digest] for digest in digests}
    return found

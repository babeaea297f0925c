"""What keeps segments from being sent although nothing is wrong."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync.functions import DatabaseNow
from bunce_sync.holding import current_hold


class PushHold(models.Model):
    """A pause of all pushes by a person, or one ``no_push()`` block and the segments it holds.

    A pause holds everything, whichever environment it is for; a block holds the segments whose
    ``hold`` it is. The row is deleted when the hold ends.
    """

    #: True for the pause, of which there is one at most; None for a block.
    pauses_all = models.BooleanField(_("pauses all pushes"), null=True, unique=True)
    reason = models.CharField(_("reason"), max_length=500, default="", blank=True)
    #: A user name, or what was run by whom on which host.
    by = models.CharField(_("by"), max_length=255, default="", blank=True)
    since = models.DateTimeField(_("since"), db_default=DatabaseNow())

    class Meta:
        verbose_name = _("hold")
        verbose_name_plural = _("holds")
        default_permissions = ()
        permissions = [("pause_push", _("Can pause and resume all pushes to Bunce"))]

    def __str__(self) -> str:
        return self.reason or self.by


def open_block(using: str | None) -> int | None:
    """Return the hold of the ``no_push()`` block that the running code is in.

    None outside of any block, and in one whose segments a person has released: what it saves from
    then on is not held.

    Args:
        using: the database that is written to.
    """
    pk = current_hold.get()
    if pk is None or not PushHold.objects.using(using).filter(pk=pk).exists():
        return None
    return pk

"""The state that all processes share."""

from __future__ import annotations

from typing import TypeAlias

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from bunce_sync import choices


class SyncState(models.Model):
    """One row shared by all processes: rate limiter, outage, last sweep and list scan."""

    Reason: TypeAlias = choices.Reason

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    blocked_until = models.DateTimeField(null=True)
    blocked_reason = models.CharField(max_length=16, choices=Reason, default="", blank=True)
    blocked_since = models.DateTimeField(null=True)
    blocked_detail = models.TextField(default="", blank=True)
    #: The end of the pause Bunce asked for, if later than ``blocked_until`` (the next probe).
    asked_until = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    #: The segment of the last failure: repeated failures of one segment are not an outage.
    failed_segment_id = models.BigIntegerField(null=True)
    probe_until = models.DateTimeField(null=True)
    resumed_at = models.DateTimeField(null=True)
    clock_epoch = models.PositiveIntegerField(default=0)
    swept_at = models.DateTimeField(null=True)
    swept_by = models.CharField(
        max_length=8, choices=choices.Sweeper, default=choices.Sweeper.WORKER
    )
    #: The mark of the last message of ``bunce_doctor`` that a worker took.
    answered = models.CharField(max_length=36, default="", blank=True)
    scan = models.JSONField(null=True)
    scan_lease_until = models.DateTimeField(null=True)
    scan_token = models.UUIDField(null=True)
    #: The page size that Bunce accepted after refusing ``PAGE_SIZE``, and the environment.
    list_page = models.JSONField(null=True)
    #: The ``started_at`` up to which the call log was pruned.
    pruned_to = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("sync state")
        verbose_name_plural = _("sync state")
        default_permissions = ("view",)
        constraints = [models.CheckConstraint(name="bunce_syncstate_one_row", condition=Q(id=1))]

    def __str__(self) -> str:
        return "SyncState"

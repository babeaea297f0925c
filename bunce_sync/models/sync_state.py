"""The state that all processes share."""

from __future__ import annotations

from typing import TypeAlias

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync import choices
from bunce_sync.models.api_call import current_environment


class SyncState(models.Model):
    """What all processes of one environment share: rate limiter, outage, last sweep, list scan."""

    Reason: TypeAlias = choices.Reason

    environment = models.CharField(
        max_length=255, primary_key=True, default=current_environment, editable=False
    )
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
    #: The most customers that Bunce accepted in one request after it refused more, the setting at
    #: that time, and the most that it ever accepted.
    customer_batch = models.JSONField(null=True)
    #: The digests of the last API keys that are known to belong to the account of this site.
    known_keys = models.JSONField(default=list)
    #: The digest of a key that seems to belong to another account, or could not be checked, since
    #: when, why it could not, and until when no process asks again.
    strange_key = models.CharField(max_length=32, default="", blank=True)
    strange_since = models.DateTimeField(null=True)
    strange_detail = models.TextField(default="", blank=True)
    key_checked_until = models.DateTimeField(null=True)
    #: The id up to which the call log is counted in ``request_totals``, and these totals; see
    #: ``sync.request_totals``.
    counted_to = models.BigIntegerField(null=True)
    request_totals = models.JSONField(null=True)
    #: The hosts whose clock differs from the database's, see ``sync.host_clocks``.
    clocks = models.JSONField(null=True)
    #: The ``started_at`` up to which the call log was pruned.
    pruned_to = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("sync state")
        verbose_name_plural = _("sync state")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.environment

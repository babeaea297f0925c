"""The trouble that one operation has with Bunce."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync.choices import Operation


class OperationState(models.Model):
    """Trouble that one operation has with Bunce while the others may go on.

    There is a row from the first refusal that could concern every row of the operation, until a
    request of that operation succeeds.
    """

    operation = models.CharField(max_length=16, primary_key=True, choices=Operation, editable=False)
    #: Of the answer that several different rows in a row got.
    code = models.CharField(max_length=32)
    http_status = models.PositiveSmallIntegerField(null=True)
    detail = models.TextField(default="", blank=True)
    since = models.DateTimeField()
    #: The keys of those rows.
    segment_ids = models.JSONField(default=list)
    #: Until when no request is made; None while it is still each row's own matter.
    blocked_until = models.DateTimeField(null=True)
    probe_until = models.DateTimeField(null=True)
    #: Answers in a row; once it is paused, probes that failed.
    failures = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name = _("operation state")
        verbose_name_plural = _("operation states")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.operation}: {self.code}"

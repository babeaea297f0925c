"""The circuit breaker's state of one operation."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync.choices import Operation
from bunce_sync.models.api_call import current_environment


class OperationState(models.Model):
    """The circuit breaker of one operation; other operations are not affected by it.

    The row exists from the first response that could concern all segments (a 403, say) until a
    request of that operation succeeds.
    """

    environment = models.CharField(max_length=255, default=current_environment)
    operation = models.CharField(max_length=16, choices=Operation)
    #: The error code that consecutive requests for different segments got.
    code = models.CharField(max_length=32)
    http_status = models.PositiveSmallIntegerField(null=True)
    detail = models.TextField(default="", blank=True)
    since = models.DateTimeField()
    #: The ids of those segments.
    segment_ids = models.JSONField(default=list)
    #: When the pause ends; None while too few segments are affected for a pause.
    blocked_until = models.DateTimeField(null=True)
    probe_until = models.DateTimeField(null=True)
    #: Consecutive failures; during a pause, failed probes.
    failures = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name = _("operation state")
        verbose_name_plural = _("operation states")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["operation", "environment"], name="bunce_operationstate_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.operation}: {self.code}"

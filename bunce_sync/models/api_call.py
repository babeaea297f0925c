"""The call log: one row for each HTTP request."""

from __future__ import annotations

from typing import TypeAlias

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync import choices
from bunce_sync.conf import conf


def current_environment() -> str:
    """Return the environment of requests made now."""
    return conf.environment


class ApiCall(models.Model):
    """One row of the call log: an HTTP request, committed before its first byte is sent."""

    Operation: TypeAlias = choices.Operation
    Outcome: TypeAlias = choices.Outcome
    Decision: TypeAlias = choices.Decision

    #: No constraint and no cascade: calls of deleted segments stay in the log.
    segment = models.ForeignKey(
        "bunce_sync.Segment",
        verbose_name=_("segment"),
        related_name="calls",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        blank=True,
    )
    #: ``conf.environment``; calls of another one say nothing about this one.
    environment = models.CharField(_("environment"), max_length=255, default=current_environment)
    operation = models.CharField(_("operation"), max_length=16, choices=Operation)
    path = models.CharField(_("path"), max_length=300)
    body = models.JSONField(_("body"), null=True, blank=True)
    #: Of a create: how Bunce's list shows what was sent, see ``fingerprint.listed_fingerprint``.
    listed_digest = models.CharField(_("content, as listed"), max_length=64, default="", blank=True)
    started_at = models.DateTimeField(_("started at"), db_index=True)
    duration_ms = models.PositiveIntegerField(_("duration in ms"), null=True, blank=True)
    outcome = models.CharField(
        _("outcome"), max_length=16, choices=Outcome, default=Outcome.UNDER_WAY
    )
    http_status = models.PositiveSmallIntegerField(_("HTTP status"), null=True, blank=True)
    code = models.CharField(_("code"), max_length=32, default="", blank=True)
    message = models.TextField(_("message"), default="", blank=True)
    bunce_id = models.CharField(_("Bunce id"), max_length=255, default="", blank=True)
    decision = models.CharField(
        _("decision"), max_length=16, choices=Decision, default="", blank=True
    )
    decided_at = models.DateTimeField(_("decided at"), null=True, blank=True)

    class Meta:
        verbose_name = _("API call")
        verbose_name_plural = _("API calls")
        ordering = ("-id",)
        default_permissions = ("view",)
        indexes = [
            # Creates that a segment in Bunce's list may be from.
            models.Index(fields=["listed_digest"], name="bunce_apicall_listed"),
            # Unfinished requests of crashed workers: few among millions of rows.
            models.Index(fields=["outcome", "started_at"], name="bunce_apicall_outcome_started"),
        ]

    def __str__(self) -> str:
        return f"{self.get_operation_display()} {self.started_at:%Y-%m-%d %H:%M:%S}"

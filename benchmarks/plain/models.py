"""A plain model of a segment: its content, and the id from Bunce."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class PlainSegment(models.Model):
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True, default="")
    add_all_customers = models.BooleanField(default=False)
    bunce_id = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001 - unique
    synced_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[models.Manager[PlainSegment]] = models.Manager()

    class Meta:
        app_label = "plain"

    def __str__(self) -> str:
        return self.name

"""Waking workers once a service's transaction is committed."""

from __future__ import annotations

from typing import Any

from celery import Task
from django.db import transaction

from bunce_sync import database
from bunce_sync.publisher import publisher


def publish_after_commit(task: Task[Any, Any], *args: Any) -> None:
    """Publish a message when the current transaction is committed."""
    transaction.on_commit(
        lambda: publisher.publish(task, *args), using=database.alias(), robust=True
    )

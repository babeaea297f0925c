"""A plain task, written well: one session, a timeout, retries with backoff and jitter."""

from __future__ import annotations

import os

import requests
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from benchmarks.plain.models import PlainSegment

TIMEOUT = (3, 20)

_sessions: dict[int, requests.Session] = {}


def session() -> requests.Session:
    """Return this process's session, which keeps its connection alive."""
    if os.getpid() not in _sessions:
        _sessions[os.getpid()] = requests.Session()
        _sessions[os.getpid()].headers["X-Authorization"] = settings.BUNCE_SYNC["API_KEY"]
    return _sessions[os.getpid()]


def _push(segment_id: int) -> None:
    segment = PlainSegment.objects.get(pk=segment_id)
    response = session().post(
        f"{settings.BUNCE_SYNC['BASE_URL']}/segments",
        json={
            "name": segment.name,
            "description": segment.description,
            "add_all_customers": segment.add_all_customers,
        },
        timeout=TIMEOUT,
    )
    response.raise_for_status()
    segment.bunce_id = response.json()["data"]["id"]
    segment.synced_at = timezone.now()
    segment.save(update_fields=["bunce_id", "synced_at", "updated_at"])


@shared_task(
    queue="plain",
    ignore_result=True,
    autoretry_for=(requests.RequestException,),
    retry_backoff=True,
    max_retries=None,
)
def push_plainly(segment_id: int) -> None:
    """Post the row, and retry after any failed request."""
    _push(segment_id)


@shared_task(
    queue="plain",
    ignore_result=True,
    autoretry_for=(requests.RequestException,),
    retry_backoff=True,
    max_retries=None,
    rate_limit=os.environ.get("PLAIN_RATE_LIMIT"),
)
def push_plainly_rate_limited(segment_id: int) -> None:
    """Post the row under Celery's rate limit, which each worker applies on its own."""
    _push(segment_id)

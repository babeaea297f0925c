"""Segments in every status, with calls."""

import random
import uuid
from datetime import timedelta

from django.utils import timezone

from bunce_sync.models import ApiCall, Segment, SyncState
from tests.site import Site


def fill(site: Site) -> None:
    """Create them so that a worker leaves them unchanged for three minutes."""
    now = timezone.now()
    segments = site.segments
    soon = now + timedelta(seconds=170)
    for days, (name, kind) in enumerate(
        (
            ("Newsletter readers", "automatic"),
            ("Customers in Lagos", "manual"),
            ("Loyal since 2019", "automatic"),
        )
    ):
        site.put(
            name,
            "Asked for it in the shop",
            status="synced",
            bunce_id=str(uuid.UUID(int=days * 10**37 + 0x9DA67CAAB8034691A2B6BDCD58008AAF)),
            bunce_name=name,
            bunce_description="Asked for it in the shop",
            bunce_type=kind,
            bunce_all_customers=False,
            bunce_customers_count=1283 * (days + 1),
            bunce_created_at=now - timedelta(days=days * 3, hours=2),
            sent_at=now,
            synced_at=now - timedelta(minutes=20),
        )
    changed = segments.get(name="Loyal since 2019")
    segments.filter(pk=changed.pk).update_sync_fields(
        bunce_name="Loyal customers", last_code="drift"
    )
    site.put("Abandoned carts", due_at=soon, last_code="refused", attempts=4)
    site.put(
        "Trial users", status="sending", lease_token=uuid.uuid4(), lease_until=soon, sent_at=now
    )
    site.put(
        "Birthday in May",
        status="in_doubt",
        due_at=soon,
        sent_at=now,
        last_code="read_timeout",
        last_error="no answer in time",
    )
    refused = site.put(
        "VIP customers",
        status="rejected",
        sent_at=now,
        last_code="conflict",
        last_error="The name has already been taken.",
    )
    _refused(site, refused)
    _found(site, changed)
    _busy_hour(site)
    SyncState.objects.using(site.alias).update_or_create(
        pk=site.environment, defaults={"swept_at": now}
    )


def _refused(site: Site, segment: Segment) -> None:
    now = timezone.now()
    body = {"name": segment.name, "description": None, "add_all_customers": False}
    site.calls.create(
        environment=site.environment,
        segment=segment,
        operation="create",
        path="/segments",
        body=body,
        started_at=now - timedelta(minutes=4),
        duration_ms=20_004,
        outcome="unknown",
        code="read_timeout",
        message="no answer in time",
        decision="absent",
        decided_at=now - timedelta(minutes=2),
    )
    site.calls.create(
        environment=site.environment,
        segment=segment,
        operation="create",
        path="/segments",
        body=body,
        started_at=now - timedelta(minutes=1),
        duration_ms=87,
        outcome="rejected",
        http_status=422,
        code="conflict",
        message="The name has already been taken.",
    )


def _found(site: Site, segment: Segment) -> None:
    now = timezone.now()
    body = {"name": "Loyal customers", "description": segment.description}
    site.calls.create(
        environment=site.environment,
        segment=segment,
        operation="create",
        path="/segments",
        body=body | {"add_all_customers": False},
        started_at=now - timedelta(minutes=31),
        duration_ms=20_004,
        outcome="unknown",
        code="read_timeout",
        message="no answer in time",
        bunce_id=segment.bunce_id or "",
        decision="adopted",
        decided_at=now - timedelta(minutes=28),
    )
    site.calls.create(
        environment=site.environment,
        segment=segment,
        operation="read",
        path=f"/segments/{segment.bunce_id}",
        started_at=now - timedelta(minutes=1),
        duration_ms=64,
        outcome="confirmed",
        http_status=200,
    )


def _busy_hour(site: Site) -> None:
    now, chance = timezone.now(), random.Random(7)
    site.calls.bulk_create(
        ApiCall(
            environment=site.environment,
            operation="update",
            path="/segments/9da67caa",
            started_at=now - timedelta(minutes=minute),
            outcome=chance.choices(["confirmed", "rejected", "unknown"], [30, 2, 3])[0],
        )
        for minute in range(60)
        for _ in range(chance.randint(0, 9))
    )

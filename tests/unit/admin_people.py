"""Users of the admin, and rows for them to view."""

import uuid
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from bunce_sync.models import ApiCall, Segment
from tests.unit.core import make

LIST = "/admin/bunce_sync/segment/"


def person(*permissions: str, csrf: bool = False) -> Client:
    """Return the client of a logged-in user with these permissions, such as "view_segment"."""
    user = User.objects.create_user(f"person-{uuid.uuid4()}", is_staff=True)
    user.user_permissions.set(
        Permission.objects.get(content_type__app_label="bunce_sync", codename=codename)
        for codename in permissions
    )
    client = Client(enforce_csrf_checks=csrf)
    client.force_login(user)
    return client


def editor() -> Client:
    """Return the client of a user with all permissions."""
    return person(
        *("view_segment", "add_segment", "change_segment", "delete_segment", "push_segment"),
        "view_apicall",
    )


def row(status: str = "pending", name: str = "VIP", **values: Any) -> Segment:
    """Create a segment with a status, as the sync would leave it."""
    now = timezone.now()
    defaults: dict[str, dict[str, Any]] = {
        "synced": {"bunce_id": str(uuid.uuid4()), "bunce_name": name, "synced_at": now},
        "sending": {"lease_token": uuid.uuid4(), "lease_until": now + timedelta(seconds=90)},
        "in_doubt": {"last_code": "read_timeout"},
        "rejected": {"last_code": "conflict", "last_error": "name is taken"},
    }
    if status != "pending":
        values = {"sent_at": now} | values
    values = {"due_at": now, **defaults.get(status, {}), **values}
    return make(name, status=status, **values)


def call(segment: Segment | None, **values: Any) -> ApiCall:
    """Create a row of the call log."""
    values = {"operation": "create", "path": "/segments", "started_at": timezone.now()} | values
    return ApiCall.objects.create(segment=segment, **values)


def page(segment: Segment, name: str = "change") -> str:
    """Return the path of a page of a segment."""
    return f"{LIST}{segment.pk}/{name}/"

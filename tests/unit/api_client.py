"""Clients of the REST API for its tests."""

import json
from typing import Any

from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

ALL = (
    "view_segment",
    "add_segment",
    "change_segment",
    "delete_segment",
    "push_segment",
    "view_apicall",
    "pause_push",
    "change_customers",
    "view_member",
)
JSON = "application/json"


def user_with(*permissions: str, name: str = "service") -> User:
    """Return a new user with only these permissions of the app."""
    user = User.objects.create_user(name)
    rows = Permission.objects.filter(content_type__app_label="bunce_sync", codename__in=permissions)
    assert rows.count() == len(permissions)
    user.user_permissions.set(rows)
    return user


def client_for(user: User | None) -> APIClient:
    """Return a client authenticated as the user; None for an anonymous one."""
    client = APIClient()
    if user is not None:
        client.force_authenticate(user)
    return client


def post(client: APIClient, path: str, body: Any = None, **headers: str) -> Any:
    """POST JSON; header names with underscores."""
    return client.post(f"/api/{path}", json.dumps(body), content_type=JSON, headers=_named(headers))


def patch(client: APIClient, path: str, body: Any, **headers: str) -> Any:
    """PATCH JSON; header names with underscores."""
    return client.patch(
        f"/api/{path}", json.dumps(body), content_type=JSON, headers=_named(headers)
    )


def put(client: APIClient, path: str, body: Any) -> Any:
    """PUT JSON."""
    return client.put(f"/api/{path}", json.dumps(body), content_type=JSON)


def get(client: APIClient, path: str, query: Any = None, **headers: str) -> Any:
    """GET; header names with underscores."""
    return client.get(f"/api/{path}", query, headers=_named(headers))


def delete(client: APIClient, path: str, **headers: str) -> Any:
    """DELETE; header names with underscores."""
    return client.delete(f"/api/{path}", headers=_named(headers))


def is_problem(response: Any, status: int, code: str = "") -> dict[str, Any]:
    """Check that a response is a problem, and return it."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert problem["detail"]
    if code:
        assert problem["code"] == code
    return problem


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}

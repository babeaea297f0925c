"""Access rules: closed by default, whatever the site's REST framework settings are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:
    from rest_framework.views import APIView


class SegmentPermissions(BasePermission):
    """Django's model permissions by action, for reads too.

    The view's ``required_permissions`` says what each action needs. Other actions are refused.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return whether the user is authenticated and has the permissions of the action.

        Raises:
            MethodNotAllowed: the view has no such action.
        """
        user = request.user
        if not (user and user.is_authenticated):
            return False
        needed: Mapping[str, tuple[str, ...]] = view.required_permissions  # type: ignore[attr-defined]  # see ApiView
        action = getattr(view, "action", None) or (request.method or "").lower()
        if action == "head":
            action = "get"
        if action not in needed:
            raise MethodNotAllowed(request.method or "")
        return user.has_perms(needed[action])

"""Who may do what: closed by default, whatever the site's REST framework settings say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.request import Request

if TYPE_CHECKING:
    from rest_framework.views import APIView


class SegmentPermissions(DjangoModelPermissions):
    """Django's model permissions, asked for by action, for reading as well.

    A view says in ``required_permissions`` what each of its actions needs, by HTTP method in
    lower case where it has no actions. What is not named there is refused.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether the user is known and has what the action needs.

        Raises:
            MethodNotAllowed: the view has no such action.
        """
        user = request.user
        if not (user and user.is_authenticated):
            return False
        needed: Mapping[str, tuple[str, ...]] = view.required_permissions  # type: ignore[attr-defined]  # ours, see ApiView
        action = getattr(view, "action", None) or (request.method or "").lower()
        if action in ("metadata", "options", "head"):
            action = next(iter(needed))
        if action not in needed:
            raise MethodNotAllowed(request.method or "")
        return user.has_perms(needed[action])

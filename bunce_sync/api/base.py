"""What all views of this API have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.urls import reverse
from drf_spectacular.openapi import AutoSchema
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from bunce_sync.api.parsers import JSONBodyParser
from bunce_sync.api.permissions import SegmentPermissions
from bunce_sync.api.problems import problem_handler
from bunce_sync.api.throttling import BunceThrottle

if TYPE_CHECKING:
    from rest_framework.permissions import _SupportsHasPermission


class ApiView(APIView):
    """JSON in and out, problems as errors, and a door that is closed until a permission opens it.

    Authentication is the site's. Its permissions and throttles hold too; ours come on top, for
    REST framework's own default lets everybody in.
    """

    #: Permissions by action, or by method in lower case; the first are those for OPTIONS too.
    required_permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    parser_classes = [JSONBodyParser]
    renderer_classes = [JSONRenderer]
    versioning_class = None
    schema = AutoSchema()

    def get_permissions(self) -> list[_SupportsHasPermission]:
        """Return the site's permissions and ours, all of which have to agree."""
        site = cast("list[type[BasePermission]]", api_settings.DEFAULT_PERMISSION_CLASSES)
        return [*(permission() for permission in site), SegmentPermissions()]

    def get_throttles(self) -> list[BaseThrottle]:
        """Return the site's throttles and ours."""
        site = cast("list[type[BaseThrottle]]", api_settings.DEFAULT_THROTTLE_CLASSES)
        return [*(throttle() for throttle in site), BunceThrottle()]

    def get_exception_handler(self) -> Callable[..., Any]:
        """Return the handler of this API, which leaves the site's own views alone."""
        return problem_handler

    def address(self, name: str, *args: Any) -> str:
        """The address of one of this API's views, wherever the site has put it."""
        match = self.request.resolver_match
        namespace = f"{match.namespace}:" if match and match.namespace else ""
        return reverse(f"{namespace}{name}", args=args)

"""The base class of all views of this API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.urls import reverse
from django.utils.translation import gettext as _
from drf_spectacular.openapi import AutoSchema
from rest_framework.exceptions import NotFound
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from bunce_sync.api.parsers import LimitedJSONParser
from bunce_sync.api.permissions import SegmentPermissions
from bunce_sync.api.problems import problem_handler
from bunce_sync.api.throttling import BunceThrottle

if TYPE_CHECKING:
    from rest_framework.permissions import _SupportsHasPermission


class ApiView(APIView):
    """JSON in and out, errors as problems, and no access without a permission.

    The site's authentication applies. So do its permissions and throttles, together with ours:
    REST framework's own default lets everyone in.
    """

    #: The permissions for each action, or for each HTTP method (in lower case) of other views.
    required_permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    http_method_names = ["get", "head", "post", "patch", "delete"]
    parser_classes = [LimitedJSONParser]
    renderer_classes = [JSONRenderer]
    versioning_class = None
    schema = AutoSchema()

    def get_permissions(self) -> list[_SupportsHasPermission]:
        """Return the site's permissions and ours, all of which must allow the request."""
        site = cast("list[type[BasePermission]]", api_settings.DEFAULT_PERMISSION_CLASSES)
        return [*(permission() for permission in site), SegmentPermissions()]

    def get_throttles(self) -> list[BaseThrottle]:
        """Return the site's throttles and ours; ours counts once even if the site lists it too."""
        site = cast("list[type[BaseThrottle]]", api_settings.DEFAULT_THROTTLE_CLASSES)
        if not any(issubclass(throttle, BunceThrottle) for throttle in site):
            site = [*site, BunceThrottle]
        return [throttle() for throttle in site]

    def get_exception_handler(self) -> Callable[..., Any]:
        """Return this API's handler; the site's own views keep theirs."""
        return problem_handler

    def reverse(self, name: str, **kwargs: Any) -> str:
        """Return the path of one of this API's views, under the prefix of this request."""
        match = self.request.resolver_match
        namespace = f"{match.namespace}:" if match and match.namespace else ""
        # The site's prefix may contain values, such as the name of a tenant.
        return reverse(f"{namespace}{name}", kwargs={**self.kwargs, **kwargs})


class NotFoundView(ApiView):
    """A 404 problem for paths below ``segments/`` that do not exist."""

    required_permissions: ClassVar = dict.fromkeys(APIView.http_method_names, ())

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse every request, after authentication.

        Raises:
            NotFound: always.
        """
        super().initial(request, *args, **kwargs)
        raise NotFound(_("Not found. See the API's description for the paths that exist."))

"""What all views of this API have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.urls import reverse
from django.utils.translation import gettext as _
from drf_spectacular.openapi import AutoSchema
from rest_framework.exceptions import NotFound
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from bunce_sync.api.parameters import check_parameters
from bunce_sync.api.parsers import JSONBodyParser
from bunce_sync.api.permissions import SegmentPermissions
from bunce_sync.api.problems import problem_handler
from bunce_sync.api.throttling import BunceThrottle

if TYPE_CHECKING:
    from rest_framework.permissions import _SupportsHasPermission


class _ByHeaderAlone(DefaultContentNegotiation):
    """``?format=`` is an unknown parameter like any other, whatever the site has made of it."""

    settings = cast("Any", SimpleNamespace(URL_FORMAT_OVERRIDE=None))


class ApiView(APIView):
    """JSON in and out, problems as errors, and a door that is closed until a permission opens it.

    Authentication is the site's. Its permissions and throttles hold too; ours come on top, for
    REST framework's own default lets everybody in.
    """

    #: Permissions by action, or by method in lower case; the first are those for OPTIONS too.
    required_permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    parser_classes = [JSONBodyParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class: type[BaseContentNegotiation] = _ByHeaderAlone
    versioning_class = None
    schema = AutoSchema()

    def get_permissions(self) -> list[_SupportsHasPermission]:
        """Return the site's permissions and ours, all of which have to agree."""
        site = cast("list[type[BasePermission]]", api_settings.DEFAULT_PERMISSION_CLASSES)
        return [*(permission() for permission in site), SegmentPermissions()]

    def get_throttles(self) -> list[BaseThrottle]:
        """Return the site's throttles and ours; the site may name that too, but it counts once."""
        site = cast("list[type[BaseThrottle]]", api_settings.DEFAULT_THROTTLE_CLASSES)
        if not any(issubclass(throttle, BunceThrottle) for throttle in site):
            site = [*site, BunceThrottle]
        return [throttle() for throttle in site]

    def get_exception_handler(self) -> Callable[..., Any]:
        """Return the handler of this API, which leaves the site's own views alone."""
        return problem_handler

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse, before an action begins, who may not or what nobody reads."""
        super().initial(request, *args, **kwargs)
        self.check_parameters(request)

    def check_parameters(self, request: Request) -> None:
        """Refuse query parameters that the action does not know.

        Raises:
            ValidationError: there is one.
        """
        check_parameters(request, self.parameters())

    def parameters(self) -> Mapping[str, bool]:
        """The action's query parameters, and whether each may be repeated."""
        return {}

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Return nothing but ``Allow``, as on every answer; the rest is in the description."""
        return Response(status=204)

    def address(self, name: str, **kwargs: Any) -> str:
        """The address of one of this API's views, wherever the site has put it."""
        match = self.request.resolver_match
        if match is None:
            return reverse(name, kwargs=kwargs)
        namespace = f"{match.namespace}:" if match.namespace else ""
        # The site's own part of the address may have values, such as a tenant's name.
        return reverse(f"{namespace}{name}", kwargs={**match.kwargs, **kwargs})


class Nowhere(ApiView):
    """Where this API has nothing: the same kind of error as elsewhere in it."""

    required_permissions: ClassVar = dict.fromkeys(ApiView.http_method_names, ())

    def check_parameters(self, request: Request) -> None:
        """Refuse everything, when it is known who asks.

        Raises:
            NotFound: always.
        """
        raise NotFound(_("There is no such address. The API's description names all there are."))

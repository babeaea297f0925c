"""The committed description of the API, and a page that shows it without leaving the site."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.templatetags.static import static
from django.utils.translation import gettext_lazy
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from bunce_sync.api import schema
from bunce_sync.api.base import ApiView


class SchemaView(ApiView):
    """The description as OpenAPI 3.1, with this site's address and ways to log in."""

    required_permissions: ClassVar = {"get": ("bunce_sync.view_segment",)}

    @schema.describe(exclude=True)
    def get(self, request: Request, **kwargs: Any) -> Response:
        """Return the description."""
        prefix = self.address("status").removesuffix("/status/")
        return Response({**committed(), **self._of_this_site(prefix)})

    def _of_this_site(self, prefix: str) -> dict[str, Any]:
        schemes: dict[str, Any] = {}
        for authenticator in self.get_authenticators():
            extension = OpenApiAuthenticationExtension.get_match(authenticator)
            if extension and isinstance(extension.name, str):
                schemes[extension.name] = extension.get_security_definition(AutoSchema())
        components = {**committed()["components"], "securitySchemes": schemes}
        return {
            "servers": [{"url": prefix or "/"}],
            "components": components,
            "security": [{name: []} for name in schemes],
        }


class _Whatever(BaseContentNegotiation):
    """A page is a page, whatever a browser says it accepts."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(
        self, request: Any, renderers: Any, format_suffix: Any = None
    ) -> tuple[BaseRenderer, str]:
        return JSONRenderer(), "application/json"


class DocsView(ApiView):
    """The description to be read and tried out, from files that are packaged with the site's."""

    content_negotiation_class = _Whatever
    required_permissions: ClassVar = {"get": ("bunce_sync.view_segment",)}

    @schema.describe(exclude=True)
    def get(self, request: Request, **kwargs: Any) -> TemplateResponse:
        """Return the page; works under a strict Content-Security-Policy."""
        page = TemplateResponse(
            request._request,  # noqa: SLF001 - Django's own request, for its context processors
            "bunce_sync/api_docs.html",
            {
                "title": gettext_lazy("Bunce segments"),
                "assets": apps.is_installed("drf_spectacular_sidecar"),
                "schema_url": self.address("schema"),
                "csrf_header": settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-"),
                "csrf_token": get_token(request._request),  # noqa: SLF001 - as above
            },
        )
        page["Content-Security-Policy"] = content_security_policy()
        return page


def content_security_policy() -> str:
    """What the page may load: this API's answers from the site, and static files from their host.

    Swagger UI's icons are data: addresses.
    """
    parts = urlsplit(static("bunce_sync/api_docs.js"))
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    assets = f"'self' {scheme}{parts.netloc}" if parts.netloc else "'self'"
    return (
        f"default-src 'none'; script-src {assets}; style-src {assets}; img-src {assets} data:;"
        f" font-src {assets}; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )


@cache
def committed() -> dict[str, Any]:
    """The description as it was made from the views; a test keeps it from going stale."""
    text = files("bunce_sync.api").joinpath("openapi.json").read_text("utf-8")
    description: dict[str, Any] = json.loads(text)
    return description

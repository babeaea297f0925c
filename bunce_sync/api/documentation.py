"""The description of the API, and a page that shows it."""

from __future__ import annotations

import copy
import json
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.template.response import TemplateResponse
from django.templatetags.static import static
from django.utils.translation import gettext_lazy
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from bunce_sync.api.base import ApiView
from bunce_sync.validators import description_max_length

#: The static files of the page.
ASSETS: Final = {
    "icon": "drf_spectacular_sidecar/swagger-ui-dist/favicon-32x32.png",
    "style": "drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css",
    "bundle": "drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js",
    "script": "bunce_sync/api_docs.js",
}


class SchemaView(ApiView):
    """The committed OpenAPI description, with this site's URL, authentication and settings.

    It is not generated for each request: drf-spectacular would have to replace the site's own
    settings meanwhile, for all threads.
    """

    required_permissions: ClassVar = {"get": ("bunce_sync.view_segment",)}

    @extend_schema(exclude=True)
    def get(self, request: Request, **kwargs: Any) -> Response:
        """Return the description."""
        schemes: dict[str, Any] = {}
        for authenticator in self.get_authenticators():
            extension = OpenApiAuthenticationExtension.get_match(authenticator)
            if extension and isinstance(extension.name, str):
                schemes[extension.name] = extension.get_security_definition(AutoSchema())
        description = copy.deepcopy(committed_description())
        for name, component in description["components"]["schemas"].items():
            if name.endswith("WriteRequest"):
                component["properties"]["description"]["maxLength"] = description_max_length()
        return Response(
            {
                **description,
                "servers": [{"url": self.reverse("status").removesuffix("/status") or "/"}],
                "components": {**description["components"], "securitySchemes": schemes},
                "security": [{name: []} for name in schemes],
            }
        )


class DocsView(ApiView):
    """Swagger UI, without inline scripts and with the site's own static files."""

    required_permissions: ClassVar = {"get": ("bunce_sync.view_segment",)}

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Accept any ``Accept`` header: the page is always HTML, its errors are JSON."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(exclude=True)
    def get(self, request: Request, **kwargs: Any) -> TemplateResponse:
        """Return the page."""
        page = TemplateResponse(
            request._request,  # noqa: SLF001 - Django's own request, for its context processors
            "bunce_sync/api_docs.html",
            {
                "title": gettext_lazy("Bunce segments"),
                "installed": apps.is_installed("drf_spectacular_sidecar"),
                "assets": _assets(),
                "schema_url": self.reverse("schema"),
                "csrf_header": settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-"),
            },
        )
        page["Content-Security-Policy"] = content_security_policy()
        return page


def _assets() -> dict[str, str]:
    """Return the URLs of the page's static files; none if the site does not have them."""
    if not apps.is_installed("drf_spectacular_sidecar"):
        return {}
    try:
        return {name: static(path) for name, path in ASSETS.items()}
    except ValueError:  # a storage with a manifest, for which nothing was collected
        return {}


def content_security_policy() -> str:
    """Return the page's policy: requests to this site only, static files from their host.

    Swagger UI's icons are ``data:`` URLs.
    """
    parts = urlsplit(_assets().get("script", ""))
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    assets = f"'self' {scheme}{parts.netloc}" if parts.netloc else "'self'"
    return (
        f"default-src 'none'; script-src {assets}; style-src {assets}; img-src {assets} data:;"
        f" font-src {assets}; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )


@cache
def committed_description() -> dict[str, Any]:
    """Return the description that was generated from the views; a test keeps it up to date."""
    text = files("bunce_sync.api").joinpath("openapi.json").read_text("utf-8")
    description: dict[str, Any] = json.loads(text)
    return description

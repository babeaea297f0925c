"""The addresses of the API. In a site: ``path("api/", include("bunce_sync.api.urls"))``."""

from __future__ import annotations

from collections.abc import Mapping

from django.urls import URLPattern, path

from bunce_sync.api.base import ApiView, Nowhere
from bunce_sync.api.bulk import BulkView
from bunce_sync.api.calls import CallViewSet
from bunce_sync.api.documentation import DocsView, SchemaView
from bunce_sync.api.segments import SegmentViewSet
from bunce_sync.api.status import StatusView

app_name = "bunce_sync_api"


def _with_or_without_slash(
    route: str, view: type[ApiView], name: str, actions: Mapping[str, str] | None = None
) -> list[URLPattern]:
    """The address, and the same without its last slash, which is in no description.

    Django would redirect the latter: clients follow that with a GET, and a POST made nothing.
    """
    arguments = () if actions is None else (actions,)
    return [
        path(f"{route}/", view.as_view(*arguments), name=name),
        path(route, view.as_view(*arguments, schema=None)),
    ]


_ONE = "segments/<str:id>"

urlpatterns = [
    *_with_or_without_slash(
        "segments", SegmentViewSet, "segments", {"get": "list", "post": "create"}
    ),
    *_with_or_without_slash("segments/bulk", BulkView, "bulk"),
    *_with_or_without_slash(
        _ONE,
        SegmentViewSet,
        "segment",
        {"get": "retrieve", "patch": "partial_update", "delete": "destroy"},
    ),
    *_with_or_without_slash(f"{_ONE}/calls", CallViewSet, "calls", {"get": "list"}),
    *_with_or_without_slash(f"{_ONE}/push", SegmentViewSet, "push", {"post": "push"}),
    *_with_or_without_slash(f"{_ONE}/retry", SegmentViewSet, "retry", {"post": "retry"}),
    *_with_or_without_slash("status", StatusView, "status"),
    *_with_or_without_slash("schema", SchemaView, "schema"),
    *_with_or_without_slash("docs", DocsView, "docs"),
    # Only below a word that is ours: a site may have more than this API under its prefix.
    path("segments/<path:rest>", Nowhere.as_view(schema=None)),
]

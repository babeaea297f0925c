"""The addresses of the API. In a site: ``path("api/", include("bunce_sync.api.urls"))``."""

from django.urls import path

from bunce_sync.api.bulk import BulkView
from bunce_sync.api.calls import CallViewSet
from bunce_sync.api.documentation import DocsView, SchemaView
from bunce_sync.api.segments import SegmentViewSet
from bunce_sync.api.status import StatusView

app_name = "bunce_sync_api"

urlpatterns = [
    path("segments/", SegmentViewSet.as_view({"get": "list", "post": "create"}), name="segments"),
    path("segments/bulk/", BulkView.as_view(), name="bulk"),
    path(
        "segments/<str:id>/",
        SegmentViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="segment",
    ),
    path("segments/<str:id>/calls/", CallViewSet.as_view({"get": "list"}), name="calls"),
    path("segments/<str:id>/push/", SegmentViewSet.as_view({"post": "push"}), name="push"),
    path("segments/<str:id>/retry/", SegmentViewSet.as_view({"post": "retry"}), name="retry"),
    path("status/", StatusView.as_view(), name="status"),
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", DocsView.as_view(), name="docs"),
]

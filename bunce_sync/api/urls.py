"""The URLs of the API. In a site: ``path("api/", include("bunce_sync.api.urls"))``."""

from __future__ import annotations

from django.urls import path, re_path
from rest_framework.routers import SimpleRouter

from bunce_sync.api.base import NotFoundView
from bunce_sync.api.controls import ImportView, PauseView
from bunce_sync.api.customers import CustomersView, RefusedCustomersView
from bunce_sync.api.documentation import DocsView, SchemaView
from bunce_sync.api.segments import SegmentViewSet
from bunce_sync.api.status import StatusView

app_name = "bunce_sync_api"

router = SimpleRouter()
# Optional: Django would redirect, and clients turn a redirected POST into a GET.
router.trailing_slash = "/?"
router.register("segments", SegmentViewSet, basename="segment")

SEGMENT = "^segments/(?P<id>[1-9][0-9]*)"

urlpatterns = [
    *router.urls,
    re_path(f"{SEGMENT}/customers/?$", CustomersView.as_view(), name="customers"),
    re_path(
        f"{SEGMENT}/customers/refused/?$",
        RefusedCustomersView.as_view(),
        name="refused-customers",
    ),
    re_path("^status/?$", StatusView.as_view(), name="status"),
    re_path("^imports/?$", ImportView.as_view(), name="imports"),
    re_path("^pause/?$", PauseView.as_view(), name="pause"),
    re_path("^schema/?$", SchemaView.as_view(), name="schema"),
    re_path("^docs/?$", DocsView.as_view(), name="docs"),
    # Only below a prefix of ours: the site may have other URLs next to this API.
    path("segments/<path:rest>", NotFoundView.as_view(schema=None)),
]

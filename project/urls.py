"""The admin and the REST API; the front page redirects to the segments."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:bunce_sync_segment_changelist")),
    path("admin/", admin.site.urls),
    path("api/", include("bunce_sync.api.urls")),
]

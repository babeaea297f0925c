"""The URLs of a site that uses django-health-check."""

from django.urls import path
from health_check.views import HealthCheckView

urlpatterns = [
    path(
        "health/",
        HealthCheckView.as_view(
            checks=["health_check.Database", "bunce_sync.monitoring.health_check.BunceSync"]
        ),
    ),
]

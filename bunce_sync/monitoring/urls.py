"""The URLs for monitoring. In a site: ``path("bunce/", include("bunce_sync.monitoring.urls"))``.

They need no login: let the web server or the firewall decide who reaches them.
"""

from __future__ import annotations

from importlib.util import find_spec

from django.urls import path

from bunce_sync.monitoring import health

app_name = "bunce_sync_monitoring"

urlpatterns = [
    path("health/", health.web, name="health"),
    path("health/sync/", health.sync, name="health-sync"),
]
if find_spec("prometheus_client"):  # the extra `metrics`
    from bunce_sync.monitoring import metrics

    urlpatterns.append(path("metrics/", metrics.view, name="metrics"))

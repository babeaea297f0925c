"""The OpenTelemetry spans of requests, and their absence without OpenTelemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bunce_sync import tracing
from bunce_sync.testing.emulator import Emulator

from .core import drain, fresh, make

pytestmark = pytest.mark.django_db


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans that end during the test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # The provider of a process can be set only once.
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    [span] = exporter.get_finished_spans()
    return span


def test_a_request_is_a_span(bunce: Emulator, spans: InMemorySpanExporter) -> None:
    row = make("secret name")
    drain()
    span = only(spans)
    assert (span.name, span.kind) == ("bunce create", trace.SpanKind.CLIENT)
    attributes = dict(span.attributes or {})
    port = attributes.pop("server.port")
    assert port == int(bunce.url.rpartition(":")[2].partition("/")[0])
    assert attributes == {
        "server.address": "127.0.0.1",
        "bunce_sync.operation": "create",
        "bunce_sync.segment_id": row.pk,
        "bunce_sync.outcome": "confirmed",
        "http.response.status_code": 201,
    }
    assert span.status.status_code == trace.StatusCode.UNSET


def test_a_refusal_is_an_error_without_bunces_words(
    bunce: Emulator, spans: InMemorySpanExporter
) -> None:
    bunce.set(taken_names=["secret name"])
    make("secret name")
    drain()
    span = only(spans)
    assert span.status.status_code == trace.StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "rejected"
    assert "secret" not in span.to_json()


def test_without_opentelemetry_nothing_is_recorded(
    bunce: Emulator, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "HAS_OPENTELEMETRY", False)
    row = make()
    drain()
    assert fresh(row).status == "synced"
    assert spans.get_finished_spans() == ()


def test_the_app_can_be_used_without_optional_packages() -> None:
    """In a process in which none of them can be imported."""
    code = """
import sys
for name in ("opentelemetry", "prometheus_client", "health_check", "rest_framework", "rich"):
    sys.modules[name] = None
import django
django.setup()
from bunce_sync import limiter, tracing
from bunce_sync.monitoring.urls import urlpatterns
assert not tracing.HAS_OPENTELEMETRY
with tracing.request_span("create", base_url="https://x", segment_id=1) as span:
    pass
print([str(one.pattern) for one in urlpatterns])
"""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.unit.bare_settings"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "['health/', 'health/sync/']"

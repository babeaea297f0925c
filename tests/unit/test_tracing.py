"""The OpenTelemetry spans of requests, and their absence without OpenTelemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bunce_sync import tracing
from bunce_sync.client import BunceClient
from bunce_sync.log_events import LogEvent
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


class Broken(SpanProcessor):
    """A processor of a site that fails at one end of a span."""

    def __init__(self, at: str) -> None:
        self.at = at

    def on_start(self, span: object, parent_context: object = None) -> None:
        if self.at == "start":
            raise KeyError("tenant")

    def on_end(self, span: object) -> None:
        if self.at == "end":
            raise KeyError("tenant")


@pytest.mark.parametrize("at", ["start", "end", "provider"])
def test_an_error_of_opentelemetry_disturbs_no_request(
    at: str, bunce: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(Broken(at))

    def get_tracer(name: str) -> object:
        if at == "provider":
            raise StopIteration
        return provider.get_tracer(name)

    monkeypatch.setattr(trace, "get_tracer", get_tracer)
    monkeypatch.setattr(tracing, "_logged", set())
    rows = [make("A"), make("B")]
    drain()
    assert [fresh(row).status for row in rows] == ["synced", "synced"]
    assert len(bunce.segments) == 2
    events = [vars(record).get("event") for record in caplog.records]
    assert events.count(LogEvent.TRACING_FAILED) == 1


def test_spans_of_the_http_library_are_children(
    bunce: Emulator, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = []
    send = BunceClient.create_segment

    def create(client: BunceClient, *args: Any, **kwargs: Any) -> Any:
        current.append(trace.get_current_span().get_span_context().span_id)
        return send(client, *args, **kwargs)

    monkeypatch.setattr(BunceClient, "create_segment", create)
    make()
    drain()
    context = only(spans).context
    assert context is not None
    assert current == [context.span_id]
    assert not trace.get_current_span().get_span_context().is_valid


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

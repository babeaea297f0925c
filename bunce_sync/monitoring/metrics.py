"""Metrics for Prometheus, read from the database: the same from every host and process.

One scrape of any web process is enough; scraping several would count everything several times.
docs/observability.md lists the metrics and the alerts that use them. No label has a name, a key or
a customer.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator

from django.db import Error as AnyDatabaseError
from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bunce_sync import database
from bunce_sync.choices import MemberStatus, Reason, Status
from bunce_sync.log_events import LogEvent, event
from bunce_sync.monitoring.health import outside_transactions
from bunce_sync.status.status import SyncStatus, get_status
from bunce_sync.sync import request_totals, shared_state
from bunce_sync.sync.request_totals import BOUNDS, Totals
from bunce_sync.sync.work import OPERATIONS

logger = logging.getLogger(__name__)

#: Attempts in a row after which a waiting segment counts as failing: some ten minutes.
FAILING = 8


class SyncCollector(Collector):
    """The metrics of the sync. The view uses it; a site can register it in a registry of its own.

    Each collection makes about 25 short queries.
    """

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering it makes no query."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now; none if the database cannot be used."""
        try:
            with database.closed_after():
                metrics = list(_metrics())
        except AnyDatabaseError as error:
            # The other metrics of the site's registry must not be lost with these.
            logger.warning(
                "The metrics could not be read (%s)",
                type(error).__name__,
                extra=event(LogEvent.METRICS_FAILED, error=type(error).__name__),
            )
            return
        yield from metrics


def _metrics() -> Iterator[Metric]:
    status = get_status()
    yield from _segments(status)
    yield from _oldest(status)
    yield from _members()
    yield from _limiter(status)
    yield from _requests(request_totals.read(shared_state.read()[0].request_totals))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"bunce_sync_{name}", text, value=value)


def _segments(status: SyncStatus) -> Iterator[Metric]:
    segments = GaugeMetricFamily("bunce_sync_segments", "Segments by status.", labels=["status"])
    here = database.segments().here().order_by().values_list("status")
    counts = dict.fromkeys(Status.values, 0) | dict(here.annotate(count=Count("pk")))
    for name, count in counts.items():
        segments.add_metric([name], count)
    yield segments
    failing = database.segments().here().filter(status=Status.PENDING, attempts__gte=FAILING)
    yield _gauge(
        "segments_failing",
        f"Waiting segments whose last {FAILING} attempts failed.",
        failing.count(),
    )
    yield _gauge(
        "segments_elsewhere",
        "Segments of other environments, for which no request is made.",
        sum(status.elsewhere.values()),
    )
    yield _gauge(
        "segments_changed_in_bunce",
        "Segments that were changed in Bunce and not settled since.",
        status.changed_in_bunce,
    )


def _oldest(status: SyncStatus) -> Iterator[Metric]:
    """Yield how long the oldest row of each kind of work has been due, paused or not."""
    segments, members = database.segments().order_by(), database.members().order_by()
    since = {
        "push": segments.due().aggregate(at=Min("due_at")),
        "reconcile": segments.checkable().aggregate(at=Min("due_at")),
        "refresh": segments.refresh_requested().aggregate(at=Min("refresh_requested_at")),
        "customers": members.due().aggregate(at=Min("due_at")),
    }
    oldest = GaugeMetricFamily(
        "bunce_sync_oldest_due_seconds",
        "How long the oldest row has been due, by kind of work; 0 if none is.",
        labels=["kind"],
    )
    for kind, found in since.items():
        age = (status.now - found["at"]).total_seconds() if found["at"] else 0.0
        oldest.add_metric([kind], max(0.0, age))
    yield oldest
    age = status.sweep.age
    yield _gauge(
        "sweep_age_seconds",
        "Seconds since the last sweep; infinite before the first.",
        float("inf") if age is None else age,
    )


def _members() -> Iterator[Metric]:
    members = database.members()
    yield _gauge("members_to_send", "Customers to add or remove.", members.unsent().count())
    refused = members.filter(status=MemberStatus.REFUSED).count()
    yield _gauge("members_refused", "Customers that Bunce refused.", refused)
    held = database.customer_syncs().filter(held_at__isnull=False).count()
    yield _gauge("audiences_held", "Audiences whose removals a person has to confirm.", held)


def _limiter(status: SyncStatus) -> Iterator[Metric]:
    yield _gauge("requests_in_window", "Requests that count against the limit.", status.usage.used)
    limit = float("inf") if status.usage.limit is None else status.usage.limit
    yield _gauge("requests_limit", "How many are allowed; infinite without a limit.", limit)
    paused = GaugeMetricFamily(
        "bunce_sync_requests_paused",
        "Whether all requests are paused or probing, by reason.",
        labels=["reason"],
    )
    for reason in Reason.values:
        paused.add_metric([reason], status.rate_limiter.reason == reason)
    yield paused
    failing = {one.operation for one in status.operations}
    operations = GaugeMetricFamily(
        "bunce_sync_operation_paused",
        "Whether the requests of an operation are paused because they fail.",
        labels=["operation"],
    )
    for rows in OPERATIONS:
        operations.add_metric([rows.operation.value], rows.operation in failing)
    yield operations
    not_configured = bool(status.configuration_problem or status.key_missing)
    unusable = not_configured or status.strange_key_since is not None
    yield _gauge("key_unusable", "Whether settings or key keep anything from being sent.", unusable)
    yield _gauge(
        "pushes_paused", "Whether a person has paused all pushes.", status.pause is not None
    )
    begun = [hold.since for hold in status.holds if hold.segments]
    begun += [status.pause.since] if status.pause else []
    yield _gauge(
        "oldest_hold_seconds",
        "Age of the oldest pause of pushes, or no_push() block that holds segments; 0 if none.",
        (status.now - min(begun)).total_seconds() if begun else 0.0,
    )


def _requests(totals: list[Totals]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "bunce_sync_requests",
        "Requests to Bunce that have ended, by operation and outcome.",
        labels=["operation", "outcome"],
    )
    by_operation: dict[str, list[Totals]] = defaultdict(list)
    for one in totals:
        requests.add_metric([one.operation, one.outcome], one.count)
        by_operation[one.operation].append(one)
    yield requests
    seconds = HistogramMetricFamily(
        "bunce_sync_request_seconds",
        "Duration of requests to Bunce, with connecting.",
        labels=["operation"],
    )
    for operation, all_of_it in by_operation.items():
        within = [sum(numbers) for numbers in zip(*(one.within for one in all_of_it), strict=True)]
        count = sum(one.timed for one in all_of_it)
        buckets = [(str(bound), float(n)) for bound, n in zip(BOUNDS, within, strict=True)]
        seconds.add_metric(
            [operation],
            buckets=[*buckets, ("+Inf", float(count))],
            sum_value=sum(one.seconds for one in all_of_it),
        )
    yield seconds


@outside_transactions
@never_cache
@require_safe
def view(request: HttpRequest) -> HttpResponse:
    """Return the metrics in the format that the scraper asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SyncCollector())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)

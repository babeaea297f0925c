"""The database that holds the app's tables: the one to which the router sends writes of segments.

All other code gets its rows and transactions from here. No function needs a ``using`` parameter,
and the sync never reads from a replica that lags behind.
"""

from __future__ import annotations

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.models import QuerySet

from bunce_sync.models import ApiCall, IdempotencyKey, OperationState, Segment, SyncState
from bunce_sync.models.segment_queryset import SegmentQuerySet


def alias() -> str:
    """Return the alias of the database."""
    return router.db_for_write(Segment)


def connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to the database."""
    return connections[alias()]


def atomic() -> transaction.Atomic:
    """Return a durable transaction: it commits at its end.

    Raises:
        RuntimeError: it is entered inside another transaction.
    """
    return transaction.atomic(using=alias(), durable=True)


def missing_migrations() -> list[str]:
    """Return the names of the app's migrations that are not applied.

    Raises:
        django.db.DatabaseError: the database cannot be used.
    """
    executor = MigrationExecutor(connection())
    leaves = [
        key for key in executor.loader.graph.leaf_nodes() if key[0] == Segment._meta.app_label
    ]
    return [str(migration) for migration, _ in executor.migration_plan(leaves)]


def segments() -> SegmentQuerySet:
    """Return all segments."""
    return Segment.objects.using(alias())


def calls() -> QuerySet[ApiCall]:
    """Return the whole call log."""
    return ApiCall.objects.using(alias())


def operation_states() -> QuerySet[OperationState]:
    """Return the circuit breaker states of the operations."""
    return OperationState.objects.using(alias())


def sync_state() -> QuerySet[SyncState]:
    """Return a queryset of the shared row; it is empty until the row is first needed."""
    return SyncState.objects.using(alias()).filter(pk=1)


def idempotency_keys() -> QuerySet[IdempotencyKey]:
    """Return the idempotency keys of the REST API."""
    return IdempotencyKey.objects.using(alias())

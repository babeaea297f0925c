"""The database that holds the app's tables: the one to which the router sends writes of segments.

All other code gets its rows and transactions from here. No function needs a ``using`` parameter,
and the sync never reads from a replica that lags behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model, QuerySet

from bunce_sync.conf import conf
from bunce_sync.models import (
    ApiCall,
    CustomerQueue,
    CustomerSync,
    ForgottenCustomer,
    IdempotencyKey,
    ImportRun,
    Member,
    MemberQuerySet,
    OperationState,
    PushHold,
    Segment,
    SyncState,
    Tombstone,
)
from bunce_sync.models.segment_queryset import SegmentQuerySet

M = TypeVar("M", bound=Model)

#: Seconds that a transaction may wait for its process, although it takes milliseconds. The locks of
#: a lost host would stop all others for two hours, until the server notices by TCP keepalive.
IDLE_SECONDS = 30
#: For this transaction alone, and only if the site has no limit of its own.
_LIMIT_IDLE = (
    "SELECT set_config('idle_in_transaction_session_timeout', %s, true)"
    " WHERE current_setting('idle_in_transaction_session_timeout') = '0'"
)

#: ``psycopg.IsolationLevel.READ_COMMITTED``, without importing psycopg.
_PSYCOPG_READ_COMMITTED = 2


def alias() -> str:
    """Return the alias of the database."""
    return router.db_for_write(Segment)


def connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to the database."""
    return connections[alias()]


@contextmanager
def atomic() -> Iterator[None]:
    """Open a durable transaction, which commits at its end, with READ COMMITTED isolation.

    PostgreSQL ends it, with the session, if the host is lost or frozen meanwhile.

    Raises:
        RuntimeError: it is entered inside another transaction.
    """
    with transaction.atomic(using=alias(), durable=True):
        if len(connection().atomic_blocks) == 1:  # not in a TestCase
            with connection().cursor() as cursor:
                if not _reads_committed():
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                if connection().vendor == "postgresql":
                    cursor.execute(_LIMIT_IDLE, [f"{IDLE_SECONDS}s"])
        yield


@contextmanager
def closed_after() -> Iterator[None]:
    """Close the connection after the block if it was not open before.

    For blocks that may run in a thread of their own, which would leave it open.
    """
    was_open = connection().connection is not None
    try:
        yield
    finally:
        if not was_open:
            connection().close()


def _reads_committed() -> bool:
    """Return whether the database's settings leave transactions at READ COMMITTED.

    Any other level would keep the snapshot a transaction began with. All permits lock and write
    the same row, so nearly every one would fail (PostgreSQL), or count the window without the
    permits of others (MySQL).
    """
    options = connection().settings_dict["OPTIONS"]
    match connection().vendor:
        case "postgresql":
            level = options.get("isolation_level", _PSYCOPG_READ_COMMITTED)
            defaults = options.get("options") or ""
            return level == _PSYCOPG_READ_COMMITTED and "transaction_isolation" not in defaults
        case "mysql":
            level = options.get("isolation_level", "read committed")
            return (level or "").lower() == "read committed"
    return True


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


def locked(rows: QuerySet[M]) -> QuerySet[M]:
    """Lock rows until the transaction ends, where the database locks rows."""
    if connection().features.has_select_for_update:
        return rows.select_for_update()
    return rows


def members() -> MemberQuerySet:
    """Return all customers of segments."""
    return Member.objects.using(alias())


def customer_syncs() -> QuerySet[CustomerSync]:
    """Return the sync of the customers of all segments that have any."""
    return CustomerSync.objects.using(alias())


def customer_queues() -> QuerySet[CustomerQueue]:
    """Return the adds and the removals of all segments with customers."""
    return CustomerQueue.objects.using(alias())


def forgotten_customers() -> QuerySet[ForgottenCustomer]:
    """Return the digests of the customers that must not be added again."""
    return ForgottenCustomer.objects.using(alias())


def calls() -> QuerySet[ApiCall]:
    """Return the whole call log."""
    return ApiCall.objects.using(alias())


def calls_here() -> QuerySet[ApiCall]:
    """Return the calls of the current environment."""
    return calls().filter(environment=conf.environment)


def operation_states() -> QuerySet[OperationState]:
    """Return the circuit breaker states of the current environment's operations."""
    return OperationState.objects.using(alias()).filter(environment=conf.environment)


def sync_state() -> QuerySet[SyncState]:
    """Return a queryset of the shared row of the current environment.

    It is empty until the row is first needed.
    """
    return SyncState.objects.using(alias()).filter(environment=conf.environment)


def holds() -> QuerySet[PushHold]:
    """Return the holds, of all environments."""
    return PushHold.objects.using(alias())


def import_runs() -> QuerySet[ImportRun]:
    """Return the imports of the current environment."""
    return ImportRun.objects.using(alias()).filter(environment=conf.environment)


def tombstones() -> QuerySet[Tombstone]:
    """Return the tombstones, of all environments."""
    return Tombstone.objects.using(alias())


def idempotency_keys() -> QuerySet[IdempotencyKey]:
    """Return the idempotency keys of the REST API."""
    return IdempotencyKey.objects.using(alias())

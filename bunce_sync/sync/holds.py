"""The pause of all pushes, the holds of ``no_push()`` blocks, and imports that hold creates back.

Reads go on: only requests that change something in Bunce are held.
"""

from __future__ import annotations

from typing import Final

from django.db.models import Exists, Q, QuerySet

from bunce_sync import database
from bunce_sync.choices import Operation
from bunce_sync.models import PushHold
from bunce_sync.sync.circuit_breaker import OperationPaused

#: Seconds after which it is worth asking again; the end of a hold wakes workers.
WAIT: Final = 60.0


def is_paused() -> bool:
    """Return whether a person has paused all pushes."""
    return pauses().exists()


def pauses() -> QuerySet[PushHold]:
    """Return the pause, if there is one."""
    return database.holds().filter(pauses_all=True)


def are_creates_held() -> bool:
    """Return whether creates wait for an import that may link their segments instead."""
    return database.import_runs().filter(finished_at=None, adopt=True).exists()


def not_held() -> Q:
    """Return the condition for segments that may be pushed, for use within another query."""
    imports = database.import_runs().filter(finished_at=None, adopt=True)
    may_create = Q(bunce_id__isnull=False) | Q(~Exists(imports))
    return Q(~Exists(pauses())) & may_create


def admit(operation: Operation) -> None:
    """Refuse a push that is held. Call it in the transaction that takes the permit.

    Raises:
        OperationPaused: it is held.
    """
    if is_paused() or (operation == Operation.CREATE and are_creates_held()):
        raise OperationPaused(WAIT, operation)

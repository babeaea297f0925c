"""The list of kinds of work.

Tasks, the sweep, ``bunce_sweep`` and the status page know work only through ``KINDS``. A new kind
is one module and one entry here.
"""

from __future__ import annotations

from typing import Final

from bunce_sync.sync.budget import Kind
from bunce_sync.sync.push import PUSH
from bunce_sync.sync.reconcile import RECONCILE
from bunce_sync.sync.refresh import REFRESH

#: Pushes come last. A sweep publishes one message for each of the others and many for pushes, and
#: behind the many the one would expire before a worker reads it.
KINDS: Final[tuple[Kind, ...]] = (REFRESH, RECONCILE, PUSH)
BY_NAME: Final = {kind.name: kind for kind in KINDS}
#: The operations of all kinds.
OPERATIONS: Final = tuple(rows for kind in KINDS for rows in kind.operations)

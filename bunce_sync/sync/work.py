"""The list of kinds of work.

The tasks ``work`` and ``sweep``, the command ``bunce_sweep``, the panel and the REST status take
what they know of work from ``KINDS``. CONTRIBUTING.md says what a new kind needs.
"""

from __future__ import annotations

from typing import Final

from bunce_sync.sync.audience_runs import AUDIENCES
from bunce_sync.sync.budget import Kind
from bunce_sync.sync.customers import CUSTOMERS
from bunce_sync.sync.importer import IMPORT
from bunce_sync.sync.push import PUSH
from bunce_sync.sync.reconcile import RECONCILE
from bunce_sync.sync.refresh import REFRESH

#: Pushes come last. A sweep publishes one message for each of the others and many for pushes, and
#: behind the many the one would expire before a worker reads it.
KINDS: Final[tuple[Kind, ...]] = (REFRESH, RECONCILE, IMPORT, AUDIENCES, CUSTOMERS, PUSH)
BY_NAME: Final = {kind.name: kind for kind in KINDS}
#: The operations of all kinds.
OPERATIONS: Final = tuple(rows for kind in KINDS for rows in kind.operations)

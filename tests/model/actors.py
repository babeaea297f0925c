"""The processes of the model: workers with a push, scanners with a walk; and possible results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import hypothesis.strategies as st

from bunce_sync.choices import Outcome
from bunce_sync.client import Page
from bunce_sync.results import Result
from bunce_sync.sync import reconcile
from bunce_sync.sync.list_scan import PageHandler, Scan, Walk
from bunce_sync.sync.push import Push
from tests.model.bunce_model import FORBIDDEN, Request
from tests.model.virtual_time import START

T = TypeVar("T")

KNOWN_FAILURES = (
    Result(Outcome.RATE_LIMITED, code="rate_limited", http_status=429, retry_after=1.0),
    Result(Outcome.REJECTED, code="rejected", http_status=400),
    FORBIDDEN,
    Result(Outcome.UNKNOWN, code="says_failed", http_status=200),
)
UNHEARD = Result(Outcome.UNKNOWN, code="closed")
#: A response arrived that cannot be read: Bunce may have acted.
UNREADABLE = Result(Outcome.UNKNOWN, code="not_json", http_status=200)
#: An update took effect, and the response has no content.
NO_CONTENT = Result(Outcome.CONFIRMED, code="no_content", http_status=204)
REFUSED = Result(Outcome.NOT_SENT, code="refused")


def pick(data: st.DataObject, things: Sequence[T]) -> T:
    """Return one of the things, drawn by index, which is easy to read in a counterexample."""
    return things[data.draw(st.integers(0, len(things) - 1))]


def before(first: Callable[[], None]) -> Callable[..., Any]:
    """Return ``reconcile._adopt``, with something else happening just before its first call."""
    adopt, pending = reconcile._adopt, [first]

    def adopt_later(*args: Any) -> Any:
        while pending:
            pending.pop()()
        return adopt(*args)

    return adopt_later


@dataclass(eq=False)
class Worker:
    """A process with a reserved push.

    Attributes:
        request: the request, once it has been sent.
        result: its result, once the worker knows it.
    """

    attempt: Push
    request: Request | None = None
    result: Result | None = None


class Killed(Exception):
    """The process was killed: none of its further statements run."""


class MortalReconciliation(reconcile.Reconciliation):
    """The real page handler, in a process that can be killed while it uses a page.

    Attributes:
        dies: ``before_progress``: the segments of the page are adopted, and nothing else is
            written; ``before_commit``: the transaction that ends the scan is open.
    """

    dies: str | None = None

    def may_stop(self, scan: Scan) -> bool:
        if self.dies == "before_progress":
            raise Killed
        return super().may_stop(scan)

    def on_end(self, scan: Scan) -> None:
        super().on_end(scan)
        if self.dies == "before_commit":
            raise Killed


class Scanner:
    """A process that reads Bunce's list, for reconciliation or for an import.

    Attributes:
        walk: the walk of the app itself.
        page: the page that has been read and not used yet.
        asked_at: when it was requested.
    """

    def __init__(self, handler: PageHandler | None = None) -> None:
        self.handler = handler or MortalReconciliation()
        self.walk = Walk(self.handler)
        self.page: Page | None = None
        self.asked_at = START

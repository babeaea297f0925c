"""Who acts in the model: workers with a claim and processes that scan; and what may come of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import hypothesis.strategies as st
from bunce_sync.sync.outcome import Claim, Outcome, Result

from bunce_sync.client import Page
from bunce_sync.models import ApiCall
from bunce_sync.sync import rate_limiter, reconcile
from bunce_sync.sync.list_scan import Scan
from tests.model.bunce_model import FORBIDDEN, Request

T = TypeVar("T")

KNOWN_FAILURES = (
    Result(Outcome.RATE_LIMITED, code="rate_limited", http_status=429, retry_after=1.0),
    Result(Outcome.REJECTED, code="rejected", http_status=400),
    FORBIDDEN,
    Result(Outcome.UNKNOWN, code="says_failed", http_status=200),
)
UNHEARD = Result(Outcome.UNKNOWN, code="closed")
#: An answer that came, of which nothing can be read: Bunce may have acted.
UNREADABLE = Result(Outcome.UNKNOWN, code="not_json", http_status=200)
#: An update that took effect, answered without content.
NO_CONTENT = Result(Outcome.CONFIRMED, code="no_content", http_status=204)
REFUSED = Result(Outcome.NOT_SENT, code="refused")


def pick(data: st.DataObject, things: Sequence[T]) -> T:
    """One of them, by a number that reads well in a failure's story."""
    return things[data.draw(st.integers(0, len(things) - 1))]


def before(first: Callable[[], None]) -> Callable[..., Any]:
    """``reconcile._adopt``, with something else happening just before its first call."""
    adopt, pending = reconcile._adopt, [first]

    def adopt_later(*args: Any) -> Any:
        while pending:
            pending.pop()()
        return adopt(*args)

    return adopt_later


@dataclass(eq=False)
class Worker:
    """A process that holds a claim.

    Attributes:
        request: once bytes have left.
        result: once it knows what came of it.
    """

    claim: Claim
    call: ApiCall
    permit: rate_limiter.Permit
    request: Request | None = None
    result: Result | None = None


@dataclass(eq=False)
class Scanner:
    """A process that reads the list; ``page`` is what it has read and not yet used."""

    token: UUID
    scan: Scan
    page: Page | None = None

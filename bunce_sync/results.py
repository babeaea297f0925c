"""What the response to a request means, or its failure. Pure: no database, network or clock."""

from __future__ import annotations

from dataclasses import dataclass

from bunce_sync import exceptions
from bunce_sync.choices import Operation, Outcome
from bunce_sync.client import RemoteSegment

#: The code of a create that Bunce confirmed with an id which another row holds.
LINKED_ELSEWHERE = "linked_elsewhere"
#: The code of a request that was not made because its permit had expired.
PERMIT_EXPIRED = exceptions.PermitExpired.code
#: The code of a 404 for a path that contains no segment id.
NO_SUCH_ADDRESS = "no_such_address"
#: Codes of 2xx responses that cannot be read, so that it is unknown whether Bunce acted.
UNREADABLE = frozenset({"not_json", "wrong_shape", "no_id", "says_failed", "too_large", "paging"})
#: Codes of responses that may concern one row or a whole operation; the circuit breaker decides.
SHARED = UNREADABLE | {
    *("forbidden", "not_found", NO_SUCH_ADDRESS),
    *("redirect", "unexpected_status"),
}
#: The writes that can be repeated, so that an explicit failure needs no further examination.
REPEATABLE = (Operation.UPDATE, Operation.ADD, Operation.REMOVE)
#: Codes of refused content, which an earlier create of the same row may have caused.
REFUSED_CONTENT = frozenset({"rejected", "conflict"})


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one request. ``code`` and ``detail`` are those of ``BunceError``.

    Attributes:
        segment: what Bunce returned for a create or an update.
        retry_after: seconds to wait, as Bunce requested.
        shared: the failure is known to concern the whole operation, not only the row.
    """

    outcome: Outcome
    segment: RemoteSegment | None = None
    code: str = ""
    detail: str = ""
    http_status: int | None = None
    retry_after: float | None = None
    shared: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether Bunce confirmed the request in a readable response."""
        return (
            self.outcome in (Outcome.CONFIRMED, Outcome.DUPLICATE) or self.code == LINKED_ELSEWHERE
        )

    @property
    def answered(self) -> bool:
        """Whether Bunce itself responded to the request, even if with a refusal."""
        readable = self.succeeded or self.outcome == Outcome.REJECTED
        return readable or self.code in UNREADABLE or self.code == "no_content"

    @property
    def concerns_all(self) -> bool:
        """Whether the response concerns every request: the limit, the key, a 503 with a time."""
        limited = self.outcome in (Outcome.RATE_LIMITED, Outcome.KEY_REFUSED)
        return limited or self.asks_to_wait

    @property
    def asks_to_wait(self) -> bool:
        """Whether it is a 503 that says when to try again."""
        return self.code == "unavailable" and self.retry_after is not None

    def may_concern_operation(self, operation: Operation) -> bool:
        """Return whether every request of the operation may get this response."""
        if operation == Operation.LIST and self.outcome == Outcome.REJECTED:
            return True
        return self.code in SHARED

    def is_failed_list(self, operation: Operation) -> bool:
        """Return whether a list page was requested and not received.

        All rows in doubt depend on the same list, so this concerns all of them.
        """
        sent = self.outcome == Outcome.UNKNOWN and self.code != "internal"
        return operation == Operation.LIST and sent and not self.asks_to_wait


def result_of(error: Exception, *, sent: bool, operation: Operation) -> Result:
    """Return the result of a request that raised an error.

    Args:
        error: what the client raised.
        sent: whether a byte of the request left, as the connection knows it.
        operation: the same response means different things for different operations.
    """
    if not isinstance(error, exceptions.BunceError):
        outcome = Outcome.UNKNOWN if sent else Outcome.NOT_SENT
        return Result(outcome, code="internal", detail=type(error).__name__)
    code = error.code
    match error:
        case exceptions.RateLimited():
            outcome = Outcome.RATE_LIMITED
        case exceptions.KeyRefused():
            outcome = Outcome.KEY_REFUSED
        case exceptions.NotFound() if operation in (Operation.CREATE, Operation.LIST):
            outcome, code = Outcome.REJECTED, NO_SUCH_ADDRESS
        case exceptions.Conflict() if operation in (Operation.READ, Operation.LIST):
            outcome, code = Outcome.REJECTED, exceptions.Rejected.code  # a read has no content
        case exceptions.Rejected():
            outcome = Outcome.REJECTED
        case exceptions.NoContent() if operation == Operation.UPDATE:
            outcome = Outcome.CONFIRMED
        case exceptions.UnusableResponse(code="says_failed") if operation in REPEATABLE:
            outcome = Outcome.REJECTED
        case _:
            outcome = Outcome.UNKNOWN if sent else Outcome.NOT_SENT
    return Result(
        outcome,
        code=code,
        detail=error.detail,
        http_status=error.http_status,
        retry_after=error.retry_after,
    )

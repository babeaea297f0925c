"""The one row that all processes of an environment share: pause, sweep, scan, known keys.

A pause concerns every request to Bunce. The rate limiter, the circuit breaker and the clock start
pauses here; ``rate_limiter.take_permit`` enforces them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Case, Exists, F, Q, When

from bunce_sync import database
from bunce_sync.choices import Reason
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import SegmentQuerySet, SyncState

logger = logging.getLogger(__name__)

#: How many keys are remembered: an old and a new one while workers restart, and some more.
KNOWN_KEYS = 4


def read() -> tuple[SyncState, datetime]:
    """Return the shared row, which is created if it is missing, and the database's time.

    The row has an attribute more than its fields: ``operations_failing``, whether there is an
    ``OperationState``.
    """
    failing = Exists(database.operation_states())
    states = database.sync_state().annotate(now=DatabaseNow(), operations_failing=failing)
    for state in states:  # at most one
        return state, state.now
    database.sync_state().get_or_create(environment=conf.environment)
    return read()


def now() -> datetime:
    """Return the database's time."""
    return read()[1]


def lock() -> None:
    """Lock the shared row until the transaction ends."""
    if not database.sync_state().update(failures=F("failures")):
        database.sync_state().get_or_create(environment=conf.environment)
        database.sync_state().update(failures=F("failures"))


def key_is_known(state: SyncState) -> bool:
    """Return whether the API key belongs to the account of this site, as far as is known.

    A site that has no segment in this environment has no account yet: its first key is accepted.
    """
    if conf.key_digest in state.known_keys:
        return True
    if known_segments().exists():
        return False
    accept_key()
    return True


def known_segments() -> SegmentQuerySet:
    """Return the segments that Bunce is known to have had in this environment.

    Not those that code has linked and nothing has shown yet.
    """
    here = database.segments().filter(environment=conf.environment, bunce_id__isnull=False)
    return here.filter(synced_at__isnull=False)


def accept_key() -> None:
    """Remember that the API key belongs to the account of this site."""
    digest = conf.key_digest
    state, _ = read()
    others = [known for known in state.known_keys if known != digest]
    # Two processes may write at once during a change of the key; the loser asks Bunce again.
    database.sync_state().update(
        known_keys=[*others, digest][-KNOWN_KEYS:],
        strange_key="",
        strange_since=None,
        strange_detail="",
        key_checked_until=None,
    )


def page_size() -> int:
    """Return the rows of a list page to request: fewer than configured if Bunce refused that."""
    known = read()[0].list_page
    return min(conf.PAGE_SIZE, int(known["size"])) if known else conf.PAGE_SIZE


@dataclass(frozen=True, slots=True)
class CustomerBatch:
    """How many customers Bunce takes in one request, as far as that is known.

    Attributes:
        size: how many to send: fewer than configured if Bunce refused that.
        accepted: the most that it accepted so far.
    """

    size: int = 0
    accepted: int = 0


def customer_batch() -> CustomerBatch:
    """Return how many customers Bunce takes in one request."""
    known = _customer_batch()
    setting = conf.CUSTOMERS_PER_REQUEST
    return CustomerBatch(min(setting, known.get("limit") or setting), known.get("accepted", 0))


def lower_customers_per_request(refused: int) -> None:
    """Send at most half as many customers in one request as Bunce refused.

    Until ``CUSTOMERS_PER_REQUEST`` is changed.
    """
    limit = max(1, refused // 2)
    if limit < customer_batch().size:
        logger.warning(
            "Bunce refused %d customers in one request; sending %d",
            refused,
            limit,
            extra=event(LogEvent.CUSTOMER_BATCH_LOWERED, count=limit),
        )
        database.sync_state().update(customer_batch={**_customer_batch(), "limit": limit})


def note_accepted_customers(number: int) -> None:
    """Note how many customers Bunce accepted in one request, if it is more than before."""
    known = _customer_batch()
    if number > known.get("accepted", 0):
        database.sync_state().update(customer_batch={**known, "accepted": number})


def _customer_batch() -> dict[str, int]:
    known = read()[0].customer_batch
    setting = conf.CUSTOMERS_PER_REQUEST
    return known if known and known.get("setting") == setting else {"setting": setting}


def is_paused() -> bool:
    """Return whether requests are paused now."""
    return database.sync_state().filter(blocked_until__gt=DatabaseNow()).exists()


def pause(
    reason: Reason,
    seconds: float,
    *,
    detail: str = "",
    failures: int = 0,
    asked_until: datetime | None = None,
    resumed_at: datetime | None = None,
) -> None:
    """Pause all requests; a pause that ends later stays. Call it inside a transaction.

    Args:
        seconds: how long, from now.
        detail: Bunce's message or a technical remark, to be shown.
        failures: how many requests have failed for this reason in a row.
        asked_until: the end of the pause Bunce requested, if that is later.
        resumed_at: when the pace is to be reduced from; None leaves it as it is.
    """
    lock()
    state, now = read()
    same = state.blocked_reason == reason
    until = now + timedelta(seconds=seconds)
    database.sync_state().update(
        failures=failures,
        blocked_until=max(until, state.blocked_until) if state.blocked_until else until,
        blocked_reason=reason,
        blocked_since=state.blocked_since if same and state.blocked_since else now,
        blocked_detail=detail,
        asked_until=asked_until,
        probe_until=None,
        resumed_at=resumed_at or state.resumed_at,
    )
    if not same:
        logger.warning(
            "Requests to Bunce are paused for %.0f s: %s",
            seconds,
            reason.label,
            extra=event(LogEvent.REQUESTS_PAUSED, reason=reason.value, seconds=seconds),
        )


def resume() -> None:
    """End the pause after a success, unless Bunce or a clock jump requires a longer one."""
    over = database.sync_state().filter(
        Q(blocked_until__isnull=True)
        | Q(blocked_until__lte=DatabaseNow())
        | Q(blocked_reason=Reason.UNREACHABLE)
    )
    values = {
        "resumed_at": Case(
            When(blocked_reason=Reason.RATE_LIMITED, then=DatabaseNow()), default=F("resumed_at")
        ),
        "failures": 0,
        "failed_segment_id": None,
        "blocked_until": None,
        "blocked_reason": "",
        "blocked_since": None,
        "blocked_detail": "",
        "asked_until": None,
        "probe_until": None,
    }
    if over.exclude(blocked_reason="").update(**values):
        logger.info("Requests to Bunce have resumed", extra=event(LogEvent.REQUESTS_RESUMED))
    else:
        over.update(**values)


def end_probe() -> None:
    """Let another request probe: the result of this one says nothing about Bunce."""
    database.sync_state().update(probe_until=None)

"""The check that a key never used before belongs to the account of this site.

With the key of another account, an update would fail for every segment, and an import would add
the segments of that account. So before anything else one segment of this site is read; if Bunce
does not have it, neither by its id nor in its list, no request is made with this key.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from django.db.models import Q

from bunce_sync import database
from bunce_sync.choices import Operation
from bunce_sync.client import Page, Position, RemoteSegment, RequestRecord
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.log_events import LogEvent, event
from bunce_sync.models import Segment
from bunce_sync.results import Result
from bunce_sync.sync import circuit_breaker, shared_state
from bunce_sync.sync.attempt import Attempt, client
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.rate_limiter import NoPermit

logger = logging.getLogger(__name__)

#: Seconds between two checks of a key that seems to belong to another account.
PAUSE: Final = 60.0
#: Seconds that a check may take.
CHECK_SECONDS: Final = 30.0
#: Seconds after which a check is repeated that Bunce did not answer.
RETRY: Final = 10.0
#: Segments that are read by their ids; one or two may have been removed in Bunce.
CANDIDATES: Final = 3
#: Pages of the list that are read when no single segment is found.
PAGES: Final = 10


class ReadKnown(Attempt[RemoteSegment]):
    """The read of a segment that the account must have."""

    reports_operation = False
    any_key = True
    must_wait = True

    def __init__(self, segment: Segment) -> None:
        self.rows = circuit_breaker.no_rows(Operation.READ)
        self.bunce_id = str(segment.bunce_id)
        super().__init__(f"/segments/{self.bunce_id}", segment_id=segment.pk)

    def send(self, record: RequestRecord) -> RemoteSegment:
        return client().get_segment(self.bunce_id, record=record)


class ListKnown(Attempt[Page]):
    """One page of the list, in which a segment of this site is looked for."""

    reports_operation = False
    any_key = True
    must_wait = True

    def __init__(self, position: Position) -> None:
        self.rows = circuit_breaker.no_rows(Operation.LIST)
        self.position = position
        super().__init__(f"/segments?page={position.page}&per_page={position.per_page}")

    def send(self, record: RequestRecord) -> Page:
        return client().list_page(self.position, record=record)


def is_known(budget: Budget) -> bool:
    """Return whether requests may be made with the key; ask Bunce if it was never used before.

    Raises:
        ConfigurationError: the key is missing or a setting cannot be used.
    """
    client()
    state, _ = shared_state.read()
    if shared_state.key_is_known(state):
        return True
    # One process asks, the others come back later.
    free = Q(key_checked_until=None) | Q(key_checked_until__lte=DatabaseNow())
    free |= ~Q(strange_key="") & ~Q(strange_key=conf.key_digest)  # that was about another key
    until = DatabaseNow() + timedelta(seconds=PAUSE)
    if not database.sync_state().filter(free).update(key_checked_until=until):
        return False
    try:
        # Of its own: these requests are no part of the work that waits for them.
        found = _account_has_ours(Budget(CHECK_SECONDS, wait_seconds=budget.wait_left))
    except NoPermit:
        found = None
    if found:
        shared_state.accept_key()
        return True
    if found is None:  # Bunce did not say, so ask again soon
        soon = DatabaseNow() + timedelta(seconds=RETRY)
        database.sync_state().update(key_checked_until=soon)
    else:
        logger.error(
            "The API key seems to belong to another Bunce account; nothing is sent",
            extra=event(LogEvent.KEY_STRANGE, environment=conf.environment),
        )
        _note(detail="")
    return False


def _account_has_ours(budget: Budget) -> bool | None:
    """Return whether Bunce has a segment of this site; None if it did not say.

    Raises:
        NoPermit: no request may be made now.
    """
    known = shared_state.known_segments()
    for segment in known.order_by("-pk").only("bunce_id")[:CANDIDATES]:
        result = ReadKnown(segment).run(budget)
        if result is None or _says_nothing(result):
            return None
        if result.succeeded:
            return True
    # Bunce's pages do not document the read of a single segment, so the list decides, whatever
    # the response to it was.
    position: Position | None = Position(per_page=shared_state.page_size())
    for _ in range(PAGES):
        if position is None:
            return False
        attempt = ListKnown(position)
        result = attempt.run(budget)
        if result is None or _says_nothing(result):
            return None
        if attempt.value is None or not result.succeeded:
            _note(detail=result.detail or result.code)
            return None
        if known.filter(bunce_id__in=[one.id for one in attempt.value.segments]).exists():
            return True
        position = attempt.value.next
    return False


def _says_nothing(result: Result) -> bool:
    """Return whether a result says nothing about the account, and is shown elsewhere."""
    return result.concerns_all or (result.http_status is None and not result.succeeded)


def _note(*, detail: str) -> None:
    """Store that the key is not accepted.

    Args:
        detail: why it could not be checked; empty if it seems to belong to another account.
    """
    digest = conf.key_digest
    states = database.sync_state()
    if not states.filter(strange_key=digest).exists():
        states.update(strange_key=digest, strange_since=DatabaseNow())
    states.update(strange_detail=detail)

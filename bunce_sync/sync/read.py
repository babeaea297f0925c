"""One read from Bunce: through the limiter, with its row in the ledger. Reads can be repeated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from django.db import transaction

from bunce_sync.client import RequestRecord
from bunce_sync.models import ApiCall
from bunce_sync.sync import circuit_breaker, ledger, rate_limiter
from bunce_sync.sync.outcome import PERMIT_EXPIRED, Outcome, Result, result_of
from bunce_sync.sync.patience import WaitBudget

logger = logging.getLogger(__name__)

T = TypeVar("T")


def read(
    fetch: Callable[[RequestRecord], T],
    *,
    operation: ApiCall.Operation,
    path: str,
    patience: WaitBudget,
    using: str,
    segment_id: int | None = None,
    beside: bool = False,
) -> tuple[T | None, Result]:
    """Make one read.

    Args:
        fetch: makes the request with the record it is given.
        path: below the base address, for the ledger.
        patience: how long to wait for a turn at the rate_limiter.
        segment_id: the row it is about, if it is about one.
        beside: it is about something else than the row's own segment, and says nothing of reads.

    Returns:
        What ``fetch`` returned, None when it failed; and what the request came to.

    Raises:
        NoPermit: no request may be made now.
    """
    value, result = _read_once(fetch, operation, path, patience, using, segment_id, beside)
    if result.code == PERMIT_EXPIRED:
        # Connecting outlasted the permit. The connection stands now, so try again at once.
        value, result = _read_once(fetch, operation, path, patience, using, segment_id, beside)
    return value, result


def _read_once(
    fetch: Callable[[RequestRecord], T],
    operation: ApiCall.Operation,
    path: str,
    patience: WaitBudget,
    using: str,
    segment_id: int | None,
    beside: bool,
) -> tuple[T | None, Result]:
    probe = False
    try:
        with transaction.atomic(using=using, durable=True):
            if not beside:
                probe = circuit_breaker.admit(operation, using, segment_id=segment_id)
            # In line even where others wait: a single worker reads, and pushes would crowd it out.
            permit = rate_limiter.take_permit(
                operation, using, patience=patience.left, must_wait=True
            )
            call = ledger.begin(permit, operation, path, using=using, segment_id=segment_id)
    except rate_limiter.ClockJumped as jumped:
        rate_limiter.recover_from_clock_jump(jumped, using)
        raise
    value: T | None = None
    result = patience.wait(permit, using)
    if result is None:
        value, result = _fetched(fetch, permit.record, operation, path)
    with transaction.atomic(using=using, durable=True):
        if not beside:
            shared = circuit_breaker.note(
                operation, result, using, call=call, permit=permit, probe=probe
            )
            result = replace(result, shared=shared)
        ledger.finish(call, permit, result, using=using)
        rate_limiter.report(permit, result, using, segment_id=segment_id)
    return value, result


def _fetched(
    fetch: Callable[[RequestRecord], T],
    record: RequestRecord,
    operation: ApiCall.Operation,
    path: str,
) -> tuple[T | None, Result]:
    try:
        value = fetch(record)
    except Exception as error:
        result = result_of(error, sent=record.sent, operation=operation)
        if result.code == "internal":
            logger.exception("Reading %s failed by an error of ours", path)
        return None, result
    return value, Result(Outcome.CONFIRMED, http_status=record.http_status)

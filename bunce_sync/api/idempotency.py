"""Creates that can be repeated: the same ``Idempotency-Key`` gives the same segments.

A request first writes its key down, then makes the segments and completes the key in one
transaction. So a repeat finds either the segments, or a request at work (409), or the remains of
one that died, which it takes over; it never makes a twin. A create that was taken over finds
another token in its key and rolls back.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, IntegrityError, OperationalError, router, transaction
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from bunce_sync.api.problems import Conflict, Unprocessable
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import IdempotencyKey, Segment

logger = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
#: Says that the answer is that of an earlier request.
REPLAYED = "Idempotent-Replayed"
MAX_LENGTH = 255
#: Visible ASCII: what every proxy on the way hands on as it is.
PATTERN = "^[!-~]+$"
#: Seconds after which a request that has not made its segments is taken for dead.
LEASE = timedelta(seconds=60)
#: Seconds that a client is told to wait for the request at work.
WAIT = 1
#: What MySQL says when it ends a transaction for the sake of another: a lock waited for too long,
#: a deadlock. It does the latter to all but one of those that wait for a key which is given back.
MYSQL_YIELDS = (1205, 1213)
#: The same of PostgreSQL: a serialization failure, a deadlock, a lock waited for too long.
POSTGRES_YIELDS = ("40001", "40P01", "55P03")


@dataclass(frozen=True, slots=True)
class Made:
    """The segments of a create, and whether an earlier request had made them."""

    ids: list[int]
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Key:
    """What a request says it is: who asks under which name, and for what."""

    digest: str
    body_digest: str


def make_once(request: Request, *, scope: str, body: Any, make: Callable[[str], list[int]]) -> Made:
    """Make segments, once for each key; without a key, make them.

    Args:
        scope: the operation; the same key with another one counts as another body.
        body: what is wanted, validated, so that it is the same however it was written.
        make: makes the segments in the database of the given alias and returns their ids. Runs in
            a transaction.

    Raises:
        ValidationError: the header is empty, too long or not visible ASCII.
        Conflict: a request with the key is at work.
        Unprocessable: the key was used with another body.
    """
    alias = router.db_for_write(Segment)
    header = request.headers.get(HEADER)
    if header is None:
        with transaction.atomic(using=alias):
            return Made(make(alias), replayed=False)
    key = _Key(_digest(f"{request.user.pk}\0{_valid(header)}"), _digest(json.dumps([scope, body])))
    token = uuid.uuid4()
    try:
        ids = _begin(key, token, alias)
        if ids is not None:
            return Made(ids, replayed=True)
        try:
            return Made(_make(make, key, token, alias), replayed=False)
        except BaseException:
            _give_back(key, token, alias)
            raise
    except OperationalError as error:
        if not _yielded(error):
            raise
        # Where a transaction spans the request, all of it is lost: the client has to repeat it.
        raise _in_use() from error


def _make(make: Callable[[str], list[int]], key: _Key, token: uuid.UUID, alias: str) -> list[int]:
    with transaction.atomic(using=alias):
        ids = make(alias)
        mine = IdempotencyKey.objects.using(alias).filter(digest=key.digest, token=token)
        if not mine.update(segment_ids=ids):
            raise _in_use()  # taken over meanwhile: what was made here is rolled back
    return ids


def _begin(key: _Key, token: uuid.UUID, alias: str) -> list[int] | None:
    """Write the key down, or take it over; returns the segments of a request that is done."""
    keys = IdempotencyKey.objects.using(alias)
    for _again in range(3):
        try:
            with transaction.atomic(using=alias):
                keys.create(digest=key.digest, body_digest=key.body_digest, token=token)
        except IntegrityError:
            found = keys.filter(digest=key.digest).annotate(now=DatabaseNow()).first()
        else:
            return None
        if found is None:
            continue  # it was given back, or forgotten, just now
        age = found.now - found.started_at
        if age < IdempotencyKey.KEPT_FOR:
            if found.body_digest != key.body_digest:
                raise Unprocessable(
                    _("This Idempotency-Key was used with another body. Use a new one."),
                    "idempotency_key_reused",
                )
            if found.segment_ids is not None:
                return [int(pk) for pk in found.segment_ids]
            if age < LEASE:
                raise _in_use()
        taken = keys.filter(
            pk=found.pk, token=found.token, segment_ids__isnull=found.segment_ids is None
        ).update(
            token=token,
            body_digest=key.body_digest,
            segment_ids=None,
            started_at=DatabaseNow(),
        )
        if taken:
            return None
    raise _in_use()


def _give_back(key: _Key, token: uuid.UUID, alias: str) -> None:
    """Forget a key whose request failed, so that it can be repeated at once."""
    mine = IdempotencyKey.objects.using(alias).filter(digest=key.digest, token=token)
    try:
        mine.filter(segment_ids__isnull=True).delete()
    except DatabaseError as error:
        # The first error is the one to tell; the key is taken over when its lease has run out.
        logger.warning("An idempotency key could not be given back: %s", type(error).__name__)


def _yielded(error: OperationalError) -> bool:
    """Whether the database ended this transaction for the sake of another, and is well itself."""
    code = error.args[0] if error.args else None
    return code in MYSQL_YIELDS or getattr(error.__cause__, "sqlstate", None) in POSTGRES_YIELDS


def _in_use() -> Conflict:
    return Conflict(
        _("A request with this Idempotency-Key is at work. Repeat it in a moment."),
        "idempotency_key_in_use",
        wait=WAIT,
    )


def _valid(header: str) -> str:
    if len(header) <= MAX_LENGTH and re.fullmatch(PATTERN, header):
        return header
    message = _("Send 1 to %(most)d visible ASCII characters, such as a UUID.")
    raise ValidationError({HEADER: [message % {"most": MAX_LENGTH}]})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

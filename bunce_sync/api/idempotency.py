"""Requests that are safe to repeat: the same ``Idempotency-Key`` gives the same result.

The key and what the request does are written in one transaction, and the key is unique. So a
concurrent repeat waits for the first request at the unique index; then it finds the key, and
replays.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from bunce_sync import database
from bunce_sync.api.problems import Conflict, Unprocessable
from bunce_sync.models import IdempotencyKey

T = TypeVar("T")

HEADER = "Idempotency-Key"
#: The response header of a replay.
REPLAYED = "Idempotent-Replayed"
MAX_LENGTH = 255
#: Visible ASCII, which every proxy passes on unchanged.
PATTERN = "^[!-~]+$"
#: Transactions that are tried before the client has to repeat the request.
TRIES = 4
#: Seconds after which the client should repeat the request.
RETRY_AFTER = 1
#: MySQL: lock wait timeout, deadlock.
MYSQL_LOCK_ERRORS = (1205, 1213)
#: PostgreSQL: serialization failure, deadlock, lock not available.
POSTGRES_LOCK_ERRORS = ("40001", "40P01", "55P03")


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The result of a request, and whether an earlier one with the same key had it."""

    result: T
    replayed: bool = False


class _KeyExpired(Exception):
    """The key is older than ``IdempotencyKey.KEPT_FOR``."""


def run_once(request: Request, body: Any, run: Callable[[], T]) -> Done[T]:
    """Do what a request asks for, once per key. Without a key, do it on every request.

    Args:
        body: what identifies the request besides the key: its action and its validated data.
        run: does it and returns the result, which is kept as JSON. It runs in a transaction.

    Raises:
        ValidationError: the header is empty, too long or not visible ASCII.
        Conflict: the database aborted the transaction several times because of locks.
        Unprocessable: the key was used with a different body.
    """
    header = request.headers.get(HEADER)
    if header is None:
        with transaction.atomic(using=database.alias()):
            return Done(run())
    if len(header) > MAX_LENGTH or not re.fullmatch(PATTERN, header):
        message = _("Send 1 to %(max)d visible ASCII characters, such as a UUID.")
        raise ValidationError({HEADER: [message % {"max": MAX_LENGTH}]})
    digest = _digest(f"{request.user.pk}\0{header}")
    body_digests = _body_digests(body)
    # Inside a transaction of the whole request nothing can be retried.
    tries = 1 if database.connection().in_atomic_block else TRIES
    while True:
        tries -= 1
        try:
            with transaction.atomic(using=database.alias()):
                return _run_or_replay(digest, body_digests, run)
        except _KeyExpired:
            database.idempotency_keys().filter(IdempotencyKey.EXPIRED, digest=digest).delete()
            tries += 1
        except IntegrityError:
            # Where transactions are REPEATABLE READ, only a new one sees the other request's key.
            if not tries:
                raise
        except OperationalError as error:
            if not _is_lock_error(error):
                raise
            if not tries:
                raise _key_in_use() from error
            time.sleep(random.uniform(0.01, 0.1))


def mark_replay(response: Response, done: Done[Any]) -> Response:
    """Return the response, with a header if it repeats that of an earlier request."""
    if done.replayed:
        response[REPLAYED] = "true"
    return response


def _run_or_replay(digest: str, body_digests: list[str], run: Callable[[], T]) -> Done[T]:
    keys = database.idempotency_keys()
    key, is_new = keys.get_or_create(digest=digest, defaults={"body_digest": body_digests[0]})
    if is_new:
        result = run()
        keys.filter(pk=key.pk).update(result=result)
        return Done(result)
    if keys.filter(IdempotencyKey.EXPIRED, pk=key.pk).exists():
        raise _KeyExpired
    if key.body_digest not in body_digests:
        raise Unprocessable(
            _("This Idempotency-Key was used with a different body. Use a new key."),
            "idempotency_key_reused",
        )
    return Done(key.result, replayed=True)


def _is_lock_error(error: OperationalError) -> bool:
    """Return whether a deadlock or lock timeout made the database abort the transaction."""
    cause = error.__cause__
    return (
        (error.args[:1] or (None,))[0] in MYSQL_LOCK_ERRORS
        or getattr(cause, "sqlstate", None) in POSTGRES_LOCK_ERRORS
        or getattr(cause, "sqlite_errorname", "").startswith("SQLITE_BUSY")
    )


def _key_in_use() -> Conflict:
    return Conflict(
        _("Another request with this Idempotency-Key is in progress. Repeat this one shortly."),
        "idempotency_key_in_use",
        wait=RETRY_AFTER,
    )


def _body_digests(body: Any) -> list[str]:
    """Return the digests under which a body may be stored, that of today's ``SECRET_KEY`` first."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    text = b"bunce_sync.idempotency:" + json.dumps(body).encode()
    return [hmac.new(str(key).encode(), text, hashlib.sha256).hexdigest() for key in keys]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

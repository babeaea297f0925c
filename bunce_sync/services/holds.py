"""Services that hold pushes back: the pause, and ``no_push()`` blocks."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import Token

from asgiref.sync import sync_to_async
from django.db import DatabaseError, transaction

from bunce_sync import database
from bunce_sync.holding import current_hold
from bunce_sync.models import PushHold
from bunce_sync.services.publishing import publish_after_commit
from bunce_sync.tasks import push_segment


def pause(*, reason: str, by: str) -> PushHold:
    """Pause all pushes: nothing is created or changed in Bunce until ``resume``; reads go on.

    Requests that are under way are completed. A pause that is in force already gets the new reason.

    Args:
        reason: why, to be shown.
        by: who pauses, to be shown.
    """
    values = {"reason": reason.strip()[:500], "by": by[:255]}
    hold, _created = database.holds().update_or_create(pauses_all=True, defaults=values)
    return hold


def resume() -> bool:
    """End the pause, and wake workers; return whether there was one."""
    with transaction.atomic(using=database.alias()):
        ended = bool(database.holds().filter(pauses_all=True).delete()[0])
        if ended:
            publish_after_commit(push_segment)
    return ended


class no_push(AbstractContextManager[None], AbstractAsyncContextManager[None]):  # noqa: N801
    """Hold the segments that are saved inside, by any path, until the block ends.

    Use it with ``with``, or with ``async with`` in a coroutine. When the block ends, workers are
    woken once, however many segments there are. Other segments are not affected. A block inside
    another one belongs to that. If the process dies, its segments stay held: ``bunce_status``
    shows them, and ``bunce_resume --hold ID`` releases them.

    Args:
        reason: what the block is for, to be shown.
    """

    def __init__(self, reason: str = "") -> None:
        self._reason = reason
        self._hold: PushHold | None = None
        self._token: Token[int | None] | None = None

    def __enter__(self) -> None:
        if current_hold.get() is None:
            self._begin(self._create())

    def __exit__(self, *exception: object) -> None:
        if (hold := self._end()) is not None:
            _end_block(hold)

    async def __aenter__(self) -> None:
        if current_hold.get() is None:
            self._begin(await sync_to_async(self._create)())

    async def __aexit__(self, *exception: object) -> None:
        if (hold := self._end()) is not None:
            await sync_to_async(_end_block)(hold)

    def _create(self) -> PushHold:
        return database.holds().create(reason=self._reason[:500], by=process_name())

    def _begin(self, hold: PushHold) -> None:
        self._hold, self._token = hold, current_hold.set(hold.pk)

    def _end(self) -> PushHold | None:
        hold, self._hold = self._hold, None
        if self._token is not None:
            current_hold.reset(self._token)
            self._token = None
        return hold


def _end_block(hold: PushHold) -> None:
    """Release what a block holds, as far as its transaction can still write."""
    try:
        # In a transaction that is about to be rolled back the hold goes with it.
        if not database.connection().needs_rollback:
            release_hold(hold.pk)
    except PushHold.DoesNotExist:
        pass  # a person released it meanwhile
    except DatabaseError:
        # PostgreSQL writes nothing in a transaction in which a query failed.
        if not database.connection().in_atomic_block:
            raise


def release_hold(pk: int) -> int:
    """End the hold of a ``no_push()`` block; return how many segments it held.

    Raises:
        PushHold.DoesNotExist: there is no such hold, or it is the pause.
    """
    with transaction.atomic(using=database.alias()):
        hold = database.holds().get(pk=pk, pauses_all=None)
        held = database.segments().filter(hold=hold)
        count = held.update_sync_fields(hold=None)
        hold.delete()
        if count:
            publish_after_commit(push_segment)
    return count


def process_name() -> str:
    """Return which process this is: user, host and process id."""
    return f"{user_at_host()}, process {os.getpid()}"


def is_running(process: str) -> bool:
    """Return whether a process of this host, as ``process_name`` named it, is still running."""
    where, _separator, number = process.partition(", process ")
    same_host = where.rpartition("@")[2] == socket.gethostname()
    if not (number.isdecimal() and same_host) or os.name == "nt":  # where kill() really kills
        return False
    try:
        os.kill(int(number), 0)
    except PermissionError:  # it is another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


def user_at_host() -> str:
    """Return who runs this process, and on which host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run as a user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"

"""One client for each process, so that connections are kept alive from task to task."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from .client import BunceClient


@dataclass(frozen=True)
class _Shared:
    client: BunceClient
    arguments: tuple[str, str, float, float] = field(repr=False)  # the key is one of them
    pid: int


_lock = threading.Lock()
_shared: _Shared | None = None


def shared_client(
    *, base_url: str, api_key: str, connect_timeout: float = 3.0, read_timeout: float = 20.0
) -> BunceClient:
    """The client of this process for these settings; one at a time is kept.

    With other settings than before, the former client's idle connections are closed. After a
    fork the child gets a client of its own: the parent's sockets stay the parent's.

    Args and errors: as for ``BunceClient``.
    """
    global _shared
    arguments = (base_url, api_key, connect_timeout, read_timeout)
    with _lock:
        former = _shared
        if former and former.pid == os.getpid():
            if former.arguments == arguments:
                return former.client
            former.client.close()
        client = BunceClient(
            base_url=base_url,
            api_key=api_key,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        _shared = _Shared(client, arguments, os.getpid())
        return client


def _forget_after_fork() -> None:
    """Another thread of the parent may have held the lock, and would never release it here."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)

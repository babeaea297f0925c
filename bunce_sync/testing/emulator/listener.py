"""The listening socket: takes connections, or refuses them without giving up the port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

_BACKLOG = 1024
_BREATH = 0.2  # seconds without accepting when the process has no file descriptor left


class Listener:
    """Owns one address from its construction to ``close``.

    Only ``__init__`` may be called outside the thread of the event loop.

    Args:
        address: host and port; port 0 takes a free one.
        connect: makes the protocol for a connection, given the client's address.

    Raises:
        OSError: the address cannot be had; ``errno.EADDRINUSE`` when the port is taken.
    """

    def __init__(
        self, address: tuple[str, int], connect: Callable[[str], asyncio.Protocol]
    ) -> None:
        self._connect = connect
        self._socket = _bind(address, listen=True)
        self._open = False  # connections are taken
        self._refusing = False
        self._connecting: set[asyncio.Task[object]] = set()
        host, port = self._socket.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)

    def open(self) -> None:
        """Take connections; does nothing when it does so already.

        Raises:
            OSError: another program took the port while it was refused.
        """
        if not self._open:
            self._socket.listen(_BACKLOG)
            asyncio.get_running_loop().add_reader(self._socket, self._accept)
            self._open = True
            self._refusing = False

    def refuse(self) -> None:
        """Let every attempt to connect fail, and keep the port for ``open``.

        Raises:
            OSError: another program took the port in this very moment.
        """
        if not self._refusing:
            self.close()
            self._socket = _bind(self.address, listen=False)
            self._refusing = True

    def close(self) -> None:
        """Give up the port."""
        if self._open:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._open = False
        self._socket.close()

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_BACKLOG):
            try:
                connection, address = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor or memory left: try again when some may be free
                loop.remove_reader(self._socket)
                loop.call_later(_BREATH, self._resume)
                return
            connection.setblocking(False)
            protocol = partial(self._connect, str(address[0]))
            task: asyncio.Task[object] = loop.create_task(
                loop.connect_accepted_socket(protocol, connection)
            )
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _resume(self) -> None:
        if self._open:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)


def _bind(address: tuple[str, int], *, listen: bool) -> socket.socket:
    """Return a socket that holds the address; one that does not listen refuses connections."""
    family, kind, protocol, _, target = socket.getaddrinfo(
        *address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(target)
        if listen:  # only now a taken port shows itself
            sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock

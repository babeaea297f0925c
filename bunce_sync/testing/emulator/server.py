"""The emulator: the application, served over HTTP by an event loop in its own thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .api import PREFIX
from .application import Application
from .control import ControlEndpoints
from .dashboard import DashboardPages
from .http import Routes
from .options import Faults, Options, Outage

if TYPE_CHECKING:
    from .connection import Connection

_BACKLOG = 1024
_THREAD_SECONDS = 10.0


class MissingExtraError(ImportError):
    """The emulator needs h11. Install it with: pip install 'django-bunce-sync[testing]'"""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Emulator(Application):
    """A local Bunce, in memory only.

    All methods are thread-safe. As a context manager it starts and stops::

        with Emulator() as bunce:
            requests.get(f"{bunce.base_url}/segments", headers={"X-Authorization": "sk_test_x"})

    Args:
        port: the port to listen on; 0 takes a free one.
        host: the address to listen on.
        faults: what fails; nothing if it is None.
        seed: for the random choice of faults and for shuffled lists.
        options: see ``Options``.

    Raises:
        ValueError: the port or an option is out of range.
    """

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        *,
        faults: Faults | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if not 0 <= port <= 65535:  # the C library would take it modulo 65536
            raise ValueError("port must be from 0 to 65535")
        super().__init__(Options(**options), faults or Faults(), seed)
        self._address = (host, port)
        self._connections: set[Connection] = set()
        self._accepted = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._socket: socket.socket
        self._server: asyncio.Server | None = None  # while connections are accepted
        self._refusing = False

    def _own_routes(self) -> Routes:
        return {**DashboardPages(self).routes(), **ControlEndpoints(self).routes()}

    def start(self) -> Self:
        """Start to listen and return, ready to respond.

        Raises:
            OSError: the address is not available; ``errno.EADDRINUSE`` if the port is taken.
            MissingExtraError: h11 is not installed.
            RuntimeError: the emulator is already running.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator is already running")
        _connection_class()  # fail in the caller's thread if h11 is missing
        self._socket = _bind(self._address, listen=True)
        self._address = self._socket.getsockname()[:2]
        self._refusing = False
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(ready)), name="bunce-emulator", daemon=True
        )
        self._thread.start()
        ready.wait(_THREAD_SECONDS)
        return self

    def stop(self) -> None:
        """Close all connections and free the port; the data can still be read."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_THREAD_SECONDS)
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._address[1]

    @property
    def url(self) -> str:
        """The URL of the front page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """The URL of the API, for ``BASE_URL`` in the settings."""
        return f"{self.url}{PREFIX}"

    @property
    def accepted(self) -> int:
        """The number of accepted connections, including those for the front page."""
        return self._accepted

    def set(self, **changes: Any) -> None:
        """Change some of the ``Options``.

        Raises:
            ValueError: a value is out of range; then nothing changes.
            OSError: another program took the port during an outage of the kind ``refuse``.
        """
        replace(self.options, **changes)  # check all values before anything happens
        if "outage" in changes:
            self._in_loop(self._listen(changes["outage"]))
        super().set(**changes)  # last: when the outage reads as ended, clients can connect

    def reset(self) -> None:
        """Delete all data and restore the initial options and faults.

        Slow responses, pending writes, scripts and callbacks are dropped; idle connections stay
        open.
        """
        super().reset()
        self._in_loop(self._drop_slow_responses())

    def _in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the event loop; wait for it unless called from there."""
        if self._thread is None:
            work.close()
            return
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        if threading.current_thread() is not self._thread:
            future.result(_THREAD_SECONDS)

    async def _run(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        await self._listen(self.options.outage)
        ready.set()
        await self._stopping.wait()
        self._close_socket()
        for connection in list(self._connections):
            connection.abort()

    async def _listen(self, outage: Outage | None) -> None:
        """Accept connections, or refuse them without giving up the port."""
        if outage == "refuse":
            if self._refusing:
                return
            self._close_socket()
            self._socket = _bind(self._address, listen=False)
            self._refusing = True
            for connection in list(self._connections):
                connection.abort(reset=True)
        elif self._server is None:
            self._server = await asyncio.start_server(
                self._serve, sock=self._socket, backlog=_BACKLOG
            )
            self._refusing = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        connection = _connection_class()(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    async def _drop_slow_responses(self) -> None:
        await self._listen(self.options.outage)
        for connection in list(self._connections):
            if connection.busy:
                connection.abort(reset=True)

    def _close_socket(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._socket.close()


def _connection_class() -> type[Connection]:
    try:
        from .connection import Connection
    except ModuleNotFoundError as error:
        if error.name != "h11":
            raise
        raise MissingExtraError from None
    return Connection


def _bind(address: tuple[str, int], *, listen: bool) -> socket.socket:
    """Return a socket bound to the address; connections are refused unless it listens."""
    family, kind, protocol, _, target = socket.getaddrinfo(
        *address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        if listen:  # with SO_REUSEADDR, only this fails if the port is taken
            sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock

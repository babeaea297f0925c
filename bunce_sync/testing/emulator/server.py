"""The emulator as an object: start it, point a client at it, look at what it holds, stop it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Self, Unpack

from .api import PREFIX
from .application import Application
from .connection import Connection
from .control import ControlPages
from .faults import FaultPlan, Faults
from .listener import Listener
from .options import OptionChanges, Options, Outage, number
from .state import StoredSegment
from .view import View

_THREAD_SECONDS = 10.0


class Emulator(View):
    """A local Bunce over HTTP, in a thread of its own and in memory only.

    Everything here may be used from any thread. As a context manager it starts and stops::

        with Emulator() as bunce:
            requests.get(f"{bunce.base_url}/segments", headers={"X-Authorization": "sk_test_x"})

    Args:
        port: where to listen; 0 takes a free one.
        host: the address to listen on.
        faults: what goes wrong; nothing when it is None.
        seed: for the faults' chance and for shuffled lists.
        options: as in ``Options``.

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
        **options: Unpack[OptionChanges],
    ) -> None:
        if not 0 <= port <= 65535:  # the C library would take it modulo 65536
            raise ValueError("port must be from 0 to 65535")
        self._address = (host, port)
        self._app = Application(Options(**options), faults or Faults(), seed, self._later)
        self._app.pages = ControlPages(self)
        self._connections: set[Connection] = set()
        self._accepted = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listener: Listener | None = None
        self._outage_timer: asyncio.TimerHandle | None = None

    # Starting and stopping

    def start(self) -> Self:
        """Begin to listen and return at once, ready to answer.

        Raises:
            OSError: the address cannot be had; ``errno.EADDRINUSE`` when the port is taken.
            RuntimeError: it runs already.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator runs already")
        self._listener = Listener(self._address, self._connect)
        self._address = self._listener.address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop,), name="bunce-emulator", daemon=True
        )
        self._thread.start()
        self._in_loop(lambda: self._listen(self._app.options.outage))
        return self

    def stop(self) -> None:
        """Close every connection and free the port; what was stored can still be looked at."""
        if self._thread is None or self._loop is None:
            return
        self._in_loop(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_THREAD_SECONDS)
        self._thread = self._loop = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # Where it is

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
        """The address of the front page, for a person."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """The address for a client, as ``BASE_URL`` in the settings."""
        return f"{self.url}{PREFIX}"

    @property
    def accepted(self) -> int:
        """The number of connections accepted since the start, the front page's included."""
        return self._accepted

    # Changing it

    def add_segment(
        self,
        name: str,
        description: str | None = None,
        *,
        type: str = "manual",  # noqa: A002 - Bunce's word for it
        all_customers: bool = False,
        created_at: datetime | None = None,
    ) -> StoredSegment:
        """Store a segment as a person would in Bunce's dashboard.

        Args:
            created_at: the moment to note, aware; now when it is None.

        Raises:
            ValueError: ``created_at`` has no zone.
        """
        if created_at is not None and created_at.tzinfo is None:
            raise ValueError("created_at must be aware")
        with self._app.changed:
            segment = self._app.store.add_segment(
                name, description, type=type, all_customers=all_customers, created_at=created_at
            )
            self._app.announce()
        return segment

    def set_faults(
        self,
        faults: Faults | None = None,
        *,
        seed: int | None = None,
        script: Iterable[str | None] = (),
    ) -> None:
        """Replace what goes wrong; None ends all faults. All scripts of before are dropped.

        Args:
            faults: the new plan.
            seed: for its chance; without it, the seed of before, from its beginning.
            script: for the next creates, as ``script`` takes them.

        Raises:
            ValueError: a fault in the script is unknown; then nothing changes.
        """
        plan = FaultPlan(faults or Faults(), self.seed if seed is None else seed)
        plan.extend_script(script)
        with self._app.changed:
            self._app.plan = plan

    def script(self, names: Iterable[str | None], method: str = "POST") -> None:
        """Say what the next calls suffer, one each and in order; None lets one pass.

        Args:
            names: the faults, appended to those that are still to come.
            method: which calls: ``POST`` for creates, ``PATCH`` for updates of a segment,
                ``GET`` for reads and lists. Each has a queue of its own.

        Raises:
            ValueError: a fault or the method is unknown; then nothing changes.
        """
        with self._app.changed:
            self._app.plan.extend_script(names, method)

    def set(self, *, outage_seconds: float | None = None, **changes: Unpack[OptionChanges]) -> None:
        """Change options, see ``Options``; the others stay.

        Args:
            outage_seconds: after how long the outage that is set ends by itself.

        Raises:
            ValueError: a value is out of range; then nothing changes.
            OSError: another program took the port during an outage of the kind ``refuse``.
        """
        if outage_seconds is not None:
            number("outage_seconds", outage_seconds)
        replace(self._app.options, **changes)  # refuses a bad value before anything happens
        if "outage" in changes and self._loop is not None:
            outage = changes["outage"]
            self._in_loop(lambda: self._begin_or_end_outage(outage, outage_seconds))
        # Last: whoever sees that an outage is over can connect.
        with self._app.changed:
            self._app.options = replace(self._app.options, **changes)
            self._app.announce()

    def reset(self) -> None:
        """Go back to how it was at the start: no data, the first options and faults.

        Answers still on their way are dropped, late stores never happen; idle connections stay.
        """
        self._app.clear()
        if self._loop is not None:
            self._in_loop(self._drop_busy)

    # In the thread of the loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(_finish_tasks())
        finally:
            loop.close()

    def _in_loop(self, work: Callable[[], object]) -> None:
        """Do something in the loop's thread and wait for it; an error comes back here."""
        if self._loop is None:
            raise RuntimeError("the emulator does not run")
        if threading.current_thread() is self._thread:
            work()
            return

        async def call() -> None:
            work()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(_THREAD_SECONDS)

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, work)

    def _connect(self, client: str) -> Connection:
        self._accepted += 1
        return Connection(self._app, self._connections, client)

    def _listen(self, outage: Outage | None) -> None:
        if self._listener is None:
            return
        if outage != "refuse":
            self._listener.open()
            return
        self._listener.refuse()
        for connection in list(self._connections):
            connection.reset()

    def _begin_or_end_outage(self, outage: Outage | None, seconds: float | None) -> None:
        if self._outage_timer is not None:
            self._outage_timer.cancel()
            self._outage_timer = None
        self._listen(outage)
        if seconds is not None and outage is not None:
            loop = asyncio.get_running_loop()
            self._outage_timer = loop.call_later(seconds, lambda: self.set(outage=None))

    def _drop_busy(self) -> None:
        self._begin_or_end_outage(self._app.options.outage, None)
        for connection in list(self._connections):
            if connection.busy:
                connection.reset()

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.close()


async def _finish_tasks() -> None:
    """Let what is under way end, so that every socket is closed before the loop is."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)

"""A TCP proxy in front of a broker that simulates network failures."""

import selectors
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_CHUNK = 65536


class Proxy:
    """A TCP proxy on a free port of this machine.

    Args:
        host: the host to forward to.
        port: the port to forward to.
        listen_on: the address to listen on.
    """

    def __init__(self, host: str, port: int, *, listen_on: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._address = listen_on
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._peers: dict[socket.socket, socket.socket] = {}
        self._frozen = False
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.RLock()
        self._ended = False
        self.port = 0
        self._listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        self._wake.send(b"x")
        self._thread.join(10)
        with self._lock:
            self._hang_up()
            self._stop_listening()
            self._wake.close()
            self._woken.close()

    def heal(self) -> None:
        """Forward all traffic again."""
        with self._lock:
            self._frozen = False
            if self._fillers or self._listener is None:
                self._stop_listening()
                self._listen()
        self._wake.send(b"x")

    def freeze(self) -> None:
        """Keep connections open and accept new ones, but forward nothing."""
        with self._lock:
            self._frozen = True
        self._wake.send(b"x")

    def refuse(self) -> None:
        """Refuse new connections and reset the existing ones."""
        with self._lock:
            self._hang_up()
            self._stop_listening()
        self._wake.send(b"x")

    def swallow(self) -> None:
        """Drop packets: a new connection gets no response to its SYN.

        Linux drops the SYN when the accept queue is full.
        """
        with self._lock:
            self._hang_up()
            self._stop_listening()
            self._listen(backlog=0)
            for _ in range(2):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex((self._address, self.port))
                self._fillers.append(filler)
        self._wake.send(b"x")

    def _listen(self, backlog: int = 100) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self._address, self.port))
        listener.listen(backlog)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener

    def _stop_listening(self) -> None:
        for one in (*self._fillers, self._listener):
            if one is not None:
                one.close()
        self._fillers, self._listener = [], None

    def _hang_up(self) -> None:
        for one in list(self._peers):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # an RST
            one.close()
        self._peers.clear()

    def _run(self) -> None:
        while not self._ended:
            with selectors.DefaultSelector() as selector:
                selector.register(self._woken, selectors.EVENT_READ, self._woken)
                with self._lock:
                    if self._listener is not None and not self._fillers:
                        selector.register(self._listener, selectors.EVENT_READ, self._listener)
                    for one in self._peers if not self._frozen else ():
                        selector.register(one, selectors.EVENT_READ, one)
                ready = [key.data for key, _ in selector.select()]
            with self._lock:
                for one in ready:
                    self._serve(one)

    def _serve(self, one: socket.socket) -> None:
        if one is self._woken:
            one.recv(_CHUNK)
        elif one is self._listener:
            with suppress(OSError):
                self._pair(one.accept()[0])
        elif one in self._peers:
            self._forward(one)

    def _pair(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        self._peers[client], self._peers[server] = server, client

    def _forward(self, one: socket.socket) -> None:
        other = self._peers[one]
        try:
            data = one.recv(_CHUNK)
            other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for end in (one, other):
                self._peers.pop(end, None)
                end.close()

"""One HTTP request as it happened: what left, what came back, how long it took."""

from __future__ import annotations

import time


class Instant:
    """A moment, noted by two clocks.

    The monotonic clock stands still while a virtual machine is suspended and the wall clock may
    step, so the age is the greater of the two: what it guards (a permit, an idle connection) is
    harmed by being thought too young, never by being thought too old.
    """

    __slots__ = ("_monotonic", "_wall")

    def __init__(self) -> None:
        self._monotonic = time.monotonic()
        self._wall = time.time()

    def age(self) -> float:
        """Seconds since this moment."""
        return max(time.monotonic() - self._monotonic, time.time() - self._wall)


class RequestRecord:
    """The record of one HTTP request, made by the caller and filled in by the client.

    It is readable at any time, also after an error, and serves for one request only.

    Args:
        send_within: seconds from now within which the first byte must leave; ``None`` for no
            limit. Later than that nothing is sent and ``PermitExpired`` is raised.

    Attributes:
        sent: whether a byte of the request has left; true from just before the first byte is
            handed to the socket, so that False is a proof that Bunce cannot have acted.
        http_status: the status of the answer, as soon as its headers were read.
        duration: seconds from the start of the call to its end, the connecting included.
        method: the HTTP method, e.g. ``"POST"``.
        path: the path below the base address, e.g. ``"/segments"``.
    """

    __slots__ = ("_made", "_send_within", "duration", "http_status", "method", "path", "sent")

    def __init__(self, *, send_within: float | None = None) -> None:
        self._made = Instant()
        self._send_within = send_within
        self.sent = False
        self.http_status: int | None = None
        self.duration: float | None = None
        self.method = ""
        self.path = ""

    def begin(self, method: str, path: str) -> None:
        """Name the request that is about to be made.

        Raises:
            ValueError: this record has recorded a request before; its ``sent`` would lie.
        """
        if self.method:
            raise ValueError("an RequestRecord records one request: make a new one for the next")
        self.method, self.path = method, path

    @property
    def too_late(self) -> bool:
        """Whether the time within which the request may be sent has run out."""
        return self._send_within is not None and self._made.age() > self._send_within

    def __repr__(self) -> str:
        return (
            f"<RequestRecord {self.method or '(not begun)'} {self.path} sent={self.sent} "
            f"http_status={self.http_status} duration={self.duration}>"
        )

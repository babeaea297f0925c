"""What happened to one HTTP request: what was sent, what came back, how long it took."""

from __future__ import annotations

from .. import clocks


class Instant:
    """A moment, measured by two clocks.

    The monotonic clock stops while a virtual machine is suspended, and the wall clock can be set.
    The age is the larger of the two: a permit or an idle connection that is considered too old
    does no harm, one that is considered too young does.
    """

    __slots__ = ("_monotonic", "_wall")

    def __init__(self) -> None:
        self._monotonic = clocks.monotonic()
        self._wall = clocks.wall()

    def age(self) -> float:
        """Return the seconds since this moment."""
        return max(clocks.monotonic() - self._monotonic, clocks.wall() - self._wall)


class RequestRecord:
    """The record of one HTTP request, made by the caller and filled in by the client.

    It can be read at any time, also after an error. Each request needs its own.

    Args:
        send_within: seconds from now within which the first byte must be sent; ``None`` for no
            limit. After that nothing is sent and ``PermitExpired`` is raised.

    Attributes:
        sent: whether a byte of the request was sent. It is set just before the first byte is
            passed to the socket, so False proves that Bunce cannot have acted.
        http_status: the status of the response, as soon as its headers were read.
        duration: seconds from the start of the call to its end, including connecting.
        method: the HTTP method, e.g. ``"POST"``.
        path: the path below the base URL, e.g. ``"/segments"``.
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
        """Set method and path of the request that is about to be made.

        Raises:
            ValueError: the record was used for a request before, so its ``sent`` would be wrong.
        """
        if self.method:
            raise ValueError("a RequestRecord records one request; make a new one for the next")
        self.method, self.path = method, path

    @property
    def too_late(self) -> bool:
        """Whether the time within which the request may be sent is over."""
        return self._send_within is not None and self._made.age() > self._send_within

    def __repr__(self) -> str:
        return (
            f"<RequestRecord {self.method or '(not begun)'} {self.path} sent={self.sent} "
            f"http_status={self.http_status} duration={self.duration}>"
        )

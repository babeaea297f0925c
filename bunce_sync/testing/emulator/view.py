"""What a running emulator can be asked: its data, its log and its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Self

from .application import Application, StoredRequest
from .faults import Faults
from .options import Options
from .state import StoredCustomer, StoredSegment

_LOOK_AGAIN = 0.05  # seconds after which a predicate about something else is asked again


class View:
    """The questions that can be put to an emulator, from any thread; answers are snapshots."""

    _app: Application

    @property
    def segments(self) -> list[StoredSegment]:
        """All segments as of now, in the order in which they were stored."""
        with self._app.changed:
            return list(self._app.store.segments.values())

    @property
    def customers(self) -> list[StoredCustomer]:
        """All customers as of now, in the order in which they were stored."""
        with self._app.changed:
            return list(self._app.store.customers.values())

    def newest(self, count: int) -> list[StoredSegment]:
        """Return the segments created last, newest first."""
        with self._app.changed:
            store = self._app.store
            return [store.segments[entry[2]] for entry in reversed(store.by_age[-count:])]

    def members(self, segment_id: str) -> list[StoredCustomer]:
        """Return the customers in a segment.

        Raises:
            KeyError: there is no such segment.
        """
        with self._app.changed:
            return self._app.store.members(segment_id)

    @property
    def duplicates(self) -> list[list[StoredSegment]]:
        """The groups of segments with the same content, each oldest first."""
        with self._app.changed:
            return self._app.store.duplicates()

    @property
    def twins(self) -> int:
        """The number of segments too many: all but the first of each content."""
        return self._app.store.twins

    @property
    def requests(self) -> list[StoredRequest]:
        """The API requests as of now, oldest first; the last 20,000 of them."""
        with self._app.changed:
            return list(self._app.requests)

    @property
    def served(self) -> int:
        """The number of API requests, however they ended."""
        return self._app.served

    @property
    def limited(self) -> int:
        """The number of requests that the rate limit refused."""
        return self._app.limiter.limited

    @property
    def blocked(self) -> dict[str, int]:
        """The addresses that are shut out now, with the seconds that remain."""
        with self._app.changed:
            return self._app.limiter.blocked()

    @property
    def unsettled(self) -> int:
        """The number of late stores that are still to come."""
        return self._app.unsettled

    @property
    def suffered(self) -> Counter[str]:
        """How often each fault happened under the present plan."""
        with self._app.changed:
            return self._app.plan.suffered.copy()

    @property
    def scripted(self) -> int:
        """The number of script entries that are still to come, of all methods together."""
        with self._app.changed:
            return self._app.plan.scripted

    @property
    def seed(self) -> int:
        """With which the chance of the present faults began."""
        return self._app.plan.seed

    @property
    def options(self) -> Options:
        """How it behaves now."""
        return self._app.options

    @property
    def faults(self) -> Faults:
        """What goes wrong now."""
        return self._app.plan.faults

    def recent(self, seconds: float = 60.0) -> int:
        """Return the number of counted requests in the last ``seconds``."""
        with self._app.changed:
            return self._app.limiter.recent(seconds)

    def worst_window(self, seconds: float = 60.0) -> int:
        """Return the most counted requests from one address within any ``seconds``.

        Counted are all with an accepted key, those that the limit refused included, at the
        time they arrived here.
        """
        with self._app.changed:
            return self._app.limiter.worst_window(seconds)

    def wait_for(self, predicate: Callable[[Self], object], timeout: float = 10.0) -> None:
        """Wait until something is true; asked anew after every request, and now and then.

        Args:
            predicate: is given this emulator; it may make requests.
            timeout: in seconds.

        Raises:
            TimeoutError: it did not become true in time.
        """
        deadline = monotonic() + timeout
        while True:
            seen = self._app.changes
            if predicate(self):
                return
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"not true within {timeout:g} s: {len(self.segments)} segments, "
                    f"{self.served} requests, the last: {self.requests[-3:]}"
                )
            self._app.wait_for_change(seen, min(left, _LOOK_AGAIN))

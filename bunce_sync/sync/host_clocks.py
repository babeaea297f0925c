"""The clocks of the hosts, compared with that of the database.

The sync uses the database's clock alone, so a host whose clock is wrong does no harm to it. It does
to what surrounds the sync: queries of audiences that compare dates, certificates, other tasks. So
such hosts are named. A host is in ``SyncState.clocks`` while its clock is wrong.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from django.utils.dateparse import parse_datetime

from bunce_sync import clocks, database
from bunce_sync.models import SyncState
from bunce_sync.sync import shared_state

#: An entry of ``SyncState.clocks``: ``ahead`` in seconds, ``seen_at`` as text in ISO 8601, and
#: ``by_itself``, whether the host measured it; if not, a message from it showed it.
Entry: TypeAlias = dict[str, Any]

#: Seconds by which the clock of a host may differ from the database's.
TOLERANCE: Final = 5.0
#: A host that was not heard of for this long is forgotten: a worker takes a sweep now and then.
REMEMBERED: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class HostClock:
    """A host whose clock is wrong.

    Attributes:
        host: its name.
        ahead: by how many seconds its clock is at least ahead of the database's; negative if it
            is behind.
        seen_at: when that was seen, by the database's clock.
    """

    host: str
    ahead: float
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender of a message.

    Attributes:
        host: its name.
        sent_at: what its clock showed, in seconds since 1970.
    """

    host: str
    sent_at: float


class Comparison:
    """A block that reads the database's clock, to compare this host's clock with it."""

    def __enter__(self) -> Self:
        self._before = clocks.wall()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._after = clocks.wall()

    def ahead(self, now: datetime) -> float:
        """Return by how many seconds this host's clock is at least ahead; negative: behind.

        At least, since the block may have taken long. 0 if it can be right.

        Args:
            now: the database's time, read in the block.
        """
        moment = now.timestamp()
        return max(self._before - moment, 0.0) + min(self._after - moment, 0.0)


def host_name() -> str:
    """Return the name of this host, as Celery's messages have it."""
    return platform.node()


def is_wrong(ahead: float) -> bool:
    """Return whether a clock differs too much."""
    return abs(ahead) > TOLERANCE


def report(state: SyncState, now: datetime, *, ahead: float, sender: Sender | None = None) -> None:
    """Store whether the clocks of this host and of a message's sender are wrong, if that is news.

    Args:
        state: the shared row.
        now: the database's time. The message was sent before.
        ahead: by how many seconds this host's clock is ahead.
        sender: of a message. Its clock is known to be ahead if the message comes from the future.
            It is not known to be behind, since the message may have waited.
    """
    here, entries = host_name(), _entries(state)
    changed = _changed(entries, now, here, ahead, by_itself=True)
    if sender is not None and sender.host != here:
        early = max(sender.sent_at - now.timestamp(), 0.0)
        changed |= _changed(entries, now, sender.host, early, by_itself=False)
    forgotten = {host for host, entry in entries.items() if not _is_known(entry, now)}
    forgotten -= changed.keys()
    if not (changed or forgotten):
        return
    with database.atomic():
        shared_state.lock()  # other hosts report as well
        latest: dict[str, Entry | None] = {**_entries(shared_state.read()[0]), **changed}
        kept = {host: entry for host, entry in latest.items() if entry and host not in forgotten}
        database.sync_state().update(clocks=kept or None)


def wrong_clocks(state: SyncState, now: datetime, *, ahead: float) -> tuple[HostClock, ...]:
    """Return the hosts whose clock is wrong, by name.

    Args:
        state: the shared row.
        now: the database's time.
        ahead: by how many seconds this host's clock is ahead, which is newer than what is stored.
    """
    found = {
        host: HostClock(host, float(entry["ahead"]), _seen_at(entry))
        for host, entry in _entries(state).items()
        if _is_known(entry, now)
    }
    found.pop(host_name(), None)
    if is_wrong(ahead):
        found[host_name()] = HostClock(host_name(), ahead, now)
    return tuple(found[host] for host in sorted(found))


def _entries(state: SyncState) -> dict[str, Entry]:
    return dict(state.clocks or {})


def _changed(
    entries: dict[str, Entry], now: datetime, host: str, ahead: float, *, by_itself: bool
) -> dict[str, Entry | None]:
    """Return the new entry of a host, None to remove it; nothing if it stays as it is."""
    entry = entries.get(host)
    if is_wrong(ahead):
        return {
            host: {"ahead": round(ahead, 1), "seen_at": now.isoformat(), "by_itself": by_itself}
        }
    # A message that waited proves nothing against what the host itself has measured.
    if entry is None or (entry["by_itself"] and not by_itself):
        return {}
    return {host: None}


def _seen_at(entry: Entry) -> datetime:
    seen_at = parse_datetime(entry["seen_at"])
    assert seen_at is not None  # noqa: S101 - written above
    return seen_at


def _is_known(entry: Entry, now: datetime) -> bool:
    return abs(now - _seen_at(entry)) < REMEMBERED

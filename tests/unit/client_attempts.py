"""One attempt to create a segment, and its result."""

from __future__ import annotations

from typing import Any

from bunce_sync.client import BunceClient, RequestRecord
from bunce_sync.exceptions import BunceError

KEY = "sk_test_6fP1xVnZk2QeLw"

WAITING = {"connect_timeout", "read_timeout", "deadline"}
"""The codes of errors that occur after a timeout."""


def create(url: str, *, hasty: bool = False, **options: Any) -> tuple[Any, RequestRecord]:
    """Try to create a segment; return the segment or the error, and the record.

    Args:
        url: the base address.
        hasty: use short timeouts, for a server that never responds.
        options: of the client; or the ``record`` to use.
    """
    record = options.pop("record", None) or RequestRecord()
    timeouts = {"connect_timeout": 0.4, "read_timeout": 0.4} if hasty else {}
    outcome: Any
    with BunceClient(base_url=url, api_key=KEY, **{**timeouts, **options}) as client:
        try:
            outcome = client.create_segment({"name": "Gold"}, record=record)
        except BunceError as error:
            outcome = error
    assert record.duration is not None
    return outcome, record


class HaltedRecord(RequestRecord):
    """A record of a process that is suspended between the permit check and the first byte."""

    looks = 0

    @property
    def too_late(self) -> bool:
        self.looks += 1
        return self.looks > 1

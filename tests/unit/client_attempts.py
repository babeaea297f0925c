"""One attempt to create a segment, and what came of it."""

from __future__ import annotations

from typing import Any

from bunce_sync.client import BunceClient, RequestRecord
from bunce_sync.exceptions import BunceError

KEY = "sk_test_6fP1xVnZk2QeLw"

WAITING = {"connect_timeout", "read_timeout", "deadline"}
"""The codes of errors that only come after waiting in vain."""


def create(url: str, *, hasty: bool = False, **options: Any) -> tuple[Any, RequestRecord]:
    """Try to create a segment: the segment or the error, and the record.

    Args:
        url: the base address.
        hasty: whether to give up soon; for a server that is known never to answer.
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
    """One whose process is halted between the look at the permit and the first byte."""

    looks = 0

    @property
    def too_late(self) -> bool:
        self.looks += 1
        return self.looks > 1

"""An emulator of Bunce's API for development, demonstrations and tests."""

from __future__ import annotations

from .application import LoggedRequest
from .options import Faults, Options
from .server import Emulator
from .store import CustomerTotals, StoredCustomer, StoredSegment

__all__ = [
    "CustomerTotals",
    "Emulator",
    "Faults",
    "LoggedRequest",
    "Options",
    "StoredCustomer",
    "StoredSegment",
]

"""A local Bunce for development, demonstration and tests; it needs nothing but Python."""

from __future__ import annotations

from .application import StoredRequest
from .faults import Faults
from .options import Options
from .server import Emulator
from .state import StoredCustomer, StoredSegment

__all__ = ["Emulator", "Faults", "Options", "StoredCustomer", "StoredRequest", "StoredSegment"]

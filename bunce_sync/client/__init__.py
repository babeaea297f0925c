"""The HTTP client for Bunce: no database, no waiting, no repeating.

What a call means for a row is decided elsewhere; here a request is made once, and it is told
truthfully whether it was sent and what came back.
"""

from .client import BunceClient
from .paging import Page, Position
from .request_record import RequestRecord
from .shared import shared_client
from .types import Customer, RemoteSegment

__all__ = [
    "BunceClient",
    "Customer",
    "Page",
    "Position",
    "RemoteSegment",
    "RequestRecord",
    "shared_client",
]

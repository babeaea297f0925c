"""The HTTP client for Bunce: one request per call, without database access, waiting or retries.

It reports whether the request was sent and what came back. What that means for a segment is decided
in ``bunce_sync.sync``.
"""

from .client import BunceClient, shared_client
from .paging import Page, Position
from .request_record import RequestRecord
from .transport import check_url, is_loopback, proxy_for
from .types import Customer, RemoteSegment

__all__ = [
    "BunceClient",
    "Customer",
    "Page",
    "Position",
    "RemoteSegment",
    "RequestRecord",
    "check_url",
    "is_loopback",
    "proxy_for",
    "shared_client",
]

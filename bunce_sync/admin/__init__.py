"""The admin: where segments are made, and where one looks when one is stuck.

segment     the class that is registered: fields, columns, media
listing     the list: columns, the panel above it, and no query over the whole table
changing    the change page: wanted beside what Bunce has, the calls made
asking      "Push now", "Retry", "Check with Bunce", for one row and for many
deleting    what may be deleted, and what Bunce keeps
capped      lists whose rows nobody counts
ledger      the calls of all segments, to be looked at
live        the JSON from which an open page is kept up to date
"""

from bunce_sync.admin.call_log import ApiCallAdmin
from bunce_sync.admin.segment import SegmentAdmin

__all__ = ["ApiCallAdmin", "SegmentAdmin"]

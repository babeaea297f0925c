"""Signals about segments, for the code of a site.

Each is sent after the commit of the change, in the process that recorded it, usually a worker, with
``sender=Segment`` and ``segment``, the row as stored then. A receiver that raises is logged and
disturbs nothing; one that takes long delays the next segment.
"""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

#: Bunce has the segment as it is here: after a create, an update, or once it was found in Bunce.
segment_synced: Final = Signal()
#: The segment needs attention: Bunce refused it, or does not have it any more.
segment_rejected: Final = Signal()
#: A refresh or an import showed that the content was changed in Bunce.
segment_changed_in_bunce: Final = Signal()
#: Bunce has a second segment for the same row.
segment_duplicated: Final = Signal()
#: An audience is held: a person has to confirm its removals. Sent with its segment.
removals_held: Final = Signal()
#: Customers were added to or removed from a segment here. Sent with its key, ``segment_id``.
customers_changed: Final = Signal()

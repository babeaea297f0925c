"""The Django admin for segments and the call log.

segment      ``SegmentAdmin``, put together from the mixins in the modules below
list_view    the list: columns, search, the status panel above it
change_list  which columns lists load, and what they do with unusable parameters
change_view  the change page: content here and in Bunce, status, timeline of API calls
customers    the customers of a segment on its change page, and the pages behind it
members      ``MemberAdmin``, the list of customers
actions      "Push now", "Push ours", "Take theirs" and others, as buttons and as list actions
link_view    the list action that links waiting segments to existing ones, with its preview
controls     for all segments: the pages that import and pause
delete_view  deletion of segments that have no unresolved request
call_log     ``ApiCallAdmin``, read-only
live         JSON that keeps an open page up to date
"""

from bunce_sync.admin.call_log import ApiCallAdmin
from bunce_sync.admin.members import MemberAdmin
from bunce_sync.admin.segment import SegmentAdmin

__all__ = ["ApiCallAdmin", "MemberAdmin", "SegmentAdmin"]

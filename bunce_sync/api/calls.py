"""The ledger of one segment: what was sent to Bunce and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from bunce_sync.api import schema
from bunce_sync.api.base import ApiView
from bunce_sync.api.paging import KeysetPagination
from bunce_sync.api.rows import find
from bunce_sync.api.serializers import ApiCallSerializer
from bunce_sync.models import ApiCall, Segment

if TYPE_CHECKING:
    CallGenericViewSet = GenericViewSet[ApiCall]
else:
    CallGenericViewSet = GenericViewSet


class CallViewSet(ApiView, CallGenericViewSet):
    """The requests made for a segment, the last one first."""

    queryset = ApiCall.objects.all()
    serializer_class = ApiCallSerializer
    filter_backends = []
    pagination_class = KeysetPagination
    required_permissions: ClassVar = {
        "list": ("bunce_sync.view_segment", "bunce_sync.view_apicall"),
    }

    def parameters(self) -> Mapping[str, bool]:
        """Those of the pages."""
        return KeysetPagination.parameters()

    @schema.describe(
        summary="List the calls made for a segment",
        operation_id="segments_calls_list",
        parameters=[schema.ID],
        responses={200: ApiCallSerializer(many=True)} | schema.refusals(404),
    )
    def list(self, request: Request, id: str, **kwargs: Any) -> Response:  # noqa: A002 - the address's word
        """The requests to Bunce that were made for a segment, the last one first."""
        segment = find(id, Segment.objects.all())
        self.check_object_permissions(request, segment)
        calls: QuerySet[ApiCall] = self.get_queryset().filter(segment_id=segment.pk)
        rows = self.paginate_queryset(calls)
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)

"""Segments over REST: list, create, read, edit, delete, and have them sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.db import transaction
from django.utils.translation import gettext as _
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import OpenApiResponse
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from bunce_sync import services
from bunce_sync.api import etags, schema
from bunce_sync.api.base import ApiView
from bunce_sync.api.filters import SegmentFilter
from bunce_sync.api.idempotency import REPLAYED, make_once
from bunce_sync.api.paging import KeysetPagination
from bunce_sync.api.problems import Gone
from bunce_sync.api.rows import NOT_DELETED, NOT_PUSHED, NOT_RETRIED, find, refused, written
from bunce_sync.api.serializers import SegmentSerializer, WantedSerializer
from bunce_sync.models import Segment
from bunce_sync.sync import rate_limiter

if TYPE_CHECKING:
    SegmentGenericViewSet = GenericViewSet[Segment]
else:
    SegmentGenericViewSet = GenericViewSet


#: How the calls are described that have a worker send a segment.
RUNG_FOR: Final[Mapping[str, Any]] = {
    "request": None,
    "parameters": [schema.ID, schema.RETRY_AFTER_ACCEPTED, schema.RETRY_AFTER_CONFLICT],
    "responses": {
        202: OpenApiResponse(SegmentSerializer, "A worker was rung for.", [schema.WAITING_EXAMPLE])
    }
    | schema.refusals(404, 409, examples=[schema.BEING_SENT]),
}


class SegmentPagination(KeysetPagination):
    """Newest first, by default."""

    orderings = ("created_at", "updated_at", "name")
    default = "-created_at"


class SegmentViewSet(ApiView, SegmentGenericViewSet):
    """All that can be done with one segment."""

    queryset = Segment.objects.all()
    serializer_class = SegmentSerializer
    filter_backends = [DjangoFilterBackend]
    filterset_class = SegmentFilter
    pagination_class = SegmentPagination
    lookup_field = "id"
    required_permissions: ClassVar = {
        "retrieve": ("bunce_sync.view_segment",),
        "list": ("bunce_sync.view_segment",),
        "create": ("bunce_sync.add_segment",),
        "partial_update": ("bunce_sync.change_segment",),
        "destroy": ("bunce_sync.delete_segment",),
        "push": ("bunce_sync.view_segment", "bunce_sync.push_segment"),
        "retry": ("bunce_sync.view_segment", "bunce_sync.push_segment"),
    }

    def parameters(self) -> Mapping[str, bool]:
        """Those of the list; the other actions take none."""
        if self.action != "list":
            return {}
        return SegmentPagination.parameters() | SegmentFilter.parameters()

    @schema.describe(
        summary="List segments",
        responses={200: SegmentSerializer(many=True)}
        | schema.refusals(examples=[schema.UNKNOWN_PARAMETER]),
    )
    def list(self, request: Request, **kwargs: Any) -> Response:
        """A page of segments, newest first unless another order is asked for."""
        rows = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)

    @schema.describe(
        summary="Create a segment",
        request=WantedSerializer,
        parameters=[
            schema.IDEMPOTENCY_KEY,
            schema.ETAG_CREATED,
            schema.LOCATION,
            schema.REPLAYED_HEADER,
            schema.RETRY_AFTER_CONFLICT,
        ],
        examples=[schema.WANTED_EXAMPLE],
        responses={
            201: OpenApiResponse(
                SegmentSerializer, "It is stored and will be sent.", [schema.WAITING_EXAMPLE]
            )
        }
        | schema.refusals(
            *(409, 410, 422, *schema.WITH_BODY), examples=[schema.BLANK_NAME, schema.KEY_IN_USE]
        ),
    )
    def create(self, request: Request, **kwargs: Any) -> Response:
        """Store a segment; a worker will create it in Bunce."""
        serializer = WantedSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        wanted = serializer.validated_data

        def make(using: str) -> list[int]:
            return [Segment.objects.using(using).create(**wanted).pk]

        made = make_once(request, scope="segments", body=wanted, make=make)
        segment = written().filter(pk=made.ids[0]).first()
        if segment is None:
            raise Gone(_("The segment made with this Idempotency-Key has been deleted since."))
        response = self._answer(segment, 201)
        response["Location"] = self.address("segment", id=segment.pk)
        if made.replayed:
            response[REPLAYED] = "true"
        return response

    @schema.describe(
        summary="Read a segment",
        parameters=[schema.ID, schema.IF_NONE_MATCH, schema.ETAG],
        responses={
            200: OpenApiResponse(SegmentSerializer, examples=[schema.SYNCED_EXAMPLE]),
            304: OpenApiResponse(description="It is as `If-None-Match` says."),
        }
        | schema.refusals(404),
    )
    def retrieve(self, request: Request, id: str, **kwargs: Any) -> Response:  # noqa: A002 - the address's word
        """One segment, and where it stands."""
        response = self._answer(self._segment(id, self.get_queryset()))
        if etags.is_known(request, response["ETag"]):
            return Response(status=304, headers={"ETag": response["ETag"]})
        return response

    @schema.describe(
        summary="Edit a segment",
        request=WantedSerializer(partial=True),
        parameters=[schema.ID, schema.IF_MATCH, schema.ETAG],
        responses={200: OpenApiResponse(SegmentSerializer, examples=[schema.WAITING_EXAMPLE])}
        | schema.refusals(
            *(404, 412, *schema.WITH_BODY), examples=[schema.BLANK_NAME, schema.CHANGED_SINCE]
        ),
    )
    def partial_update(self, request: Request, id: str, **kwargs: Any) -> Response:  # noqa: A002 - as above
        """Change some of what is wanted; what changed will be sent to Bunce."""
        with transaction.atomic(using=written().write_alias):
            segment = self._segment(id, written().locked())
            etags.check_if_match(request, etags.etag_of(self.get_serializer(segment).data))
            serializer = WantedSerializer(segment, data=request.data, partial=True)
            serializer.is_valid(raise_exception=True)
            changed = {
                name: value
                for name, value in serializer.validated_data.items()
                if getattr(segment, name) != value
            }
            for name, value in changed.items():
                setattr(segment, name, value)
            if changed:
                segment.save(using=written().write_alias, update_fields=[*changed, "updated_at"])
        return self._answer(segment)

    @schema.describe(
        summary="Delete a segment here",
        parameters=[schema.ID, schema.IF_MATCH, schema.RETRY_AFTER_CONFLICT],
        responses={204: OpenApiResponse(description="It is gone here. Bunce keeps its segment.")}
        | schema.refusals(
            *(404, 409, 412), examples=[schema.NOT_DELETED_YET, schema.CHANGED_SINCE]
        ),
    )
    def destroy(self, request: Request, id: str, **kwargs: Any) -> Response:  # noqa: A002 - as above
        """Forget a segment. Bunce keeps it: its API has no call that deletes one.

        Refused while it is being sent or checked.
        """
        with transaction.atomic(using=written().write_alias):
            segment = self._segment(id, written().locked())
            etags.check_if_match(request, etags.etag_of(self.get_serializer(segment).data))
            if segment.status in NOT_DELETED:
                raise refused(segment, NOT_DELETED)
            segment.delete(using=written().write_alias)
        return Response(status=204)

    @schema.describe(
        summary="Send a waiting segment now",
        operation_id="segments_push",
        **RUNG_FOR,
    )
    def push(self, request: Request, id: str, **kwargs: Any) -> Response:  # noqa: A002 - as above
        """Have a worker send it without further waiting, or again if Bunce's copy has drifted."""
        segment = self._segment(id, written())
        if not services.push_now(written().filter(pk=segment.pk)):
            raise refused(segment, NOT_PUSHED)
        return self._accepted(segment)

    @schema.describe(
        summary="Send a refused segment again",
        operation_id="segments_retry",
        **RUNG_FOR,
    )
    def retry(self, request: Request, id: str, **kwargs: Any) -> Response:  # noqa: A002 - as above
        """Have a worker send what Bunce once refused, as it stands."""
        segment = self._segment(id, written())
        if not services.retry(written().filter(pk=segment.pk)):
            raise refused(segment, NOT_RETRIED)
        return self._accepted(segment)

    def _segment(self, word: str, rows: Any) -> Segment:
        segment = find(word, rows)
        self.check_object_permissions(self.request, segment)
        return segment

    def _answer(self, segment: Segment, status: int = 200) -> Response:
        data = self.get_serializer(segment).data
        return Response(data, status, headers={"ETag": etags.etag_of(data)})

    def _accepted(self, segment: Segment) -> Response:
        segment = self._segment(str(segment.pk), written())
        response = Response(self.get_serializer(segment).data, 202)
        state, now = rate_limiter.read_state(written().write_alias)
        if state.blocked_until and state.blocked_until > now:
            response["Retry-After"] = math.ceil((state.blocked_until - now).total_seconds())
        return response

"""Segments over REST."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.db import transaction
from django.http import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.functional import Promise
from django.utils.http import parse_etags, quote_etag
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from bunce_sync import database, services
from bunce_sync.api import schema
from bunce_sync.api.base import ApiView
from bunce_sync.api.filters import SegmentFilter
from bunce_sync.api.idempotency import Done, mark_replay, run_once
from bunce_sync.api.pagination import IdPagination, SegmentPagination
from bunce_sync.api.problems import Conflict, Gone, PreconditionFailed
from bunce_sync.api.serializers import (
    CREATED,
    ApiCallSerializer,
    BulkResponseSerializer,
    BulkSerializer,
    SegmentIdSerializer,
    SegmentSerializer,
    SegmentWriteSerializer,
)
from bunce_sync.models import Segment, SegmentQuerySet

if TYPE_CHECKING:
    SegmentGenericViewSet = GenericViewSet[Segment]
else:
    SegmentGenericViewSet = GenericViewSet

Status = Segment.Status

#: Why an action is refused, by the segment's state.
CONFLICTS: Final[Mapping[str, str | Promise]] = {
    Status.PENDING: gettext_lazy("The segment is already waiting to be sent."),
    Status.SENDING: gettext_lazy("The segment is being sent to Bunce. Try again shortly."),
    Status.IN_DOUBT: gettext_lazy(
        "The segment was sent, but it is not known whether Bunce created it. That is being"
        " checked. Try again later."
    ),
    Status.SYNCED: gettext_lazy(
        "Bunce already has this content. Edit the segment to send it again."
    ),
    Status.REJECTED: gettext_lazy(
        "Bunce rejected this content. Edit the segment, or retry it if Bunce accepts it now."
    ),
}
#: Other reasons, by the name of the action.
NOT_APPLICABLE: Final[Mapping[str, str | Promise]] = {
    services.REFRESH.name: gettext_lazy(
        "The segment is not in Bunce yet, so there is nothing to refresh."
    ),
    services.TAKE_THEIRS.name: gettext_lazy(
        "The segment does not differ in Bunce, as far as is known. Refresh it to read it again."
    ),
    services.CREATE_AGAIN.name: gettext_lazy(
        "As far as is known, the segment is not gone in Bunce. Refresh it to read it again."
    ),
}
ELSEWHERE = gettext_lazy(
    "The segment belongs to another environment, so no request is made for it."
)


@extend_schema_view(list=extend_schema(summary="List segments", description="Newest first."))
class SegmentViewSet(ApiView, ListModelMixin, SegmentGenericViewSet):
    """Segments: list, create, read, edit, delete, and actions of their sync."""

    queryset = Segment.objects.all()
    serializer_class = SegmentSerializer
    filter_backends = [DjangoFilterBackend]
    filterset_class = SegmentFilter
    pagination_class: type[IdPagination] = SegmentPagination
    lookup_field = "id"
    lookup_value_regex = "[1-9][0-9]*"
    required_permissions: ClassVar = {
        "list": ("bunce_sync.view_segment",),
        "retrieve": ("bunce_sync.view_segment",),
        "create": ("bunce_sync.add_segment",),
        "bulk": ("bunce_sync.add_segment",),
        "partial_update": ("bunce_sync.change_segment",),
        "destroy": ("bunce_sync.delete_segment",),
        "calls": ("bunce_sync.view_segment", "bunce_sync.view_apicall"),
        "push": ("bunce_sync.view_segment", "bunce_sync.push_segment"),
        "retry": ("bunce_sync.view_segment", "bunce_sync.push_segment"),
        "refresh": ("bunce_sync.view_segment", "bunce_sync.push_segment"),
        "take_theirs": (
            *("bunce_sync.view_segment", "bunce_sync.change_segment"),
            "bunce_sync.push_segment",
        ),
        "create_again": ("bunce_sync.view_segment", "bunce_sync.push_segment"),
    }

    def get_queryset(self) -> SegmentQuerySet:
        """Return the segments, locked for the actions that compare and then write."""
        segments = segments_on_primary()
        changes = self.action in ("partial_update", "destroy", "take_theirs")
        return segments.locked() if changes else segments

    @extend_schema(
        summary="Create a segment",
        request=SegmentWriteSerializer,
        parameters=[schema.IDEMPOTENCY_KEY, schema.ETAG, schema.LOCATION, schema.REPLAYED_HEADER],
        responses={201: CREATED},
        examples=[schema.SEGMENT_EXAMPLE],
    )
    def create(self, request: Request, **kwargs: Any) -> Response:
        """Store a segment. A worker then creates it in Bunce.

        A user who may not view segments gets only its `id`, and no `ETag`.
        """
        serializer = SegmentWriteSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        fields = serializer.validated_data
        created = run_once(
            request, ["create", fields], lambda: [services.create_segment(**fields).pk]
        )
        [segment] = self._created_segments(created)
        if self._may_view():
            response = self._respond(segment, 201)
        else:
            response = Response(SegmentIdSerializer(segment).data, 201)
        response["Location"] = self.reverse("segment-detail", id=segment.pk)
        return mark_replay(response, created)

    @extend_schema(
        summary="Create many segments",
        request=BulkSerializer,
        parameters=[schema.IDEMPOTENCY_KEY, schema.REPLAYED_HEADER],
        responses={201: BulkResponseSerializer},
        examples=[schema.BULK_EXAMPLE],
    )
    @action(detail=False, methods=["post"])
    def bulk(self, request: Request, **kwargs: Any) -> Response:
        """Store 1 to 1,000 segments, all or none.

        If a segment is invalid, none is stored, and `errors` names every invalid field of every
        segment, such as `segments.3.name`. Correct them and send the whole request again.
        A user who may not view segments gets only the `id` of each.
        """
        serializer = BulkSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        rows = serializer.validated_data["segments"]
        created = run_once(request, ["bulk", rows], lambda: services.create_segments(rows))
        segments = self._created_segments(created)
        shown: Any = SegmentSerializer if self._may_view() else SegmentIdSerializer
        body = {"count": len(segments), "segments": shown(segments, many=True).data}
        return mark_replay(Response(body, 201), created)

    @extend_schema(
        summary="Read a segment",
        parameters=[schema.ID, schema.IF_NONE_MATCH, schema.ETAG],
        responses={200: SegmentSerializer, 304: None},
    )
    def retrieve(self, request: Request, **kwargs: Any) -> HttpResponseBase:
        """Return a segment and the state of its sync."""
        response = self._respond(self.get_object())
        django_request = request._request  # noqa: SLF001 - Django's own request
        etag = response["ETag"]
        return get_conditional_response(django_request, etag=etag, response=response) or response

    @extend_schema(
        summary="Edit a segment",
        request=SegmentWriteSerializer(partial=True),
        parameters=[schema.ID, schema.IF_MATCH, schema.ETAG],
        responses={
            200: SegmentSerializer,
            204: OpenApiResponse(description="Changed. The user may not view segments."),
        },
    )
    def partial_update(self, request: Request, **kwargs: Any) -> Response:
        """Change some fields. A worker sends what changed to Bunce.

        A user who may not view segments gets 204 without a body.
        """
        with transaction.atomic(using=database.alias()):
            segment = self._object_to_change()
            serializer = SegmentWriteSerializer(segment, data=request.data, partial=True)
            serializer.is_valid(raise_exception=True)
            serializer.save()
        return self._respond(segment) if self._may_view() else Response(status=204)

    @extend_schema(
        summary="Delete a segment here",
        parameters=[schema.ID, schema.IF_MATCH],
        responses={204: None},
    )
    def destroy(self, request: Request, **kwargs: Any) -> Response:
        """Delete a segment here. Bunce keeps it: its API cannot delete.

        Refused with 409 while the outcome of a request to Bunce is not known.
        """
        with transaction.atomic(using=database.alias()):
            segment = self._object_to_change()
            try:
                services.delete_segments(segments_on_primary().filter(pk=segment.pk))
            except services.SegmentsBusy as error:
                raise state_conflict(error.segments[0]) from error
        return Response(status=204)

    @extend_schema(
        summary="List the calls of a segment",
        parameters=[schema.ID],
        responses=ApiCallSerializer(many=True),
    )
    @action(
        detail=True,
        serializer_class=ApiCallSerializer,
        pagination_class=IdPagination,
        filter_backends=[],
    )
    def calls(self, request: Request, **kwargs: Any) -> Response:
        """Return the requests to Bunce for this segment, newest first."""
        calls: Any = database.calls().filter(segment=self.get_object())
        page: Any = self.paginate_queryset(calls)
        return self.get_paginated_response(ApiCallSerializer(page, many=True).data)

    @schema.ACTION
    @extend_schema(summary="Send a waiting segment now")
    @action(detail=True, methods=["post"])
    def push(self, request: Request, **kwargs: Any) -> Response:
        """Send a waiting segment without further delay.

        Of a segment that differs in Bunce, the content here replaces Bunce's.
        """
        return self._request(services.PUSH, services.PUSH_OURS)

    @schema.ACTION
    @extend_schema(summary="Retry a rejected segment")
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **kwargs: Any) -> Response:
        """Send a segment again that Bunce rejected."""
        return self._request(services.RETRY)

    @schema.ACTION
    @extend_schema(summary="Refresh a segment from Bunce")
    @action(detail=True, methods=["post"])
    def refresh(self, request: Request, **kwargs: Any) -> Response:
        """Have a worker read what Bunce has of this segment."""
        return self._request(services.REFRESH)

    @schema.ACTION
    @extend_schema(summary="Create a segment again that is gone in Bunce")
    @action(detail=True, methods=["post"], url_path="create-again")
    def create_again(self, request: Request, **kwargs: Any) -> Response:
        """Create a segment in Bunce again, with a new id, because Bunce does not have it any more.

        It must be `rejected` with the `last_code` `not_found`.
        """
        return self._request(services.CREATE_AGAIN)

    @extend_schema(
        summary="Take Bunce's content over",
        request=None,
        parameters=[schema.ID, schema.IF_MATCH, schema.ETAG],
        responses={200: SegmentSerializer},
    )
    @action(detail=True, methods=["post"], url_path="take-theirs")
    def take_theirs(self, request: Request, **kwargs: Any) -> Response:
        """Replace the content here by what Bunce had when it was last read.

        The segment must differ in Bunce: its `last_code` is `drift` or `stored_differently`.
        """
        with transaction.atomic(using=database.alias()):
            segment = self._object_to_change()
            self._run(segment, services.TAKE_THEIRS)
            return self._respond(self.get_object())

    def _request(self, *possible: services.SegmentAction) -> Response:
        """Run the action that applies to the segment, and return how the segment is then."""
        self._run(self.get_object(), *possible)
        response = self._respond(self.get_object(), 202)
        if (wait := services.requests_resume_in()) is not None:
            response["Retry-After"] = math.ceil(wait)
        return response

    def _run(self, segment: Segment, *possible: services.SegmentAction) -> None:
        """Run the first of these actions that applies to the segment.

        Raises:
            Conflict: none of them applies.
        """
        for one in possible:
            if one.applies(segment):
                one.run(segments_on_primary().filter(pk=segment.pk))
                return
        raise state_conflict(segment, NOT_APPLICABLE.get(possible[0].name))

    def _created_segments(self, created: Done[list[int]]) -> list[Segment]:
        rows = segments_on_primary().filter(pk__in=created.result)
        segments = {segment.pk: segment for segment in rows}
        if len(segments) < len(created.result):
            raise Gone(_("A segment created with this Idempotency-Key has been deleted since."))
        return [segments[pk] for pk in created.result]

    def _may_view(self) -> bool:
        """Return whether a response to a write may show the segment."""
        return bool(self.request.user.has_perms(self.required_permissions["retrieve"]))

    def _object_to_change(self) -> Segment:
        """Return the segment, locked and checked against the request's preconditions."""
        segment = self.get_object()
        request = self.request._request  # noqa: SLF001 - Django's own request
        header = request.headers.get("If-Match")
        if header is not None:
            failed = not _matches(header, segment)
        else:  # If-None-Match
            etag = self._respond(segment)["ETag"]
            failed = get_conditional_response(request, etag=etag) is not None
        if failed:
            raise PreconditionFailed(
                _("The segment was edited since this ETag was read, or the ETag is invalid.")
            )
        return segment

    def _respond(self, segment: Segment, status: int = 200) -> Response:
        """Return the segment, with an ETag of two parts: its content, and all that is shown.

        ``If-Match`` compares the first: what a worker records must not refuse an edit.
        ``If-None-Match`` compares both, so that a client sees what a worker records.
        """
        body = SegmentSerializer(segment).data
        etag = f"{_content_digest(segment)}.{_digest(JSONRenderer().render(body))}"
        return Response(body, status, headers={"ETag": quote_etag(etag)})


def segments_on_primary() -> SegmentQuerySet:
    """Return all segments from the database that is written to; a replica may be behind."""
    return database.segments()


def state_conflict(segment: Segment, reason: str | Promise | None = None) -> Conflict:
    """Return the error for an action that the segment's state does not allow.

    Args:
        reason: the message, if the one of the state does not fit.
    """
    if not segment.is_here:
        return Conflict(str(ELSEWHERE), "segment_elsewhere")
    seconds = services.resolved_in(segment)
    return Conflict(
        str(reason or CONFLICTS[segment.status]),
        f"segment_{segment.status}",
        wait=None if seconds is None else max(1, math.ceil(seconds)),
    )


def _matches(if_match: str, segment: Segment) -> bool:
    """Return whether ``If-Match`` allows a change of the segment."""
    tags = parse_etags(if_match)  # none, if the header is not valid
    # A weak tag never matches, as RFC 9110 requires.
    contents = [tag.strip('"').partition(".")[0] for tag in tags if tag.startswith('"')]
    return tags == ["*"] or _content_digest(segment) in contents


def _content_digest(segment: Segment) -> str:
    """Return the digest of what people can edit."""
    return _digest(json.dumps(segment.content(Segment.CREATE_FIELDS)).encode())


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:32]

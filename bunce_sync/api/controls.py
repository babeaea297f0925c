"""Imports and the pause of all pushes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from bunce_sync import services
from bunce_sync.api import schema
from bunce_sync.api.base import ApiView
from bunce_sync.api.serializers import StrictSerializer
from bunce_sync.log_entries import log_for_all
from bunce_sync.status import messages
from bunce_sync.status.status import get_status
from bunce_sync.sync.importer import COUNTS
from bunce_sync.validators import validate_characters, validate_visible

if TYPE_CHECKING:
    Serializer = serializers.Serializer[Any]
else:
    Serializer = serializers.Serializer


class ImportSerializer(Serializer):
    """An import of all segments of the Bunce account."""

    requested_by = serializers.CharField(help_text="Empty: the schedule.")
    requested_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True, help_text="Null: it is under way.")
    cancelled = serializers.BooleanField(help_text="It ended before it was complete.")
    adopt = serializers.BooleanField(help_text="No segment is created in Bunce until it ends.")
    pages = serializers.IntegerField(help_text="Pages of Bunce's list, read so far.")
    counts = inline_serializer(
        "ImportCounts",
        {name: serializers.IntegerField(required=False) for name in COUNTS},
        help_text="What was done with Bunce's segments.",
    )


class ImportOptionsSerializer(StrictSerializer):
    """The options of an import."""

    adopt = serializers.BooleanField(
        default=False,
        help_text="Link segments that wait to be created to segments of the same content in Bunce.",
    )
    include_deleted = serializers.BooleanField(
        default=False, help_text="Bring back segments that were deleted here."
    )


class PauseSerializer(Serializer):
    """The pause of all pushes."""

    by = serializers.CharField(help_text="Who paused.")
    reason = serializers.CharField()
    since = serializers.DateTimeField()


class PauseReasonSerializer(StrictSerializer):
    """Why pushes are paused."""

    reason = serializers.CharField(
        max_length=500, validators=[validate_visible, validate_characters]
    )


class ImportView(ApiView):
    """The open import, or the last one."""

    http_method_names = ["get", "head", "post", "delete"]
    required_permissions: ClassVar = {
        "get": ("bunce_sync.view_segment",),
        "post": ("bunce_sync.push_segment",),
        "delete": ("bunce_sync.push_segment",),
    }

    @extend_schema(
        operation_id="import_retrieve",
        summary="Read the last import",
        responses={200: ImportSerializer, 404: None},
    )
    def get(self, request: Request, **kwargs: Any) -> Response:
        """Return the import that is under way, or else the last one."""
        return Response(_last_import())

    @extend_schema(
        operation_id="import_create",
        summary="Import all segments from Bunce",
        request=ImportOptionsSerializer,
        parameters=[schema.RETRY_AFTER],
        responses={202: ImportSerializer},
    )
    def post(self, request: Request, **kwargs: Any) -> Response:
        """Have a worker read all segments of the account.

        Unknown segments are added. Of known ones the `bunce_` fields are refreshed, and what was
        entered here stays. While an import is under way, no second one begins: it gets the options
        as well, and starts again with the first page if it did not have them.
        """
        serializer = ImportOptionsSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        services.request_import(by=request.user.get_username(), **serializer.validated_data)
        response = Response(_last_import(), 202)
        if (wait := services.requests_resume_in()) is not None:
            response["Retry-After"] = math.ceil(wait)
        return response

    @extend_schema(
        operation_id="import_destroy",
        summary="Cancel the import",
        responses={204: OpenApiResponse(description="No import is under way any more.")},
    )
    def delete(self, request: Request, **kwargs: Any) -> Response:
        """End the import that is under way, if there is one. What it did stays."""
        services.cancel_import()
        return Response(status=204)


class PauseView(ApiView):
    """The pause of all pushes."""

    http_method_names = ["get", "head", "put", "delete"]
    required_permissions: ClassVar = {
        "get": ("bunce_sync.view_segment",),
        "put": ("bunce_sync.pause_push",),
        "delete": ("bunce_sync.pause_push",),
    }

    @extend_schema(
        operation_id="pause_retrieve",
        summary="Read the pause of all pushes",
        responses={200: PauseSerializer, 404: None},
    )
    def get(self, request: Request, **kwargs: Any) -> Response:
        """Return who paused all pushes, when and why; 404 if they are not paused."""
        return Response(_pause())

    @extend_schema(
        operation_id="pause_update",
        summary="Pause all pushes",
        request=PauseReasonSerializer,
        responses={200: PauseSerializer},
    )
    def put(self, request: Request, **kwargs: Any) -> Response:
        """Create and change nothing in Bunce until the pause is deleted; reads go on.

        Requests that are under way are completed. A pause that exists gets the new reason.
        """
        serializer = PauseReasonSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        reason = serializer.validated_data["reason"]
        services.pause(reason=reason, by=request.user.get_username())
        log_for_all(request.user, messages.PAUSED_FOR, reason=reason)
        return Response(_pause())

    @extend_schema(
        operation_id="pause_destroy",
        summary="Resume all pushes",
        responses={204: OpenApiResponse(description="Pushes are not paused any more.")},
    )
    def delete(self, request: Request, **kwargs: Any) -> Response:
        """End the pause, if there is one."""
        if services.resume():
            log_for_all(request.user, messages.RESUMED_LOG)
        return Response(status=204)


def _last_import() -> dict[str, Any]:
    imported = get_status().imported
    if imported is None:
        raise NotFound(_("There was no import yet."))
    data: dict[str, Any] = ImportSerializer(imported).data
    return data


def _pause() -> dict[str, Any]:
    pause = get_status().pause
    if pause is None:
        raise NotFound(_("Pushes are not paused."))
    data: dict[str, Any] = PauseSerializer(pause).data
    return data

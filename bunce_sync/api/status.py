"""Where everything stands, as the admin's panel shows it."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiResponse, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from bunce_sync.api import schema
from bunce_sync.api.base import ApiView
from bunce_sync.api.fields import Moment
from bunce_sync.api.serializers import PlainSerializer
from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.status.status import get_status

GATE_STATES = (
    ("open", "Requests are made"),
    ("closed", "No requests until a moment"),
    ("probing", "One request goes first"),
)


class UsageSerializer(PlainSerializer):
    """How much of Bunce's rate limit is used."""

    used = serializers.IntegerField()
    limit = serializers.IntegerField(allow_null=True, help_text="Null: no limit is kept.")
    seconds = serializers.FloatField(help_text="The window in which requests count.")


class GateSerializer(PlainSerializer):
    """Whether requests to Bunce may be made."""

    state = serializers.ChoiceField(choices=GATE_STATES)
    reason = serializers.ChoiceField(choices=[("", "None"), *SyncState.Reason.choices])
    until = Moment(allow_null=True)
    since = Moment(allow_null=True)
    detail = serializers.CharField(help_text="Bunce's message or a technical remark.")
    asked_until = Moment(
        allow_null=True, help_text="Until when Bunce asked to wait, where that is after `until`."
    )


class PausedOperationSerializer(PlainSerializer):
    """An operation that is paused while the others go on."""

    operation = serializers.ChoiceField(choices=ApiCall.Operation.choices)
    code = serializers.CharField(help_text="What Bunce answered, in one stable word.")
    http_status = serializers.IntegerField(allow_null=True)
    since = Moment()
    until = Moment(allow_null=True, help_text="When one request tries again. Null: next.")
    detail = serializers.CharField(help_text="Bunce's message or a technical remark.")


class SweepSerializer(PlainSerializer):
    """The last run of the safety net."""

    at = Moment(allow_null=True)
    age = serializers.FloatField(allow_null=True, help_text="Seconds.")
    late = serializers.BooleanField(help_text="None seems to run: is there a worker with beat?")


class ScanSerializer(PlainSerializer):
    """A reading of Bunce's list for segments in doubt."""

    started_at = Moment()
    pages = serializers.IntegerField()


class BucketSerializer(PlainSerializer):
    """The requests of five minutes."""

    start = Moment()
    accepted = serializers.IntegerField()
    rejected = serializers.IntegerField()
    failed = serializers.IntegerField()


class StatusSerializer(PlainSerializer):
    """Where everything stands; all times by the database's clock."""

    now = Moment()
    counts = inline_serializer(
        "Counts", {str(status): serializers.IntegerField() for status in Segment.Status.values}
    )
    usage = UsageSerializer()
    rate_limiter = GateSerializer()
    operations = PausedOperationSerializer(
        many=True, help_text="Paused for every segment, while the other operations continue."
    )
    configuration_problem = serializers.CharField(
        help_text="A setting of the site that cannot be used, so that nothing is sent."
    )
    key_missing = serializers.BooleanField(help_text="No API key is set: nothing is sent.")
    sweep = SweepSerializer()
    scan = ScanSerializer(allow_null=True)
    hour = BucketSerializer(many=True, help_text="The last hour, oldest first.")


class StatusView(ApiView):
    """Where everything stands."""

    required_permissions: ClassVar = {"get": ("bunce_sync.view_segment",)}

    @schema.describe(
        summary="See where everything stands",
        operation_id="status",
        responses={200: OpenApiResponse(StatusSerializer, examples=[schema.STATUS_EXAMPLE])}
        | schema.refusals(),
    )
    def get(self, request: Request, **kwargs: Any) -> Response:
        """Counts by state, the rate limit, what is paused, the last sweep, the last hour."""
        return Response(StatusSerializer(get_status()).data)

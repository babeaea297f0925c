"""The status of the sync, as in the admin's panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from bunce_sync import choices
from bunce_sync.api.base import ApiView
from bunce_sync.api.controls import ImportSerializer, PauseSerializer
from bunce_sync.status.status import get_status
from bunce_sync.sync.work import KINDS

if TYPE_CHECKING:
    Serializer = serializers.Serializer[Any]
else:
    Serializer = serializers.Serializer

LIMITER_STATES = (
    ("open", "Requests are sent"),
    ("paused", "No requests until a given time"),
    ("probing", "One request is sent first, as a test"),
)


class UsageSerializer(Serializer):
    """The use of Bunce's rate limit."""

    used = serializers.IntegerField()
    limit = serializers.IntegerField(allow_null=True, help_text="Null: there is no limit.")
    seconds = serializers.FloatField(help_text="The length of the window.")


class RateLimiterSerializer(Serializer):
    """The state of the rate limiter."""

    state = serializers.ChoiceField(choices=LIMITER_STATES)
    reason = serializers.ChoiceField(choices=[("", "None"), *choices.Reason.choices])
    until = serializers.DateTimeField(allow_null=True)
    since = serializers.DateTimeField(allow_null=True)
    detail = serializers.CharField(help_text="Bunce's message or a technical one.")
    asked_until = serializers.DateTimeField(
        allow_null=True, help_text="How long Bunce asked to wait, if longer than `until`."
    )


class PausedOperationSerializer(Serializer):
    """An operation that is paused while the others continue."""

    operation = serializers.ChoiceField(choices=choices.Operation.choices)
    code = serializers.CharField(help_text="The cause, as a stable code.")
    http_status = serializers.IntegerField(allow_null=True)
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(
        allow_null=True, help_text="The time of the next attempt. Null: it is due."
    )
    detail = serializers.CharField(help_text="Bunce's message or a technical one.")


class SweepSerializer(Serializer):
    """The last sweep."""

    at = serializers.DateTimeField(allow_null=True)
    age = serializers.FloatField(allow_null=True, help_text="In seconds.")
    late = serializers.BooleanField(help_text="Sweeps do not run: check the worker and beat.")


class ScanSerializer(Serializer):
    """A scan of Bunce's list in progress."""

    started_at = serializers.DateTimeField()
    pages = serializers.IntegerField()


class HoldSerializer(Serializer):
    """A `no_push()` block that has not ended, or whose process died."""

    id = serializers.IntegerField(help_text="For `manage.py bunce_resume --hold`.")
    process = serializers.CharField()
    reason = serializers.CharField()
    since = serializers.DateTimeField()
    segments = serializers.IntegerField(help_text="How many segments it holds.")


class BucketSerializer(Serializer):
    """The requests of five minutes."""

    start = serializers.DateTimeField()
    accepted = serializers.IntegerField()
    rejected = serializers.IntegerField()
    failed = serializers.IntegerField()


class HostClockSerializer(Serializer):
    """A host whose clock differs from the database's."""

    host = serializers.CharField()
    ahead = serializers.FloatField(
        help_text="By how many seconds it is at least ahead; negative: behind."
    )
    seen_at = serializers.DateTimeField()


class StatusSerializer(Serializer):
    """The status; all times are by the database's clock."""

    now = serializers.DateTimeField()
    counts = inline_serializer(
        "Counts", {status: serializers.IntegerField() for status in choices.Status.values}
    )
    due = inline_serializer(
        "Due",
        {kind.name: serializers.IntegerField() for kind in KINDS},
        help_text=(
            "What is due now, by kind of work: segments; of `import` imports, of `audiences`"
            " audiences, of `customers` customers, counted up to 10,000."
        ),
    )
    usage = UsageSerializer()
    rate_limiter = RateLimiterSerializer()
    operations = PausedOperationSerializer(many=True, help_text="The paused operations.")
    configuration_problem = serializers.CharField(
        help_text="An invalid setting, because of which nothing is sent; or empty."
    )
    key_missing = serializers.BooleanField(help_text="No API key is set: nothing is sent.")
    sweep = SweepSerializer()
    scan = ScanSerializer(allow_null=True)
    hour = BucketSerializer(many=True, help_text="The last hour, oldest first.")
    environment = serializers.CharField(help_text="Where segments are sent.")
    elsewhere = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="Segments that belong to other environments, by environment.",
    )
    strange_key_since = serializers.DateTimeField(
        allow_null=True,
        help_text="Since when the API key seems to belong to another account: nothing is sent.",
    )
    pause = PauseSerializer(allow_null=True, help_text="Of all pushes, by a person.")
    holds = HoldSerializer(many=True, help_text="The `no_push()` blocks.")
    imported = ImportSerializer(allow_null=True, help_text="The last import.")
    changed_in_bunce = serializers.IntegerField(
        help_text="Segments that were changed in Bunce and not settled since."
    )
    clocks = HostClockSerializer(
        many=True, help_text="The hosts with a wrong clock, as far as is known."
    )


class StatusView(ApiView):
    """The status of the sync."""

    required_permissions: ClassVar = {"get": ("bunce_sync.view_segment",)}

    @extend_schema(operation_id="status", summary="Read the status", responses=StatusSerializer)
    def get(self, request: Request, **kwargs: Any) -> Response:
        """Return counts by state, the rate limit, pauses, the last sweep and the last hour."""
        return Response(StatusSerializer(get_status()).data)

"""The serializers of segments and of the call log."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext as _
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.settings import api_settings

from bunce_sync.models import ApiCall, Segment

if TYPE_CHECKING:
    SegmentModelSerializer = serializers.ModelSerializer[Segment]
    CallModelSerializer = serializers.ModelSerializer[ApiCall]
    Serializer = serializers.Serializer[Any]
    ListSerializer = serializers.ListSerializer[Any]
else:
    SegmentModelSerializer = CallModelSerializer = serializers.ModelSerializer
    Serializer = serializers.Serializer
    ListSerializer = serializers.ListSerializer

#: The maximum number of segments in one bulk request.
MAX_ROWS = 1000
#: The maximum number of unknown fields that an error names.
MAX_UNKNOWN = 10


class SegmentSerializer(SegmentModelSerializer):
    """A segment: its content, the status of its sync, and its content in Bunce."""

    # Declared: REST framework before 3.18 takes a field with a database default for plain text.
    status = serializers.ChoiceField(choices=Segment.Status.choices, read_only=True)
    last_error = serializers.SerializerMethodField(
        help_text="Bunce's message or a technical one; empty without an error."
    )

    differing_fields = serializers.ListField(
        child=serializers.CharField(),
        read_only=True,
        help_text="The fields of which Bunce, when last read, showed another value than is here.",
    )

    class Meta:
        model = Segment
        fields = (
            "id",
            *Segment.CREATE_FIELDS,
            "status",
            "due_at",
            "attempts",
            "last_code",
            "last_error",
            "sent_at",
            "synced_at",
            "refresh_requested_at",
            "created_at",
            "updated_at",
            "bunce_id",
            "bunce_name",
            "bunce_description",
            "bunce_type",
            "bunce_all_customers",
            "bunce_conditions",
            "bunce_customers_count",
            "bunce_created_at",
            "bunce_updated_at",
            "bunce_duplicate_id",
            "differing_fields",
            "environment",
            "imported_at",
        )
        read_only_fields = fields

    def get_last_error(self, segment: Segment) -> str:
        """Return the message, but not that of an error in this app, which is for the logs."""
        return "" if segment.last_code == "internal" else segment.last_error


class StrictSerializer(Serializer):
    """A serializer that refuses unknown and read-only fields.

    If a typo in ``add_all_customers`` were ignored, it could not be corrected after the create.
    """

    def to_internal_value(self, data: Any) -> Any:
        """Return the values of the fields.

        Raises:
            ValidationError: there are other fields, or a value is not valid.
        """
        if isinstance(data, Mapping):
            message = _("Unknown or read-only field. Writable fields: %(fields)s.") % {
                "fields": ", ".join(self.fields)
            }
            unknown = itertools.islice(
                (name for name in data if name not in self.fields), MAX_UNKNOWN
            )
            # A name may contain a lone surrogate, which UTF-8 cannot encode.
            names = [name.encode("utf-8", "backslashreplace").decode()[:60] for name in unknown]
            if names:
                raise ValidationError({name: [message] for name in names})
        return super().to_internal_value(data)


class _BulkListSerializer(ListSerializer):
    """Up to ``MAX_ROWS`` rows, with errors by their index."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if not isinstance(data, list) or not 0 < len(data) <= MAX_ROWS:
            message = _("Send a list of 1 to %(max)d segments.") % {"max": MAX_ROWS}
            raise ValidationError({api_settings.NON_FIELD_ERRORS_KEY: [message]})
        rows: list[Any] = []
        errors: dict[str, Any] = {}
        for index, row in enumerate(data):
            try:
                rows.append(self.run_child_validation(row))
            except ValidationError as error:
                errors[str(index)] = error.detail
        if errors:
            raise ValidationError(errors)
        return rows


class SegmentWriteSerializer(StrictSerializer, SegmentModelSerializer):
    """The fields of a segment that can be written."""

    class Meta:
        model = Segment
        fields = Segment.CREATE_FIELDS
        list_serializer_class = _BulkListSerializer

    def to_internal_value(self, data: Any) -> Any:
        """Return the values of the fields that change, which alone are validated.

        A client may send back what it read: an imported description may be longer than
        ``DESCRIPTION_MAX_LENGTH``.

        Raises:
            ValidationError: there are other fields, or a value is not valid.
        """
        if isinstance(self.instance, Segment) and isinstance(data, Mapping):
            content = self.instance.content(self.fields)
            data = {
                name: value
                for name, value in data.items()
                if name not in content
                or (type(value), value) != (type(content[name]), content[name])
            }
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Apply the model's rules, which also normalize the values.

        A create returns every field, so that it is the same whether a default was sent or not.
        """
        segment = copy.copy(self.instance) if isinstance(self.instance, Segment) else Segment()
        for name, value in attrs.items():
            setattr(segment, name, value)
        segment.clean()
        return {
            name: getattr(segment, name)
            for name in (attrs if self.partial else Segment.CREATE_FIELDS)
        }

    def update(self, instance: Segment, validated_data: dict[str, Any]) -> Segment:
        """Save what differs; a request that changes nothing is not an edit."""
        changed = [
            name for name, value in validated_data.items() if getattr(instance, name) != value
        ]
        for name in changed:
            setattr(instance, name, validated_data[name])
        if changed:
            instance.save(update_fields=[*changed, "updated_at"])
        return instance


class BulkSerializer(StrictSerializer):
    """Segments to create, all or none."""

    segments = SegmentWriteSerializer(many=True)


class SegmentIdSerializer(Serializer):
    """A created segment for a user who may not view segments."""

    id = serializers.IntegerField()


#: The description of a created segment, which depends on the user's permissions.
CREATED: Final = PolymorphicProxySerializer(
    "CreatedSegment", [SegmentSerializer, SegmentIdSerializer], resource_type_field_name=None
)


@extend_schema_field(
    PolymorphicProxySerializer(
        CREATED.component_name, CREATED.serializers, resource_type_field_name=None, many=True
    )
)
class _CreatedField(serializers.ListField):
    pass


class BulkResponseSerializer(Serializer):
    """The created segments, in the order of the request."""

    count = serializers.IntegerField()
    segments = _CreatedField()


class ApiCallSerializer(CallModelSerializer):
    """One request to Bunce."""

    message = serializers.SerializerMethodField(help_text="Bunce's message or a technical one.")
    # Declared: the description of a read-only field would leave out the empty choice.
    decision = serializers.ChoiceField(
        choices=[("", "None"), *ApiCall.Decision.choices],
        read_only=True,
        help_text="What reconciliation found out about a create with an unknown outcome.",
    )

    class Meta:
        model = ApiCall
        fields = (
            "id",
            "operation",
            "path",
            "body",
            "started_at",
            "duration_ms",
            "outcome",
            "http_status",
            "code",
            "message",
            "bunce_id",
            "decision",
            "decided_at",
        )
        read_only_fields = fields

    def get_message(self, call: ApiCall) -> str:
        """Return the message, but not that of an error in this app."""
        return "" if call.code == "internal" else call.message

"""What goes in and what comes out."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ValidationError as ModelError
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.settings import api_settings

from bunce_sync.api.fields import Moment, Text, Truth
from bunce_sync.models import ApiCall, Segment
from bunce_sync.models.segment import validate_not_blank

if TYPE_CHECKING:
    SegmentModelSerializer = serializers.ModelSerializer[Segment]
    CallModelSerializer = serializers.ModelSerializer[ApiCall]
    PlainSerializer = serializers.Serializer[Any]
    RowsSerializer = serializers.ListSerializer[Any]
else:
    SegmentModelSerializer = CallModelSerializer = serializers.ModelSerializer
    PlainSerializer = serializers.Serializer
    RowsSerializer = serializers.ListSerializer

#: Rows of one bulk request.
MAX_ROWS = 1000
#: Rows of one bulk request whose errors are told; who has made more mistakes made the same often.
MAX_TOLD = 100
#: Unknown fields told of one object; more of them are no help.
MAX_UNKNOWN = 10


class SegmentSerializer(SegmentModelSerializer):
    """A segment: what is wanted, what Bunce has of it, and how the two stand."""

    serializer_field_mapping: ClassVar = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.DateTimeField: Moment,
    }
    # Named here: before 3.18 REST framework took it for any text, as the database has a default.
    status = serializers.ChoiceField(choices=Segment.Status.choices, read_only=True)
    last_error = serializers.SerializerMethodField(
        help_text="Bunce's own message or a technical remark; empty when all is well."
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
        )
        read_only_fields = fields

    def get_last_error(self, segment: Segment) -> str:
        """The message, but not the name of an error inside this app: the logs have that."""
        return "" if segment.last_code == "internal" else segment.last_error


class WantedSerializer(PlainSerializer):
    """The three fields that can be written."""

    name = Text(
        max_length=255,
        validators=[validate_not_blank],
        help_text="Spaces at the ends do not count, and alone are not a name.",
    )
    description = Text(
        required=False,
        allow_null=True,
        allow_blank=True,
        help_text="Empty and null mean the same: there is none.",
    )
    add_all_customers = Truth(
        required=False,
        help_text="Bunce adds every customer when it creates the segment. Fixed from then on.",
    )

    def to_internal_value(self, data: Any) -> Any:
        """Read the fields, and refuse those that cannot be written rather than ignore them.

        A slip in ``add_all_customers`` could not be made good later.
        """
        unknown = unknown_fields(data, self.fields)
        try:
            wanted = super().to_internal_value(data)
        except ValidationError as error:
            if not unknown or not isinstance(error.detail, dict):
                raise
            raise ValidationError({**error.detail, **unknown}) from None
        if unknown:
            raise ValidationError(unknown)
        return wanted

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Hold the model's own rules, which say what a tidy value is too.

        A create says all that is wanted, so that it is the same whether a default was written
        out or not.
        """
        before = self.instance if isinstance(self.instance, Segment) else None
        segment = copy.copy(before) if before else Segment()
        for name, value in attrs.items():
            setattr(segment, name, value)
        try:
            segment.clean_fields(exclude=_others())
            segment.clean()
        except ModelError as error:
            raise ValidationError(error.message_dict) from None
        names = attrs if self.partial else Segment.CREATE_FIELDS
        return {name: getattr(segment, name) for name in names}


class _Rows(RowsSerializer):
    """Many segments, whose errors are told by their places in the list."""

    def to_internal_value(self, data: Any) -> list[Any]:
        """Read all rows.

        Raises:
            ValidationError: one or more cannot be accepted; it names the first hundred.
        """
        whole = api_settings.NON_FIELD_ERRORS_KEY
        if not isinstance(data, list):
            raise ValidationError({whole: [_("Send a list of segments.")]})
        if not 0 < len(data) <= MAX_ROWS:
            message = _("Send 1 to %(most)d segments, not %(count)d.")
            raise ValidationError({whole: [message % {"most": MAX_ROWS, "count": len(data)}]})
        rows: list[Any] = []
        errors: dict[str, Any] = {}
        for place, row in enumerate(data):
            try:
                rows.append(self.run_child_validation(row))
            except ValidationError as error:
                errors[str(place)] = error.detail
        if (more := len(errors) - MAX_TOLD) > 0:
            errors = dict(itertools.islice(errors.items(), MAX_TOLD))
            message = ngettext(
                "%(more)d more row cannot be accepted.",
                "%(more)d more rows cannot be accepted.",
                more,
            )
            errors[whole] = [message % {"more": more}]
        if errors:
            raise ValidationError(errors)
        return rows


class BulkSerializer(PlainSerializer):
    """Many segments to be created together or not at all."""

    segments = _Rows(child=WantedSerializer(), min_length=1, max_length=MAX_ROWS)

    def to_internal_value(self, data: Any) -> Any:
        """Read the list, and nothing beside it."""
        if unknown := unknown_fields(data, self.fields):
            raise ValidationError(unknown)
        return super().to_internal_value(data)


class BulkAnswerSerializer(PlainSerializer):
    """The segments made, in the order in which they were sent."""

    count = serializers.IntegerField()
    segments = SegmentSerializer(many=True)


class ApiCallSerializer(CallModelSerializer):
    """One request to Bunce."""

    serializer_field_mapping = SegmentSerializer.serializer_field_mapping
    message = serializers.SerializerMethodField(help_text="Bunce's message or a technical remark.")
    # Said here, for a field that is only read is described without the empty choice.
    decision = serializers.ChoiceField(
        choices=[("", "None"), *ApiCall.Decision.choices],
        read_only=True,
        help_text="What a look into Bunce found out about a create of unknown outcome.",
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
        """The message, but not the name of an error inside this app."""
        return "" if call.code == "internal" else call.message


def unknown_fields(data: Any, known: Mapping[str, Any]) -> dict[str, list[str]]:
    """An error for each field of the body that cannot be written."""
    if not isinstance(data, Mapping):
        return {}
    errors = {}
    for name in [name for name in data if name not in known][:MAX_UNKNOWN]:
        message = READ_ONLY if name in SegmentSerializer.Meta.fields else UNKNOWN
        shown = str(name).encode("utf-8", "backslashreplace").decode()[:60]
        errors[shown] = [message % {"fields": ", ".join(known)}]
    return errors


READ_ONLY = gettext_lazy("This is kept by the app and cannot be written. Writable: %(fields)s.")
UNKNOWN = gettext_lazy("There is no such field. Writable: %(fields)s.")


def _others() -> set[str]:
    """The fields that a request does not write and that need no look."""
    return {field.name for field in Segment._meta.fields} - {*Segment.CREATE_FIELDS}

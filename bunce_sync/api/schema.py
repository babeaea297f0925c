"""The API's description: how drf-spectacular is to make it, and the parts its views share.

The description is made when the API changes and committed as ``openapi.json``; a test fails when
it is stale. To make it anew, in the project's folder::

    python manage.py spectacular --urlconf bunce_sync.api.urls --format openapi-json \\
        --custom-settings bunce_sync.api.schema.SETTINGS --file bunce_sync/api/openapi.json
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    inline_serializer,
)
from rest_framework import serializers

from bunce_sync.api import problems
from bunce_sync.api.filters import MAX_TEXT
from bunce_sync.api.idempotency import HEADER, MAX_LENGTH, PATTERN, REPLAYED
from bunce_sync.api.serializers import MAX_ROWS

DESCRIPTION = """\
Create segments, read where each one stands, and have them sent to Bunce.

No call of this API makes a request to Bunce: a segment is stored, and a worker sends it. Its
`status` says how far that is.

* **Repeating a create is safe** with an `Idempotency-Key`: the same key and body give the same
  segment for 24 hours. Repeat it after a timeout, and after a 409 that says the first is at work.
* **Updates are safe** with `If-Match`: send the `ETag` that you read, and you get a 412 when
  anything has changed since, the status included.
* **Errors** are `application/problem+json` (RFC 9457): `code` is for programs, `detail` for
  people, `errors` says what is wrong with which field.
* Fields that cannot be written, and parameters that do not exist, are refused rather than ignored.
"""

#: What can be done with a segment that was created.
OF_ONE_SEGMENT = (
    "segments_retrieve",
    "segments_partial_update",
    "segments_destroy",
    "segments_calls_list",
    "segments_push",
    "segments_retry",
)

#: Text that a database can store, and text that is more than spaces as well.
STORABLE = r"^[^\u0000]*$"
NOT_BLANK = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"


T = TypeVar("T", bound=Callable[..., Any])


def describe(**options: Any) -> Callable[[T], T]:
    """drf-spectacular's ``extend_schema`` for a method of a view.

    By itself that builds on the site's DEFAULT_SCHEMA_CLASS, which need not be drf-spectacular's.
    """

    def decorate(method: T) -> T:
        method.kwargs = {"schema": AutoSchema}  # type: ignore[attr-defined]  # where it looks first
        described: T = extend_schema(**options)(method)
        return described

    return decorate


def tidy(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Say once how callers identify themselves, and which text and fields are refused."""
    schemes = result.get("components", {}).get("securitySchemes", {})
    result["security"] = [{name: []} for name in schemes]
    for operations in result["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    for name, component in result["components"]["schemas"].items():
        if not name.endswith("Request"):
            continue
        component["additionalProperties"] = False
        properties = component["properties"]
        if "name" in properties:
            properties["name"]["pattern"] = NOT_BLANK
            properties["description"]["pattern"] = STORABLE
        if "segments" in properties:
            properties["segments"] |= {"minItems": 1, "maxItems": MAX_ROWS}
    for parameter in result["paths"]["/segments/"]["get"]["parameters"]:
        if parameter["schema"] == {"type": "string"}:
            parameter["schema"] |= {"minLength": 1, "maxLength": MAX_TEXT, "pattern": NOT_BLANK}
    created = result["paths"]["/segments/"]["post"]["responses"]["201"]
    created["links"] = {
        operation: {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
        for operation in OF_ONE_SEGMENT
    }
    tidied: dict[str, Any] = _without_vain_choices(result)
    return tidied


def _without_vain_choices(node: Any) -> Any:
    """Any value or null is any value; as a choice of exactly one of the two it excludes null."""
    if isinstance(node, list):
        return [_without_vain_choices(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_vain_choices(value)
        for key, value in node.items()
        if (key, value) != ("oneOf", [{}, {"type": "null"}])
    }


#: What drf-spectacular is told in place of the site's own SPECTACULAR_SETTINGS.
SETTINGS: dict[str, Any] = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Bunce segments",
    "VERSION": "1.0.0",
    "DESCRIPTION": DESCRIPTION,
    "SERVERS": [{"url": "/api"}],
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "SegmentStatus": "bunce_sync.models.Segment.Status",
        "GateReason": "bunce_sync.models.SyncState.Reason",
        "GateState": "bunce_sync.api.status.GATE_STATES",
        "CountPrecision": "bunce_sync.api.status.PRECISIONS",
        "CallOperation": "bunce_sync.models.ApiCall.Operation",
        "CallOutcome": "bunce_sync.models.ApiCall.Outcome",
        "CallDecision": "bunce_sync.models.ApiCall.Decision",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "bunce_sync.api.schema.tidy",
    ],
}


Problem = inline_serializer(
    "Problem",
    {
        "type": serializers.CharField(help_text="Always about:blank: see `code`."),
        "title": serializers.CharField(help_text="The status in words."),
        "status": serializers.IntegerField(),
        "code": serializers.CharField(help_text="What happened, in one stable word."),
        "detail": serializers.CharField(help_text="What happened and what to do, for people."),
        "errors": serializers.DictField(
            child=serializers.ListField(child=serializers.CharField()),
            required=False,
            help_text="By field, such as `name` or `segments.3.name`: what is wrong with it.",
        ),
    },
)

WHY = {
    400: "Something in the request cannot be accepted; `errors` says what.",
    401: "Who asks is not known.",
    403: "Who asks may not do this.",
    404: "There is no such segment.",
    406: "Only JSON is spoken here.",
    409: "The segment's state does not allow it now, or a request with the same key is at work.",
    410: "The segment that this key made has been deleted since.",
    412: "The segment has changed since the `ETag` in `If-Match` was read.",
    413: "The body is longer than the site accepts.",
    415: "The body is not `application/json`.",
    422: "The `Idempotency-Key` was used with another body.",
    429: "Too many requests; `Retry-After` says when to go on.",
}
ALWAYS = (400, 401, 403, 406, 429)
WITH_BODY = (400, 413, 415)

BLANK_NAME = OpenApiExample(
    "A name of spaces",
    {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "invalid",
        "detail": "Some of it cannot be accepted; 'errors' says what and why.",
        "errors": {"name": ["Enter a name. Spaces alone are not one."]},
    },
    response_only=True,
)


def refusals(*statuses: int) -> dict[Any, OpenApiResponse]:
    """The errors an operation can answer, in addition to those that every one can."""
    return {
        (status, problems.MEDIA_TYPE): OpenApiResponse(
            Problem,
            WHY[status],
            examples=[BLANK_NAME] if status == HTTPStatus.BAD_REQUEST else [],
        )
        for status in sorted({*statuses, *ALWAYS})
    }


def header(name: str, description: str, *statuses: int) -> OpenApiParameter:
    """A header of the answers with these statuses."""
    return OpenApiParameter(
        name, str, OpenApiParameter.HEADER, description=description, response=list(statuses)
    )


ID = OpenApiParameter(
    "id",
    {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    OpenApiParameter.PATH,
    description="The segment's id here, not that in Bunce.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    HEADER,
    {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": PATTERN},
    OpenApiParameter.HEADER,
    description="A word of your own, such as a UUID, for this create and its repeats.",
    examples=[OpenApiExample("A UUID", "0b0a3d0e-6a5b-4f6e-9a35-7f4f9a0f2c11")],
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` that was read; refused with 412 when the segment is another by now.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` of the representation at hand; 304 when it is still the same.",
)
ETAG = header("ETag", "The version of this representation.", 200)
ETAG_CREATED = header("ETag", "The version of this representation.", 201)
LOCATION = header("Location", "The address of the segment.", 201)
REPLAYED_HEADER = header(REPLAYED, "`true` when an earlier request had made it.", 201)
RETRY_AFTER_CONFLICT = header("Retry-After", "Seconds after which to ask again.", 409)
RETRY_AFTER_ACCEPTED = header(
    "Retry-After", "Seconds until requests to Bunce go on, when they are paused.", 202
)

WANTED_EXAMPLE = OpenApiExample(
    "A segment to create",
    {
        "name": "Newsletter readers",
        "description": "Asked for it on the website",
        "add_all_customers": False,
    },
    request_only=True,
)
_WAITING = {
    "id": 7,
    "name": "Newsletter readers",
    "description": "Asked for it on the website",
    "add_all_customers": False,
    "status": "pending",
    "due_at": "2026-01-31T08:30:00.123456Z",
    "attempts": 0,
    "last_code": "",
    "last_error": "",
    "sent_at": None,
    "synced_at": None,
    "created_at": "2026-01-31T08:30:00.123456Z",
    "updated_at": "2026-01-31T08:30:00.123456Z",
    "bunce_id": None,
    "bunce_name": "",
    "bunce_description": "",
    "bunce_type": "",
    "bunce_all_customers": None,
    "bunce_conditions": None,
    "bunce_customers_count": None,
    "bunce_created_at": None,
    "bunce_updated_at": None,
}
WAITING_EXAMPLE = OpenApiExample("Waiting to be sent", _WAITING, response_only=True)
SYNCED_EXAMPLE = OpenApiExample(
    "In Bunce",
    {
        **_WAITING,
        "status": "synced",
        "attempts": 0,
        "sent_at": "2026-01-31T08:30:00.201Z",
        "synced_at": "2026-01-31T08:30:00.412Z",
        "bunce_id": "9da67caa-b803-4691-a2b6-bdcd58008aaf",
        "bunce_name": "Newsletter readers",
        "bunce_description": "Asked for it on the website",
        "bunce_type": "manual",
        "bunce_all_customers": False,
        "bunce_customers_count": 0,
        "bunce_created_at": "2026-01-31T08:30:00Z",
        "bunce_updated_at": "2026-01-31T08:30:00Z",
    },
    response_only=True,
)
BULK_EXAMPLE = OpenApiExample(
    "Two segments",
    {"segments": [{"name": "Spring"}, {"name": "Summer", "description": "From June"}]},
    request_only=True,
)
BULK_PROBLEM_EXAMPLE = OpenApiExample(
    "The second of them has no name",
    {**BLANK_NAME.value, "errors": {"segments.1.name": ["This field is required."]}},
    response_only=True,
    status_codes=["400"],
)

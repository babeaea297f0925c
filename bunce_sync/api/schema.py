"""The API's description: how drf-spectacular is to make it, and the parts its views share.

The description is made when the API changes and committed as ``openapi.json``; a test fails when
it is stale. To make it anew, in the project's folder::

    python manage.py spectacular --urlconf bunce_sync.api.urls --format openapi-json \\
        --custom-settings bunce_sync.api.schema.SETTINGS --file bunce_sync/api/openapi.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
* **To follow what changes**, ask with `updated_since` for all that changed from a minute before you
  last asked, and expect segments that you know already: a change is dated when it is made, and is
  seen when it is committed, which may be a little later.
* **An `ETag` that begins with `W/`** was weakened by something on the way, such as a site's
  compression of its answers (Django's GZipMiddleware). Send it in `If-Match` without the `W/`.
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

#: Text that a database can store, and text that is more than spaces as well. Which characters are
#: spaces is what Python's strip() says: the \s of a pattern means others, and not the same ones in
#: every language.
STORABLE = r"^[^\u0000]*$"
SPACES = r"\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
NOT_BLANK = rf"^[^\u0000]*[^{SPACES}\u0000][^\u0000]*$"


T = TypeVar("T", bound=Callable[..., Any])


def describe(**options: Any) -> Callable[[T], T]:
    """drf-spectacular's ``extend_schema`` for a method of a view.

    By itself that builds on the site's DEFAULT_SCHEMA_CLASS, which need not be drf-spectacular's.
    The headers that every operation may answer with are added.
    """
    options["parameters"] = [*options.get("parameters", []), *ALWAYS_SENT]

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
    500: "An error that nobody foresaw; the site's log says which.",
}
ALWAYS = (400, 401, 403, 406, 429, 500)
WITH_BODY = (400, 413, 415)


def _example(name: str, status: HTTPStatus, code: str, detail: str, **more: Any) -> OpenApiExample:
    problem = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
    }
    return OpenApiExample(name, problem | more, response_only=True)


_SOME_OF_IT = "Some of it cannot be accepted; 'errors' says what and why."
BLANK_NAME = _example(
    "A name of spaces",
    HTTPStatus.BAD_REQUEST,
    "invalid",
    _SOME_OF_IT,
    errors={"name": ["Enter a name. Spaces alone are not one."]},
)
BULK_WITHOUT_NAME = _example(
    "The second of them has no name",
    HTTPStatus.BAD_REQUEST,
    "invalid",
    _SOME_OF_IT,
    errors={"segments.1.name": ["This field is required."]},
)
UNKNOWN_PARAMETER = _example(
    "A slip in a filter's name",
    HTTPStatus.BAD_REQUEST,
    "invalid",
    _SOME_OF_IT,
    errors={"staus": ["There is no such parameter. Perhaps status?"]},
)
KEY_IN_USE = _example(
    "The first request is at work",
    HTTPStatus.CONFLICT,
    "idempotency_key_in_use",
    "A request with this Idempotency-Key is at work. Repeat it in a moment.",
)
BEING_SENT = _example(
    "A worker has it",
    HTTPStatus.CONFLICT,
    "segment_sending",
    "It is being sent right now. Look again in a moment.",
)
NOT_DELETED_YET = _example(
    "A worker has it",
    HTTPStatus.CONFLICT,
    "segment_sending",
    "It is being sent right now: were it deleted, its segment in Bunce would belong to nobody.",
)
CHANGED_SINCE = _example(
    "Somebody else has edited it",
    HTTPStatus.PRECONDITION_FAILED,
    "precondition_failed",
    "The segment has changed since you read it. Read it again, then decide.",
)


def refusals(*statuses: int, examples: Sequence[OpenApiExample] = ()) -> dict[Any, OpenApiResponse]:
    """The errors an operation can answer, in addition to those that every one can.

    Args:
        examples: some of the problems that it answers.
    """
    return {
        (status, problems.MEDIA_TYPE): OpenApiResponse(
            Problem,
            WHY[status],
            examples=[example for example in examples if example.value["status"] == status],
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
ETAG = header("ETag", "The version of this representation.", 200, 304)
ETAG_CREATED = header("ETag", "The version of this representation.", 201)
LOCATION = header("Location", "The address of the segment.", 201)
REPLAYED_HEADER = header(REPLAYED, "`true` when an earlier request had made it.", 201)
WWW_AUTHENTICATE = header("WWW-Authenticate", "How callers identify themselves.", 401)
RETRY_AFTER_THROTTLED = header("Retry-After", "Seconds after which to go on.", 429)
ALWAYS_SENT = (WWW_AUTHENTICATE, RETRY_AFTER_THROTTLED)
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
    "bunce_duplicate_id": None,
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
STATUS_EXAMPLE = OpenApiExample(
    "All is well",
    {
        "now": "2026-01-31T08:30:05.250Z",
        "counts": {
            "pending": 3,
            "sending": 1,
            "synced": 120000,
            "in_doubt": 0,
            "rejected": 2,
        },
        "usage": {"used": 41, "limit": 500, "seconds": 60.0},
        "rate_limiter": {
            "state": "open",
            "reason": "",
            "until": None,
            "since": None,
            "detail": "",
            "asked_until": None,
        },
        "operations": [],
        "configuration_problem": "",
        "key_missing": False,
        "sweep": {"at": "2026-01-31T08:30:00.120Z", "age": 5.13, "late": False},
        "scan": None,
        "hour": [
            {"start": "2026-01-31T08:25:00Z", "accepted": 40, "rejected": 1, "failed": 0},
        ],
    },
    response_only=True,
)

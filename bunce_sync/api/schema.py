"""The settings of drf-spectacular for this API, and what its description adds to the default.

The description is generated when the API changes, and committed as ``openapi.json``. A test fails
when it is out of date. To generate it, run in the project's folder::

    python manage.py spectacular --urlconf bunce_sync.api.urls --format openapi-json \\
        --custom-settings bunce_sync.api.schema.SETTINGS --file bunce_sync/api/openapi.json
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema

from bunce_sync.api.idempotency import HEADER, MAX_LENGTH, PATTERN, REPLAYED
from bunce_sync.api.problems import MEDIA_TYPE
from bunce_sync.api.serializers import MAX_ROWS, SegmentSerializer
from bunce_sync.validators import CONTROL, INVISIBLE, description_max_length

DESCRIPTION = """\
Create segments, add customers to them, read the state of their sync, and have them sent to Bunce.

No request to this API calls Bunce. A segment is stored, and a worker sends it; its `status` shows
the progress.

* **Creates are safe to repeat** with an `Idempotency-Key`: for 24 hours the same key and body give
  the same segment. Repeat a request after a timeout or a 409 `idempotency_key_in_use`.
* **Customers** can be added and removed repeatedly: doing it again changes nothing. With an
  `Idempotency-Key` a repeat that comes late does not undo what another request did in between.
* **Edits are safe** with `If-Match`: send the `ETag` that you read. The response is 412 if
  the segment was edited since (`name`, `description`, `add_all_customers`). What a worker
  records, such as the status, does not matter. To poll for that, send the `ETag` in
  `If-None-Match`: the response is 304 until anything in the segment changes. An `ETag` that starts
  with `W/` was weakened on the way, for example by compression (Django's GZipMiddleware); send it
  without the `W/`.
* **Responses to writes** show a segment only to users who may view segments.
* **Errors** are `application/problem+json` (RFC 9457): `code` is for programs, `detail` for
  people, and `errors` lists the messages of each field.
* **Unknown and read-only fields** of a body are refused, unknown query parameters are ignored.
* **To follow changes**, list all pages with `updated_since`. Next time, send the `as_of` of the
  first page, minus one minute. The overlap is needed because a change gets its time when it is
  written, but is visible only after its transaction commits. So expect some segments twice.
"""

DESCRIPTIONS = {
    400: "The request is invalid. See `errors`.",
    401: "Authentication required.",
    403: "The user does not have the permission.",
    404: "The segment, import or pause does not exist.",
    406: "Only application/json is supported.",
    409: "The segment's state does not allow it, or a request with the same key is in progress.",
    410: "The segment created with this key has been deleted since.",
    412: "The segment was edited since the `ETag` in `If-Match` was read.",
    413: "The body is larger than the site allows.",
    415: "Only application/json is supported.",
    422: "The `Idempotency-Key` was used with a different body.",
    429: "Too many requests. Wait for the seconds in `Retry-After`.",
    500: "An unexpected error. The site's log has the details.",
}
#: The headers of errors, with their descriptions.
HEADERS = {
    401: {"WWW-Authenticate": "How to authenticate."},
    409: {"Retry-After": "Seconds until a retry makes sense, if known."},
    429: {"Retry-After": "Seconds to wait."},
}
EVERYWHERE = (400, 401, 403, 406, 429, 500)

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Always about:blank; see `code`."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "The kind of error, as a stable code."},
        "detail": {"type": "string", "description": "What happened and what to do."},
        "errors": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
            "description": "Messages by field, such as `name` or `segments.3.name`.",
        },
    },
}

#: Text without control characters; and text with a visible character as well.
STORABLE = f"^[^{CONTROL}]*$"
VISIBLE = f"^[^{CONTROL}]*[^{INVISIBLE}][^{CONTROL}]*$"


def _response_header(name: str, description: str, *statuses: int) -> OpenApiParameter:
    return OpenApiParameter(
        name, str, OpenApiParameter.HEADER, description=description, response=list(statuses)
    )


ID = OpenApiParameter(
    "id",
    {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    OpenApiParameter.PATH,
    description="The segment's id here, not its id in Bunce.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    HEADER,
    {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": PATTERN},
    OpenApiParameter.HEADER,
    description="A unique value, such as a UUID, for this request and its repeats.",
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` that was read. The response is 412 if the segment was edited since.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` of a cached response. The response is 304 if nothing has changed.",
)
ETAG = _response_header("ETag", "The version of the segment.", 200, 201, 304)
LOCATION = _response_header("Location", "The URL of the segment.", 201)
REPLAYED_HEADER = _response_header(
    REPLAYED, "`true` if an earlier request with this key did it.", 201, 202
)
SEGMENT_EXAMPLE = OpenApiExample(
    "A segment",
    {
        "name": "Newsletter readers",
        "description": "Subscribed on the website",
        "add_all_customers": False,
    },
    request_only=True,
)
BULK_EXAMPLE = OpenApiExample(
    "Two segments",
    {"segments": [{"name": "Spring"}, {"name": "Summer", "description": "From June"}]},
    request_only=True,
)

RETRY_AFTER = _response_header(
    "Retry-After", "Seconds until requests to Bunce resume, if they are paused.", 202
)

#: What the actions that wake a worker have in common.
ACTION = extend_schema(
    request=None,
    parameters=[
        ID,
        _response_header("ETag", "The version of the segment.", 202),
        RETRY_AFTER,
    ],
    responses={202: SegmentSerializer},
)


def postprocess_schema(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Add what applies to all operations: errors, authentication, and refused fields."""
    components = result["components"]
    components["schemas"]["Problem"] = PROBLEM
    # Not by the names of HTTPStatus, which change with the version of Python.
    components["responses"] = {f"Error{int(status)}": _error(status) for status in DESCRIPTIONS}
    result["security"] = [{name: []} for name in components.get("securitySchemes", {})]
    customers = result["paths"]["/segments/{id}/customers/"]
    # drf-spectacular leaves out the body of a DELETE.
    customers["delete"]["requestBody"] = customers["post"]["requestBody"]
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            operation.pop("security", None)
            for status in sorted(_errors(path, method, operation)):
                reference = f"#/components/responses/Error{int(status)}"
                operation["responses"][str(status)] = {"$ref": reference}
    for name, component in components["schemas"].items():
        for field in component.get("properties", {}).values():
            if field.get("oneOf") == [{}, {"type": "null"}]:
                del field["oneOf"]  # null is valid for both, so never for exactly one
        if name.endswith("Request") or name == "SegmentId":
            component["additionalProperties"] = False
        if name.endswith("WriteRequest"):
            component["properties"]["name"]["pattern"] = VISIBLE
            component["properties"]["description"]["pattern"] = STORABLE
            component["properties"]["description"]["maxLength"] = description_max_length()
        if name == "PauseReasonRequest":
            component["properties"]["reason"]["pattern"] = VISIBLE
        if name == "BulkRequest":
            component["properties"]["segments"] |= {"minItems": 1, "maxItems": MAX_ROWS}
    created = result["paths"]["/segments/"]["post"]["responses"]["201"]
    created["links"] = {
        operation["operationId"]: {
            "operationId": operation["operationId"],
            "parameters": {"id": "$response.body#/id"},
        }
        for path, operations in result["paths"].items()
        for operation in operations.values()
        if "{id}" in path
    }
    return result


def _error(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": DESCRIPTIONS[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in HEADERS:
        response["headers"] = {
            name: {"schema": {"type": "string"}, "description": description}
            for name, description in HEADERS[status].items()
        }
    return response


def _errors(path: str, method: str, operation: dict[str, Any]) -> Iterator[int]:
    """Yield the error statuses that an operation can respond with."""
    headers = {parameter["name"] for parameter in operation.get("parameters", [])}
    yield from EVERYWHERE
    if "{id}" in path or "404" in operation["responses"]:
        yield 404
    if "requestBody" in operation:
        yield from (413, 415)
    if HEADER in headers:
        yield from (409, 422)
        if "{id}" not in path:
            yield 410
    if "If-Match" in headers:
        yield 412
    if "{id}" in path and method in ("post", "delete"):
        yield 409


#: drf-spectacular's settings in place of the site's ``SPECTACULAR_SETTINGS``.
SETTINGS: dict[str, Any] = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Bunce segments",
    "VERSION": "1.0.0",
    "DESCRIPTION": DESCRIPTION,
    "SERVERS": [{"url": "/api"}],
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "SegmentStatus": "bunce_sync.choices.Status",
        "LimiterReason": "bunce_sync.choices.Reason",
        "LimiterState": "bunce_sync.api.status.LIMITER_STATES",
        "CallOperation": "bunce_sync.choices.Operation",
        "CallOutcome": "bunce_sync.choices.Outcome",
        "CallDecision": "bunce_sync.choices.Decision",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "bunce_sync.api.schema.postprocess_schema",
    ],
}

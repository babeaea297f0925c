"""Errors as ``application/problem+json`` (RFC 9457).

    {"type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid",
     "detail": "…", "errors": {"name": ["This field may not be blank."]}}

``code`` is stable and meant for programs, ``detail`` for people. ``errors`` maps the path of a
field, such as ``segments.3.name``, to its messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from http.client import responses
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.utils.log import log_response
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler, set_rollback

MEDIA_TYPE = "application/problem+json"


class Conflict(APIException):
    """409: the segment's state does not allow the action, or a key is in use.

    Args:
        wait: seconds until a retry makes sense, for ``Retry-After``; None if not known.
    """

    status_code = HTTPStatus.CONFLICT

    def __init__(self, detail: str, code: str, *, wait: int | None = None) -> None:
        super().__init__(detail, code)
        self.wait = wait


class Gone(APIException):
    """410: the segment that the request created has been deleted since."""

    status_code = HTTPStatus.GONE
    default_code = "gone"


class PreconditionFailed(APIException):
    """412: ``If-Match`` does not name the segment's current version."""

    status_code = HTTPStatus.PRECONDITION_FAILED
    default_code = "precondition_failed"


class TooLarge(APIException):
    """413: the body is larger than the site allows."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"
    default_detail = gettext_lazy(
        "The body is larger than the site allows. Send less in one request."
    )


class Unprocessable(APIException):
    """422: the idempotency key was used with a different body."""

    status_code = HTTPStatus.UNPROCESSABLE_ENTITY


def problem_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Return the problem for an error; None for an error that Django handles better.

    Only this API's views use it. It also receives what the site's own permissions and throttles
    raise, whose details can have any shape.
    """
    if isinstance(exc, RequestDataTooBig):
        exc = TooLarge()
    response = exception_handler(exc, context)
    if response is None:
        return _internal_error(exc, context["request"]._request)  # noqa: SLF001 - Django's own request
    problem = _problem(response.status_code)
    invalid = isinstance(exc, ValidationError)
    detail: Any = response.data
    if not invalid and isinstance(detail, Mapping) and "detail" in detail:
        detail = detail["detail"]
    if isinstance(detail, str):
        problem["code"] = getattr(detail, "code", None) or "error"
        problem["detail"] = str(detail) or problem["title"]
    else:
        problem["code"] = getattr(exc, "default_code", "error")
        problem["detail"] = (
            _("The request is invalid. See 'errors'.") if invalid else problem["title"]
        )
        problem["errors"] = field_map(detail)
    response.data = problem
    response.content_type = MEDIA_TYPE
    return response


def field_map(detail: Any, path: str = "") -> dict[str, list[str]]:
    """Flatten nested errors to a map from the path of a field to its messages.

    Args:
        detail: errors in the form of ``ValidationError.detail``.
        path: the field that they belong to; empty for the whole body.
    """
    whole = api_settings.NON_FIELD_ERRORS_KEY
    items: Iterable[tuple[Any, Any]]
    if isinstance(detail, Mapping):
        items = detail.items()
    elif isinstance(detail, list) and not all(isinstance(item, str) for item in detail):
        items = enumerate(detail)
    else:
        messages = detail if isinstance(detail, list) else [detail]
        return {path or whole: [str(message) for message in messages]}
    found: dict[str, list[str]] = {}
    for key, value in items:
        parts = [path] if path and key == whole else [path, str(key)]
        for inner, messages in field_map(value, ".".join(filter(None, parts))).items():
            found.setdefault(inner, []).extend(messages)
    return found


def _internal_error(exc: Exception, request: HttpRequest) -> Response | None:
    """Log and signal an unexpected error as Django does, but respond in JSON.

    None lets Django respond: in debug mode, and to requests that it considers bad.
    """
    if settings.DEBUG or settings.DEBUG_PROPAGATE_EXCEPTIONS:
        return None
    if isinstance(exc, SuspiciousOperation | BadRequest):
        return None
    set_rollback()
    got_request_exception.send(sender=None, request=request)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    problem = _problem(status) | {
        "code": "internal",
        "detail": _("An unexpected error occurred. The site's log has the details."),
    }
    response = Response(problem, status, content_type=MEDIA_TYPE)
    log_response(
        "%s: %s", status.phrase, request.path, response=response, request=request, exception=exc
    )
    return response


def _problem(status: int) -> dict[str, Any]:
    # A site may respond with a status that has no name.
    return {"type": "about:blank", "title": responses.get(status, "Error"), "status": status}

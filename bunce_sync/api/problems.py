"""Errors as RFC 9457 has them: ``application/problem+json`` with a field map.

    {"type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid",
     "detail": "…", "errors": {"name": ["Enter a name. Spaces alone are not one."]}}

``code`` is stable and for programs, ``detail`` is for people. A row of a bulk request is named by
its place: ``segments.3.name``.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

MEDIA_TYPE = "application/problem+json"


class Conflict(APIException):
    """409: the segment is in a state that does not allow it, or a key is in use.

    Args:
        wait: seconds after which it is worth asking again, for ``Retry-After``.
    """

    status_code = HTTPStatus.CONFLICT
    default_code = "conflict"
    default_detail = gettext_lazy("The segment's state does not allow this now.")

    def __init__(
        self, detail: str | None = None, code: str | None = None, *, wait: int | None = None
    ) -> None:
        super().__init__(detail, code)
        self.wait = wait


class Gone(APIException):
    """410: what the request once made has been deleted since."""

    status_code = HTTPStatus.GONE
    default_code = "gone"


class PreconditionFailed(APIException):
    """412: the segment is no longer as the client last saw it."""

    status_code = HTTPStatus.PRECONDITION_FAILED
    default_code = "precondition_failed"


class TooLarge(APIException):
    """413: the body is longer than the site allows."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(
            _("The body is longer than the %(limit)d bytes this site accepts. Send less at once.")
            % {"limit": limit}
        )


class Unprocessable(APIException):
    """422: an idempotency key came again with another body."""

    status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    default_code = "unprocessable"


def problem_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an error; None for one that nobody foresaw, which Django logs and answers.

    Set on the views of this API alone: a site's own views keep its own handler.
    """
    response = exception_handler(exc, context)
    if response is None:
        return None
    status = HTTPStatus(response.status_code)
    problem: dict[str, Any] = {"type": "about:blank", "title": status.phrase, "status": status}
    if isinstance(exc, ValidationError):
        problem["code"] = "invalid"
        problem["detail"] = _("Some of it cannot be accepted; 'errors' says what and why.")
        problem["errors"] = field_map(exc.detail)
    else:
        detail = response.data["detail"] if isinstance(response.data, Mapping) else status.phrase
        problem["code"] = detail.code if isinstance(detail, ErrorDetail) else "error"
        problem["detail"] = str(detail)
    response.data = problem
    response.content_type = MEDIA_TYPE
    return response


def field_map(detail: Any, path: str = "") -> dict[str, list[str]]:
    """Nested errors as one flat map from the field's path to its messages.

    Args:
        detail: as ``ValidationError.detail`` has it.
        path: where in the body it stands.
    """
    if isinstance(detail, Mapping):
        found: dict[str, list[str]] = {}
        for key, value in detail.items():
            # What is wrong with a thing as a whole stands under the thing's own name.
            whole = key == api_settings.NON_FIELD_ERRORS_KEY and path
            found |= field_map(value, path if whole else f"{path}.{key}".lstrip("."))
        return found
    messages = detail if isinstance(detail, list | tuple) else [detail]
    return {path or api_settings.NON_FIELD_ERRORS_KEY: [str(message) for message in messages]}

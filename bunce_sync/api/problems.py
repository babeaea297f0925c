"""Errors as RFC 9457 has them: ``application/problem+json`` with a field map.

    {"type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid",
     "detail": "…", "errors": {"name": ["Enter a name. Spaces alone are not one."]}}

``code`` is stable and for programs, ``detail`` is for people. A row of a bulk request is named by
its place: ``segments.3.name``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.client import responses
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.utils.log import log_response
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler, set_rollback

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
    """Answer an error; None for one that Django has an answer of its own for.

    Set on the views of this API alone: a site's own views keep its own handler. What a site's own
    permissions and throttles raise comes here too, whatever its shape.
    """
    response = exception_handler(exc, context)
    if response is None:
        return unforeseen(exc, context["request"]._request)  # noqa: SLF001 - Django's own request
    problem = _problem(response.status_code)
    if isinstance(exc, ValidationError):
        problem["code"] = "invalid"
        problem["detail"] = _("Some of it cannot be accepted; 'errors' says what and why.")
        problem["errors"] = field_map(exc.detail)
    else:
        told = response.data
        if isinstance(told, Mapping):
            if "detail" in told:
                told = told["detail"]
            else:
                problem["errors"] = field_map(told)
        messages = [*_messages(told)]
        codes = [message.code for message in messages if isinstance(message, ErrorDetail)]
        problem["code"] = str(codes[0]) if codes and codes[0] else "error"
        problem["detail"] = " ".join(str(message) for message in messages) or problem["title"]
    response.data = problem
    response.content_type = MEDIA_TYPE
    return response


def unforeseen(exc: Exception, request: HttpRequest) -> Response | None:
    """Answer an error that nobody foresaw: as Django does, but in JSON.

    It is logged and signalled as by Django, and what the request has changed is rolled back. None
    where Django does better: for developers, and for requests that it calls bad.
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
        "detail": _("Something went wrong here, and the site's log says what. Try again later."),
    }
    response = Response(problem, status, content_type=MEDIA_TYPE)
    log_response(
        "%s: %s", status.phrase, request.path, response=response, request=request, exception=exc
    )
    return response


def field_map(detail: Any, path: str | None = None) -> dict[str, list[str]]:
    """Nested errors as one flat map from the field's path to its messages.

    Args:
        detail: as ``ValidationError.detail`` has it.
        path: where in the body it stands; None for the body itself.
    """
    if not isinstance(detail, Mapping):
        whole = api_settings.NON_FIELD_ERRORS_KEY if path is None else path
        return {whole: [str(message) for message in _messages(detail)]}
    found: dict[str, list[str]] = {}
    for key, value in detail.items():
        if path is None:
            inner = str(key)
        elif key == api_settings.NON_FIELD_ERRORS_KEY:
            inner = path  # what is wrong with a thing as a whole stands under its own name
        else:
            inner = f"{path}.{key}"
        for place, messages in field_map(value, inner).items():
            found.setdefault(place, []).extend(messages)
    return found


def _problem(status: int) -> dict[str, Any]:
    # A site may answer with a status that has no name.
    return {"type": "about:blank", "title": responses.get(status, "Error"), "status": status}


def _messages(detail: Any) -> Iterator[Any]:
    """Every message in an error's detail, however deep."""
    if isinstance(detail, Mapping):
        detail = [*detail.values()]
    if isinstance(detail, list | tuple):
        for inner in detail:
            yield from _messages(inner)
    else:
        yield detail

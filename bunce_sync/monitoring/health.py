"""Health as JSON: of this web process for load balancers, and of the sync for an operator.

Neither view needs a login, so neither shows a name, a message of Bunce or a number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from bunce_sync import database
from bunce_sync.choices import Reason
from bunce_sync.status.status import SyncStatus, get_status

V = TypeVar("V", bound=Callable[..., HttpResponse])


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing, or not everything, is sent to Bunce.

    Attributes:
        code: a stable word.
        summary: what happened, in English.
    """

    code: str
    summary: str


def find_problems() -> list[Problem]:
    """Return why nothing, or not everything, is sent to Bunce; empty if all is well.

    A pause that a person or a full rate limit causes is no problem, and neither is a segment that
    needs attention.
    """
    try:
        status = get_status()
    except AnyDatabaseError as error:
        return [_database_problem(error)]
    return [*_site_problems(status), *_bunce_problems(status)]


def _site_problems(status: SyncStatus) -> list[Problem]:
    problems = []
    if status.configuration_problem:
        problems.append(Problem("configuration", status.configuration_problem))
    elif status.key_missing:
        problems.append(Problem("key_missing", "BUNCE_SYNC['API_KEY'] is not set."))
    elif status.strange_key_since and status.strange_key_detail:
        problems.append(Problem("key_unchecked", "The API key could not be checked with Bunce."))
    elif status.strange_key_since:
        summary = "The API key seems to belong to another Bunce account."
        problems.append(Problem("key_strange", summary))
    if status.sweep.late:
        summary = "No sweep has run yet."
        if status.sweep.age is not None:
            summary = f"The last sweep was {status.sweep.age:.0f} s ago."
        problems.append(Problem("sweep_late", summary))
    return problems


def _bunce_problems(status: SyncStatus) -> list[Problem]:
    problems = []
    match status.rate_limiter.reason:
        case Reason.KEY_REFUSED:
            problems.append(Problem("key_refused", "Bunce refuses the API key."))
        case Reason.UNREACHABLE | Reason.UNAVAILABLE:
            problems.append(Problem("bunce_unreachable", "Bunce does not respond as it should."))
    problems += [
        Problem("operation_paused", f"Requests of the kind “{one.operation}” fail and are paused.")
        for one in status.operations
    ]
    return problems


def _database_problem(error: AnyDatabaseError) -> Problem:
    # Without its text, which may contain an address or a user name.
    return Problem("database", f"The database cannot be used ({type(error).__name__}).")


def outside_transactions(view: V) -> V:
    """Return the view without ``ATOMIC_REQUESTS``, which would fail before it can report."""
    for alias in settings.DATABASES:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


@outside_transactions
@never_cache
@require_safe
def web(request: HttpRequest) -> JsonResponse:
    """Return whether this web process can use the tables of the app: 200 or 503.

    Bunce and the workers do not matter: a load balancer that took web servers away because of them
    would make a small problem a large one.
    """
    try:
        for rows in (database.sync_state, database.segments, database.calls, database.members):
            rows().order_by().first()  # with all columns, some of which may be missing
    except AnyDatabaseError as error:
        return _response([_database_problem(error)])
    return _response([])


@outside_transactions
@never_cache
@require_safe
def sync(request: HttpRequest) -> JsonResponse:
    """Return whether segments are being sent: 200, or 503 with the problems."""
    return _response(find_problems())


class _HealthResponse(JsonResponse):
    """A response that Django does not report as an error of the site, at each poll."""

    _has_been_logged = True


def _response(problems: Sequence[Problem]) -> JsonResponse:
    content = {
        "status": "failing" if problems else "ok",
        "problems": [{"code": one.code, "summary": one.summary} for one in problems],
    }
    return _HealthResponse(content, status=503 if problems else 200)

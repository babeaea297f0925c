"""The timeline of a segment's API calls, each with a curl command that repeats it."""

from __future__ import annotations

import json
import shlex
from datetime import datetime
from typing import Any, Final

from bunce_sync import database
from bunce_sync.admin.cells import grouped
from bunce_sync.choices import Operation, Outcome
from bunce_sync.conf import BASE_URLS, conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.models import ApiCall, Segment
from bunce_sync.status import messages
from bunce_sync.status.presenters import (
    describe_decision,
    describe_environment,
    describe_problem,
    format_time,
    visible_detail,
)
from bunce_sync.sync.rate_limiter import CUSTOMERS

#: Calls in a timeline; the call log has all.
MAX_CALLS: Final = 50
METHODS: Final = {
    Operation.CREATE: "POST",
    Operation.UPDATE: "PATCH",
    Operation.READ: "GET",
    Operation.LIST: "GET",
    Operation.ADD: "POST",
    Operation.REMOVE: "DELETE",
}
#: Codes whose description would repeat that of the outcome.
REPEATING: Final = frozenset({"", "rate_limited", "key_refused", "worker_lost", "rejected"})


def timeline(segment: Segment, now: datetime) -> dict[str, Any]:
    """Return the context of the timeline's template: the latest calls, and whether more exist."""
    newest = database.calls().filter(segment_id=segment.id).order_by("-pk")
    calls = list(newest[: MAX_CALLS + 1])
    return {"entries": [_entry(call, now) for call in calls[:MAX_CALLS]], "more": calls[MAX_CALLS:]}


def _entry(call: ApiCall, now: datetime) -> dict[str, str]:
    silent = call.code in REPEATING | messages.DETAIL_IS_ID
    is_here = call.environment == conf.environment
    about_customers = call.operation in CUSTOMERS
    # Elsewhere it would do something else, and the log does not name the customers.
    has_command = is_here and not about_customers
    return {
        "id": str(call.pk),  # as text: a template would add thousands separators
        "css_class": css_class(call),
        "time": format_time(call.started_at, now),
        "iso_time": call.started_at.isoformat(),
        "operation": call.get_operation_display(),
        "request": f"{_method(call)} {call.path}",
        "outcome": call.get_outcome_display(),
        "http_status": str(call.http_status or ""),
        "duration": format_duration(call.duration_ms),
        "meaning": str(messages.OUTCOME[Outcome(call.outcome)]),
        "cause": "" if silent else describe_problem(call.code),
        "detail": visible_detail(call.code, call.message),
        "decision": describe_decision(call, now),
        "elsewhere": "" if is_here else _sent_to(call.environment),
        "customers": grouped((call.body or {}).get("customers", 0)) if about_customers else "",
        "curl": curl(call) if has_command else "",
        "warning": str(messages.CURL_CREATES) if call.operation == Operation.CREATE else "",
    }


def _sent_to(environment: str) -> str:
    return messages.SENT_TO % {"environment": describe_environment(environment)}


def css_class(call: ApiCall) -> str:
    """Return the CSS class that colours a call by its outcome."""
    match call.outcome:
        case Outcome.CONFIRMED:
            return "bunce-good"
        case Outcome.REJECTED | Outcome.KEY_REFUSED | Outcome.DUPLICATE:
            return "bunce-bad"
        case _:
            return "bunce-open"


def format_duration(milliseconds: int | None) -> str:
    """Return a duration such as "87 ms" or "20.0 s"; empty if unknown."""
    if milliseconds is None:
        return ""
    return f"{milliseconds} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:.1f} s"


def curl(call: ApiCall) -> str:
    """Return a command for a POSIX shell that repeats a call, with the key from the environment."""
    parts = [
        f"curl -X {_method(call)} {shlex.quote(_base_url() + call.path)}",
        '-H "X-Authorization: $BUNCE_API_KEY"',
        "-H 'Accept: application/json'",
    ]
    if call.body is not None:
        body = json.dumps(call.body, ensure_ascii=False)
        parts += ["-H 'Content-Type: application/json'", f"--data-raw {shlex.quote(body)}"]
    return " \\\n  ".join(parts)


def _method(call: ApiCall) -> str:
    return METHODS[Operation(call.operation)]


def _base_url() -> str:
    try:
        return conf.base_url
    except ConfigurationError:  # the panel shows the error
        return BASE_URLS["live"]

"""A call as a command line that does the same, with the key left out."""

from __future__ import annotations

import json
import shlex
from typing import Final

from bunce_sync.conf import BASE_URLS, conf
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.models import ApiCall

METHODS: Final = {
    ApiCall.Operation.CREATE: "POST",
    ApiCall.Operation.UPDATE: "PATCH",
    ApiCall.Operation.READ: "GET",
    ApiCall.Operation.LIST: "GET",
}


def method(call: ApiCall) -> str:
    """The HTTP method of a call."""
    return METHODS[ApiCall.Operation(call.operation)]


def curl(call: ApiCall) -> str:
    """The command, fit for a POSIX shell; the key is taken from ``$BUNCE_API_KEY``."""
    parts = [
        f"curl -X {method(call)} {shlex.quote(_base_url() + call.path)}",
        '-H "X-Authorization: $BUNCE_API_KEY"',
        "-H 'Accept: application/json'",
    ]
    if call.body is not None:
        body = json.dumps(call.body, ensure_ascii=False)
        parts += ["-H 'Content-Type: application/json'", f"--data-raw {shlex.quote(body)}"]
    return " \\\n  ".join(parts)


def _base_url() -> str:
    try:
        return conf.base_url
    except ConfigurationError:  # the panel says so
        return BASE_URLS["live"]

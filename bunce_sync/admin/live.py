"""The updates that an open page polls for: changed fragments as JSON, or 304 Not Modified.

A fragment contains no age and no countdown, so its ETag changes only with its data. Headers contain
the database's time and the age of the last sweep, from which the page's script counts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.functional import Promise

from bunce_sync.status import messages
from bunce_sync.status.presenters import format_time
from bunce_sync.status.status import SyncStatus

#: Rows that a list keeps up to date: as many as Django's "Show all" shows at most.
MAX_ROWS: Final = 200
#: A placeholder of a text, which the script fills in as {name}.
PLACEHOLDER: Final = re.compile(r"%\((\w+)\)s")


def page_context(status: SyncStatus, url: str, *, content: str = "") -> dict[str, str]:
    """Return what the template ``live.html`` passes to the script.

    Args:
        url: to poll.
        content: a digest of what the page shows for editing.
    """
    return {"url": url, "texts": _texts(), "content": content, **_clock(status)}


def respond(
    request: HttpRequest, fragments: Mapping[str, str], status: SyncStatus, **data: Any
) -> HttpResponseBase:
    """Return fragments of HTML by element id, or 304 if the page has them already.

    Args:
        data: other values for the script, as JSON.
    """
    body = json.dumps({"fragments": fragments, **data}, sort_keys=True).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    full = HttpResponse(body, content_type="application/json", headers={"ETag": etag})
    response = get_conditional_response(request, etag=etag, response=full) or full
    clock = _clock(status)
    response.headers["Bunce-Now"] = clock["now"]
    response.headers["Bunce-Sweep-Age"] = clock["sweep_age"]
    response.headers["Bunce-Time"] = clock["time"]
    return response


def _clock(status: SyncStatus) -> dict[str, str]:
    """Return the database's time in seconds since 1970 and as text, and the last sweep's age."""
    return {
        "now": f"{status.now.timestamp():.3f}",
        "time": format_time(status.now, status.now),
        "sweep_age": "" if status.sweep.age is None else f"{status.sweep.age:.1f}",
    }


def _texts() -> str:
    texts: dict[str, str | Promise] = {
        "inSeconds": messages.IN_SECONDS,
        "inMinutes": messages.IN_MINUTES,
        "now": messages.NOW,
        "agoSeconds": messages.AGO_SECONDS,
        "agoMinutes": messages.AGO_MINUTES,
        "copied": messages.COPIED,
        "notUpdated": messages.NOT_UPDATED,
        "unreachable": messages.SITE_UNREACHABLE,
        "resumed": messages.RESUMED,
        "unsaved": messages.UNSAVED,
        "changedNow": messages.CHANGED_NOW,
        "changedBeside": messages.CHANGED_BESIDE,
        "changedReload": messages.CHANGED_RELOAD,
    }
    return json.dumps({name: PLACEHOLDER.sub(r"{\1}", str(text)) for name, text in texts.items()})

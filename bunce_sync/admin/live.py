"""What an open page asks for every few seconds: its changing parts, or "nothing new" (304).

The answer holds no age and no countdown, so that its ETag changes only with the facts. Those two
go in headers, from which the script in the page counts on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.functional import Promise

from bunce_sync.status import messages
from bunce_sync.status.presenters import format_time
from bunce_sync.status.status import SyncStatus

#: A value to be filled in, as Python writes it.
VALUE = re.compile(r"%\((\w+)\)s")
#: Rows of a list that are kept up to date at once.
MOST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Root:
    """What the template ``live.html`` hands to the script.

    Attributes:
        url: where to ask.
        now: the database's time, in seconds since 1970.
        swept: the age of the last sweep in seconds; empty when none ran yet.
        time: when that was, for people.
        texts: the words the script needs, as JSON.
    """

    url: str
    now: str
    swept: str
    time: str
    texts: str


def root(overview: SyncStatus, url: str) -> Root:
    """The beginning; later answers go on from it."""
    return Root(url, _now(overview), _swept(overview), _time(overview), _texts())


def answer(
    request: HttpRequest, fragments: Mapping[str, str], overview: SyncStatus
) -> HttpResponseBase:
    """The parts of the page by their ids, or 304 when the page has them as they are."""
    body = json.dumps({"fragments": fragments}, sort_keys=True).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    fresh = HttpResponse(body, content_type="application/json", headers={"ETag": etag})
    response = get_conditional_response(request, etag=etag, response=fresh) or fresh
    response.headers["Bunce-Now"] = _now(overview)
    response.headers["Bunce-Sweep-Age"] = _swept(overview)
    response.headers["Bunce-Time"] = _time(overview)
    return response


def _now(overview: SyncStatus) -> str:
    return f"{overview.now.timestamp():.3f}"


def _swept(overview: SyncStatus) -> str:
    return "" if overview.sweep.age is None else f"{overview.sweep.age:.1f}"


def _time(overview: SyncStatus) -> str:
    return format_time(overview.now, overview.now)


def _texts() -> str:
    words: dict[str, str | Promise] = {
        "inSeconds": messages.IN_SECONDS,
        "inMinutes": messages.IN_MINUTES,
        "now": messages.NOW,
        "agoSeconds": messages.AGO_SECONDS,
        "agoMinutes": messages.AGO_MINUTES,
        "copied": messages.COPIED,
        "ended": messages.NOT_UPDATED,
        "unanswered": messages.SITE_UNREACHABLE,
        "goesOn": messages.RESUMED,
        "unsaved": messages.UNSAVED,
    }
    # The script fills in {n} and {time}.
    return json.dumps({name: VALUE.sub(r"{\1}", str(word)) for name, word in words.items()})

"""From an HTTP answer to its content, or to the error that says what Bunce meant.

The HTTP status is judged first; a success that says it is none is not trusted.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ..exceptions import (
    BunceError,
    Conflict,
    KeyRefused,
    NotFound,
    RateLimited,
    Rejected,
    ServerError,
    UnusableAnswer,
)
from .text import load_json, one_line, what_instead_of_json
from .transport import Answer

DEFAULT_PAUSE: Final = 60.0
"""Seconds to wait after a 429 that does not say: so long Bunce then blocks an address."""

LONGEST_PAUSE: Final = 3600.0
DETAIL_LENGTH: Final = 300

REFUSALS: Final[Mapping[int, type[BunceError]]] = {
    401: KeyRefused,
    403: KeyRefused,
    404: NotFound,
    408: ServerError,
    409: Conflict,
    422: Conflict,
    425: RateLimited,
    429: RateLimited,
}
KEYS: Final = re.compile(r"\bsk_(?:live|test)_\w+")
SAYS_NO: Final = frozenset({"false", "error", "fail", "failed", "failure"})


def content_of(answer: Answer) -> Any:
    """The decoded JSON of a success; ``None`` for an empty body.

    Raises:
        BunceError: the class that fits the status; ``UnusableAnswer`` for a success that is not
            JSON or carries an explicit failure.
    """
    if not 200 <= answer.status < 300:
        raise _refusal(answer)
    if not answer.body.strip():
        return None
    content, readable = _decoded(answer.body)
    if not readable:
        raise UnusableAnswer(
            _detail(what_instead_of_json(answer.body)), code="not_json", http_status=answer.status
        )
    if _says_no(content):
        raise UnusableAnswer(
            _detail(_message(content)),
            code="says_failed",
            http_status=answer.status,
        )
    return content


def pause_of(headers: Mapping[str, str]) -> float:
    """Seconds to wait after a 429, from ``Retry-After``: seconds, or a date.

    A date is measured against the answer's own ``Date``, as clocks differ. What is missing,
    unreadable or not in the future counts as Bunce's documented 60 s; an hour is the most.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", value):
        seconds = float(value)
    elif moment := _http_date(value):
        now = _http_date(headers.get("Date", "")) or dt.datetime.now(dt.UTC)
        seconds = (moment - now).total_seconds()
    else:
        seconds = 0.0
    return min(seconds, LONGEST_PAUSE) if seconds > 0 else DEFAULT_PAUSE


def _decoded(body: bytes) -> tuple[Any, bool]:
    """The JSON content and True, or None and False: a decoding error would carry the body along."""
    try:
        return load_json(body), True
    except ValueError:
        return None, False


def _refusal(answer: Answer) -> BunceError:
    status = answer.status
    if 300 <= status < 400:
        return UnusableAnswer(_detail(_target(answer.headers)), code="redirect", http_status=status)
    content, readable = _decoded(answer.body)
    if readable:
        detail = _message(content)
    else:
        detail = what_instead_of_json(answer.body) if answer.body.strip() else ""
    detail = _detail(detail)
    kind = REFUSALS.get(status)
    if kind is RateLimited:
        return RateLimited(detail, http_status=status, retry_after=pause_of(answer.headers))
    if kind is None:
        if not 400 <= status < 600:
            return UnusableAnswer(detail, code="unexpected_status", http_status=status)
        kind = Rejected if status < 500 else ServerError
    return kind(detail, http_status=status)


def _says_no(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    marks = (content.get("success"), content.get("status"))
    return any(
        mark is False or (isinstance(mark, str) and mark.strip().lower() in SAYS_NO)
        for mark in marks
    )


def _message(content: Any) -> str:
    """Bunce's message, and the fields it complains of where it names them."""
    if not isinstance(content, dict):
        return ""
    error = content.get("error")
    if isinstance(error, dict):
        error = error.get("message")
    message = next((one for one in (content.get("message"), error) if isinstance(one, str)), "")
    complaints = [one for one in _complaints(content.get("errors")) if one not in message]
    return "; ".join(filter(None, (message, *complaints)))


def _complaints(errors: Any, field: str = "") -> Iterator[str]:
    """The sentences in ``errors``, whose shape is not documented, at most the first ten."""
    if isinstance(errors, str):
        yield f"{field}: {errors}" if field and field not in errors else errors
    elif isinstance(errors, list):
        for one in errors[:10]:
            if isinstance(one, str):
                yield from _complaints(one, field)
            elif isinstance(one, dict):
                yield from _complaints(one.get("message"), str(one.get("field", field)))
    elif isinstance(errors, dict) and not field:
        for name, one in list(errors.items())[:10]:
            yield from _complaints(one, str(name))


def _target(headers: Mapping[str, str]) -> str:
    """Where a redirect leads, without the parts of an address that may hold a secret."""
    try:
        parts = urlsplit(headers.get("Location", ""))
        host = parts.hostname or ""
    except ValueError:
        return ""
    if not host and not parts.path:
        return ""
    origin = f"{parts.scheme}://{host}" if host else ""
    return f"redirects to {origin}{parts.path}"


def _detail(text: str) -> str:
    """A text from outside as it may be stored and shown: short, on one line, without any key."""
    return one_line(KEYS.sub("[key]", text), DETAIL_LENGTH)


def _http_date(value: str) -> dt.datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

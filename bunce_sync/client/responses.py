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
    Forbidden,
    KeyRefused,
    NotFound,
    RateLimited,
    Rejected,
    ServerError,
    Unavailable,
    UnusableResponse,
)
from .parse import says_no
from .text import Redact, load_json, one_line, redact_keys, what_instead_of_json
from .transport import Answer

DEFAULT_PAUSE: Final = 60.0
"""Seconds to wait after a 429 that does not say: so long Bunce then blocks an address."""

LONGEST_PAUSE: Final = 366 * 86400.0
"""Seconds. A bound against overflowing dates only; how long to really wait is decided elsewhere."""

DETAIL_LENGTH: Final = 300

REFUSALS: Final[Mapping[int, type[BunceError]]] = {
    401: KeyRefused,
    402: Forbidden,
    403: Forbidden,
    404: NotFound,
    405: Forbidden,
    407: Forbidden,
    408: ServerError,
    409: Conflict,
    410: NotFound,
    422: Conflict,
    425: RateLimited,
    429: RateLimited,
    451: Forbidden,
}


def content_of(answer: Answer, redact: Redact = redact_keys) -> Any:
    """Return the decoded JSON of a success, just as it came; ``None`` for an empty body.

    Args:
        answer: what came back.
        redact: replaces secrets in the words of the answer that an error carries.

    Raises:
        BunceError: the class that fits the status; ``UnusableResponse`` for a success that is not
            JSON or carries an explicit failure.
    """
    if not 200 <= answer.status < 300:
        raise _refusal(answer, redact)
    if not answer.body.strip():
        return None
    content, readable = _decoded(answer.body)
    if not readable:
        raise UnusableResponse(
            what_instead_of_json(answer.body, redact), code="not_json", http_status=answer.status
        )
    if says_no(content):
        raise UnusableResponse(
            one_line(_message(content), DETAIL_LENGTH, redact),
            code="says_failed",
            http_status=answer.status,
        )
    return content


def pause_of(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait after a 429.

    A ``Retry-After`` that is missing, unreadable or not in the future counts as Bunce's documented
    60 s.
    """
    return retry_after_of(headers) or DEFAULT_PAUSE


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that ``Retry-After`` asks to wait, as a number or until a date.

    A date is measured against the answer's own ``Date``, as clocks differ.

    Returns:
        More than 0 and at most ``LONGEST_PAUSE``; ``None`` when the header is missing, unreadable
        or not in the future.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", value):
        seconds = float(value)
    elif moment := _http_date(value):
        now = _http_date(headers.get("Date", "")) or dt.datetime.now(dt.UTC)
        seconds = (moment - now).total_seconds()
    else:
        seconds = 0.0
    return min(seconds, LONGEST_PAUSE) if seconds > 0 else None


def _decoded(body: bytes) -> tuple[Any, bool]:
    """Return content and True, or None and False: a decoding error would carry the body along."""
    try:
        return load_json(body), True
    except ValueError:
        return None, False


def _refusal(answer: Answer, redact: Redact) -> BunceError:
    status = answer.status
    if 300 <= status < 400:
        target = _target(answer.headers, redact)
        return UnusableResponse(target, code="redirect", http_status=status)
    content, readable = _decoded(answer.body)
    if readable:
        detail = one_line(_message(content), DETAIL_LENGTH, redact)
    else:
        detail = what_instead_of_json(answer.body, redact) if answer.body.strip() else ""
    kind = REFUSALS.get(status)
    if kind is RateLimited:
        return RateLimited(detail, http_status=status, retry_after=pause_of(answer.headers))
    if status == 503 and (seconds := retry_after_of(answer.headers)) is not None:
        return Unavailable(detail, http_status=status, retry_after=seconds)
    if kind is None:
        if not 400 <= status < 600:
            return UnusableResponse(detail, code="unexpected_status", http_status=status)
        kind = Rejected if status < 500 else ServerError
    return kind(detail, http_status=status)


def _message(content: Any) -> str:
    """Return Bunce's message, and the fields it complains of where it names them."""
    if not isinstance(content, dict):
        return ""
    error = content.get("error")
    if isinstance(error, dict):
        error = error.get("message")
    message = next((one for one in (content.get("message"), error) if isinstance(one, str)), "")
    complaints = [one for one in _complaints(content.get("errors")) if one not in message]
    return "; ".join(filter(None, (message, *complaints)))


def _complaints(errors: Any, field: str = "") -> Iterator[str]:
    """Yield the sentences in ``errors``, whose shape is not documented, at most the first ten."""
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


def _target(headers: Mapping[str, str], redact: Redact) -> str:
    """Return where a redirect leads, without the parts of an address that often hold a secret."""
    try:
        parts = urlsplit(headers.get("Location", ""))
        host = parts.hostname or ""
    except ValueError:
        return ""
    if not host and not parts.path:
        return ""
    origin = f"{parts.scheme}://{host}" if host else ""
    prefix = "redirects to "
    return prefix + one_line(f"{origin}{parts.path}", DETAIL_LENGTH - len(prefix), redact)


def _http_date(value: str) -> dt.datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

"""Everything that can go wrong, as one tree.

Each error carries a ``code``: a stable word that is stored with the row and the ledger and
from which the admin composes its sentence, and a ``detail``: Bunce's own message or a technical
remark. No error carries the API key, a header, or a whole response body. All of them pickle.
"""

from __future__ import annotations


class BunceSyncError(Exception):
    """The root of the tree."""


class ConfigurationError(BunceSyncError):
    """The settings do not allow a request: the key is missing, or the address is unusable."""


class BunceError(BunceSyncError):
    """A request to Bunce did not end in a usable answer.

    Args:
        detail: Bunce's message or a technical remark, never secret, at most 300 characters.
        code: what happened, in one stable word; the class gives the default.
        http_status: the status of the answer, when there was one.
        retry_after: seconds Bunce asked to wait, for ``RateLimited`` and ``Unavailable``.
    """

    code = "failed"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        http_status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code
        self.http_status = http_status
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class NotSent(BunceError):
    """Not a byte of the request left: Bunce cannot have acted on it.

    Codes: ``refused``, ``dns``, ``tls``, ``connect_timeout``, ``connect_failed``.
    """

    code = "connect_failed"


class PermitExpired(NotSent):
    """The connection took longer than the permit was good for, so nothing was sent."""

    code = "permit_expired"


class NoResponse(BunceError):
    """Bytes were sent, but no whole answer came back: Bunce may have acted or not.

    Codes: ``read_timeout``, ``deadline`` (bytes came, but too slowly for the whole), ``reset``,
    ``closed``, ``cut`` (it broke off, or cannot be read as HTTP), ``tls_broken``.
    """

    code = "closed"


class UnusableResponse(BunceError):
    """An answer whose meaning is not known.

    Codes: ``not_json``, ``wrong_shape``, ``no_id``, ``no_content``, ``says_failed``,
    ``too_large``, ``redirect``, ``unexpected_status``, ``paging``.
    """

    code = "wrong_shape"


class NoContent(UnusableResponse):
    """A success without content where a segment was expected: 204, an empty body, no ``data``."""

    code = "no_content"


class ServerError(BunceError):
    """An answer with 5xx or 408: Bunce may have acted or not."""

    code = "server_error"


class Unavailable(ServerError):
    """An answer with 503 that says when to try again: ``retry_after`` is set.

    Bunce may have acted or not. A 503 without a usable ``Retry-After`` is a plain ``ServerError``.
    """

    code = "unavailable"


class RateLimited(BunceError):
    """An answer with 429 or 425: Bunce did not act; ``retry_after`` is the seconds to wait."""

    code = "rate_limited"


class KeyRefused(BunceError):
    """An answer with 401: Bunce does not accept the API key."""

    code = "key_refused"


class Rejected(BunceError):
    """An answer with another 4xx: Bunce refused this request and did not act."""

    code = "rejected"


class Forbidden(Rejected):
    """An answer with 402, 403, 405, 407 or 451: Bunce does not allow this request.

    An edge in front of Bunce blocked it, a limit of the plan is reached, or the key lacks rights.
    """

    code = "forbidden"


class NotFound(Rejected):
    """An answer with 404 or 410: Bunce has no segment with this id."""

    code = "not_found"


class Conflict(Rejected):
    """An answer with 409 or 422: the content is invalid, or clashes with what Bunce has."""

    code = "conflict"

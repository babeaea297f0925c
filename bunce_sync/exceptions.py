"""The exceptions of the app, as one tree.

The first line of each docstring says what happened, and is the message of an exception that is
raised without one. A ``BunceError`` carries a ``code``, a stable word that is stored with the
segment and the call and selects the text in the admin, and a ``detail``: Bunce's message or a
technical remark. No exception carries the API key, a header or a whole response body. All of them
can be pickled.
"""

from __future__ import annotations


class BunceSyncError(Exception):
    """An operation of bunce_sync failed."""

    def __str__(self) -> str:
        return super().__str__() or self.explanation()

    @classmethod
    def explanation(cls) -> str:
        """Return the first line of the docstring; empty if Python runs without docstrings."""
        return (cls.__doc__ or "").strip().partition("\n")[0]


class ConfigurationError(BunceSyncError):
    """The settings do not allow requests: a value is missing or cannot be used."""


class CustomersNotByHand(BunceSyncError):
    """The customers of this segment cannot be added or removed by hand."""


class BunceError(BunceSyncError):
    """A request to Bunce did not end with a usable response.

    Args:
        detail: Bunce's message or a technical remark, without secrets, at most 300 characters.
        code: what happened, as a stable word; by default that of the class.
        http_status: the status of the response, if there was one.
        retry_after: seconds to wait as requested by Bunce, for ``RateLimited`` and ``Unavailable``.
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
        return f"{self.code}: {self.detail or self.explanation()}"


class NotSent(BunceError):
    """No byte of the request was sent, so Bunce cannot have acted on it.

    Codes: ``refused``, ``dns``, ``tls``, ``connect_timeout``, ``connect_failed``.
    """

    code = "connect_failed"


class PermitExpired(NotSent):
    """The permit expired while connecting, so nothing was sent."""

    code = "permit_expired"


class NoResponse(BunceError):
    """The request was sent, but no complete response came back: Bunce may have acted.

    Codes: ``read_timeout``, ``deadline`` (the response arrived too slowly), ``reset``, ``closed``,
    ``cut`` (the response is incomplete or not HTTP), ``tls_broken``.
    """

    code = "closed"


class UnusableResponse(BunceError):
    """Bunce's response cannot be interpreted.

    Codes: ``not_json``, ``wrong_shape``, ``no_id``, ``no_content``, ``says_failed``,
    ``too_large``, ``redirect``, ``unexpected_status``, ``paging``.
    """

    code = "wrong_shape"


class NoContent(UnusableResponse):
    """Bunce reported success without the expected segment: 204, an empty body or no ``data``."""

    code = "no_content"


class ServerError(BunceError):
    """Bunce responded with 5xx or 408 and may have acted."""

    code = "server_error"


class Unavailable(ServerError):
    """Bunce responded with 503 and a time to retry, and may have acted.

    ``retry_after`` is set. A 503 without a usable ``Retry-After`` is a ``ServerError``.
    """

    code = "unavailable"


class RateLimited(BunceError):
    """Bunce responded with 429 or 425 and did not act.

    ``retry_after`` is None if Bunce did not say how long to wait.
    """

    code = "rate_limited"


class KeyRefused(BunceError):
    """Bunce responded with 401: it does not accept the API key."""

    code = "key_refused"


class Rejected(BunceError):
    """Bunce refused the request with a 4xx status and did not act."""

    code = "rejected"


class Forbidden(Rejected):
    """Bunce does not allow the request (402, 403, 405, 407 or 451).

    A firewall in front of Bunce blocked it, a limit of the plan is reached, or the key lacks
    permissions.
    """

    code = "forbidden"


class NotFound(Rejected):
    """Bunce has no segment with this id (404 or 410)."""

    code = "not_found"


class Conflict(Rejected):
    """The content is invalid or conflicts with a segment in Bunce (409 or 422)."""

    code = "conflict"

"""Network errors, translated into ``NotSent`` and ``NoResponse`` with a stable code.

The request record shows whether a byte was sent, which decides the class. The exceptions of
requests and urllib3 only give the code and the detail.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator

from urllib3.exceptions import DecodeError, ProxyError

from ..exceptions import NoResponse, NotSent
from .connection import DeadlinePassed
from .redaction import Redact, one_line, redact_keys


def not_sent_error(error: BaseException, *, address: str, redact: Redact = redact_keys) -> NotSent:
    """Return the error for a request of which no byte was sent.

    Args:
        error: what urllib3 or requests raised.
        address: host and port, for the detail.
        redact: replaces secrets in the text of an error, which may quote a proxy.
    """
    chain = list(_chain(error))
    proxy = "through the proxy, " if _first(chain, ProxyError) else ""
    if found := _first(chain, socket.gaierror):
        code, detail = "dns", f"the name does not resolve ({_text(found, redact)})"
    elif _first(chain, ConnectionRefusedError):
        code, detail = "refused", "connection refused"
    elif _first(chain, TimeoutError):
        code, detail = "connect_timeout", "connecting timed out"
    elif found := _first(chain, ssl.SSLError, ssl.CertificateError):
        code, detail = "tls", f"TLS failed ({_text(found, redact)})"
    elif found := _first(chain, OSError):
        code, detail = "connect_failed", _text(found, redact)
    else:
        code, detail = "connect_failed", type(error).__name__
    return NotSent(f"{address}: {proxy}{detail}", code=code)


def no_response_error(
    error: BaseException, *, http_status: int | None, redact: Redact = redact_keys
) -> NoResponse:
    """Return the error for a request that was sent at least in part, without a complete response.

    Args:
        error: what urllib3 or requests raised.
        http_status: the status, if the headers of the response arrived.
        redact: replaces secrets in the text of an error.
    """
    chain = list(_chain(error))
    if _first(chain, DeadlinePassed):
        code, detail = "deadline", "the response arrived too slowly"
    elif _first(chain, TimeoutError):
        code, detail = "read_timeout", "no response in time"
    elif found := _first(chain, ssl.SSLError):
        code, detail = "tls_broken", _text(found, redact)
    elif _first(chain, http.client.RemoteDisconnected):
        code, detail = "closed", "the connection was closed without a response"
    elif _first(chain, ConnectionResetError, BrokenPipeError, ConnectionAbortedError):
        code, detail = "reset", "the connection was reset"
    elif _first(chain, http.client.IncompleteRead):
        code, detail = "cut", "the response is incomplete"
    elif _first(chain, http.client.BadStatusLine):
        code, detail = "cut", "the response is not HTTP"
    elif _first(chain, DecodeError):
        code, detail = "cut", "the response cannot be decompressed"
    elif found := _first(chain, OSError):
        code, detail = "closed", _text(found, redact)
    else:
        code, detail = "cut", type(error).__name__
    return NoResponse(detail, code=code, http_status=http_status)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes: urllib3 and requests also use ``reason`` and ``args``."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        related = (getattr(current, "reason", None), *current.args)
        waiting += [one for one in related if isinstance(one, BaseException)]
        waiting += [one for one in (current.__cause__, current.__context__) if one is not None]


def _first(chain: list[BaseException], *classes: type[BaseException]) -> BaseException | None:
    """Return the first error of these classes, except errors of requests: all are OSErrors."""
    for one in chain:
        if isinstance(one, classes) and not type(one).__module__.startswith("requests"):
            return one
    return None


def _text(error: BaseException, redact: Redact) -> str:
    """Return the operating system's or OpenSSL's short text, without address or object."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"certificate not accepted: {error.verify_message}"
    elif isinstance(error, ssl.SSLError) and error.reason:
        text = str(error.reason).replace("_", " ").lower()
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    else:
        text = str(error)
    return one_line(text, 120, redact) or type(error).__name__

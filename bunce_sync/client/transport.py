"""One HTTP request with ``requests``, limited in time and size and never repeated."""

from __future__ import annotations

import http.client
import ipaddress
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.cookies import RequestsCookieJar
from requests.utils import get_environ_proxies, select_proxy
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .. import __version__, clocks
from ..exceptions import BunceError, ConfigurationError, NotSent, PermitExpired, UnusableResponse
from .connection import Call, PlainConnection, TLSConnection, current_call
from .errors import no_response_error, not_sent_error
from .redaction import redactor
from .request_record import RequestRecord
from .responses import RawResponse

CHUNK = 16 * 1024
ERROR_BODY_BYTES = 64 * 1024
"""How much of an error's body is read: the status is decisive, the body only gives the detail."""

KEPT_HEADERS = ("Date", "Location", "Retry-After")

WIRE_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,  # from the parsers of lengths, headers and URLs in the libraries
)


class Transport:
    """A keep-alive session with one server; usable by many threads at once.

    Args:
        base_url: the URL that all paths are appended to, with or without a trailing slash.
        api_key: the secret key; ``redact`` replaces it in a text that is shown.
        connect_timeout: seconds for each step of connecting.
        read_timeout: seconds to wait for the next byte of the response. The whole request may take
            as long as both timeouts together.
        max_response_bytes: the largest response that is read, after decompression.

    Raises:
        ConfigurationError: the key or the URL cannot be used; the message quotes neither.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        connect_timeout: float,
        read_timeout: float,
        max_response_bytes: int,
    ) -> None:
        self._base, self.address = check_url(base_url)
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._max_response_bytes = max_response_bytes
        self._auth = _KeyAuth(api_key)
        self._session = _Session(self._base, self._auth)
        self.redact = redactor(api_key)

    def perform(
        self, record: RequestRecord, *, query: Mapping[str, str] | None = None, body: Any = None
    ) -> RawResponse:
        """Make the request that ``record`` describes, and fill in the record.

        Args:
            record: the record with method and path.
            query: the query parameters.
            body: the value to send as JSON; ``None`` for no body.

        Raises:
            NotSent, PermitExpired: nothing was sent.
            NoResponse: no complete response came back.
            UnusableResponse: a success that is too large to be read (``too_large``).
        """
        content = None if body is None else json.dumps(body).encode()
        started = clocks.monotonic()
        call = Call(record, connect_timeout=self._connect_timeout, read_timeout=self._read_timeout)
        token = current_call.set(call)
        try:
            outcome = self._attempt(call, query, content)
        finally:
            current_call.reset(token)
            record.duration = clocks.monotonic() - started
        if isinstance(outcome, BunceError):
            # Raised here and not where it occurred: exceptions of requests hold the headers with
            # the key, so neither they nor their frames may be attached to ours.
            raise outcome.with_traceback(None)
        return outcome

    def close(self) -> None:
        """Close the idle connections; requests in progress are not affected."""
        self._session.close()

    def _attempt(
        self, call: Call, query: Mapping[str, str] | None, content: bytes | None
    ) -> RawResponse | BunceError:
        record = call.record
        try:
            response = self._perform(call, query, content)
            if call.held_back:
                response.raw.release_conn()
                return PermitExpired("the permit expired while connecting")
            record.sent = True  # already, unless a library answered in place of our connection
            record.http_status = response.status_code
            try:
                return self._read(response)
            finally:
                response.close()
        except BunceError as error:
            return error
        except WIRE_ERRORS as error:
            if record.sent:
                return no_response_error(error, http_status=record.http_status, redact=self.redact)
            return not_sent_error(error, address=self.address, redact=self.redact)

    def _perform(
        self, call: Call, query: Mapping[str, str] | None, content: bytes | None
    ) -> requests.Response:
        try:
            return self._session.request(
                call.record.method,
                self._base + call.record.path,
                params=query,
                data=content,
                timeout=(self._connect_timeout, self._read_timeout),
                allow_redirects=False,
                stream=True,
            )
        except Exception:
            if call.prepared and not call.handled:
                # A library has replaced requests' adapter, as those that mock or cache responses
                # do. Whether it sent the request is not known.
                call.record.sent = True
            raise

    def _read(self, response: requests.Response) -> RawResponse | BunceError:
        """Return the response with its body; the caller closes it, which drops unread bytes."""
        status = response.status_code
        success = 200 <= status < 300
        limit = self._max_response_bytes if success else ERROR_BODY_BYTES
        pieces: list[bytes] = []
        size = 0
        try:
            for piece in response.iter_content(CHUNK):
                size += len(piece)
                if size > limit:
                    break
                pieces.append(piece)
        except WIRE_ERRORS:
            if success:
                raise
            pieces.clear()  # the status is known, only the detail is lost
        if size > limit and success:
            return UnusableResponse(
                f"the response is larger than {limit} bytes", code="too_large", http_status=status
            )
        headers = response.headers
        kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
        return RawResponse(status, kept, b"".join(pieces))


class _KeyAuth(AuthBase):
    """The API key as authentication, which also stops requests from reading ``.netrc``."""

    __slots__ = ("_key",)

    def __init__(self, api_key: str) -> None:
        if not api_key:
            raise ConfigurationError("There is no API key.")
        if not all("!" <= character <= "~" for character in api_key):
            raise ConfigurationError(
                "The API key contains a space, a line break or a non-ASCII character."
            )
        self._key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Authorization"] = self._key
        return request


class _Session(requests.Session):
    """A session with one server that follows no redirects and stores no cookies."""

    def __init__(self, base_url: str, auth: _KeyAuth) -> None:
        super().__init__()
        self.auth = auth
        # The certificates and the proxy from the environment, looked up once: requests would
        # search the environment for each request, which takes a fifth of its time.
        found = self.merge_environment_settings(base_url, {}, None, None, None)
        self.verify = found["verify"]
        proxy = proxy_for(base_url)
        self.proxies = {urlsplit(base_url).scheme: proxy} if proxy else {}
        self.trust_env = False
        self.headers.update(
            {
                "User-Agent": f"django-bunce-sync/{__version__} (+requests/{requests.__version__})",
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "Content-Type": "application/json",
            }
        )
        self.mount("https://", _Adapter())
        self.mount("http://", _Adapter())
        self.cookies = _NoCookies()

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request as requests does, and note that it is ready to be sent."""
        current_call.get().prepared = True
        return super().send(request, **kwargs)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Ignore redirects: requests would read the whole body to prepare the next request."""


class _NoCookies(RequestsCookieJar):
    """A cookie jar that stays empty."""

    def set_cookie(self, cookie: Any, *args: Any, **kwargs: Any) -> None:
        """Drop the cookie: a request must not depend on earlier ones."""


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = PlainConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = TLSConnection


class _Adapter(HTTPAdapter):
    """An adapter whose connection pools, including those for a proxy, use our connections."""

    def __init__(self) -> None:
        super().__init__(pool_connections=2, pool_maxsize=64, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _use_our_pools(self.poolmanager)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of our connections; requests' adapter calls this before it sends."""
        current_call.get().handled = True
        return super().get_connection_with_tls_context(*args, **kwargs)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.ProxyManager:
        if proxy.lower().startswith("socks"):
            # Their connections cannot report whether a request was sent.
            raise NotSent("SOCKS proxies are not supported; use an HTTP proxy in HTTPS_PROXY")
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **kwargs)
        _use_our_pools(manager)
        return manager


def _use_our_pools(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TLSPool}


def proxy_for(base_url: str) -> str:
    """Return the URL of the proxy that requests to a server go through; empty if there is none.

    It comes from ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, as for requests,
    except that a server on this machine is never reached through a proxy.
    """
    if is_loopback(urlsplit(base_url).hostname or ""):
        return ""
    return select_proxy(base_url, get_environ_proxies(base_url, no_proxy=None)) or ""


def is_loopback(host: str) -> bool:
    """Return whether a name or address means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(base_url: str) -> tuple[str, str]:
    """Return the URL without a trailing slash, and its host and port.

    Raises:
        ConfigurationError: it cannot be used.
    """
    try:
        parts = urlsplit(base_url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        (parts.hostname or "").encode("idna")
        requests.Request("GET", base_url).prepare()
    except (ValueError, KeyError, requests.RequestException):  # UnicodeError is a ValueError
        raise ConfigurationError("BASE_URL is not an HTTP or HTTPS URL.") from None
    if parts.username or parts.password:
        raise ConfigurationError("BASE_URL must not contain a user name or password.")
    if not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError("BASE_URL needs a host, and must not have a query or fragment.")
    return base_url.rstrip("/"), f"{parts.hostname}:{port}"

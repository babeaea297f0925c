"""One HTTP request over ``requests``: made once, bounded in time and size, never repeated."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.cookies import RequestsCookieJar
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .. import __version__
from ..exceptions import BunceError, ConfigurationError, NotSent, PermitExpired, UnusableResponse
from .connection import Call, PlainConnection, TLSConnection, current_call
from .errors import no_answer, not_sent
from .request_record import RequestRecord
from .text import redactor

CHUNK = 16 * 1024
REFUSAL_BYTES = 64 * 1024
"""How much of an error's body is read: its status has said what happened, the rest is a remark."""

TOLD_HEADERS = ("Date", "Location", "Retry-After")

WIRE_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,  # from parsers below us that met rubbish: of a length, a header, an address
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as far as it is of interest.

    It is raw: whatever of it is shown must be redacted first, and its repr shows the status only.

    Attributes:
        status: the HTTP status.
        headers: those of ``TOLD_HEADERS`` that there were.
        body: the decompressed body; of an error at most ``REFUSAL_BYTES``.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Transport:
    """A keep-alive session with one server; usable by many threads at once.

    Args:
        base_url: the address all paths hang on, with or without a slash at its end.
        api_key: the secret key; ``redact`` replaces it in a text that is shown.
        connect_timeout: seconds for each step of connecting.
        read_timeout: seconds for the next byte of the answer; the whole may take both together.
        max_answer_bytes: the largest answer that is read, after decompression.

    Raises:
        ConfigurationError: the key or the address cannot be used; neither is quoted.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        connect_timeout: float,
        read_timeout: float,
        max_answer_bytes: int,
    ) -> None:
        self._base, self.address = _checked_address(base_url)
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._max_answer_bytes = max_answer_bytes
        self._auth = _KeyAuth(api_key)
        self._session = _Session(self._base, self._auth)
        self.redact = redactor(api_key)

    def perform(
        self, record: RequestRecord, *, query: Mapping[str, str] | None = None, body: Any = None
    ) -> Answer:
        """Make the request that ``record`` names and fill it in.

        Args:
            record: begun, so it has method and path.
            query: the parameters behind the question mark.
            body: what is sent as JSON; ``None`` for no body.

        Raises:
            NotSent, PermitExpired: nothing left.
            NoResponse: no whole answer came.
            UnusableResponse: a success too large to be read (``too_large``).
        """
        content = None if body is None else json.dumps(body).encode()
        started = time.monotonic()
        call = Call(record, connect_timeout=self._connect_timeout, read_timeout=self._read_timeout)
        token = current_call.set(call)
        try:
            outcome = self._attempt(call, query, content)
        finally:
            current_call.reset(token)
            record.duration = time.monotonic() - started
        if isinstance(outcome, BunceError):
            # Raised here and not where it was met: exceptions of requests hold the headers, and
            # so the key, and neither they nor their frames shall hang on ours.
            raise outcome.with_traceback(None)
        return outcome

    def close(self) -> None:
        """Close the idle connections; requests under way end undisturbed."""
        self._session.close()

    def _attempt(
        self, call: Call, query: Mapping[str, str] | None, content: bytes | None
    ) -> Answer | BunceError:
        record = call.record
        try:
            response = self._session.request(
                record.method,
                self._base + record.path,
                params=query,
                data=content,
                timeout=(self._connect_timeout, self._read_timeout),
                allow_redirects=False,
                stream=True,
            )
            if call.held_back:
                response.raw.release_conn()
                return PermitExpired("the connection took longer than the permit was good for")
            record.http_status = response.status_code
            try:
                return self._read(response)
            finally:
                response.close()
        except BunceError as error:
            return error
        except WIRE_ERRORS as error:
            if record.sent:
                return no_answer(error, http_status=record.http_status, redact=self.redact)
            return not_sent(error, address=self.address, redact=self.redact)

    def _read(self, response: requests.Response) -> Answer | BunceError:
        """The answer with its body; closing an unread rest is the caller's."""
        status = response.status_code
        success = 200 <= status < 300
        limit = self._max_answer_bytes if success else REFUSAL_BYTES
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
            pieces.clear()  # the status stands, only its remark is lost
        if size > limit and success:
            return UnusableResponse(
                f"the answer is larger than {limit} bytes", code="too_large", http_status=status
            )
        headers = response.headers
        told = {name: headers[name] for name in TOLD_HEADERS if name in headers}
        return Answer(status, told, b"".join(pieces))


class _KeyAuth(AuthBase):
    """Adds the API key to each request. Setting it also stops requests from reading ``.netrc``."""

    __slots__ = ("_key",)

    def __init__(self, api_key: str) -> None:
        if not api_key:
            raise ConfigurationError("There is no API key.")
        if not all("!" <= character <= "~" for character in api_key):
            raise ConfigurationError(
                "The API key has a space, a line break or another character no key can have."
            )
        self._key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Authorization"] = self._key
        return request


class _Session(requests.Session):
    """A session with one server that follows nothing and keeps nothing of an answer."""

    def __init__(self, base_url: str, auth: _KeyAuth) -> None:
        super().__init__()
        self.auth = auth
        # The environment's proxy and certificates, looked up once: requests would search the
        # whole environment for each request, a fifth of its work.
        found = self.merge_environment_settings(base_url, {}, None, None, None)
        self.proxies, self.verify = found["proxies"], found["verify"]
        self.trust_env = False
        self.headers.update(
            {
                "User-Agent": f"bunce-sync/{__version__} (+requests/{requests.__version__})",
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "Content-Type": "application/json",
            }
        )
        self.mount("https://", _Adapter())
        self.mount("http://", _Adapter())
        self.cookies = _NoCookies()

    def get_redirect_target(self, resp: requests.Response) -> None:
        """No redirect is looked into: requests would read the whole body to prepare it."""


class _NoCookies(RequestsCookieJar):
    """A jar that stays empty."""

    def set_cookie(self, cookie: Any, *args: Any, **kwargs: Any) -> None:
        """Drop the cookie: requests must not depend on what came before."""


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = PlainConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = TLSConnection


class _Adapter(HTTPAdapter):
    """Builds every pool, also a proxy's, out of our connections."""

    def __init__(self) -> None:
        super().__init__(pool_connections=2, pool_maxsize=64, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.ProxyManager:
        if proxy.lower().startswith("socks"):
            # Its connections could not tell whether a request was sent.
            raise NotSent("SOCKS proxies are not supported; HTTPS_PROXY may name an HTTP proxy")
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **kwargs)
        _use_our_pools(manager)
        return manager


def _use_our_pools(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TLSPool}


def _checked_address(base_url: str) -> tuple[str, str]:
    """The base address without a slash at its end, and its host and port."""
    try:
        parts = urlsplit(base_url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        (parts.hostname or "").encode("idna")
        requests.Request("GET", base_url).prepare()
    except (ValueError, KeyError, requests.RequestException):
        raise ConfigurationError("The address of Bunce is not an http(s) address.") from None
    if parts.username or parts.password:
        raise ConfigurationError("The address of Bunce must not contain a name or password.")
    if not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError("The address of Bunce needs a host, and nothing behind the path.")
    return base_url.rstrip("/"), f"{parts.hostname}:{port}"

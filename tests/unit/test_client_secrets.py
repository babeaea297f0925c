"""What is not followed, not kept and not told: redirects, cookies, foreign passwords, the key."""

from __future__ import annotations

import logging
import pickle
import traceback
from http.client import HTTPConnection
from pathlib import Path

import pytest

from bunce_sync.client import BunceClient
from bunce_sync.exceptions import (
    BunceError,
    ConfigurationError,
    NoAnswer,
    NotSent,
    PermitExpired,
    RateLimited,
)

from .client_attempts import KEY, HaltedExchange, create
from .raw_server import CREATED, Peer, RawServer, Script, answering, http


def test_redirect_is_not_followed_and_told_without_its_secrets() -> None:
    with RawServer(answering(CREATED)) as other:
        target = f"http://me:hidden@127.0.0.1:{other.port}/v2/segments?token=hidden"
        with RawServer(answering(http(307, "", f"Location: {target}"))) as server:
            error, _ = create(server.url)
        assert error.detail == "redirects to http://127.0.0.1/v2/segments"
        assert other.connections == 0


def test_cookies_are_not_kept() -> None:
    created = CREATED.replace(b"\r\n\r\n", b"\r\nSet-Cookie: session=1; Path=/\r\n\r\n", 1)
    with (
        RawServer(answering(created)) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        client.create_segment(name="Gold")
        client.create_segment(name="Gold")
        assert b"ookie" not in server.requests[1]


def test_credentials_of_a_netrc_file_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hidden\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with (
        RawServer(answering(CREATED)) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        client.create_segment(name="Gold")
        assert b"\r\nAuthorization" not in server.requests[0]
        assert b"User-Agent: bunce-sync/" in server.requests[0]


def after_request(answer: bytes) -> Script:
    """Send this after the first request, and close."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer)

    return script


ECHO = {"message": f"The key {KEY} is not yours", "errors": {KEY: [KEY]}}
TROUBLES: dict[str, Script] = {
    "refuse": answering(http(401, ECHO)),
    "say no": answering(http(200, {"success": False, **ECHO})),
    "redirect": answering(http(302, "", f"Location: https://127.0.0.1/{KEY}")),
    "text": answering(http(500, f"no {KEY}")),
    "page": answering(http(200, f"<title>{KEY}</title>")),
    "limit": answering(http(429, ECHO)),
    "shape": answering(http(200, {"data": KEY})),
    "hang": lambda peer: peer.request() and peer.server.over.wait(),
    "close": lambda peer: peer.request(),
    "cut": after_request(http(200, KEY, length=99)),
    "not HTTP": after_request(KEY.encode() * 9 + b"\r\n\r\n"),
}


def everything_about(error: BaseException) -> str:
    """All that a log, a debug page or an error tracker could show."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert error.__cause__ is None
    assert error.__context__ is None
    return "".join([str(error), repr(error), repr(vars(error)), *shown.format()])


@pytest.mark.parametrize("trouble", TROUBLES)
def test_key_is_nowhere_in_an_error(trouble: str) -> None:
    with RawServer(TROUBLES[trouble]) as server:
        client = BunceClient(base_url=server.url, api_key=KEY, read_timeout=0.3)
        with client, pytest.raises(BunceError) as caught:
            client.create_segment(name="Gold")
    assert KEY not in everything_about(caught.value)
    assert KEY.encode() not in pickle.dumps(caught.value)


def test_key_is_nowhere_in_an_error_of_connecting() -> None:
    client = BunceClient(base_url="http://127.0.0.1:1/v1", api_key=KEY)
    with client, pytest.raises(NotSent) as caught:
        client.create_segment(name="Gold")
    assert KEY not in everything_about(caught.value)
    assert KEY not in repr(client)
    assert KEY not in str(client)


def test_key_is_nowhere_in_an_error_met_deep_in_the_transport() -> None:
    """Frames of requests and urllib3 have the headers at hand."""
    with RawServer(answering(CREATED)) as server:
        client = BunceClient(base_url=server.url, api_key=KEY)
        with client, pytest.raises(PermitExpired) as caught:
            client.create_segment(name="Gold", exchange=HaltedExchange())
    assert KEY not in everything_about(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        NotSent("a", code="dns"),
        NoAnswer("b", code="cut", http_status=201),
        RateLimited("c", http_status=429, retry_after=7.0),
    ],
)
def test_errors_survive_pickling_whole(error: BunceError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error) == f"{error.code}: {error.detail}"


def test_log_has_one_line_a_request_without_key_or_body(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bunce_sync.client")
    caplog.set_level(logging.DEBUG, "urllib3")
    with RawServer(answering(http(422, {"message": "taken"}))) as server:
        create(server.url)
    [line] = [one.getMessage() for one in caplog.records if one.name == "bunce_sync.client"]
    assert line.startswith("POST /segments: 422 conflict, ")
    assert KEY not in caplog.text
    assert "Gold" not in caplog.text


def test_key_is_not_printed_by_the_debug_switch_of_http_client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(HTTPConnection, "debuglevel", 1)
    with RawServer(answering(CREATED)) as server:
        create(server.url)
    assert KEY not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("base_url", "api_key"),
    [
        ("https://127.0.0.1/v1", ""),
        ("https://127.0.0.1/v1", KEY + "\n"),
        ("https://127.0.0.1/v1", "kéy"),
        ("", KEY),
        ("127.0.0.1/v1", KEY),
        ("ftp://127.0.0.1/v1", KEY),
        ("https:///v1", KEY),
        ("https://127.0.0.1:99999/v1", KEY),
        ("https://me:hidden@127.0.0.1/v1", KEY),
        ("https://127.0.0.1/v1?a=b", KEY),
        ("https://127.0.0.1/v1#a", KEY),
        ("https://" + "a" * 70 + ".example/v1", KEY),
        ("https://[::1/v1", KEY),
    ],
)
def test_unusable_settings_are_refused_without_being_quoted(base_url: str, api_key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BunceClient(base_url=base_url, api_key=api_key)
    assert "hidden" not in str(caught.value)
    assert not api_key or api_key not in str(caught.value)

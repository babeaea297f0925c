"""Redirects, cookies and .netrc are ignored, and the API key is never shown."""

from __future__ import annotations

import html
import json
import logging
import pickle
import re
import time
import traceback
from base64 import b64encode
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest

from bunce_sync import exceptions
from bunce_sync.client import BunceClient, Position, shared_client
from bunce_sync.client import client as client_module
from bunce_sync.client.redaction import one_line, redactor
from bunce_sync.client.responses import RawResponse, read_json
from bunce_sync.exceptions import (
    BunceError,
    ConfigurationError,
    Forbidden,
    KeyRefused,
    NoContent,
    NoResponse,
    NotSent,
    PermitExpired,
    RateLimited,
    Unavailable,
)

from .client_attempts import KEY, HaltedRecord, create
from .raw_server import CREATED, SEGMENT, Peer, RawServer, Script, http, responding


def test_redirect_is_not_followed_and_is_shown_without_its_secrets() -> None:
    with RawServer(responding(CREATED)) as other:
        target = f"http://me:hidden@127.0.0.1:{other.port}/v2/segments?token=hidden"
        with RawServer(responding(http(307, "", f"Location: {target}"))) as server:
            error, _ = create(server.url)
        assert error.detail == "redirects to http://127.0.0.1/v2/segments"
        assert other.connections == 0


def test_cookies_are_not_kept() -> None:
    created = CREATED.replace(b"\r\n\r\n", b"\r\nSet-Cookie: session=1; Path=/\r\n\r\n", 1)
    with (
        RawServer(responding(created)) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        client.create_segment({"name": "Gold"})
        client.create_segment({"name": "Gold"})
        assert b"ookie" not in server.requests[1]


def test_credentials_of_a_netrc_file_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hidden\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with (
        RawServer(responding(CREATED)) as server,
        BunceClient(base_url=server.url, api_key=KEY) as client,
    ):
        client.create_segment({"name": "Gold"})
        assert b"\r\nAuthorization" not in server.requests[0]
        assert b"User-Agent: django-bunce-sync/" in server.requests[0]


def after_request(answer: bytes) -> Script:
    """Return a script that sends this after the first request, and closes."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer)

    return script


ECHO = {"message": f"The key {KEY} is not yours", "errors": {KEY: [KEY]}}
FAILURES: dict[str, Script] = {
    "refuse": responding(http(401, ECHO)),
    "say no": responding(http(200, {"success": False, **ECHO})),
    "redirect": responding(http(302, "", f"Location: https://127.0.0.1/{KEY}")),
    "text": responding(http(500, f"no {KEY}")),
    "page": responding(http(200, f"<title>{KEY}</title>")),
    "limit": responding(http(429, ECHO)),
    "forbid": responding(http(403, f"<title>{KEY}</title>")),
    "pause": responding(http(503, ECHO, f"Retry-After: {KEY}", f"Date: {KEY}")),
    "shape": responding(http(200, {"data": KEY})),
    "id": responding(http(200, {"data": {"id": f"{KEY} ", "name": KEY}})),
    "nothing": responding(http(200, {"message": KEY, "data": None})),
    "another": responding(http(200, {"data": {"id": KEY, "name": KEY}})),
    "rows": responding(http(200, {"data": [{"id": KEY, "name": KEY}, KEY]})),
    "cursor": responding(http(200, {"data": [], "meta": {"next_page_cursor": [KEY]}})),
    "header": responding(http(400, ECHO, f"X-Key: {KEY}", KEY, f"X-Key: {KEY}")),
    "reason": responding(http(400, ECHO).replace(b"Because", KEY.encode())),
    "hang": lambda peer: peer.request() and peer.server.over.wait(),
    "close": lambda peer: peer.request(),
    "cut": after_request(http(200, KEY, length=99)),
    "not HTTP": after_request(KEY.encode() * 9 + b"\r\n\r\n"),
}


def everything_about(error: BaseException) -> str:
    """Return all that a log, a debug page or an error tracker could show."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert error.__cause__ is None
    assert error.__context__ is None
    return "".join([str(error), repr(error), repr(vars(error)), *shown.format()])


CALLS: dict[str, Callable[[BunceClient], object]] = {
    "create": lambda client: client.create_segment({"name": "Gold"}),
    "update": lambda client: client.update_segment("abc", {"name": "Gold", "description": None}),
    "get": lambda client: client.get_segment("abc"),
    "list": lambda client: client.list_page(),
    "walk": lambda client: list(client.list_segments()),
}


@pytest.mark.parametrize("own", [True, False], ids=["own key", "foreign key"])
@pytest.mark.parametrize(
    ("failure", "call"),
    [
        (failure, call)
        for failure in FAILURES
        for call in CALLS
        if (failure, call) != ("another", "create") and (failure != "hang" or call == "create")
    ],
)
def test_key_is_nowhere_in_an_error(
    failure: str, call: str, own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with RawServer(FAILURES[failure]) as server:
        client = BunceClient(base_url=server.url, api_key=KEY if own else "0", read_timeout=0.3)
        with client, pytest.raises(BunceError) as caught:
            CALLS[call](client)
    assert KEY not in everything_about(caught.value)
    assert KEY.encode() not in pickle.dumps(caught.value)
    assert KEY not in caplog.text


ODD_KEYS = ["test", "page", "pass/word+1", "a&b<c>", 'quo"te\\d', "sk_test_ab-cd"]


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("call", CALLS)
def test_the_configured_key_is_nowhere_in_an_error_in_any_spelling(key: str, call: str) -> None:
    responses = [
        http(400, {"message": f"no {key}", "errors": {key: [f"no {key}"]}}),
        http(400, f"no {key}"),
        http(200, {"success": False, "message": f"no {key}"}),
        http(400, '{"message": ' + json.dumps(f"no {key}").replace("/", "\\/")),  # broken off
        http(200, f"<title>no {html.escape(key)}</title>"),
        http(
            302, "", f"Location: https://{quote(key, safe='')}/{quote(key)}/{quote(key, safe='')}"
        ),
        http(302, "", f"Location: /{key}"),
    ]
    written = {key, quote(key), quote(key, safe=""), html.escape(key), json.dumps(key)[1:-1]}
    written.add(json.dumps(key)[1:-1].replace("/", "\\/"))
    for answer in responses:
        with RawServer(responding(answer)) as server:
            client = BunceClient(base_url=server.url, api_key=key)
            with client, pytest.raises(BunceError) as caught:
                CALLS[call](client)
        detail = caught.value.detail
        assert "[key]" in detail
        said = detail.replace("an HTML page instead of JSON", "").replace("[key]", "")
        assert not any(one in said for one in written), detail


def test_our_own_text_is_not_redacted_which_would_reveal_the_key() -> None:
    outcome, _ = create_with("page", http(403, "<title>page</title>"))
    assert outcome.detail == "an HTML page instead of JSON ([key])"


def create_with(key: str, answer: bytes) -> tuple[BunceError, bytes]:
    """Return the error of a create with this key, and what was sent."""
    with RawServer(responding(answer)) as server:
        client = BunceClient(base_url=server.url, api_key=key)
        with client, pytest.raises(BunceError) as caught:
            client.create_segment({"name": "Gold"})
        return caught.value, server.requests[0]


@pytest.mark.parametrize("before", range(60, 101, 5))
@pytest.mark.parametrize("body", ["{} {}", "<title>{} {}</title>"])
def test_no_part_of_a_truncated_key_is_shown(body: str, before: int) -> None:
    key = "0123456789" * 4 + "x"
    error, _ = create_with(key, http(500, body.format("x" * before, key)))
    assert "0123" not in error.detail
    error, _ = create_with(key, http(500, {"message": body.format("x" * (before + 200), key)}))
    assert "0123" not in error.detail
    error, _ = create_with(key, http(500, key * 50))
    assert "0123" not in error.detail


def test_key_with_characters_that_are_not_shown_between_is_redacted() -> None:
    error, _ = create_with("secret", http(500, b"s\0ecr\0et"))
    assert error.detail == "not JSON: [key]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sk_live_1a and sk_test_2b", "[key] and [key]"),
        ("/login%3Fkey%3Dsk_live_1a", "/login%3Fkey%3D[key]"),
        ("_sk_test_2b", "_[key]"),
        ("task_test_1 and disk_live_2", "task_test_1 and disk_live_2"),
        ("the SECRET and the secret", "the [key] and the [key]"),
        ("secretsecret", "[key][key]"),
        ("sk_test_secret", "[key]"),
    ],
)
def test_keys_are_found_by_pattern_and_by_name(text: str, shown: str) -> None:
    assert one_line(text, 300, redactor("secret")) == shown


def spelled(form: str, text: str) -> str:
    return "".join(form.format(ord(one), one) for one in text)


#: Spellings of a key in an answer that is not JSON.
ESCAPED = {
    "JSON": spelled("\\u{:04x}", KEY),
    "JSON, capitals": spelled("\\u{:04X}", KEY),
    "JSON in JSON": spelled("\\\\u{:04x}", KEY),
    "mixed": spelled("\\u{:04x}", KEY[:9]) + KEY[9:12] + spelled("%{:02X}", KEY[12:]),
    "string literal": spelled("\\x{:02x}", KEY),
    "backslashes": spelled("\\{1}", KEY[:8]) + KEY[8:],
    "URL": spelled("%{:02X}", KEY),
    "URL in URL": spelled("%25{:02x}", KEY),
    "HTML": spelled("&#{};", KEY),
    "HTML, hexadecimal": spelled("&#x{:X};", KEY),
    "HTML in HTML": spelled("&amp;#{};", KEY),
}
#: More, of the key that the client has.
ENCODED = {
    "line break": f"{KEY[:12]}\r\n\t{KEY[12:]}",
    "escaped line break": f"{KEY[:12]}\\n{KEY[12:]}",
    **{f"Base64 at {n}": b64encode(b"a" * n + KEY.encode()).decode() for n in range(3)},
    "Basic authentication": b64encode(f"{KEY}:".encode()).decode(),
}


@pytest.mark.parametrize("written", ESCAPED.values(), ids=ESCAPED)
def test_any_key_is_found_however_it_is_escaped(written: str) -> None:
    for redact in (redactor(KEY), redactor()):
        assert one_line(f"said {written}, today", 300, redact) == "said [key], today"


@pytest.mark.parametrize("written", ENCODED.values(), ids=ENCODED)
def test_the_own_key_is_found_where_it_is_encoded_or_broken(written: str) -> None:
    shown = one_line(f"said {written}, today", 300, redactor(KEY))
    assert re.fullmatch(r"said \w{0,3}\[key\][\w=]{0,4}, today", shown), shown


@pytest.mark.parametrize("text", ["s k _ t e s t", "a\\" * 30_000, "%" * 60_000, "&#0" * 20_000])
def test_other_text_is_kept_and_takes_no_time(text: str) -> None:
    started = time.perf_counter()
    assert redactor(KEY)(text) == text
    assert time.perf_counter() - started < 2


# Content that is compared stays unchanged


TESTERS = {**SEGMENT, "name": "best testers", "description": "test"}


def test_key_that_is_a_part_of_a_name_changes_no_name() -> None:
    responses = [{"data": TESTERS}, {"data": TESTERS}, {"data": [TESTERS], "has_next_page": False}]
    with (
        RawServer(responding(*(http(200, one) for one in responses))) as server,
        BunceClient(base_url=server.url, api_key="test") as client,
    ):
        created = client.create_segment({"name": "best testers", "description": "test"})
        updated = client.update_segment(created.id, {"name": "best testers", "description": "test"})
        [listed] = client.list_page().segments
    assert created == updated == listed
    assert (listed.name, listed.description) == ("best testers", "test")
    assert all(b"\r\nX-Authorization: test\r\n" in one for one in server.requests)


def test_key_that_is_a_part_of_everything_changes_nothing_that_is_read() -> None:
    """The key "0" is in the id, the time, the cursor, and in how long to wait."""
    with (
        RawServer(
            responding(
                http(200, {"data": SEGMENT}),
                http(200, {"data": [SEGMENT], "meta": {"next_page_cursor": "10"}}),
                http(429, "", "Retry-After: 30"),
                http(
                    503,
                    "",
                    "Retry-After: Thu, 05 Dec 2024 08:30:30 GMT",
                    "Date: Thu, 05 Dec 2024 08:30:00 GMT",
                ),
            )
        ) as server,
        BunceClient(base_url=server.url, api_key="0") as client,
    ):
        segment = client.get_segment(str(SEGMENT["id"]))
        assert segment.created_at is not None
        page = client.list_page()
        assert page.segments == (segment,)
        assert page.next is not None
        assert page.next.cursor == "10"
        for kind in (RateLimited, Unavailable):
            with pytest.raises(kind) as caught:
                client.list_page()
            assert caught.value.retry_after == 30.0


def test_no_repr_shows_the_response() -> None:
    response = RawResponse(200, {"Location": f"/{KEY}"}, f'{{"data": "{KEY}"}}'.encode())
    assert repr(response) == "RawResponse(status=200)"
    assert read_json(response) == {"data": KEY}
    assert KEY not in repr(Position(2, KEY))
    shared_client(base_url="http://127.0.0.1:1/v1", api_key=KEY)
    assert KEY not in repr(client_module._shared)


def test_key_is_nowhere_in_an_error_of_connecting() -> None:
    client = BunceClient(base_url="http://127.0.0.1:1/v1", api_key=KEY)
    with client, pytest.raises(NotSent) as caught:
        client.create_segment({"name": "Gold"})
    assert KEY not in everything_about(caught.value)
    assert KEY not in repr(client)
    assert KEY not in str(client)


def test_text_of_a_proxy_is_redacted_and_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(f"HTTP/1.1 407 No \x1b[31m hidden sk_live_1 {'x' * 200}\r\n\r\n".encode())

    with RawServer(script) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        client = BunceClient(base_url="https://bunce.example/v1", api_key="hidden")
        with client, pytest.raises(NotSent) as caught:
            client.create_segment({"name": "Gold"})
    assert "407 No [31m [key] [key] xxx" in caught.value.detail
    assert len(caught.value.detail) < 200


def test_key_is_nowhere_in_an_error_raised_deep_in_the_transport() -> None:
    """Frames of requests and urllib3 hold the headers."""
    with RawServer(responding(CREATED)) as server:
        client = BunceClient(base_url=server.url, api_key=KEY)
        with client, pytest.raises(PermitExpired) as caught:
            client.create_segment({"name": "Gold"}, record=HaltedRecord())
    assert KEY not in everything_about(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        NotSent("a", code="dns"),
        NoResponse("b", code="cut", http_status=201),
        RateLimited("c", http_status=429, retry_after=7.0),
        Unavailable("d", http_status=503, retry_after=7.0),
        Forbidden("e", http_status=403),
        NoContent("f", http_status=204),
    ],
)
def test_errors_survive_pickling_whole(error: BunceError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error) == f"{error.code}: {error.detail}"


def test_an_error_without_detail_explains_itself() -> None:
    assert str(KeyRefused()) == "key_refused: " + str(KeyRefused.explanation())
    assert str(ConfigurationError()).startswith("The settings do not allow requests")
    assert str(ConfigurationError("Set the key.")) == "Set the key."


def test_each_error_has_its_own_code_and_survives_pickling() -> None:
    kinds = [
        kind
        for kind in vars(exceptions).values()
        if isinstance(kind, type) and issubclass(kind, BunceError)
    ]
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        error = kind("a", http_status=500, retry_after=1.0)
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
        assert (type(copy), vars(copy)) == (kind, vars(error))


def test_log_has_one_line_per_request_without_key_or_body(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bunce_sync.client")
    caplog.set_level(logging.DEBUG, "urllib3")
    with RawServer(responding(http(422, {"message": "taken"}))) as server:
        create(server.url)
    [line] = [one.getMessage() for one in caplog.records if one.name == "bunce_sync.client"]
    assert line.startswith("POST /segments: 422 conflict, ")
    assert KEY not in caplog.text
    assert "Gold" not in caplog.text


def test_key_is_not_printed_by_the_debug_switch_of_http_client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(HTTPConnection, "debuglevel", 1)
    with RawServer(responding(CREATED)) as server:
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

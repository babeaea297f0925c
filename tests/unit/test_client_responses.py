"""What a response means: the status decides, and a success must not contradict itself."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from bunce_sync.client import RemoteSegment
from bunce_sync.client.responses import LONGEST_PAUSE, parse_retry_after
from bunce_sync.exceptions import (
    BunceError,
    Conflict,
    Forbidden,
    KeyRefused,
    NoContent,
    NotFound,
    RateLimited,
    Rejected,
    ServerError,
    Unavailable,
    UnusableResponse,
)

from .client_attempts import create
from .raw_server import SEGMENT, Peer, RawServer, Script, http, responding

MIB = 1024 * 1024


def outcome_of(answer: bytes | Script, **options: Any) -> RemoteSegment | BunceError:
    """Return the result of a create with this response of the server."""
    script = responding(answer) if isinstance(answer, bytes) else answer
    with RawServer(script) as server:
        outcome, record = create(server.url, **options)
    assert record.sent
    assert not isinstance(outcome, BunceError) or outcome.http_status == record.http_status
    assert isinstance(outcome, RemoteSegment | BunceError)
    return outcome


def error_of(answer: bytes | Script, **options: Any) -> BunceError:
    outcome = outcome_of(answer, **options)
    assert isinstance(outcome, BunceError)
    return outcome


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (101, UnusableResponse, "unexpected_status"),
        (300, UnusableResponse, "redirect"),
        (302, UnusableResponse, "redirect"),
        (304, UnusableResponse, "redirect"),
        (308, UnusableResponse, "redirect"),
        (400, Rejected, "rejected"),
        (401, KeyRefused, "key_refused"),
        (402, Forbidden, "forbidden"),
        (403, Forbidden, "forbidden"),
        (404, NotFound, "not_found"),
        (405, Forbidden, "forbidden"),
        (406, Rejected, "rejected"),
        (407, Forbidden, "forbidden"),
        (408, ServerError, "server_error"),
        (409, Conflict, "conflict"),
        (410, NotFound, "not_found"),
        (413, Rejected, "rejected"),
        (422, Conflict, "conflict"),
        (425, RateLimited, "rate_limited"),
        (429, RateLimited, "rate_limited"),
        (451, Forbidden, "forbidden"),
        (500, ServerError, "server_error"),
        (502, ServerError, "server_error"),
        (503, ServerError, "server_error"),
        (599, ServerError, "server_error"),
        (600, UnusableResponse, "unexpected_status"),
        (999, UnusableResponse, "unexpected_status"),
    ],
)
def test_status_decides(status: int, kind: type[BunceError], code: str) -> None:
    error = error_of(http(status, {"success": True, "message": "Because", "data": SEGMENT}))
    assert type(error) is kind
    assert (error.code, error.http_status) == (code, status)


def test_refusals_that_concern_one_request_are_rejections() -> None:
    """Code that handles ``Rejected`` handles these as well, but not a refused key."""
    assert issubclass(Forbidden, Rejected)
    assert issubclass(NotFound, Rejected)
    assert issubclass(Unavailable, ServerError)
    assert issubclass(NoContent, UnusableResponse)
    assert not issubclass(KeyRefused, Rejected)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (
            "<!doctype html><html><head><title>Attention Required! | Cloudflare</title></head>",
            "an HTML page instead of JSON (Attention Required! | Cloudflare)",
        ),
        (
            {"success": False, "message": "You have reached the limit of your plan"},
            "You have reached the limit of your plan",
        ),
    ],
)
def test_403_is_about_this_request_and_says_why(body: object, detail: str) -> None:
    error = error_of(http(403, body))
    assert (type(error), error.code, error.detail) == (Forbidden, "forbidden", detail)


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_any_success_with_a_usable_id_is_a_success(status: int) -> None:
    segment = outcome_of(http(status, {"success": True, "data": SEGMENT}))
    assert isinstance(segment, RemoteSegment)
    assert segment.created_at == datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
    assert (segment.id, segment.name, segment.type) == (SEGMENT["id"], "Gold", "manual")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<!doctype html><title>Sign in</title>", "not_json"),
        (b'{"data": {"id": "abc"', "not_json"),
        (b'{"data": "\xff\xfe"}', "not_json"),
        (b"[" * 200_000, "not_json"),
        (b"[]", "wrong_shape"),
        (b'"created"', "wrong_shape"),
        (b"true", "wrong_shape"),
        (b'{"data": ""}', "wrong_shape"),
        (b'{"data": false}', "wrong_shape"),
        (b'{"data": 0}', "wrong_shape"),
        (b'{"data": "created"}', "wrong_shape"),
        (json.dumps({"data": [SEGMENT]}).encode(), "wrong_shape"),
        (json.dumps([SEGMENT]).encode(), "wrong_shape"),
        (json.dumps({"segment": SEGMENT}).encode(), "wrong_shape"),
        (json.dumps({"data": {"data": [SEGMENT]}}).encode(), "no_id"),
        (json.dumps({"data": {"segments": SEGMENT}}).encode(), "no_id"),
        (json.dumps({"data": {"data": {"data": SEGMENT}}}).encode(), "no_id"),
        (json.dumps({"data": {"success": False, "data": SEGMENT}}).encode(), "no_id"),
        (json.dumps({"data": {"status": "error", "segment": SEGMENT}}).encode(), "no_id"),
        (b'{"id": "abc"}', "wrong_shape"),
        (b'{"id": "abc", "name": null}', "wrong_shape"),
        (b'{"id": "a b", "name": "Gold"}', "wrong_shape"),
        (b'{"name": "Gold"}', "wrong_shape"),
        (b'{"error": "Sign in first"}', "wrong_shape"),
        (b'{"data": null, "errors": ["no"]}', "wrong_shape"),
        (b'{"data": {"data": null}}', "no_id"),
        (b'{"data": {"data": {"id": ""}}}', "no_id"),
        (b'{"data": {"id": null}}', "no_id"),
        (b'{"data": {"id": ""}}', "no_id"),
        (b'{"data": {"id": "a b"}}', "no_id"),
        (b'{"data": {"id": true}}', "no_id"),
        (b'{"data": {"id": 1.5}}', "no_id"),
        (json.dumps({"data": {"id": "x" * 256}}).encode(), "no_id"),
        (json.dumps({"success": False, "data": SEGMENT}).encode(), "says_failed"),
        (json.dumps({"success": "false", "data": SEGMENT}).encode(), "says_failed"),
        (json.dumps({"status": False, "data": SEGMENT}).encode(), "says_failed"),
        (json.dumps({"status": "error", "data": SEGMENT}).encode(), "says_failed"),
        (json.dumps({"success": True, "status": False, "data": SEGMENT}).encode(), "says_failed"),
    ],
)
def test_success_that_is_not_usable(body: bytes, code: str) -> None:
    error = error_of(http(201, body))
    assert type(error) is UnusableResponse
    assert (error.code, error.http_status) == (code, 201)


@pytest.mark.parametrize(
    "answer",
    [
        http(200),
        http(201, b" \n"),
        http(202),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        http(205),
        http(200, b"null"),
        http(200, {}),
        http(200, {"success": True, "message": "Segment created successfully"}),
        http(200, {"success": True, "data": None}),
        http(200, {"success": True, "data": {}}),
        http(200, {"data": [], "meta": {"page": 1}}),
        http(200, {"message": "Done", "error": None, "errors": []}),
    ],
)
def test_success_without_content(answer: bytes) -> None:
    error = error_of(answer)
    assert type(error) is NoContent
    assert error.code == "no_content"
    assert error.http_status == int(answer.split()[1])


@pytest.mark.parametrize("data", [None, {}, []])
def test_failure_without_content_is_a_failure(data: object) -> None:
    error = error_of(http(200, {"success": False, "message": "no", "data": data}))
    assert (type(error), error.code, error.detail) == (UnusableResponse, "says_failed", "no")


OTHER = {**SEGMENT, "id": "other"}


@pytest.mark.parametrize(
    ("content", "segment_id"),
    [
        ({"data": {"data": SEGMENT}}, SEGMENT["id"]),
        ({"data": {"segment": SEGMENT, "message": "created"}}, SEGMENT["id"]),
        ({"data": {"id": None, "segment": SEGMENT}}, SEGMENT["id"]),
        ({"data": {"data": {"note": "created"}, "segment": SEGMENT}}, SEGMENT["id"]),
        ({"data": {**OTHER, "segment": SEGMENT}}, "other"),
        ({"data": {**OTHER, "data": SEGMENT}}, "other"),
        ({"data": OTHER, "id": 5, "name": "Gold"}, "other"),
        (SEGMENT, SEGMENT["id"]),
        ({"success": True, **SEGMENT}, SEGMENT["id"]),
        ({"id": 815, "name": ""}, "815"),
    ],
)
def test_segment_is_found_in_each_known_shape(content: object, segment_id: str) -> None:
    segment = outcome_of(http(201, content))
    assert isinstance(segment, RemoteSegment)
    assert segment.id == segment_id


@pytest.mark.parametrize("envelope", [{"success": True}, {"status": True}, {"status": "ok"}, {}])
def test_success_flags_are_optional(envelope: dict[str, Any]) -> None:
    assert isinstance(outcome_of(http(201, {**envelope, "data": SEGMENT})), RemoteSegment)


def test_number_as_id_becomes_text() -> None:
    segment = outcome_of(http(201, {"data": {"id": 815}}))
    assert isinstance(segment, RemoteSegment)
    assert segment.id == "815"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"message": "ID param is not valid UUID"}, "ID param is not valid UUID"),
        ({"message": "one\r\ntwo\x00\x1b[31m three"}, "one two [31m three"),
        (
            {"message": "Invalid", "errors": {"name": ["too long", "bad"]}},
            "Invalid; name: too long; name: bad",
        ),
        (
            {"message": "name is required", "errors": {"name": "name is required"}},
            "name is required",
        ),
        (
            {"message": "Invalid", "errors": ["one", {"field": "name", "message": "two"}]},
            "Invalid; one; name: two",
        ),
        ({"error": "no"}, "no"),
        ({"error": {"message": "no"}}, "no"),
        ({"message": {"a": 1}, "errors": 5}, ""),
        ({"message": "half \ud800 a character"}, "half � a character"),
        ([1, 2], ""),
        (b"", ""),
        (b"upstream timed out\n", "not JSON: upstream timed out"),
        (
            b"<html><title>\n502 Bad\nGateway</title>",
            "an HTML page instead of JSON (502 Bad Gateway)",
        ),
        (b"<html>" + b"secret " * 100, "an HTML page instead of JSON"),
        (b'{"message": ' + b"[" * 200_000, "not JSON: " + ('{"message": ' + "[" * 100)[:99] + "…"),
    ],
)
def test_detail_is_bunces_message_on_one_line(body: object, detail: str) -> None:
    assert error_of(http(400, body)).detail == detail


def test_detail_is_cut() -> None:
    detail = error_of(http(400, {"message": "x" * 5000})).detail
    assert detail == "x" * 299 + "…"


def test_compressed_response_is_read() -> None:
    body = gzip.compress(json.dumps({"data": SEGMENT}).encode())
    assert isinstance(outcome_of(http(201, body, "Content-Encoding: gzip")), RemoteSegment)


def test_response_without_a_length_is_read_to_its_end() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 201 Created\r\n\r\n" + json.dumps({"data": SEGMENT}).encode())

    assert isinstance(outcome_of(script), RemoteSegment)


# Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        (" 30 ", 30.0),
        ("86400", 86400.0),
        ("31622400", LONGEST_PAUSE),
        ("31622401", LONGEST_PAUSE),
        ("999999999", LONGEST_PAUSE),
        (None, None),
        ("", None),
        ("0", None),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("٣", None),
        ("1e9", None),
        ("9" * 400, None),
        ("Thu, 05 Dec 2024 08:31:46 GMT", 90.0),
        ("Thu, 05 Dec 2024 08:31:46", 90.0),
        ("Thu, 05 Dec 2024 09:31:46 +0100", 90.0),
        ("Thu, 05 Dec 2024 08:29:00 GMT", None),
        ("Fri, 06 Dec 2024 08:30:16 GMT", 86400.0),
        ("Thu, 05 Dec 2034 08:29:00 GMT", LONGEST_PAUSE),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_PAUSE),
        ("Thu, 99 Dec 2024 08:29:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date(
    value: str | None, seconds: float | None
) -> None:
    headers = ["Date: Thu, 05 Dec 2024 08:30:16 GMT"]
    if value is not None:
        headers.append(f"Retry-After: {value}")
    names = dict(line.split(": ", 1) for line in headers)
    assert parse_retry_after(names) == seconds


def test_a_date_in_retry_after_is_not_compared_with_the_clock_of_this_host() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=90)
    assert parse_retry_after({"Retry-After": format_datetime(moment)}) is None


def test_error_contains_the_retry_after_of_the_response() -> None:
    error = error_of(http(429, {"message": "Too many"}, "retry-after: 7"))
    assert (error.retry_after, error.detail) == (7.0, "Too many")
    assert error_of(http(425, "", "Retry-After: 86400")).retry_after == 86400.0


@pytest.mark.parametrize("headers", [[], ["Retry-After: 0"], ["Retry-After: soon"]])
def test_429_without_a_usable_retry_after(headers: list[str]) -> None:
    error = error_of(http(429, "", *headers))
    assert (error.code, error.retry_after) == ("rate_limited", None)


def test_503_with_retry_after() -> None:
    error = error_of(http(503, {"message": "Maintenance"}, "Retry-After: 120"))
    assert type(error) is Unavailable
    assert (error.code, error.retry_after, error.detail) == ("unavailable", 120.0, "Maintenance")
    dates = ("Date: Thu, 05 Dec 2024 08:30:16 GMT", "Retry-After: Thu, 05 Dec 2024 08:40:16 GMT")
    assert error_of(http(503, "", *dates)).retry_after == 600.0


@pytest.mark.parametrize("value", [None, "", "0", "soon", "Thu, 05 Dec 2024 08:29:00 GMT"])
def test_503_without_a_usable_retry_after(value: str | None) -> None:
    headers = [] if value is None else [f"Retry-After: {value}"]
    error = error_of(http(503, "", *headers))
    assert type(error) is ServerError
    assert (error.code, error.retry_after) == ("server_error", None)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_retry_after_of_other_server_errors_is_ignored(status: int) -> None:
    error = error_of(http(status, "", "Retry-After: 120"))
    assert (type(error), error.retry_after) == (ServerError, None)


# Size


def endless(head: bytes, sent: list[int], piece: bytes = b" " * 65536) -> Script:
    """Send 50 MB, or as much as the client reads."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(head)
        for _ in range(50 * MIB // 65536):
            peer.send(piece)
            sent.append(65536)

    return script


@pytest.mark.parametrize("head", [http(201, length=50 * MIB), b"HTTP/1.1 201 Created\r\n\r\n"])
def test_response_of_50_mb_is_not_read_to_its_end(head: bytes) -> None:
    sent: list[int] = []
    error = error_of(endless(head, sent), max_response_bytes=MIB)
    assert (type(error), error.code) == (UnusableResponse, "too_large")
    assert sum(sent) < 20 * MIB


def test_response_that_decompresses_to_too_much_is_not_read_to_its_end() -> None:
    bomb = gzip.compress(b" " * (50 * MIB))
    error = error_of(http(201, bomb, "Content-Encoding: gzip"), max_response_bytes=MIB)
    assert (type(error), error.code) == (UnusableResponse, "too_large")


@pytest.mark.parametrize(
    ("status", "kind"), [(500, ServerError), (422, Conflict), (302, UnusableResponse)]
)
def test_status_decides_whatever_follows_it(status: int, kind: type[BunceError]) -> None:
    sent: list[int] = []
    head = http(status, b"", "Location: https://127.0.0.1/", length=50 * MIB)
    assert type(error_of(endless(head, sent))) is kind
    assert sum(sent) < 20 * MIB


@pytest.mark.parametrize(
    ("status", "kind"), [(500, ServerError), (422, Conflict), (429, RateLimited)]
)
@pytest.mark.parametrize("end", [Peer.reset, Peer.hang, lambda peer: None])
def test_status_decides_when_its_body_is_incomplete(
    status: int, kind: type[BunceError], end: Script
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(http(status, '{"mess', length=100))
        end(peer)

    error = error_of(script, read_timeout=0.3)
    assert (type(error), error.detail) == (kind, "")

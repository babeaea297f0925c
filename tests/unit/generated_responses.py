"""Generated HTTP responses of every kind, from well-formed ones of Bunce to bytes that are none.

Many repeat the API key, in the spellings that ``client/redaction.py`` promises to find. The texts
and ids of segments, and cursors, are content, which is stored as it is; they never contain the key.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import socket
import threading
import zlib
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

from hypothesis import strategies as st

from .raw_server import SEGMENT

KEY = "sk_test_6fP1xVnZk2QeLw"

# The key, as it is spelled in an answer


@st.composite
def _spelled(draw: st.DrawFn) -> str:
    """Return the key with each character spelled in one of several ways, or with line breaks."""
    ways = draw(st.lists(st.sampled_from(_WAYS), min_size=1, max_size=3))
    choice = draw(st.lists(st.sampled_from(ways), min_size=len(KEY), max_size=len(KEY)))
    text = "".join(way(character) for way, character in zip(choice, KEY, strict=True))
    if draw(st.booleans()):
        return text
    at = draw(st.integers(1, len(text) - 1))
    return text[:at] + draw(st.sampled_from(["\n", "\r\n", "\n\t", "\x00", "\x0b"])) + text[at:]


_WAYS = [
    lambda one: one,
    str.upper,
    lambda one: f"%{ord(one):02X}",
    lambda one: f"\\u{ord(one):04x}",
    lambda one: f"\\x{ord(one):02x}",
    lambda one: f"&#{ord(one)};",
    lambda one: f"&#x{ord(one):X};",
]
_ENCODED = [
    json.dumps(json.dumps(KEY)),
    quote(quote(KEY, safe=""), safe=""),
    html.escape(f"<{KEY}>"),
    *(base64.b64encode(f"{before}{KEY}:".encode()).decode() for before in ("", "a", "ab")),
    base64.urlsafe_b64encode(f"?{KEY}".encode()).decode(),
]
keys = st.one_of(st.just(KEY), _spelled(), st.sampled_from(_ENCODED))


def reveals(text: str) -> bool:
    """Return whether the key can be read in a text, in any of these spellings."""
    if any(core in text for core in _BASE64):
        return True
    for _ in range(3):
        text = re.sub(r"\\+[ux]([0-9a-fA-F]{2,4})", _character, html.unescape(unquote(text)))
    broken = re.sub(r"\\+[nrt]|\\+x0b|\s|[\x00-\x1f]", "", text)
    return any(KEY.lower() in re.sub(r"\\|\s", "", one).lower() for one in (text, broken))


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))


_BASE64 = [base64.b64encode(b"\0" * n + KEY.encode()).decode()[4:-4] for n in range(3)]

# JSON

#: Texts as they may be in a name: of any characters, lone surrogates too.
texts = st.one_of(
    st.text(st.characters(), max_size=20),
    st.sampled_from(
        ["", " ", "\0", "\ud800", "a\r\nb", "\u202e", "x" * 300, "<script>", "{{7*7}}"]
    ),
)
_numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([2**63, -(2**63) - 1, 10**40, 1e308, -0.0, 1733387416]),
)
_plain = st.one_of(st.none(), st.booleans(), _numbers, texts)
values = st.recursive(
    _plain,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)
_ids = st.one_of(
    st.just(SEGMENT["id"]),
    st.uuids().map(str),
    st.integers(-(10**30), 10**30),
    st.sampled_from(["", ".", "..", "a/b", "x" * 256, "é" * 255, "a b", "\0", "%2e%2e", "../../x"]),
    values,
)
_times = st.one_of(
    st.sampled_from(["2024-12-05 08:30:16", "9999-12-31T23:59:59-23:59", "0001-01-01", "never"]),
    st.datetimes().map(str),
    values,
)


@st.composite
def segments(draw: st.DrawFn) -> dict[str, Any]:
    """Return a segment in which some fields are missing or wrong."""
    fields = {
        "id": _ids,
        "name": st.one_of(texts, values),
        "description": st.one_of(texts, values),
        "conditions": values,
        "type": st.one_of(st.sampled_from(["manual", "automatic"]), values),
        "all_customers": values,
        "customers_count": values,
        "created_at": _times,
        "updated_at": _times,
    }
    odd = draw(st.sets(st.sampled_from([*fields])))
    gone = draw(st.sets(st.sampled_from([*fields]), max_size=1))
    segment = {**SEGMENT, **{name: draw(fields[name]) for name in sorted(odd)}}
    return {name: value for name, value in segment.items() if name not in gone}


_said = st.one_of(texts, keys, st.builds("{}{}".format, texts, keys))
#: Objects that say what went wrong, in which the key may be anywhere.
_errors = st.recursive(
    st.one_of(_plain, _said),
    lambda inner: st.one_of(
        st.lists(inner, max_size=12),
        st.dictionaries(st.one_of(_said, st.sampled_from(["field", "message"])), inner, max_size=4),
    ),
    max_leaves=8,
)
_complaint = st.fixed_dictionaries(
    {},
    optional={
        "message": _errors,
        "error": _errors,
        "errors": _errors,
        "success": st.one_of(st.booleans(), st.sampled_from(["false", "error", 0, None])),
        "status": st.one_of(st.booleans(), st.sampled_from(["failed", "fail", 422])),
    },
)
_paging = st.fixed_dictionaries(
    {},
    optional={"has_next_page": values, "next_page_cursor": values, "total": values, "page": values},
)


@st.composite
def envelopes(draw: st.DrawFn) -> Any:
    """Return a body of Bunce's shapes: about one segment, a list, or an error."""
    kind = draw(st.sampled_from(["one", "one", "bare", "list", "list", "nested", "error", "any"]))
    if kind == "any":
        return draw(values)
    if kind == "bare":
        return {**draw(segments()), **draw(_complaint)}
    if kind == "error":
        return draw(_complaint)
    data: Any = draw(segments())
    if kind in ("list", "nested"):
        data = [data, *draw(st.lists(st.one_of(segments(), values), max_size=2))]
    if kind == "nested":
        data = {"data": data, "meta": draw(st.one_of(_paging, values))}
    paging = draw(_paging)
    place = draw(st.sampled_from(["meta", "top"]))
    paged = {"meta": paging} if place == "meta" else paging
    return {"data": data, **paged, **draw(_complaint)}


@st.composite
def _json_text(draw: st.DrawFn) -> str:
    content = draw(envelopes())
    text = json.dumps(content, ensure_ascii=draw(st.booleans()))
    change = draw(st.sampled_from(["none"] * 6 + ["cut", "doubled", "joined", "deep", "number"]))
    if change == "cut":
        return text[: draw(st.integers(0, len(text)))]
    if change == "doubled" and text.startswith("{") and text != "{}":
        return f"{text[:-1]}, {json.dumps(draw(envelopes()))[1:-1] or '1'}}}"
    if change == "joined":
        return text + draw(st.sampled_from(["]", "}", "\n{}", "\0", ";alert(1)"]))
    if change == "deep":
        depth = draw(st.sampled_from([20, 31, 100, 300, 600, 900, 980, 5000, 100_000]))
        opening, closing = draw(st.sampled_from([("[", "]"), ('{"a":', "}"), ('{"data":', "}")]))
        nested = f"{opening * depth}1{closing * depth}"
        place = draw(
            st.sampled_from(
                [
                    "%s",
                    '{"data": %s}',
                    '{"errors": [{"field": %s, "message": "x"}]}',
                    '{"message": %s}',
                    '{"data": {"id": "a", "name": "b", "conditions": %s}}',
                ]
            )
        )
        return place % nested
    if change == "number":
        digits = draw(
            st.sampled_from(["9" * 5000, "1e999", "-1e-999", "NaN", "-Infinity", "1e5", "01"])
        )
        return re.sub(r"(?<=[ \[])(null|true|false|\d+)(?=[,\]}])", digits, text, count=2)
    return text


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(["json"] * 8 + ["page", "text", "bytes", "blank"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "blank":
        return draw(st.sampled_from([b"", b" ", b"\r\n", b"null", b"{}", b"[]", b'""']))
    if kind == "json":
        text = draw(_json_text())
    else:
        text = draw(texts) + draw(keys) + draw(texts)
        if kind == "page":
            text = f"<!doctype html><TITLE>{text}</title><h1>{text}"
    charset = draw(
        st.sampled_from(["utf-8"] * 8 + ["utf-16", "utf-32", "utf-8-sig", "latin-1", "cp037"])
    )
    return text.encode(charset, "surrogatepass" if charset.startswith("utf") else "replace")


# HTTP

_STATUSES = [200, 200, 200, 201, 201, 202, 204, 304, 302, 400, 401, 403, 404, 409, 413, 422, 425,
             429, 429, 500, 502, 503, 503]  # fmt: skip
_RETRY_AFTER = [
    "1", "0", "-1", "1e9", "99999999999", "3.5", "NaN", "soon", "", "0x10", "\u0663",
    "Thu, 05 Dec 2024 08:30:30 GMT", "Thu, 99 Foo 99999 99:99:99 GMT",
    "Mon, 01 Jan 0001 00:00:00 -2359", "Fri, 31 Dec 9999 23:59:59 +0000",
]  # fmt: skip


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """Return the bytes of a response, which need not be one."""
    if draw(st.integers(0, 30)) == 0:
        return draw(st.one_of(st.binary(max_size=100), keys.map(lambda one: one.encode() * 3)))
    body = draw(_bodies())
    kind = draw(st.sampled_from(["application/json", "text/html", "\xff", ""]))
    headers = [f"Content-Type: {kind}"]
    coding = draw(st.sampled_from(["none"] * 8 + ["gzip", "no gzip", "cut gzip", "deflate", "br"]))
    if coding != "none":
        headers.append(f"Content-Encoding: {coding.split()[-1]}")
        body = {
            "gzip": gzip.compress,
            "cut gzip": lambda data: gzip.compress(data)[:-9],
            "deflate": zlib.compress,
        }.get(coding, bytes)(body)
    headers += draw(st.lists(_headers(), max_size=3))
    framing = draw(st.sampled_from(["length"] * 8 + ["lie", "none", "chunked", "bad chunks"]))
    if framing == "length":
        headers.append(f"Content-Length: {len(body)}")
    elif framing == "lie":
        wrong = [
            len(body) - 1,
            len(body) + 1,
            0,
            -1,
            10**30,
            "ten",
            "5, 5",
            "5, 6",
            "+5",
            "1_0",
            "",
        ]
        headers.append(f"Content-Length: {draw(st.sampled_from(wrong))}")
    elif framing != "none":
        headers.append("Transfer-Encoding: chunked")
        size = f"{len(body):x}".encode()
        wrong_size = draw(
            st.sampled_from([b"-5", b"zz", b"ffffffffffffffff", b"", b"5;" + body[:50]])
        )
        size = size if framing == "chunked" else wrong_size
        body = size + b"\r\n" + body + b"\r\n0\r\n\r\n"
    status = draw(st.one_of(st.sampled_from(_STATUSES), st.integers(100, 999)))
    version = draw(st.sampled_from(["HTTP/1.1"] * 9 + ["HTTP/1.0", "HTTP/9.9", "http/1.1", "ICY"]))
    reason = draw(st.sampled_from(["OK", "", KEY, "\xff"]))
    head = "\r\n".join([f"{version} {status} {reason}", *headers, "", ""])
    return head.encode("utf-8", "replace") + body


def _headers() -> st.SearchStrategy[str]:
    name = st.sampled_from(["X-Echo", "Set-Cookie", "Location", "Date", "WWW-Authenticate", "Link"])
    one_line_keys = keys.map(lambda one: re.sub(r"[\r\n\0]", "", one))
    return st.one_of(
        st.sampled_from(_RETRY_AFTER).map("Retry-After: {}".format),
        st.sampled_from(_RETRY_AFTER).map("Date: {}".format),
        st.builds("{}: {}".format, name, one_line_keys),
        st.builds("Location: https://{}@[::1/{}".format, one_line_keys, one_line_keys),
        st.builds("Location: //{}/{}?a#b".format, one_line_keys, one_line_keys),
        one_line_keys,  # no header at all
        st.builds("X-Folded: a\r\n {}".format, one_line_keys),
        st.just("X-Long: " + "x" * 70_000),
        st.just("\r\n".join(f"X-{n}: {n}" for n in range(120))),
        st.just("Connection: close"),
    )


class AnyServer:
    """A server that answers each request with ``response``, and closes the connection.

    Attributes:
        response: the bytes to send.
        requests: how many requests were read.
    """

    def __init__(self) -> None:
        self.response = b""
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                try:
                    self._answer(peer)
                except OSError:
                    continue  # the client has closed the connection early

    def _answer(self, peer: socket.socket) -> None:
        peer.settimeout(10)
        data = b""
        while b"\r\n\r\n" not in data:
            piece = peer.recv(65536)
            if not piece:
                return
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        while length and len(body) < int(length[1]):
            body += peer.recv(65536)
        self.requests += 1
        peer.sendall(self.response)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            pass  # closing with unread data would reset the connection

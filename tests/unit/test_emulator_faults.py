"""Each fault of the emulator: what the client receives and what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, get_args

import pytest
import requests

from bunce_sync.testing.emulator import Emulator, Faults
from bunce_sync.testing.emulator.options import FAULT_NAMES, FAULTS_AFTER, FAULTS_BEFORE, Shape
from tests.emulator_client import Api, connected, create_bytes, read_all, read_responses

QUICK = {"hold_seconds": 0.2, "late_seconds": 0.2, "trickle_seconds": 0.001}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def receive(emulator: Emulator, fault: str, **options: Any) -> bytes:
    """Make one create with a fault and return the bytes received before the close."""
    emulator.set_faults(Faults.from_mapping({**QUICK, **options}), script=[fault])
    with connected(emulator) as sock:
        sock.sendall(create_bytes())
        received = read_all(sock)
    assert emulator.requests[-1].fault == fault
    assert emulator.injected == {fault: 1}
    return received


def respond(emulator: Emulator, fault: str, **options: Any) -> requests.Response:
    """Make one create with a fault and return the response."""
    emulator.set_faults(Faults.from_mapping({**QUICK, **options}), script=[fault])
    with Api(emulator) as api:
        return api("POST", "/segments", {"name": "A"})


def stored(emulator: Emulator) -> list[str]:
    return [segment.name for segment in emulator.segments]


def test_reset_before_resets_the_connection_and_stores_nothing(emulator: Emulator) -> None:
    with pytest.raises(ConnectionResetError):
        receive(emulator, "reset_before")
    assert emulator.requests[-1].status is None
    assert stored(emulator) == []


@pytest.mark.parametrize(("fault", "names"), [("hold_before", []), ("hold_after", ["A"])])
def test_hold_sends_nothing_until_it_closes(
    emulator: Emulator, fault: str, names: list[str]
) -> None:
    start = monotonic()
    assert receive(emulator, fault, hold_seconds=0.3) == b""
    assert monotonic() - start >= 0.3
    assert stored(emulator) == names


@pytest.mark.parametrize(("fault", "names"), [("error_before", []), ("error_after", ["A"])])
def test_error_is_a_500_in_json(emulator: Emulator, fault: str, names: list[str]) -> None:
    got = respond(emulator, fault)
    assert (got.status_code, got.json()["success"]) == (500, False)
    assert stored(emulator) == names


def test_html_502_is_a_proxy_page_and_stores_nothing(emulator: Emulator) -> None:
    got = respond(emulator, "html_502")
    assert got.status_code == 502
    assert got.headers["Content-Type"].startswith("text/html")
    assert "Bad Gateway" in got.text
    assert stored(emulator) == []


def test_late_store_closes_at_once_and_stores_later(emulator: Emulator) -> None:
    assert receive(emulator, "late_store", late_seconds=0.3) == b""
    assert (stored(emulator), emulator.pending_writes) == ([], 1)
    emulator.wait_for(lambda bunce: bunce.pending_writes == 0)
    assert stored(emulator) == ["A"]


def test_lost_answer_stores_and_closes_without_a_byte(emulator: Emulator) -> None:
    assert receive(emulator, "lost_answer") == b""
    assert stored(emulator) == ["A"]


def test_cut_json_ends_in_the_middle_of_the_body(emulator: Emulator) -> None:
    head, _, body = receive(emulator, "cut_json").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 Created")
    announced = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    assert 0 < len(body) < announced
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    assert stored(emulator) == ["A"]


@pytest.mark.parametrize("shape", [each for each in get_args(Shape) if each != "any"])
def test_wrong_shape_succeeds_without_a_usable_segment(emulator: Emulator, shape: Shape) -> None:
    got = respond(emulator, "wrong_shape", shape=shape)
    assert got.status_code == 201
    assert stored(emulator) == ["A"]
    try:
        body = got.json()
    except requests.JSONDecodeError:
        assert shape in ("empty", "not_json")
        return
    usable = (
        isinstance(body, dict)
        and body["success"] is True
        and isinstance(body.get("data"), dict)
        and isinstance(body["data"].get("id"), str)
        and body["data"]["id"] != ""
    )
    assert not usable


def test_wrong_shapes_vary_and_do_not_replace_refusals(
    emulator: Emulator,
) -> None:
    emulator.set_faults(Faults(wrong_shape=1.0))
    with Api(emulator) as api:
        bodies = {api("POST", "/segments", {"name": "A"}).text[:60] for _ in range(40)}
        assert len(bodies) > 3
        assert api("POST", "/segments", {}).json()["message"].startswith("name is required")


def test_trickle_sends_the_body_byte_by_byte(emulator: Emulator) -> None:
    emulator.set_faults(Faults(trickle=1.0, trickle_seconds=0.001))
    with connected(emulator) as sock:
        sock.sendall(create_bytes())
        pieces = []
        while piece := sock.recv(65536):
            pieces.append(piece)
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 Created\r\n")
    assert json.loads(body)["data"]["name"] == "A"
    assert len(pieces) > 50  # two bytes may be read at once
    assert stored(emulator) == ["A"]


def test_too_large_sends_the_correct_response_after_whitespace(emulator: Emulator) -> None:
    got = respond(emulator, "too_large", large_bytes=3_000_000)
    assert len(got.content) > 3_000_000
    assert got.json()["data"]["name"] == "A"
    assert stored(emulator) == ["A"]


def test_a_client_may_disconnect_during_a_large_response(emulator: Emulator) -> None:
    emulator.set_faults(Faults(too_large=1.0))
    with connected(emulator) as sock:
        sock.sendall(create_bytes())
        assert sock.recv(1000)
    emulator.set_faults()
    with Api(emulator) as api:
        api.create("B")
    assert stored(emulator) == ["A", "B"]


def test_redirect_and_unauthorized_store_nothing(emulator: Emulator) -> None:
    redirect = respond(emulator, "redirect")
    assert (redirect.status_code, redirect.headers["Location"]) == (302, "/v1/segments")
    assert respond(emulator, "unauthorized").status_code == 401
    assert stored(emulator) == []


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        ("forbidden", 403, {"success": False, "message": "You are not allowed to do this."}),
        ("unavailable", 503, {"success": False, "message": "Service unavailable"}),
        ("name_taken", 200, {"success": False, "message": "Name already taken", "data": None}),
        ("bad_request", 400, {"success": False, "message": "name taken"}),
    ],
)
@pytest.mark.parametrize("scripted", [True, False])
def test_a_refusal_in_json_stores_nothing(
    emulator: Emulator, fault: str, status: int, body: dict[str, object], scripted: bool
) -> None:
    if scripted:
        emulator.script([fault])
    else:
        emulator.set_faults(Faults.from_mapping({fault: 1.0}))
    with Api(emulator) as api:
        got = api("POST", "/segments", {"name": "A"})
    assert (got.status_code, got.json()) == (status, body)
    assert got.headers["Content-Type"] == "application/json"
    assert stored(emulator) == []
    assert emulator.injected == {fault: 1}


def test_no_content_stores_and_sends_a_204_without_a_body(emulator: Emulator) -> None:
    emulator.set_faults(Faults(no_content=1.0))
    with Api(emulator) as api:
        got = api("POST", "/segments", {"name": "A"})
        assert (got.status_code, got.content) == (204, b"")
        assert {"Content-Length", "Content-Type"}.isdisjoint(got.headers)
        # The connection stays usable, and a refusal keeps its response.
        assert api("POST", "/segments", {}).status_code == 422
    assert emulator.accepted == 1
    assert stored(emulator) == ["A"]


@pytest.mark.parametrize("fault", ["limit_429", "unavailable"])
@pytest.mark.parametrize(
    ("kind", "expected"), [("none", None), ("seconds", "7"), ("rubbish", "soon")]
)
def test_limit_429_and_unavailable_send_the_configured_retry_after(
    emulator: Emulator, fault: str, kind: str, expected: str | None
) -> None:
    got = respond(emulator, fault, retry_after=kind, retry_seconds=7)
    assert got.status_code == {"limit_429": 429, "unavailable": 503}[fault]
    assert got.headers.get("Retry-After") == expected
    assert (stored(emulator), emulator.limited, emulator.blocked) == ([], 0, {})


@pytest.mark.parametrize("fault", ["limit_429", "unavailable"])
@pytest.mark.parametrize("seconds", [86_400, 10**9, 10**15])
def test_retry_after_can_be_very_long(emulator: Emulator, fault: str, seconds: int) -> None:
    got = respond(emulator, fault, retry_seconds=seconds)
    assert got.headers["Retry-After"] == str(seconds)
    got = respond(emulator, fault, retry_after="date", retry_seconds=seconds)
    wait = parsedate_to_datetime(got.headers["Retry-After"]) - datetime.now(UTC)
    assert abs(wait - timedelta(seconds=min(seconds, 100 * 365 * 86_400))) < timedelta(seconds=30)


def test_limit_429_can_send_a_date(emulator: Emulator) -> None:
    got = respond(emulator, "limit_429", retry_after="date", retry_seconds=90)
    moment = parsedate_to_datetime(got.headers["Retry-After"])
    assert timedelta(seconds=60) < moment - datetime.now(UTC) <= timedelta(seconds=90)


def test_limit_429_can_vary_at_random(emulator: Emulator) -> None:
    emulator.set_faults(Faults(limit_429=1.0, retry_after="any"))
    with Api(emulator) as api:
        responses = [api("POST", "/segments", {"name": "A"}) for _ in range(40)]
    assert {None, "soon", "2"} < {each.headers.get("Retry-After") for each in responses}


def test_after_every_fault_the_emulator_still_works(emulator: Emulator) -> None:
    assert set(FAULTS_BEFORE).isdisjoint(FAULTS_AFTER)
    emulator.set_faults(Faults.from_mapping({**QUICK, "large_bytes": 1000}), script=FAULT_NAMES)
    for _ in FAULT_NAMES:
        with connected(emulator) as sock:
            sock.sendall(create_bytes().replace(b"\r\nHost", b"\r\nConnection: close\r\nHost"))
            try:
                read_all(sock)
            except ConnectionResetError:
                assert emulator.requests[-1].fault == "reset_before"
    emulator.wait_for(lambda bunce: bunce.pending_writes == 0)
    assert emulator.injected == dict.fromkeys(FAULT_NAMES, 1)
    assert len(stored(emulator)) == len(FAULTS_AFTER) + 1  # and the late one
    with Api(emulator) as api:
        assert api.create("B")["name"] == "B"


def faults_of_creates(emulator: Emulator, count: int = 60) -> list[str | None]:
    with Api(emulator) as api:
        for _ in range(count):
            api("POST", "/segments", {"name": "A"})
    return [request.fault for request in emulator.requests[-count:]]


def test_the_same_seed_gives_the_same_faults(emulator: Emulator) -> None:
    mix = Faults(error_before=0.2, html_502=0.2, error_after=0.1)
    emulator.set_faults(mix, seed=7)
    first = faults_of_creates(emulator)
    assert {None, "error_before", "html_502", "error_after"} == set(first)
    emulator.set_faults(mix)
    assert faults_of_creates(emulator) == first
    emulator.set_faults(mix, seed=8)
    assert faults_of_creates(emulator) != first


def test_a_script_applies_once_and_only_to_creates(emulator: Emulator) -> None:
    emulator.script(["error_before", None, "html_502"])
    with Api(emulator) as api:
        assert api("GET", "/segments").status_code == 200
        statuses = [api("POST", "/segments", {"name": "A"}).status_code for _ in range(4)]
    assert statuses == [500, 201, 502, 201]
    assert emulator.scripted == 0


def test_updates_and_reads_have_their_own_scripts(emulator: Emulator) -> None:
    with Api(emulator) as api:
        segment = api.create("A")
        path = f"/segments/{segment['id']}"
        emulator.script(["html_502"])
        emulator.script([None, "forbidden"], method="PATCH")
        emulator.script(["unavailable"], method="GET")
        emulator.script([None, "error_after"], method="GET")
        assert emulator.scripted == 6

        # Calls for customers have scripts of their own.
        customers = {"customers": [{"email": "e"}]}
        assert api("POST", f"{path}/customers", customers).status_code == 200
        assert api("DELETE", f"{path}/customers", {"customers": ["e"]}).status_code == 200
        assert emulator.scripted == 6

        updates = [api("PATCH", path, {"name": name}).status_code for name in "BCD"]
        assert updates == [200, 403, 200]
        reads = [api("GET", each).status_code for each in ("/segments", path, path, "/segments")]
        assert reads == [503, 200, 500, 200]
        assert emulator.scripted == 1
        creates = [api("POST", "/segments", {"name": "E"}).status_code for _ in range(2)]
        assert creates == [502, 201]
    assert emulator.scripted == 0
    assert stored(emulator) == ["D", "E"]


def test_new_faults_drop_the_scripts_of_all_methods(emulator: Emulator) -> None:
    emulator.script(["error_before"], method="PATCH")
    emulator.script(["error_before"], method="GET")
    emulator.set_faults(script=["html_502"])
    assert emulator.scripted == 1


@pytest.mark.parametrize("shape", [each for each in get_args(Shape) if each != "any"])
@pytest.mark.parametrize("method", ["PATCH", "GET"])
def test_wrong_shape_also_applies_to_updates_and_reads(
    emulator: Emulator, method: str, shape: Shape
) -> None:
    segment = emulator.add_segment("A")
    emulator.set_faults(Faults(shape=shape))
    emulator.script(["wrong_shape"], method=method)
    with Api(emulator) as api:
        body = {"name": "B"} if method == "PATCH" else None
        got = api(method, f"/segments/{segment.id}", body)
        right = api("GET", f"/segments/{segment.id}").json()
    assert got.status_code == 200
    assert right["data"]["name"] == stored(emulator)[0] == ("B" if method == "PATCH" else "A")
    data = right["data"]
    changed: dict[str, object] = {
        "list": [data],
        "null_data": None,
        "no_id": {key: data[key] for key in data if key != "id"},
        "empty_id": {**data, "id": ""},
        "number_id": {**data, "id": 7},
    }
    if shape in changed:
        assert (got.json()["success"], got.json()["data"]) == (True, changed[shape])
    elif shape == "no_data":
        assert "data" not in got.json()
    elif shape == "failed":
        assert (got.json()["success"], got.json()["data"]) == (False, None)
    elif shape == "not_object":
        assert isinstance(got.json(), list)
    else:
        assert shape in ("empty", "not_json")
        with pytest.raises(requests.JSONDecodeError):
            got.json()


def test_only_creates_get_faults_unless_configured_otherwise(emulator: Emulator) -> None:
    with Api(emulator) as api:
        segment = api.create()
        calls = [
            ("POST", "/segments", {"name": "B"}),
            ("GET", "/segments", None),
            ("PATCH", f"/segments/{segment['id']}", {"name": "C"}),
            ("POST", f"/segments/{segment['id']}/customers", {"customers": [{"email": "e"}]}),
        ]

        def statuses(faults: Faults) -> list[int]:
            emulator.set_faults(faults)
            return [api(*call).status_code for call in calls]

        assert statuses(Faults(error_after=1.0)) == [500, 200, 200, 200]
        both = frozenset({"GET", "PATCH"})
        assert statuses(Faults(error_after=1.0, methods=both)) == [201, 500, 500, 200]
        assert statuses(Faults(error_after=1.0, customer_calls=True)) == [500, 200, 200, 500]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lost_anser": 0.1}, "unknown option"),
        ({"lost_answer": -0.1}, "negative"),
        ({"lost_answer": "often"}, "number"),
        ({"lost_answer": True}, "number"),
        ({"lost_answer": float("nan")}, "number"),
        ({"lost_answer": 0.6, "hold_after": 0.6}, "must not exceed 1"),
        ({"methods": ["FETCH"]}, "methods must be"),
        ({"methods": "POST"}, "methods must be"),
        ({"retry_after": "later"}, "retry_after must be one of"),
        ({"shape": "round"}, "shape must be one of"),
        ({"hold_seconds": -1}, "negative"),
        ({"large_bytes": 1.5}, "whole number"),
        ({"large_bytes": -1}, "negative"),
        ({"customer_calls": 1}, "true or false"),
        ({"retry_seconds": 1.5}, "whole number"),
        ({"no_content": 2}, "must not exceed 1"),
        ({"forbidden": 0.6, "unavailable": 0.6}, "must not exceed 1"),
    ],
)
def test_invalid_faults_are_refused_with_the_reason(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Faults.from_mapping(values)


def test_a_script_with_an_unknown_fault_changes_nothing(emulator: Emulator) -> None:
    emulator.script(["error_before"])
    with pytest.raises(ValueError, match="unknown fault"):
        emulator.script([None, "lost_anser"])
    with pytest.raises(
        ValueError,
        match=r"method must be one of POST, PATCH, GET, .*; not 'DELETE'",
    ):
        emulator.script([None], method="DELETE")
    assert emulator.scripted == 1


def test_faults_can_be_converted_to_json_and_back() -> None:
    faults = Faults(lost_answer=0.05, methods=frozenset({"GET", "POST"}), hold_seconds=3)
    assert Faults.from_mapping(json.loads(json.dumps(faults.as_dict()))) == faults


def test_a_reset_outage_resets_api_requests_until_it_is_ended(emulator: Emulator) -> None:
    emulator.set(outage="reset")
    with Api(emulator) as api:
        with pytest.raises(requests.ConnectionError, match="reset"):
            api("GET", "/segments")
        assert api.session.get(emulator.url, timeout=10).status_code == 200  # not the front page
        assert emulator.requests[-1].fault == "outage_reset"
        emulator.set(outage=None)
        assert api("GET", "/segments").status_code == 200


def test_a_hold_outage_leaves_api_requests_without_a_response(emulator: Emulator) -> None:
    emulator.set(outage="hold")
    with Api(emulator) as api:
        with pytest.raises(requests.ReadTimeout):
            api("POST", "/segments", {"name": "A"}, timeout=0.2)
        emulator.set(outage=None)
        assert api("GET", "/segments").status_code == 200
    assert stored(emulator) == []
    assert emulator.requests[0].fault == "outage_hold"


def test_a_refuse_outage_refuses_connections_and_resets_open_ones(
    emulator: Emulator,
) -> None:
    with connected(emulator) as sock:
        sock.sendall(create_bytes())
        read_responses(sock, 1)
        emulator.set(outage="refuse")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    with pytest.raises(ConnectionRefusedError), connected(emulator):
        pass
    port = emulator.port
    emulator.set(outage=None)
    with Api(emulator) as api:
        assert api("GET", "/segments").status_code == 200
    assert emulator.port == port


def test_an_emulator_can_start_in_an_outage() -> None:
    with Emulator(outage="refuse") as emulator:
        with pytest.raises(ConnectionRefusedError), connected(emulator):
            pass
        emulator.set(outage=None)
        with connected(emulator) as sock:
            sock.sendall(create_bytes())
            assert read_responses(sock, 1)[0][0] == 201

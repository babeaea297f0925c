"""What a person does in Bunce's dashboard: in Python, over HTTP, and with the forms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
import requests

from bunce_sync.testing.emulator import Emulator
from tests.emulator_client import Api

UNKNOWN = "9da67caa-b803-4691-a2b6-bdcd58008aaf"

#: Texts that the API refuses as a name, or that are hard to transport.
ODD_TEXTS = ["", "  ", "x" * 1000, "a\x00\x01\x1f\x7fb", "\ud800", "a\r\nb\rc\n", "<b>&amp;$name"]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def api(emulator: Emulator) -> Iterator[Api]:
    with Api(emulator) as api:
        yield api


def listed(api: Api, **query: object) -> list[dict[str, Any]]:
    response = api("GET", "/segments", params={"per_page": 100, **query})
    rows: list[dict[str, Any]] = response.json()["data"]
    return rows


def control(emulator: Emulator, method: str, path: str, body: Any = None) -> requests.Response:
    return requests.request(method, f"{emulator.url}/control/{path}", json=body, timeout=10)


# In Python


def test_a_segment_can_be_changed(emulator: Emulator, api: Api) -> None:
    moment = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
    segment = emulator.add_segment("A", "before", created_at=moment)

    emulator.change_segment(segment.id, name="B")
    (row,) = listed(api)
    assert (row["name"], row["description"]) == ("B", "before")
    assert row["created_at"] == "2024-12-05 08:30:16"
    assert row["updated_at"] > row["created_at"]

    changed = emulator.change_segment(segment.id, description=None)
    assert changed == emulator.segment(segment.id)
    assert (changed.name, changed.description) == ("B", None)
    with pytest.raises(KeyError):
        emulator.change_segment(UNKNOWN, name="C")


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_text_is_accepted_and_returned_unchanged(
    emulator: Emulator, api: Api, text: str
) -> None:
    added = emulator.add_segment(text, text)
    changed = emulator.add_segment("A")
    emulator.change_segment(changed.id, name=text, description=text)
    rows = [*listed(api), api("GET", f"/segments/{added.id}").json()["data"]]
    assert [(row["name"], row["description"]) for row in rows] == [(text, text)] * 3


def test_a_type_that_is_not_documented_is_accepted(emulator: Emulator, api: Api) -> None:
    emulator.add_segment("A", type="smart")
    assert listed(api)[0]["type"] == "smart"


@pytest.mark.parametrize("order", ["newest", "oldest", "random", "shuffled"])
@pytest.mark.parametrize("paging", ["page", "cursor"])
def test_a_removed_segment_is_gone_everywhere(
    emulator: Emulator, api: Api, order: str, paging: str
) -> None:
    emulator.set(order=order, paging=paging)
    # Several of the same second, so that the right one has to be found among them.
    moment = datetime(2024, 12, 5, tzinfo=UTC)
    segments = [
        emulator.add_segment(f"{number}", created_at=moment + timedelta(seconds=number // 5))
        for number in range(20)
    ]
    api("POST", f"/segments/{segments[7].id}/customers", {"customers": [{"customer_id": "c"}]})

    assert emulator.remove_segment(segments[7].id).name == "7"

    expected = {segment.id for segment in segments if segment.name != "7"}
    assert {row["id"] for row in listed(api)} == expected
    assert {segment.id for segment in emulator.segments} == expected
    assert {segment.id for segment in emulator.newest(100)} == expected
    assert "7" not in {segment.name for segment in emulator.newest(20)}
    assert api("GET", f"/segments/{segments[7].id}").status_code == 404
    assert api("PATCH", f"/segments/{segments[7].id}", {"name": "x"}).status_code == 404
    assert len(emulator.customers) == 1
    with pytest.raises(KeyError):
        emulator.members(segments[7].id)
    with pytest.raises(KeyError):
        emulator.remove_segment(segments[7].id)


def test_a_removed_segment_counts_no_more(emulator: Emulator, api: Api) -> None:
    first, second = emulator.add_segment("A"), emulator.add_segment("A")
    assert emulator.duplicate_count == 1
    emulator.remove_segment(second.id)
    assert (emulator.duplicate_count, emulator.duplicates) == (0, [])
    emulator.set(unique_names=True, plan_limit=1)
    assert api("POST", "/segments", {"name": "B"}).status_code == 403
    emulator.remove_segment(first.id)
    assert api.create("A")["name"] == "A"


def test_changes_count_as_duplicates_and_as_names(emulator: Emulator, api: Api) -> None:
    emulator.add_segment("A")
    other = emulator.add_segment("B")
    emulator.change_segment(other.id, name="A", description=" ")
    assert [len(group) for group in emulator.duplicates] == [2]
    emulator.change_segment(other.id, name="C")
    assert emulator.duplicate_count == 0
    emulator.set(unique_names=True)
    assert api("POST", "/segments", {"name": "C"}).status_code == 422
    assert api.create("B")["name"] == "B"


def test_a_segment_can_return_with_its_id(emulator: Emulator, api: Api) -> None:
    removed = emulator.remove_segment(emulator.add_segment("A").id)
    emulator.add_segment(removed.name, id=removed.id.upper())
    assert api("GET", f"/segments/{removed.id}").json()["data"]["name"] == "A"
    assert [row["id"] for row in listed(api)] == [removed.id]
    for bad in (removed.id, "7"):
        with pytest.raises(ValueError, match=r"in use|UUID"):
            emulator.add_segment("B", id=bad)
    assert len(emulator.segments) == 1


# Many at once


def test_many_segments_are_added_at_once_one_second_apart(emulator: Emulator, api: Api) -> None:
    emulator.add_segment("between", created_at=datetime.now(UTC) - timedelta(seconds=100))
    segments = emulator.add_segments(250, name="{n} of many", description="x")
    assert [segment.name for segment in segments] == [f"{n} of many" for n in range(1, 251)]
    assert segments[-1].created_at - segments[0].created_at == timedelta(seconds=249)
    assert timedelta() <= datetime.now(UTC) - segments[-1].created_at < timedelta(seconds=60)
    emulator.set(order="oldest")
    rows = [row for page in range(1, 5) for row in listed(api, page=page)]
    assert len(rows) == 251
    assert [row["created_at"] for row in rows] == sorted(row["created_at"] for row in rows)
    emulator.set(order="random")
    found = [row["id"] for page in range(1, 5) for row in listed(api, page=page)]
    assert found == sorted(row["id"] for row in rows)
    assert emulator.add_segments(0) == []
    with pytest.raises(ValueError, match="must not be negative"):
        emulator.add_segments(-1)


# Between two requests


def test_a_list_can_change_between_two_pages(emulator: Emulator, api: Api) -> None:
    emulator.set(order="newest")
    segments = emulator.add_segments(6, name="{n}")
    emulator.before_next(
        [
            None,
            lambda: [emulator.add_segment("new") for _ in range(2)],  # page 2 repeats page 1
            lambda: [emulator.remove_segment(one.id) for one in emulator.newest(4)],
        ]
    )
    pages = [[row["name"] for row in listed(api, page=page, per_page=2)] for page in (1, 2, 3)]
    assert pages == [["6", "5"], ["6", "5"], []]
    assert emulator.segments == segments[:4]


def test_callbacks_are_for_one_method_and_are_not_used_up_by_refused_calls(
    emulator: Emulator, api: Api
) -> None:
    ran = []
    emulator.before_next([lambda: ran.append("GET")])
    emulator.before_next([lambda: ran.append("POST")], method="POST")
    with Api(emulator, key="wrong") as stranger:
        stranger("GET", "/segments")
    assert ran == []
    emulator.add_segment("A", id=UNKNOWN)
    api("POST", f"/segments/{UNKNOWN}/all-customers", {})
    assert ran == []
    api.create()
    assert ran == ["POST"]
    listed(api)
    listed(api)
    assert ran == ["POST", "GET"]
    emulator.before_next([lambda: ran.append("late")])
    emulator.reset()
    listed(api)
    assert ran == ["POST", "GET"]
    with pytest.raises(ValueError, match="method must be one of"):
        emulator.before_next([None], method="DELETE")


def test_a_callback_may_change_options_and_faults(emulator: Emulator, api: Api) -> None:
    emulator.before_next([lambda: emulator.script(["error_before"], method="GET")])
    emulator.before_next([lambda: emulator.set(outage="reset")])
    assert [api("GET", "/segments").status_code for _ in range(2)] == [500, 200]
    with pytest.raises(requests.ConnectionError):
        api("GET", "/segments")
    emulator.reset()
    assert listed(api) == []


# Over HTTP


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_segments_can_be_added_changed_and_removed_over_http(
    emulator: Emulator, api: Api, text: str
) -> None:
    response = control(emulator, "POST", "segments", {"name": "A", "type": "smart", "id": UNKNOWN})
    assert response.status_code == 201
    assert response.json() == api("GET", f"/segments/{UNKNOWN}").json()["data"]
    assert response.json()["type"] == "smart"

    changes = {"name": text, "description": text}
    changed = control(emulator, "PATCH", f"segments/{UNKNOWN}", changes).json()
    assert changed == {**response.json(), **changes, "updated_at": changed["updated_at"]}
    assert control(emulator, "GET", f"segments/{UNKNOWN}").json() == changed
    assert emulator.segment(UNKNOWN).name == text

    assert control(emulator, "DELETE", f"segments/{UNKNOWN}").status_code == 204
    assert emulator.segments == []
    for method in ("GET", "PATCH", "DELETE"):
        assert control(emulator, method, f"segments/{UNKNOWN}").status_code == 404
    assert emulator.served == 1, "only the call of the API counts"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name is required"),
        ({"name": None}, "name must be a string"),
        ({"name": "A", "description": 7}, "description must be a string or null"),
        ({"name": "A", "all_customers": 1}, "all_customers must be true or false"),
        ({"name": "A", "created_at": "x"}, "unknown field"),
        ({"name": "A", "id": "7"}, "UUID"),
    ],
)
def test_a_value_of_a_wrong_type_is_a_422(
    emulator: Emulator, body: dict[str, object], message: str
) -> None:
    response = control(emulator, "POST", "segments", body)
    assert response.status_code == 422
    assert message in response.json()["message"]
    assert emulator.segments == []


# With the forms


class Browser:
    """What a browser does with a form: it shows the texts, and submits them with CRLF.

    tests/browser/test_emulator_dashboard.py does the same in Chromium.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._url = emulator.url

    def open(self, path: str) -> str:
        response = requests.get(f"{self._url}{path}", timeout=10)
        assert response.status_code == 200
        self.text = response.text
        shown = re.findall(r'<textarea name="(\w+)"[^>]*>\n(.*?)</textarea>', self.text, re.DOTALL)
        self.fields = {name: unescape(text) for name, text in shown}
        return self.text

    def submit(self, place: int = 0, **fields: str) -> str:
        """Submit one of the forms; return the page that follows."""
        action = re.findall(r'<form method="post" action="([^"]+)">', self.text)[place]
        sent = {**self.fields, **fields} if place == 0 else {}
        body = {name: re.sub("\r\n|\r|\n", "\r\n", text) for name, text in sent.items()}
        response = requests.post(f"{self._url}{action}", data=body, timeout=10)
        assert response.status_code == 200
        assert response.url == f"{self._url}/"
        return response.text


def test_a_person_adds_changes_and_removes_a_segment(emulator: Emulator) -> None:
    browser = Browser(emulator)
    assert 'href="/dashboard/add"' in browser.open("/")
    browser.open("/dashboard/add")
    assert "VIP" in browser.submit(name="VIP", description="")
    (segment,) = emulator.segments
    assert (segment.name, segment.description) == ("VIP", None)

    assert f'href="/dashboard/{segment.id}"' in browser.open("/")
    browser.open(f"/dashboard/{segment.id}")
    browser.submit(name="", description="two\nlines")
    assert emulator.segment(segment.id).name == ""
    assert emulator.segment(segment.id).description == "two\nlines"

    browser.open(f"/dashboard/{segment.id}")
    browser.submit(description="")
    assert emulator.segment(segment.id).description is None

    browser.open(f"/dashboard/{segment.id}")
    assert "No segments yet." in browser.submit(1)
    assert emulator.segments == []


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_form_changes_only_what_the_person_changed(emulator: Emulator, text: str) -> None:
    browser = Browser(emulator)
    segment = emulator.add_segment(text, text)
    browser.open(f"/dashboard/{segment.id}")
    browser.submit(description="changed")
    assert emulator.segment(segment.id).name == text
    browser.open(f"/dashboard/{segment.id}")
    emulator.change_segment(segment.id, description="changed meanwhile")
    browser.submit(name="A")
    changed = emulator.segment(segment.id)
    assert (changed.name, changed.description) == ("A", "changed meanwhile")


def test_pages_with_forms_do_not_refresh(emulator: Emulator) -> None:
    segment = emulator.add_segment("A")
    browser = Browser(emulator)
    assert "refresh" in browser.open("/")
    for path in ("/dashboard/add", f"/dashboard/{segment.id}"):
        assert "refresh" not in browser.open(path)


def test_a_form_of_a_segment_that_is_gone_is_a_404(emulator: Emulator) -> None:
    for path in ("", "/remove"):
        url = f"{emulator.url}/dashboard/{UNKNOWN}{path}"
        assert requests.post(url, data={"name": "A"}, timeout=10).status_code == 404
    assert requests.get(f"{emulator.url}/dashboard/{UNKNOWN}", timeout=10).status_code == 404
    response = requests.post(f"{emulator.url}/dashboard/add", json={"name": "A"}, timeout=10)
    assert response.status_code == 400
    assert emulator.segments == []

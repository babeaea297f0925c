"""Texts that try to be something else: markup, formulas, templates, terminal codes, log lines.

They come from people (names, descriptions, reasons, user names, customers' identifiers) and from
Bunce (names, error messages), and are looked at wherever they are shown.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from html.parser import HTMLParser
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.models import ImportRun, Member, Segment
from bunce_sync.services import request_import
from bunce_sync.sync import customers
from bunce_sync.sync.budget import Budget
from bunce_sync.testing.emulator import Emulator
from bunce_sync.validators import REFUSED

from .admin_people import LIST, call, person, row
from .admin_people import page as page_of
from .api_client import ALL, client_for, get, post, user_with
from .commands import run
from .core import configure, drain, fresh, make, run_import
from .file_pages import FORMATS, export, import_rows
from .raw_server import RawServer, http, responding

pytestmark = pytest.mark.django_db

CALLS = "/admin/bunce_sync/apicall/"
MEMBERS = "/admin/bunce_sync/member/"

#: Texts that a row can hold.
HELD = {
    "markup": '<script>alert(1)</script>" onmouseover="alert(1)" x=\''
    "</textarea></title></script><img src=x onerror=alert(1)>",
    "url": "javascript:alert(1)",
    "line breaks": "VIP\r\nERROR root: all is lost\nLocation: https://evil.example",
    "unseen": "V\u200bI\u200d\ufeffP\u00ad \u202egpj.exe\u2066 a\u2028b\u2029c",
    "formula": '=HYPERLINK("https://evil.example";"VIP")',
    "command": "@SUM(1+1)*cmd|' /C calc'!A0",
    "code": "{{ 7*7 }}{% load static %}{{ settings.SECRET_KEY }} %s %(x)s %d 100% {0} {name!r}"
    " {0.__class__} a'b\"c`d\\e\\n '; DROP TABLE bunce_sync_segment; --",
    "composed": "\U0001f469\u200d\U0001f4bb " * 10 + "Z" + "\u0301" * 100,
}
#: Texts that are too long, or have control characters, as Bunce may send and code may store them.
ODD = {
    "terminal": "\x1b[2J\x1b[31mred\x07\x1b]0;title\x07 \x9b2Jgone\x9d0;title\x9c a\x08c\x7f\x85",
    "long": "x" * 10_000,
}
#: What no database here can hold.
UNSTORABLE = {"nul": "a\x00b", "surrogate": "a\ud800b\udfff"}


def texts(*groups: dict[str, str]) -> pytest.MarkDecorator:
    cases = {name: text for group in groups for name, text in group.items()}
    return pytest.mark.parametrize("text", [*cases.values()], ids=[*cases])


held = texts(HELD)
shown = texts(HELD, ODD)
received = texts(HELD, ODD, UNSTORABLE)

#: What a terminal obeys, apart from a line break, and what reorders a line.
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Page(HTMLParser):
    """A page as a browser reads it: scripts, handlers and links that would run something."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.dangers: list[str] = []
        self.text = ""
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        for name, value in attrs:
            link = name in ("href", "src", "action", "formaction")
            if name.startswith("on") or (link and "javascript:" in (value or "").lower()):
                self.dangers.append(f"{tag} {name}={value}")
        if tag == "img" and ("src", "x") in attrs:
            self.dangers.append("img")

    def handle_data(self, data: str) -> None:
        if self._tag == "script" and "alert(1)" in data:
            self.dangers.append(data)
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""


def check_page(client: Client, path: str, **data: Any) -> str:
    """Return the text of a page, which runs nothing of what it shows."""
    response = client.post(path, data, follow=True) if data else client.get(path)
    assert response.status_code == 200, path
    return check_html(response.content.decode())


def check_html(content: str) -> str:
    page = Page(content)
    assert not page.dangers
    return page.text


def everybody(name: str = "") -> Client:
    """Return the client of a user with all permissions of the app, and any user name."""
    client = person(*ALL)
    if name:
        User.objects.update(username=name[:150], first_name=name[:150], last_name=name[:150])
    return client


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """Return a function that checks all log lines so far: each record is one, and no other."""
    caplog.set_level(logging.DEBUG)

    def check() -> None:
        for record in caplog.records:
            message = record.getMessage()
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", message), message

    return check


def nasty_row(text: str, **values: Any) -> Segment:
    """Return a row in which every text is this one, as far as the columns allow."""
    segment = row(
        "rejected", text[:255], description=text, last_error=text, bunce_type=text[:100], **values
    )
    Segment.objects.filter(pk=segment.pk).update_sync_fields(
        bunce_id=None, bunce_name=text, bunce_description=text, bunce_conditions={text: [text]}
    )
    call(segment, message=text, body={"name": text}, outcome="rejected", code="conflict")
    return fresh(segment)


# The admin


@shown
def test_the_pages_of_the_admin_show_it_as_text(bunce: Emulator, text: str) -> None:
    client = everybody(text)
    segment = nasty_row(text)
    other = row("synced", text[:255])
    for one in (segment, other):
        for name in ("change", "history", "delete"):
            assert_shown(text[:255], check_page(client, page_of(one, name)))
    assert_shown(text[:255], check_page(client, f"{LIST}?q=x&q="))
    assert_shown(text[:50], check_page(client, CALLS))
    [logged] = segment.calls.all()
    assert_shown(text, check_page(client, f"{CALLS}{logged.pk}/change/"))
    check_page(client, LIST, action="delete_selected", _selected_action=[segment.pk, other.pk])
    check_page(client, f"{LIST}?{'q=' + text[:50] if text.isalnum() else 'q=VIP'}")


def assert_shown(text: str, page: str) -> None:
    """Check that a page has the text unchanged, apart from whitespace and control characters."""
    visible = re.sub(r"\s|[\x00-\x1f\x7f-\x9f]", "", text)[:40]
    bare = re.sub(r"\s|[\x00-\x1f\x7f-\x9f]", "", page)
    assert visible in bare or visible[:20] in bare


@shown
def test_messages_and_the_live_parts_show_it_as_text(bunce: Emulator, text: str) -> None:
    client = everybody(text)
    segment = nasty_row(text)
    check_page(client, page_of(segment), name=f"New {text[:200]}", description=text)
    for path in (page_of(segment, "live"), f"{LIST}live/?ids={segment.pk}"):
        response = client.get(path)
        assert response.headers["Content-Type"] == "application/json"
        for fragment in json.loads(response.content)["fragments"].values():
            check_html(fragment)
    check_page(client, LIST, action="push_now", _selected_action=[segment.pk])


@shown
def test_the_panel_shows_reasons_and_user_names_as_text(bunce: Emulator, text: str) -> None:
    client = everybody(text)
    services.pause(reason=text, by=text)
    request_import(by=text[:255])
    ImportRun.objects.update(counts={"new": 1})
    assert_shown(text, check_page(client, LIST))
    response = get(client_for(user_with(*ALL)), "status")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/json")


# REST


@received
def test_the_api_stores_it_or_refuses_it_with_a_problem(bunce: Emulator, text: str) -> None:
    client = client_for(user_with(*ALL))
    body = {"name": text[:255] if text != ODD["long"] else text, "description": text}
    response = post(client, "segments", body)
    assert response.headers["Content-Type"].startswith("application/")
    assert "html" not in response.headers["Content-Type"]
    if response.status_code == 201:
        assert not REFUSED.search(text)
        stored = get(client, f"segments/{response.json()['id']}").json()
        assert "".join(stored["name"].split()) == "".join(text[:255].split())
    else:
        assert response.status_code == 400
        assert response.headers["Content-Type"] == "application/problem+json"
        assert set(response.json()["errors"]) <= {"name", "description"}
    searched = text[:200].encode("utf-8", "replace").decode()
    assert get(client, "segments", {"search": searched}).status_code in (200, 400)


@shown
def test_the_api_returns_it_unchanged(bunce: Emulator, text: str) -> None:
    client = client_for(user_with(*ALL))
    segment = nasty_row(text)
    response = get(client, f"segments/{segment.pk}")
    assert response.json()["name"] == text[:255]
    assert response.json()["bunce_name"] == text
    [listed] = get(client, "segments").json()["results"]
    assert listed["name"] == text[:255]


@received
def test_the_api_pauses_with_any_reason(bunce: Emulator, text: str) -> None:
    client = client_for(user_with(*ALL))
    response = client.put(
        "/api/pause", json.dumps({"reason": text}), content_type="application/json"
    )
    assert response.status_code in (200, 201, 400)
    assert check_page(everybody(), LIST)


# Files


@held
@pytest.mark.parametrize("kind", FORMATS)
def test_files_carry_it_there_and_back(bunce: Emulator, kind: str, text: str) -> None:
    client = person("view_segment", "add_segment", "change_segment", "push_segment")
    segment = make(text[:255], text)
    data = export(client, kind)
    Segment.objects.update(name="changed", description="changed")
    import_rows(client, data, kind)
    now = fresh(segment)
    assert without_breaks(now.name) == without_breaks(text[:255])
    assert without_breaks(now.description or "") == without_breaks(text)


def without_breaks(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


@held
def test_no_cell_of_a_csv_file_is_a_formula(bunce: Emulator, text: str) -> None:
    nasty_row(text)
    client = person("view_segment")
    [_, *rows] = csv.reader(io.StringIO(export(client).decode("utf-8-sig")))
    for cell in [cell for one in rows for cell in one]:
        assert not re.match(r"[=+\-@\t\r]", cell), cell


# The terminal


@shown
@pytest.mark.parametrize("options", [{}, {"json": True}], ids=["text", "json"])
def test_no_command_passes_it_to_the_terminal(
    bunce: Emulator, text: str, options: dict[str, Any]
) -> None:
    bunce.add_segment(text)
    Segment.objects.bulk_create([Segment(name=text[:255])])
    nasty_row(text)
    services.pause(reason=text, by=text)
    ran = [run("bunce_pause", reason=text, by=text[:255], dry_run=True, **options)]
    ran += [run(name, **options) for name in ("bunce_status", "bunce_plan")]
    dry = ("bunce_push", "bunce_import", "bunce_resume")
    ran += [run(name, dry_run=True, **options) for name in dry]
    ran.append(run("bunce_doctor", worker_seconds=0.1, **options))
    for one in ran:
        assert one.out
        found = OBEYED.search(one.out + one.error)
        assert not found, one.out[max(0, found.start() - 60) :]
        if not options:
            assert not re.search(r"^(ERROR root|Location:)", one.out, re.MULTILINE)


@shown
def test_bunces_words_are_not_passed_to_the_terminal_or_the_log(
    settings: Settings, lines: Any, text: str
) -> None:
    refusal = http(422, {"message": text, "errors": {text: [text]}})
    with RawServer(responding(refusal)) as server:
        configure(settings, BASE_URL=server.url, API_KEY="sk_test_words", READ_TIMEOUT=5)
        segment = make(text[:255], text)
        drain()
        ran = run("bunce_push")
        status = run("bunce_status", json=True)
    assert fresh(segment).status == Segment.Status.REJECTED
    assert not OBEYED.search(ran.out + ran.error + status.out)
    assert "\n" not in fresh(segment).last_error
    lines()


@received
def test_bunces_names_are_imported_and_logged_on_no_line_of_their_own(
    bunce: Emulator, lines: Any, text: str
) -> None:
    stored = bunce.add_segment(text, text)
    run_import()
    [segment] = Segment.objects.filter(bunce_id=stored.id)
    client = everybody()
    for path in (LIST, page_of(segment), page_of(segment, "history"), page_of(segment, "delete")):
        check_page(client, path)
    assert get(client_for(user_with(*ALL)), f"segments/{segment.pk}").status_code == 200
    lines()


# Customers


@received
def test_identifiers_of_customers_are_text(bunce: Emulator, lines: Any, text: str) -> None:
    segment = make("VIP", status="synced", bunce_id=bunce.add_segment("VIP").id)
    rest = client_for(user_with(*ALL))
    response = post(rest, f"segments/{segment.pk}/customers", {"customers": [text[:255]]})
    assert response.status_code in (200, 202, 400)
    assert "html" not in response.headers["Content-Type"]
    customers.run(Budget(10))
    client = everybody()
    check_page(client, MEMBERS)
    check_page(client, f"{MEMBERS}?segment={segment.pk}")
    check_page(client, page_of(segment))
    assert get(rest, f"segments/{segment.pk}/customers").status_code == 200
    ran = run("bunce_forget", text[:255])
    assert not OBEYED.search(ran.out + ran.error)
    lines()


@shown
def test_bunces_words_about_a_customer_are_text(settings: Settings, lines: Any, text: str) -> None:
    refusal = http(422, {"message": f"{text} c-1"})
    with RawServer(responding(refusal)) as server:
        configure(settings, BASE_URL=server.url, API_KEY="sk_test_words", READ_TIMEOUT=5)
        segment = make("VIP", status="synced")
        segment.add_customers(["c-1"])
        customers.run(Budget(10))
        ran = run("bunce_status")
    assert Member.objects.get().status == Member.Status.REFUSED
    client = everybody()
    check_page(client, MEMBERS)
    check_page(client, page_of(segment))
    response = get(client_for(user_with(*ALL)), f"segments/{segment.pk}/customers/refused")
    assert response.status_code == 200
    assert not OBEYED.search(ran.out)
    lines()


# The emulator's pages


@received
def test_the_emulators_pages_show_it_as_text(bunce: Emulator, text: str) -> None:
    stored = bunce.add_segment(text, text)
    bunce.add_members(stored.id, [text[:255]])
    for path in ("", f"dashboard/{stored.id}", f"dashboard/{stored.id}/customers"):
        response = requests.get(f"{bunce.url}/{path}", timeout=10)
        assert response.status_code == 200
        check_html(response.text)

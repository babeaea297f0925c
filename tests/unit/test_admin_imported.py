"""Imported segments in the admin, whose texts may be as no person could enter them."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from bunce_sync import transitions
from bunce_sync.client import RemoteSegment
from bunce_sync.conf import conf
from bunce_sync.models import Segment
from tests.unit.admin_people import LIST, call, editor, page
from tests.unit.core import configure, fresh, make

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return editor()


def imported(name: str, description: str | None = None) -> Segment:
    """Create a row as an import makes it of a segment in Bunce."""
    remote = RemoteSegment(id="9da67caa", name=name, description=description)
    content = transitions.own_content(remote)
    row = Segment(**content)
    values = transitions.imported(remote, environment=conf.environment, now=timezone.now())
    row.set_stored(**values, **transitions.taken_over(row))
    Segment.objects.insert_as_stored([row])
    return Segment.objects.get()


def html(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, response
    return response.content.decode()


def remote_panel(client: Client, segment: Segment) -> str:
    return html(client, page(segment)).split('id="bunce-remote"')[1].split("</section>")[0]


ODD = [
    ("  ", None),
    ("\u200b", "plain"),
    ("Long name " * 60, None),
    ("Bell\x07 and\x9f more", "de\x01scribed\x1b"),
    ("two\nlines", "one\r\ntwo\rthree"),
    ("<script>alert(1)</script>", "</textarea><script>"),
    ("VIP", "x" * 49_000),
]


@pytest.mark.parametrize(("name", "description"), ODD)
def test_odd_texts_are_shown_opened_and_saved(
    client: Client, name: str, description: str | None
) -> None:
    segment = imported(name, description)
    html(client, LIST)
    assert "differs from here" not in remote_panel(client, segment)
    assert "It was imported from Bunce at" in html(client, page(segment))
    assert client.get(page(segment, "live")).status_code == 200
    form = {"name": segment.name, "description": segment.description or ""}
    assert client.post(page(segment), form).status_code == 302, "nothing was edited"
    assert fresh(segment).status == "synced"
    assert (fresh(segment).name, fresh(segment).description) == (segment.name, segment.description)
    assert client.post(page(segment), form | {"name": "Edited"}).status_code == 302
    assert (fresh(segment).name, fresh(segment).status) == ("Edited", "pending")
    assert fresh(segment).description == segment.description


def test_bunces_name_is_shown_in_full_and_with_its_control_characters(client: Client) -> None:
    name = "Long name " * 60 + "with\x07 a bell\x7f"
    shown = remote_panel(client, imported(name))
    assert "Long name " * 60 + "with[U+0007] a bell[U+007F]" in shown


def test_a_description_that_is_too_long_can_stay_but_not_be_entered(
    client: Client, settings: Settings
) -> None:
    configure(settings, DESCRIPTION_MAX_LENGTH=100)
    segment = imported("VIP", "x" * 200)
    form = {"name": "Gold", "description": "x" * 200}
    assert client.post(page(segment), form).status_code == 302
    assert fresh(segment).name == "Gold"
    response = client.post(page(segment), form | {"description": "x" * 201})
    assert "at most 100 characters (it has 201)" in response.content.decode()
    assert fresh(segment).description == "x" * 200
    assert client.post(page(segment), form | {"description": "x" * 100}).status_code == 302


def test_the_page_says_when_a_segment_was_imported(client: Client) -> None:
    shown = remote_panel(client, imported("VIP"))
    assert "<dt>Imported</dt>" in shown
    assert "<dt>Imported</dt>" not in remote_panel(client, make("Own", status="synced"))


def test_a_segment_of_another_environment_is_shown_as_it_was_there(client: Client) -> None:
    segment = imported("VIP")
    Segment.objects.update_sync_fields(environment="https://a.test:443 sandbox")
    shown = html(client, page(segment))
    assert "Belongs to sandbox (a.test)." in shown
    assert "This is what Bunce last showed." in shown
    assert 'class="bunce-actions" role="group"' not in shown
    assert "Belongs to sandbox" in html(client, LIST)


def call_log_of(client: Client, segment: Segment, **values: Any) -> str:
    call(segment, **values)
    return html(client, page(segment)).split('id="bunce-timeline"')[1].split("</section>")[0]


def test_a_call_to_another_environment_has_no_command_that_repeats_it_here(client: Client) -> None:
    segment = imported("VIP")
    shown = call_log_of(client, segment, environment="https://a.test:443 sandbox")
    assert "Sent to sandbox (a.test)." in shown
    assert "curl" not in shown
    shown = call_log_of(client, segment)
    assert "curl" in shown

"""Two people who edit one segment: each saves what they changed, and sees the other's change."""

from __future__ import annotations

import html as html_module
import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from bunce_sync.models import Segment
from tests.unit.admin_people import editor, page, person, row
from tests.unit.core import fresh

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return editor()


def as_sent(text: str) -> str:
    """Return a text with the line ends that a browser sends."""
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


class Form:
    """The form of an open change page, filled in as a browser would."""

    def __init__(self, client: Client, segment: Segment) -> None:
        self.client = client
        self.address = page(segment)
        self._read(client.get(self.address))

    def _read(self, response: Any) -> None:
        assert response.status_code == 200
        self.text = html_module.unescape(response.content.decode())
        self.values: dict[str, str] = {}
        for field in response.context["adminform"].form:
            if value := field.value():
                self.values[field.html_name] = "on" if value is True else as_sent(str(value))
            if field.field.show_hidden_initial:
                hidden = re.search(
                    rf'name="{field.html_initial_name}"[^>]*?(?: value="([^"]*)")?[^>]*>',
                    response.content.decode(),
                )
                assert hidden, field.name
                value = html_module.unescape(hidden[1] or "")
                self.values[field.html_initial_name] = as_sent(value)

    def save(self, **changes: str) -> bool:
        """Save with these changes; return whether the page was left. If not, it is shown again."""
        self.values |= changes
        response = self.client.post(self.address, self.values)
        if response.status_code == 302:
            return True
        self._read(response)
        return False

    def errors(self) -> str:
        [found] = re.findall(r'<ul class="errorlist nonfield[^>]*>(.*?)</ul>', self.text, re.DOTALL)
        return " ".join(re.findall(r"<li>(.*?)</li>", found, re.DOTALL))


def change(segment: Segment, **values: Any) -> None:
    """Change the row as another person or a program would."""
    for name, value in values.items():
        setattr(segment, name, value)
    segment.save()


def test_what_another_changed_is_shown_first_and_not_reverted(client: Client) -> None:
    segment = row(name="VIP", description="old")
    form = Form(client, segment)
    change(segment, name="Gold")
    assert not form.save(description="mine")
    assert fresh(segment).description == "old", "nothing is saved yet"
    assert form.errors() == (
        "Nothing was saved yet: the segment was changed while this page was open. Check the new"
        " values, and save again to keep your changes. Name: “VIP” is now “Gold”."
    )
    assert (form.values["name"], form.values["description"]) == ("Gold", "mine")
    assert form.save()
    assert (fresh(segment).name, fresh(segment).description) == ("Gold", "mine")


def test_when_both_changed_the_same_field_the_second_save_decides(client: Client) -> None:
    segment = row(name="VIP")
    form = Form(client, segment)
    change(segment, name="Gold")
    assert not form.save(name="Silver")
    assert "“VIP” is now “Gold”. Saving replaces it with yours." in form.errors()
    assert form.values["name"] == "Silver"
    assert form.save()
    assert fresh(segment).name == "Silver"


def test_a_change_between_the_two_saves_is_shown_as_well(client: Client) -> None:
    segment = row(name="VIP")
    form = Form(client, segment)
    change(segment, name="Gold")
    assert not form.save(description="mine")
    change(segment, name="Bronze")
    assert not form.save()
    assert "“Gold” is now “Bronze”" in form.errors()
    assert form.save()
    assert (fresh(segment).name, fresh(segment).description) == ("Bronze", "mine")


def test_the_box_is_compared_too(client: Client) -> None:
    segment = row(name="VIP")
    form = Form(client, segment)
    change(segment, add_all_customers=True)
    assert not form.save(name="Gold")
    assert "Add all customers: “No” is now “Yes”." in form.errors()
    assert form.values["add_all_customers"] == "on"
    change(segment, add_all_customers=False)
    assert not form.save()
    assert "add_all_customers" not in form.values
    assert form.save()
    assert (fresh(segment).name, fresh(segment).add_all_customers) == ("Gold", False)


@pytest.mark.parametrize(
    ("name", "description"),
    [("VIP", "two\nlines"), ("VIP", "two\r\nlines"), (" VIP ", " x "), ("VIP", None), ("VIP", "")],
)
def test_a_row_that_nobody_changed_is_saved_at_once(
    client: Client, name: str, description: str | None
) -> None:
    segment = row(name=name, description=description)
    assert Form(client, segment).save(), "nothing was edited"
    assert (fresh(segment).name, fresh(segment).description) == (name, description)
    assert Form(client, segment).save(name="Gold")
    assert (fresh(segment).name, fresh(segment).description) == ("Gold", description)


def test_the_sync_is_no_person(client: Client) -> None:
    segment = row(name="VIP")
    form = Form(client, segment)
    Segment.objects.filter(pk=segment.pk).update_sync_fields(
        status="synced", bunce_id="a1", bunce_name="VIP"
    )
    assert form.save(name="Gold")


def test_a_program_that_posts_the_fields_alone_saves_them(client: Client) -> None:
    segment = row(name="VIP", description="old")
    assert client.post(page(segment), {"name": "Gold", "description": "new"}).status_code == 302
    assert (fresh(segment).name, fresh(segment).description) == ("Gold", "new")


def test_the_log_names_only_what_was_edited(client: Client) -> None:
    segment = row(name="VIP", description="old")
    form = Form(client, segment)
    change(segment, name="Gold")
    form.save(description="mine")
    assert form.save()
    [entry] = LogEntry.objects.all()
    assert json.loads(entry.change_message) == [{"changed": {"fields": ["Description"]}}]


def test_an_update_of_the_open_page_contains_the_values(client: Client) -> None:
    segment = row(name="VIP", description="old")
    opened = client.get(page(segment)).content.decode()
    [shown] = re.findall(r'data-bunce-content="(\w+)"', opened)
    before = client.get(page(segment, "live"))
    assert before.json()["content"] == shown
    change(segment, name="Gold")
    after = client.get(page(segment, "live"), headers={"If-None-Match": before["ETag"]})
    assert after.status_code == 200
    assert after.json()["content"] != shown
    assert after.json()["values"] == [
        ["Name", "initial-name", "Gold"],
        ["Description", "initial-description", "old"],
        ["Add all customers", "initial-add_all_customers", "False"],
    ]


def test_a_reader_only_learns_that_something_changed() -> None:
    reader = person("view_segment")
    segment = row(name="VIP")
    assert reader.get(page(segment, "live")).json()["values"] == []
    assert "data-bunce-changed" in reader.get(page(segment)).content.decode()

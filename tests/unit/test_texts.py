"""What names and descriptions may contain: the same in code, in the admin and over REST."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from pytest_django import Settings

from bunce_sync.client import RemoteSegment
from bunce_sync.client.responses import read_segment
from bunce_sync.fingerprint import MAX_TEXT_LENGTH
from bunce_sync.models import Segment
from bunce_sync.validators import CONTROL, INVISIBLE, validate_characters, validate_visible
from tests.unit.admin_people import LIST, editor, page
from tests.unit.api_client import ALL, client_for, patch, post, user_with
from tests.unit.core import Status, configure, digests_of, fresh, make

pytestmark = pytest.mark.django_db

NOT_VISIBLE = "Enter a name with at least one visible character."
#: A zero width space, a byte order mark, a Hangul filler, and others that are drawn as nothing.
INVISIBLE_NAMES = [
    *("\u200b", "\ufeff", "\u3164", "\u2800", "\u115f", "\u1160", "\u17b4", "\u180e", "\u00ad"),
    *("\uffa0", "\u034f", "\u2060\u200d", "\u200e \u200f", "\U000e0041", "\ufe0f"),
]


def by_code(**fields: Any) -> dict[str, list[str]]:
    """Validate and save a segment in code; return the messages."""
    segment = Segment(**fields)
    try:
        segment.full_clean()
    except ValidationError as error:
        return error.message_dict
    segment.save()
    return {}


def by_form(**fields: Any) -> dict[str, list[str]]:
    """Add a segment in the admin; return the messages."""
    response = editor().post(f"{LIST}add/", fields)
    if response.status_code == 302:
        return {}
    errors: dict[str, list[str]] = response.context["adminform"].form.errors
    return {name: [str(message) for message in found] for name, found in errors.items()}


def by_rest(**fields: Any) -> dict[str, list[str]]:
    """Create a segment over REST; return the messages."""
    response = post(client_for(user_with(*ALL, name=str(uuid4()))), "segments/", fields)
    if response.status_code == 201:
        return {}
    assert response.status_code == 400, response.content
    errors: dict[str, list[str]] = response.json()["errors"]
    return errors


each_way = pytest.mark.parametrize("add", [by_code, by_form, by_rest])
Add = Callable[..., dict[str, list[str]]]


@each_way
@pytest.mark.parametrize("name", INVISIBLE_NAMES, ids=ascii)
def test_a_name_without_a_visible_character_is_refused(add: Add, name: str) -> None:
    assert add(name=name) == {"name": [NOT_VISIBLE]}
    assert not Segment.objects.exists()


@each_way
@pytest.mark.parametrize(
    "name", ["x", "\u200bx", "👩\u200d💻", "नि\u200d", "\u0301", "ﷺ", "\u2764\ufe0f"]
)
def test_invisible_characters_beside_a_visible_one_are_kept(add: Add, name: str) -> None:
    assert add(name=name) == {}
    assert Segment.objects.get().name == name


@each_way
@pytest.mark.parametrize("field", ["name", "description"])
@pytest.mark.parametrize("character", ["\x01", "\x1b", "\x7f", "\x85", "\x9f"], ids=ascii)
def test_control_characters_are_refused(add: Add, field: str, character: str) -> None:
    expected = f"Remove the character U+{ord(character):04X}. Only text, tabs and line breaks"
    [message] = add(**{"name": "VIP", field: f"a{character}b"})[field]
    assert message.startswith(expected)
    assert not Segment.objects.exists()


@each_way
@pytest.mark.parametrize("field", ["name", "description"])
def test_nul_is_refused(add: Add, field: str) -> None:
    assert add(**{"name": "VIP", field: "a\0b"})[field]
    assert not Segment.objects.exists()


@each_way
def test_tabs_and_line_breaks_are_kept_in_descriptions(add: Add) -> None:
    assert add(name="VIP", description="a\tb\nc") == {}
    assert Segment.objects.get().description == "a\tb\nc"


@each_way
def test_a_text_is_stripped_before_it_is_measured(add: Add, settings: Settings) -> None:
    configure(settings, DESCRIPTION_MAX_LENGTH=100)
    assert add(name=f"  {'n' * 255}\n ", description=f"  {'d' * 100}\n ") == {}
    row = Segment.objects.get()
    assert (row.name, row.description) == ("n" * 255, "d" * 100)


@each_way
def test_a_text_that_is_too_long_is_refused(add: Add) -> None:
    errors = add(name="n" * 256, description="d" * 10_001)
    assert errors["description"] == [
        "Shorten the description to at most 10000 characters (it has 10001)."
    ]
    assert "255" in errors["name"][0]
    assert add(name="🎉" * 255, description="🎉" * 10_000) == {}


@each_way
def test_the_length_of_descriptions_is_a_setting(add: Add, settings: Settings) -> None:
    configure(settings, DESCRIPTION_MAX_LENGTH=3)
    [message] = add(name="VIP", description="four")["description"]
    assert "at most 3" in message
    configure(settings, DESCRIPTION_MAX_LENGTH=4)
    assert add(name="VIP", description="four") == {}


def test_the_setting_is_bounded_by_what_the_table_accepts(settings: Settings) -> None:
    configure(settings, DESCRIPTION_MAX_LENGTH=MAX_TEXT_LENGTH + 1)
    from bunce_sync.checks import check_settings

    [message] = check_settings()
    assert f"at most {MAX_TEXT_LENGTH}" in message.msg
    # It can still be edited, by the default.
    assert by_code(name="VIP", description="d" * 10_000) == {}


def test_a_text_that_became_too_long_does_not_prevent_other_edits(settings: Settings) -> None:
    row = make(description="long enough")
    configure(settings, DESCRIPTION_MAX_LENGTH=3)
    client = client_for(user_with(*ALL))
    assert patch(client, f"segments/{row.pk}/", {"name": "New"}).status_code == 200
    saved = editor().post(page(row), {"name": "Newer", "description": "long enough"})
    assert saved.status_code == 302
    assert fresh(row).name == "Newer"
    response = editor().post(page(row), {"name": "Newer", "description": "changed"})
    assert "at most 3" in response.content.decode()


# Writes that call no validator


@pytest.mark.parametrize(
    "write",
    [
        lambda **fields: Segment(**fields).save(),
        lambda **fields: Segment.objects.bulk_create([Segment(**fields)]),
        lambda **fields: Segment.objects.update(**fields),
        lambda **fields: Segment.objects.bulk_update(
            [Segment(pk=Segment.objects.get().pk, **fields)], ["name", "description"]
        ),
    ],
    ids=["save", "bulk_create", "update", "bulk_update"],
)
def test_the_table_bounds_what_code_writes(write: Callable[..., object]) -> None:
    make("Before")
    write(name="n" * 255, description="é" * MAX_TEXT_LENGTH)
    for fields in (
        {"name": "VIP", "description": "d" * (MAX_TEXT_LENGTH + 1)},
        {"name": "n" * 256, "description": None},
    ):
        # PostgreSQL shortens a name that bulk_update() casts; everything else is an error.
        with suppress(DatabaseError), transaction.atomic():
            write(**fields)
    for row in Segment.objects.all():
        assert len(row.name) <= 255
        assert len(row.description or "") <= MAX_TEXT_LENGTH


# What Bunce sends


def received(**fields: Any) -> RemoteSegment:
    return read_segment({"data": {"id": "a1", "name": "VIP", **fields}}, http_status=200)


def test_what_bunce_sends_is_kept_up_to_the_same_bound() -> None:
    huge = "x" * (MAX_TEXT_LENGTH * 50)
    remote = received(name=huge, description=huge, conditions={"all": [huge]})
    assert len(remote.name) == len(remote.description or "") == MAX_TEXT_LENGTH
    assert remote.name.endswith("…")
    assert remote.conditions is None
    assert received(conditions={"all": ["x" * 1000]}).conditions == {"all": ["x" * 1000]}
    assert received(description="d" * MAX_TEXT_LENGTH).description == "d" * MAX_TEXT_LENGTH


def test_a_shortened_text_equals_none_of_ours() -> None:
    description = "x" * MAX_TEXT_LENGTH
    remote = received(description=description + "x")
    assert digests_of("VIP", remote.description) != digests_of("VIP", description)
    row = make(description=description, status=Status.SYNCED, bunce_id="a1")
    assert row.listed_fingerprint == digests_of("VIP", description)["listed_digest"]


# The ranges


def test_the_ranges_contain_every_character_without_a_mark() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] == "Z" or category in ("Cc", "Cf", "Cs") or character.isspace():
            with pytest.raises(ValidationError):
                validate_visible(character)
        if category == "Cs" or (category == "Cc" and character not in "\t\n\r"):
            with pytest.raises(ValidationError):
                validate_characters(character)


def test_the_ranges_contain_no_letter_digit_or_symbol() -> None:
    blank_by_design = "\u115f\u1160\u3164\uffa0\u2800\U0001d159"
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character)[0] in "LNPS" and character not in blank_by_design:
            validate_visible(character)
            validate_characters(character)


def test_the_ranges_can_be_read_as_javascript_reads_them() -> None:
    for ranges in (INVISIBLE, CONTROL):
        assert re.fullmatch(r"(\\u[0-9a-f]{4}|-)+", ranges)

"""Two people save one change page at the same moment."""

from __future__ import annotations

import html
import re
from functools import partial

import pytest
from django.db import connection
from django.test import Client

from .admin_people import editor, page
from .core import fresh, in_threads, make

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no row locks"),
]


def test_of_two_saves_of_one_page_at_once_the_second_is_shown_the_first() -> None:
    client = editor()
    for number in range(5):
        row = make(f"VIP {number}")
        opened = client.get(page(row)).content.decode()
        shown = html.unescape(re.findall(r'name="bunce_shown" value="([^"]*)"', opened)[0])
        forms = [
            {"name": row.name, "description": "mine", "bunce_shown": shown},
            {"name": "theirs", "description": "", "bunce_shown": shown},
        ]

        def save(form: dict[str, str], address: str = page(row)) -> int:
            other = Client()
            other.cookies = client.cookies
            return other.post(address, form).status_code

        assert sorted(in_threads([partial(save, form) for form in forms])) == [200, 302]
        row = fresh(row)
        assert (row.name == "theirs") is (row.description is None)

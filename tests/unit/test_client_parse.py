"""Reading a segment: unexpected values in its fields never make it unreadable."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunce_sync.client import Customer, Position
from bunce_sync.client.paging import read_page
from bunce_sync.client.responses import (
    RawResponse,
    parse_datetime,
    read_json,
    read_segment,
)
from bunce_sync.exceptions import BunceError, UnusableResponse
from bunce_sync.identifiers import parse_id


def parsed(**fields: Any) -> Any:
    content = {"data": {"id": "abc", "name": "Gold", **fields}}
    return read_segment(json.loads(json.dumps(content)), http_status=200)


DOCUMENTED = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2024-12-05 08:30:16", DOCUMENTED),
        ("2024-12-05T08:30:16Z", DOCUMENTED),
        ("2024-12-05T08:30:16.000000Z", DOCUMENTED),
        ("2024-12-05T09:30:16+01:00", DOCUMENTED),
        (" 2024-12-05 08:30:16 ", DOCUMENTED),
        (1733387416, DOCUMENTED),
        (1733387416.0, DOCUMENTED),
        (1733387416000, DOCUMENTED),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("0000-00-00 00:00:00", None),
        ("0001-01-01 00:00:00", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("9999-12-31 23:59:59", None),
        (0, None),
        (-5, None),
        (True, None),
        (10**30, None),
        (1e300, None),
        (["2024-12-05 08:30:16"], None),
    ],
)
def test_moments(value: object, moment: datetime | None) -> None:
    assert parse_datetime(value) == moment
    segment = parsed(created_at=value, updated_at=value)
    assert (segment.created_at, segment.updated_at) == (moment, moment)


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (1, True),
        (0, False),
        (True, True),
        (False, False),
        ("1", True),
        ("0", False),
        ("true", True),
        ("False", False),
        (None, None),
        ("", None),
        (2, None),
        (0.5, None),
        ("maybe", None),
        ([], None),
    ],
)
def test_all_customers(value: object, flag: bool | None) -> None:
    assert parsed(all_customers=value).all_customers is flag


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0),
        (5, 5),
        (5.0, 5),
        ("5", 5),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (-1, None),
        (True, None),
        (1.5, None),
        ("9" * 5000, None),
        ("٣", None),
        (None, None),
        ({}, None),
    ],
)
def test_customers_count(value: object, count: int | None) -> None:
    assert parsed(customers_count=value).customers_count == count


def test_text_that_a_database_refuses_is_cleaned() -> None:
    segment = parsed(
        name="a\x00b\ud800", description="c\x00", type="d\x00", conditions={"e\x00": ["\udfff"]}
    )
    assert (segment.name, segment.description, segment.type) == ("ab\ufffd", "c", "d")
    assert segment.conditions == {"e": ["\ufffd"]}


def test_fields_of_another_type_count_as_absent() -> None:
    segment = parsed(name=5, description=["x"], type={"a": 1})
    assert (segment.name, segment.description, segment.type) == ("", None, None)


def test_type_too_long_for_any_column_counts_as_absent() -> None:
    assert parsed(type="x" * 65).type is None


def test_numbers_that_no_database_stores_are_replaced() -> None:
    body = b'{"data": {"id": "abc", "conditions": [NaN, -Infinity, 1e999, %s, %s, 7, 1.5]}}' % (
        b"9" * 50,
        b"9" * 5000,
    )
    segment = read_segment(read_json(RawResponse(200, {}, body)), http_status=200)
    assert segment.conditions == [None, None, None, 1e50, None, 7, 1.5]


@pytest.mark.parametrize("depth", [100, 900])
def test_conditions_nested_too_deeply_count_as_absent(depth: int) -> None:
    conditions: list[Any] = []
    for _ in range(depth):
        conditions = [conditions]
    assert parsed(conditions=conditions).conditions is None


@pytest.mark.parametrize(
    "value", ["9da67caa-b803-4691-a2b6-bdcd58008aaf", "815", 815, "é-1", "x" * 255]
)
def test_usable_ids(value: object) -> None:
    assert parse_id(value) == str(value)


@pytest.mark.parametrize(
    "value",
    [None, "", " ", "a b", "a\n", "a\x00", "\ud800", "a\u200b", "x" * 256, 1.5, True, [], {}],
)
def test_unusable_ids(value: object) -> None:
    assert parse_id(value) is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20),  # with surrogates and control characters
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
FIELDS = ["id", "name", "description", "type", "all_customers", "conditions", "customers_count"]
FIELDS += ["created_at", "updated_at"]
SEGMENT_LIKE = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON))
META = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("per_page", "next_page_cursor", "has_next_page"), JSON)
)
ENVELOPE = st.fixed_dictionaries(
    {},
    optional={
        "success": JSON,
        "status": JSON,
        "message": JSON,
        "errors": JSON,
        "data": SEGMENT_LIKE | st.lists(SEGMENT_LIKE) | JSON | META,
        "meta": META | JSON,
    },
)


Outcome = TypeVar("Outcome")


def outcome_of(read: Callable[[], Outcome]) -> Outcome | BunceError:
    """Return the result or the ``BunceError``; any other error fails the test."""
    try:
        return read()
    except BunceError as error:
        return error


@given(content=ENVELOPE | JSON, status=st.integers(100, 999))
def test_any_json_is_read_or_refused(content: object, status: int) -> None:
    answer = RawResponse(status, {}, json.dumps(content).encode())
    outcome = outcome_of(lambda: read_segment(read_json(answer), http_status=status))
    if isinstance(outcome, BunceError):
        outcome.detail.encode()
        assert len(outcome.detail) <= 300
    else:
        outcome.name.encode()
        json.dumps(outcome.conditions, allow_nan=False)


@given(content=ENVELOPE | JSON, page=st.integers(1, 5), cursor=st.none() | st.text(min_size=1))
def test_any_json_is_a_page_or_refused(content: object, page: int, cursor: str | None) -> None:
    outcome = outcome_of(lambda: read_page(content, Position(page, cursor), http_status=200))
    if isinstance(outcome, BunceError):
        assert type(outcome) is UnusableResponse
        assert outcome.code in ("wrong_shape", "paging")
    elif outcome.next is not None:
        assert Position.from_json(outcome.next.to_json()) == outcome.next


@given(body=st.binary(max_size=200), status=st.integers(100, 999))
def test_any_bytes_are_read_or_refused(body: bytes, status: int) -> None:
    outcome = outcome_of(lambda: read_json(RawResponse(status, {}, body)))
    if isinstance(outcome, BunceError):
        assert len(outcome.detail) <= 300


def test_only_known_fields_of_a_customer_are_sent() -> None:
    devices = [{"device_type": "ios", "device_token": "t"}]
    assert Customer(email="a@b.c", first_name="", devices=devices).to_json() == {
        "email": "a@b.c",
        "first_name": "",
        "devices": devices,
    }


@pytest.mark.parametrize("fields", [{}, {"first_name": "Ada"}, {"email": "", "customer_id": ""}])
def test_customer_needs_an_id_or_an_email(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="customer_id or an email"):
        Customer(**fields)

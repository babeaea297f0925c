"""Fingerprints: which differences count, and that the two kinds are never equal."""

from __future__ import annotations

from typing import Any

import pytest

from bunce_sync.fingerprint import listed_fingerprint, normalize, sent_fingerprint

HERE = "Café\r\nau lait\rnoir "
BACK = " Cafe\N{COMBINING ACUTE ACCENT}\nau\0 lait\nnoir"


def test_normalized_text_ignores_what_changes_on_the_way_to_bunce_and_back() -> None:
    assert normalize(HERE) == normalize(BACK) == "Café\nau lait\nnoir"


def test_normalized_text_keeps_every_other_difference() -> None:
    texts = ["VIP", "vip", "V IP", "V\nIP", "VIP\udc00", "\N{FULLWIDTH LATIN CAPITAL LETTER V}IP"]
    assert len({normalize(text) for text in texts}) == len(texts)


def test_same_content_has_the_same_listed_fingerprint() -> None:
    assert listed_fingerprint(HERE, HERE) == listed_fingerprint(BACK, BACK)
    assert (
        listed_fingerprint(" VIP ", None)
        == listed_fingerprint("VIP", "")
        == listed_fingerprint("VIP", " \n")
    )


def test_different_content_has_different_listed_fingerprints() -> None:
    contents: list[tuple[str, str | None]] = [
        ("VIP", None),
        ("vip", None),
        ("VIP", "VIP"),
        ("", "VIP"),
        ("VIPVIP", None),
        ("VIP", "None"),
        ("VIP\udc00", None),
        ('VIP","description":"x', None),
    ]
    assert len({listed_fingerprint(*content) for content in contents}) == len(contents)


def test_same_fields_have_the_same_sent_fingerprint() -> None:
    assert sent_fingerprint({"name": HERE, "description": BACK}) == sent_fingerprint(
        {"name": BACK, "description": HERE}
    )


def test_field_order_does_not_change_the_sent_fingerprint() -> None:
    forwards = {"name": "VIP", "rule": {"a": 1, "b": 2}}
    backwards = {"rule": {"b": 2, "a": 1}, "name": "VIP"}
    assert sent_fingerprint(forwards) == sent_fingerprint(backwards)


@pytest.mark.parametrize("value", [None, "", " ", False])
def test_an_optional_field_without_a_value_does_not_change_the_sent_fingerprint(
    value: str | bool | None,
) -> None:
    assert sent_fingerprint({"name": "VIP", "description": value}) == sent_fingerprint(
        {"name": "VIP"}
    )


def test_every_difference_in_a_value_changes_the_sent_fingerprint() -> None:
    values: list[Any] = [None, True, 0, 1, "0", "false", "null", [], {}, [1, 2], [2, 1]]
    values += [{"a": 1}, {"a": 2}, "[]", "{}"]
    assert len({sent_fingerprint({"name": "VIP", "more": value}) for value in values}) == len(
        values
    )


def test_the_name_of_a_field_belongs_to_the_sent_fingerprint() -> None:
    assert sent_fingerprint({"name": "VIP"}) != sent_fingerprint({"description": "VIP"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1}])
def test_a_value_that_is_not_json_is_an_error(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        sent_fingerprint({"name": "VIP", "more": value})


@pytest.mark.parametrize("description", [None, "", "The best"])
def test_the_two_kinds_are_never_equal_for_the_same_content(description: str | None) -> None:
    fields = {"name": "VIP", "description": description}
    assert sent_fingerprint(fields) != listed_fingerprint("VIP", description)


@pytest.mark.parametrize(
    "fingerprint", [sent_fingerprint({"name": "VIP"}), listed_fingerprint("VIP", None)]
)
def test_a_fingerprint_is_64_hexadecimal_digits(fingerprint: str) -> None:
    assert len(fingerprint) == 64
    assert set(fingerprint) <= set("0123456789abcdef")

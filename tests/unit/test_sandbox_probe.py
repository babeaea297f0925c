"""What ``bunce_doctor --probe-sandbox`` finds out about a Bunce of each temper."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from bunce_sync import sandbox_probe
from bunce_sync.models import ApiCall, Segment
from bunce_sync.sandbox_probe import NotASandbox, probe
from bunce_sync.testing.emulator import Emulator, Faults

from .core import Reason, ago, configure, set_state

pytestmark = pytest.mark.django_db


def answers(**options: bool) -> dict[str, tuple[str, str]]:
    return {finding.name: (finding.level, finding.summary) for finding in probe(**options)}


def test_an_ordinary_bunce_confirms_every_assumption(bunce: Emulator) -> None:
    for number in range(3):
        bunce.add_segment(f"Old {number}")
    found = answers()
    assert {level for level, _ in found.values()} == {"pass"}
    assert "1000" in found["per_page"][1]
    assert "UTC" in found["zone"][1]
    assert "in the list after 0" in found["listed"][1]
    assert "need not be unique" in found["names"][1]


def test_its_segments_say_what_they_are_and_no_row_is_made(bunce: Emulator) -> None:
    answers()
    names = {stored.name for stored in bunce.segments}
    assert len(names) == 1
    assert names.pop().startswith("bunce_sync probe 20")
    assert len(bunce.segments) == 2
    assert not Segment.objects.exists()
    assert ApiCall.objects.filter(operation="create", outcome="confirmed").count() == 2


def test_unique_names(bunce: Emulator) -> None:
    bunce.set(unique_names=True)
    assert answers()["names"][1].startswith("Names are unique")
    assert len(bunce.segments) == 1


@pytest.mark.parametrize(("size", "level"), [(500, "pass"), (250, "pass"), (100, "pass")])
def test_a_page_size_that_is_refused(bunce: Emulator, size: int, level: str) -> None:
    bunce.set(max_per_page=size)
    found = answers()["per_page"]
    assert (found[0], f"page size is {size}" in found[1]) == (level, True)


def test_a_page_size_of_the_settings_that_is_too_large(bunce: Emulator, settings: Settings) -> None:
    configure(settings, PAGE_SIZE=400)
    bunce.set(max_per_page=250)
    assert answers()["per_page"][0] == "warn"


@pytest.mark.parametrize(
    ("order", "words"),
    [("newest", "newest first"), ("oldest", "oldest first"), ("shuffled", "not by creation")],
)
def test_the_order_of_the_list(bunce: Emulator, order: str, words: str) -> None:
    for number in range(12):
        bunce.add_segment(f"Old {number}", created_at=ago(1000 - number * 10))
    bunce.set(order=order)
    assert words in answers()["order"][1]


def test_a_segment_that_the_list_hides(bunce: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_probe, "LIST_SECONDS", 0.5)
    bunce.set(hide_every=1)
    assert answers()["listed"][0] == "warn"


def test_names_that_are_changed(bunce: Emulator) -> None:
    bunce.set(stored_name="upper")
    assert answers()["name"][0] == "warn"


def test_customers_are_only_added_when_asked_for(bunce: Emulator) -> None:
    assert "batch" not in answers()
    found = [finding for finding in probe(with_customers=True) if finding.name == "batch"]
    assert [finding.level for finding in found] == ["pass", "pass"]
    assert not any(call.body for call in ApiCall.objects.filter(operation="update"))


def test_a_failure_is_told(bunce: Emulator) -> None:
    bunce.set_faults(Faults(forbidden=1.0, methods=frozenset({"GET", "POST"})))
    found = answers()
    assert (found["per_page"][0], found["create"][0]) == ("fail", "fail")


def test_a_pause_ends_the_probe(bunce: Emulator) -> None:
    set_state(blocked_until=ago(-300), blocked_reason=Reason.RATE_LIMITED, blocked_since=ago(1))
    assert answers()["probe"][0] == "fail"
    assert bunce.served == 0


@pytest.mark.parametrize(
    "values",
    [
        {"API_KEY": "sk_live_1"},
        {"API_KEY": "sk_test_1", "BASE_URL": "https://api.bunce.so/v1"},
        {"API_KEY": "sk_test_1", "BASE_URL": "", "ENV": "live"},
        {"API_KEY": ""},
    ],
)
def test_a_live_account_is_never_probed(
    bunce: Emulator, settings: Settings, values: dict[str, str]
) -> None:
    configure(settings, **values)
    with pytest.raises(NotASandbox):
        [*probe()]
    with pytest.raises(CommandError, match="Only a sandbox"):
        call_command("bunce_doctor", "--probe-sandbox")
    assert bunce.served == 0

"""The check of a key that was never used before: what decides, and what is shown otherwise."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from bunce_sync import doctor
from bunce_sync.models import Segment
from bunce_sync.status.status import get_status
from bunce_sync.sync.sweep import run_once
from bunce_sync.testing.emulator import Emulator, Faults
from tests.unit.commands import run

from .core import Status, configure, drain, fresh

pytestmark = pytest.mark.django_db(transaction=True)

#: Responses to the read of one segment that say nothing about the account.
UNHELPFUL = ("forbidden", "bad_request", "no_content", "wrong_shape", "html_502", "redirect")


@pytest.fixture
def new_key(bunce: Emulator, settings: Settings) -> Segment:
    """A site with a segment in Bunce that gets another key; return a row that waits."""
    Segment.objects.create(name="Here before")
    drain()
    configure(settings, API_KEY="sk_test_new")
    return Segment.objects.create(name="VIP")


@pytest.mark.parametrize("fault", UNHELPFUL)
def test_the_list_decides_if_the_read_of_a_segment_does_not(
    bunce: Emulator, new_key: Segment, fault: str
) -> None:
    bunce.script([fault], "GET")  # the read; the list comes next
    run_once(seconds=5)
    assert fresh(new_key).status == Status.SYNCED
    assert get_status().strange_key_since is None


@pytest.mark.parametrize("fault", ["forbidden", "bad_request", "wrong_shape"])
def test_a_key_that_cannot_be_checked_is_shown_with_the_reason(
    bunce: Emulator, new_key: Segment, fault: str
) -> None:
    bunce.set_faults(Faults(**{fault: 1.0}, methods=frozenset({"GET"})))  # type: ignore[arg-type]
    served = bunce.served
    for _ in range(5):
        run_once(seconds=1)
    assert fresh(new_key).status == Status.PENDING
    assert bunce.served - served <= 4, "not asked again at once"
    assert get_status().strange_key_detail
    ran = run("bunce_status")
    assert ran.code == 1
    assert "Nothing is sent: the new API key could not be checked" in ran.out
    bunce.set_faults(None)
    run("bunce_rehome", "--accept-key")
    drain()
    assert fresh(new_key).status == Status.SYNCED


@pytest.fixture
def strange_key(bunce: Emulator, new_key: Segment) -> Segment:
    """A site whose key belongs to another account, which was noticed; return a row that waits."""
    bunce.remove_segment(bunce.segments[0].id)
    bunce.add_segment("Of another site")
    run_once(seconds=5)
    return new_key


def test_the_sweep_command_fails_while_a_strange_key_stops_the_work(
    bunce: Emulator, new_key: Segment
) -> None:
    bunce.remove_segment(bunce.segments[0].id)
    ran = run("bunce_sweep")
    assert ran.code == 1
    assert "this key seems to belong to another account" in ran.error
    assert "Sent" not in ran.out, "the reads of the check are no segments"
    assert fresh(new_key).status == Status.PENDING


def test_the_doctor_names_a_strange_key_and_the_fix(strange_key: Segment) -> None:
    found = [one for one in doctor.examine(0) if one.name == "key" and one.level == "fail"]
    assert ["belong to another account" in one.summary for one in found] == [True]
    assert "bunce_rehome" in found[0].fix


def test_an_import_that_a_strange_key_stops_says_so(bunce: Emulator, strange_key: Segment) -> None:
    ran = run("bunce_import")
    assert ran.code == 1
    assert "belong to another account" in ran.out
    assert " 0 pages of sandbox" in ran.out or "0 pages so far.\n" in ran.out
    assert not Segment.objects.filter(name="Of another site").exists()

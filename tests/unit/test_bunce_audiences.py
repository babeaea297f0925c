"""`manage.py bunce_audiences`: list, plan, sync, confirm and resync."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db.models import QuerySet

from bunce_sync import audiences
from bunce_sync.models import CustomerSync, Member, Segment
from bunce_sync.sync import audience_runs
from bunce_sync.testing.emulator import Emulator

from .commands import run
from .test_audiences import Staff, audience, people, segment_of, sync, usernames
from .test_customers import members

__all__ = ["audience"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_without_audiences_it_says_how_to_write_one() -> None:
    assert run("bunce_audiences").out.startswith("No audiences. Write a class in the audiences.py")


def test_the_list_shows_numbers(bunce: Emulator, audience: Staff) -> None:
    people(3)
    sync(audience)
    people(2, "new")
    audience_runs.compare(audience)
    [listed] = json.loads(run("bunce_audiences", "list", "--json").out)
    expected = {
        "key": "staff", "name": "Staff", "segment": segment_of(audience).pk, "members": 5,
        "to_add": 2, "to_remove": 0, "refused": 0, "held": False,
    }  # fmt: skip
    assert {name: listed[name] for name in expected} == expected
    out = run("bunce_audiences").out
    assert "staff  “Staff”\n  5 customers, 2 waiting to be sent\n  compared " in out


def test_a_class_that_is_gone_is_listed_as_such(bunce: Emulator, audience: Staff) -> None:
    sync(audience)
    audiences.unregister(Staff)
    assert "its class is gone, so it is no longer maintained" in run("bunce_audiences").out


def test_the_plan_shows_examples(bunce: Emulator, audience: Staff) -> None:
    people(7)
    sync(audience)
    User.objects.filter(username="u-1").update(is_active=False)
    people(7, "new")
    ran = run("bunce_audiences", "plan", "staff")
    assert ran.code == 3
    assert ran.out == (
        "+ new-0\n+ new-1\n+ new-2\n+ new-3\n+ new-4\n+ … and 2 more to add\n- u-1\n"
        "staff: 7 to add, 1 to remove, 6 unchanged.\n"
    )
    assert run("bunce_audiences", "plan", "staff", "--json").json["add"] == 7
    assert Member.objects.count() == 7


def test_a_plan_says_that_removals_would_be_held(bunce: Emulator, audience: Staff) -> None:
    people(3)
    sync(audience)
    User.objects.update(is_active=False)
    assert "The removals would be held" in run("bunce_audiences", "plan", "staff").out


def test_sync_creates_the_segment_and_sends_everybody(bunce: Emulator, audience: Staff) -> None:
    people(250)
    ran = run("bunce_audiences", "sync", "staff")
    assert ran.out == "staff: 250 added; 5 requests.\nIn Bunce: 250 customers.\n"
    assert ran.code == 0
    assert members(bunce, segment_of(audience)) == usernames()
    again = run("bunce_audiences", "sync", "staff", "--json").json
    assert (again["added"], again["requests"], again["bunce_counts"]) == (0, 1, 250)


def test_sync_waits_for_a_lost_request(bunce: Emulator, audience: Staff) -> None:
    people(3)
    sync(audience)
    people(3, "new")
    bunce.script(["lost_answer"], method="POST customers")
    assert run("bunce_audiences", "sync", "staff").code == 0
    assert members(bunce, segment_of(audience)) == usernames()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"environment": "https://api.bunce.so live"}, "Belongs to "),
        ({"status": "rejected", "last_code": "not_found"}, "No longer in Bunce."),
        ({"status": "rejected", "bunce_id": None, "last_code": "invalid"}, "send it unchanged"),
        ({"status": "in_doubt", "bunce_id": None}, "so it cannot be created twice"),
    ],
)
def test_sync_does_not_wait_for_a_segment_that_gets_no_customers(
    bunce: Emulator, audience: Staff, values: dict[str, Any], reason: str
) -> None:
    people(3)
    segment = sync(audience)
    Segment.objects.filter(pk=segment.pk).update_sync_fields(**values)
    people(2, "new")
    ran = run("bunce_audiences", "sync", "staff")
    assert ran.code == 1
    assert reason in ran.out.splitlines()[-1]
    assert members(bunce, segment) == {"u-0", "u-1", "u-2"}
    blocked = json.loads(run("bunce_audiences", "sync", "staff", "--json").out)["blocked"]
    assert reason in blocked


def test_an_exception_is_shown(bunce: Emulator, audience: Staff, monkeypatch: Any) -> None:
    def fail(self: Staff) -> QuerySet[User]:
        raise ZeroDivisionError("no division")

    monkeypatch.setattr(Staff, "get_queryset", fail)
    ran = run("bunce_audiences", "sync", "staff")
    assert ran.code == 1
    assert "nobody was removed: ZeroDivisionError: no division" in ran.error
    assert "The last comparison failed: ZeroDivisionError" in run("bunce_audiences").out


@pytest.mark.parametrize("drop", [False, True])
def test_held_removals_are_confirmed_or_dropped(
    bunce: Emulator, audience: Staff, drop: bool
) -> None:
    people(3)
    sync(audience)
    user = User.objects.create_superuser("boss", is_active=False)
    User.objects.update(is_active=False)
    ran = run("bunce_audiences", "sync", "staff")
    assert ran.code == 1
    assert "All 3 customers would be removed: held since" in ran.out
    assert "Held: 3 removals to confirm" in run("bunce_audiences").out
    option = ["--drop"] if drop else []
    decided = run("bunce_audiences", "confirm", "staff", "--yes", "--user", "boss", *option)
    assert decided.code == 0
    word = "Dropped" if drop else "Confirmed"
    assert LogEntry.objects.get(user=user).change_message == f"{word} the removal of 3 customers."
    assert run("bunce_audiences", "sync", "staff").code == int(drop)
    assert len(members(bunce, segment_of(audience))) == (3 if drop else 0)
    assert (CustomerSync.objects.get().held_at is not None) == drop


def test_there_may_be_nothing_to_confirm(bunce: Emulator, audience: Staff) -> None:
    sync(audience)
    assert "is not held" in run("bunce_audiences", "confirm", "staff", "--yes").error


def test_resync_sends_everybody_again(bunce: Emulator, audience: Staff) -> None:
    people(5)
    segment = sync(audience)
    bunce.remove_members(str(segment.bunce_id), ["u-1", "u-2"])
    assert run("bunce_audiences", "resync", "staff", "--yes").code == 0
    assert run("bunce_audiences", "sync", "staff").code == 0
    assert members(bunce, segment) == usernames()


@pytest.mark.parametrize("action", ["plan", "sync", "confirm", "resync"])
def test_an_unknown_key_is_told(audience: Staff, action: str) -> None:
    ran = run("bunce_audiences", action, "stuff")
    assert ran.error == "There is no audience 'stuff'. The audiences are: staff."
    assert run("bunce_audiences", action).error.startswith("Name an audience: ")

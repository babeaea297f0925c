"""`manage.py bunce_forget`: a customer leaves all segments and is never added again."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from bunce_sync.models import CustomerSync, ForgottenCustomer, Member, Segment
from bunce_sync.sync import customers
from bunce_sync.sync.budget import Budget
from bunce_sync.testing.emulator import Emulator

from .commands import run
from .core import now
from .test_audiences import Staff, audience, people, sync
from .test_customers import in_bunce, members

__all__ = ["audience"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_customer_is_removed_everywhere(bunce: Emulator) -> None:
    one, two = in_bunce(bunce, "One"), in_bunce(bunce, "Two")
    for segment in (one, two):
        segment.add_customers(["ann@example.com", "c-1"])
    customers.run(customers_budget())
    ran = run("bunce_forget", "Ann@Example.com")
    assert ran.code == 0
    assert ran.out.startswith("Removed from 2 segments.\n")
    assert members(bunce, one) == members(bunce, two) == {"c-1"}
    assert {*Member.objects.values_list("identifier", flat=True)} == {"c-1"}
    assert one.add_customers(["ann@example.com"]) == {"forgotten": 1}


def customers_budget() -> Budget:
    return Budget(30)


def test_an_audience_does_not_add_them_again(bunce: Emulator, audience: Staff) -> None:
    people(3)
    segment = sync(audience)
    run("bunce_forget", "u-1")
    sync(audience)
    assert members(bunce, segment) == {"u-0", "u-2"}


def test_a_held_audience_lets_them_go(bunce: Emulator, audience: Staff) -> None:
    people(3)
    segment = sync(audience)
    User.objects.filter(username="u-0").update(is_active=False)
    CustomerSync.objects.update(held_at=now(), held_removals=3)
    run("bunce_forget", "u-1")
    assert members(bunce, segment) == {"u-0", "u-2"}


def test_only_a_digest_is_kept(bunce: Emulator) -> None:
    assert run("bunce_forget", "c-1").out.startswith("The customer is in no segment here")
    [row] = ForgottenCustomer.objects.all()
    assert len(row.digest) == 64
    assert row.digest == ForgottenCustomer.digests_of("c-1")[0]


def test_without_bunce_it_says_that_it_is_not_done(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(["c-1"])
    customers.run(customers_budget())
    run("bunce_pause", "--reason", "test")
    ran = run("bunce_forget", "c-1")
    assert ran.code == 1
    assert "Still in 1 segment in Bunce: Pushes are paused." in ran.out


def test_it_can_be_undone(bunce: Emulator) -> None:
    run("bunce_forget", "c-1")
    assert run("bunce_forget", "c-1", "--undo").out == "The customer can be added again.\n"
    assert run("bunce_forget", "c-1", "--undo").out == "The customer was not forgotten.\n"


def test_what_is_no_identifier_is_refused() -> None:
    assert run("bunce_forget", " ").error == "Nothing was changed: the identifier is empty."


def in_segment(bunce: Emulator, **values: Any) -> Segment:
    """Return a segment in Bunce with the customer c-1, and with these values."""
    segment = in_bunce(bunce)
    segment.add_customers(["c-1"])
    customers.run(customers_budget())
    Segment.objects.filter(pk=segment.pk).update_sync_fields(**values)
    return segment


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"environment": "https://api.bunce.so live"}, "Belongs to "),
        ({"status": "rejected", "last_code": "not_found"}, "No longer in Bunce."),
    ],
)
def test_a_segment_that_cannot_be_reached_is_named_and_not_waited_for(
    bunce: Emulator, values: dict[str, str], reason: str
) -> None:
    other, segment = in_segment(bunce), in_segment(bunce, **values)
    ran = run("bunce_forget", "c-1")
    assert ran.code == 1
    assert ran.out.startswith("Removed from 1 segment.\nStill in 1 segment in Bunce: see below.")
    assert f"\n  #{segment.pk}: {reason}" in ran.out
    assert members(bunce, other) == set()
    assert [*Member.objects.values_list("segment_id", flat=True)] == [segment.pk]


def test_a_customer_whom_bunce_refuses_to_remove_is_not_done(bunce: Emulator) -> None:
    segment = in_segment(bunce)
    bunce.set(refused_customers=["c-1"])
    ran = run("bunce_forget", "c-1", "--json")
    assert ran.code == 1
    assert (ran.json["removed"], ran.json["waiting"]) == (0, 1)
    [left] = ran.json["left"]
    assert left["segment"] == segment.pk
    assert left["reason"].startswith("Bunce refuses to remove the customer. (")
    # It is tried again when the command runs again.
    bunce.set(refused_customers=[])
    ran = run("bunce_forget", "c-1")
    assert (ran.code, members(bunce, segment)) == (0, set())
    assert not Member.objects.exists()

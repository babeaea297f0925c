"""Audiences: querysets compared with members, the brake on removals, and what a person decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import QuerySet, Value
from django.db.models.functions import Concat

from bunce_sync import audiences, checks, services, signals
from bunce_sync.audiences import Audience
from bunce_sync.exceptions import CustomersNotByHand
from bunce_sync.models import CustomerSync, ForgottenCustomer, Segment
from bunce_sync.sync import audience_runs, customers
from bunce_sync.sync.audience_runs import AudienceFailed
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.push import push
from bunce_sync.testing.emulator import Emulator

from .core import ago, fresh, run_refresh
from .test_customers import members, statuses

pytestmark = pytest.mark.django_db


class Staff(Audience):
    name = "Staff"
    description = "People who work here."
    interval = timedelta(hours=1)
    customer_id = "username"

    def get_queryset(self) -> QuerySet[User]:
        return User.objects.filter(is_active=True)


class WithProfile(Staff):
    key = "staff"
    email = "email"
    first_name = "first_name"


@pytest.fixture
def audience() -> Iterator[Staff]:
    audiences.register(Staff)
    yield Staff()
    audiences.unregister(Staff)


def people(number: int, prefix: str = "u", **fields: Any) -> list[User]:
    return User.objects.bulk_create(
        User(username=f"{prefix}-{place}", **fields) for place in range(number)
    )


def usernames() -> set[str]:
    return {*User.objects.filter(is_active=True).values_list("username", flat=True)}


def sync(audience: Audience) -> Segment:
    """Compare, push the segment and send the customers; return the segment."""
    audience_runs.compare(audience)
    segment = segment_of(audience)
    push(segment.pk)
    customers.run(Budget(30))
    return fresh(segment)


def segment_of(audience: Audience) -> Segment:
    return Segment.objects.get(customer_sync__key=audience.get_key())


def held(audience: Audience) -> CustomerSync:
    return CustomerSync.objects.get(key=audience.get_key())


def test_the_queryset_is_in_bunce(bunce: Emulator, audience: Staff) -> None:
    people(250)
    segment = sync(audience)
    assert (segment.name, segment.description) == ("Staff", "People who work here.")
    assert members(bunce, segment) == usernames()


def test_who_leaves_the_queryset_is_removed(bunce: Emulator, audience: Staff) -> None:
    people(20)
    sync(audience)
    User.objects.filter(username__in=["u-1", "u-2"]).update(is_active=False)
    people(1, "new")
    segment = sync(audience)
    assert members(bunce, segment) == usernames()


def test_a_comparison_without_a_difference_writes_no_member(
    bunce: Emulator, audience: Staff, django_assert_max_num_queries: Any
) -> None:
    people(20)
    segment = sync(audience)
    run_refresh()
    before = len(bunce.requests)
    difference = audience_runs.compare(audience)
    assert difference is not None
    assert difference.counts == {"unchanged": 20}
    customers.run(Budget(30))
    run_refresh()
    assert len(bunce.requests) == before + 1
    assert fresh(segment).bunce_customers_count == 20


def test_the_profile_is_sent_when_it_changes(bunce: Emulator, audience: Staff) -> None:
    people(2, email="X@y.Z")
    segment = sync(WithProfile())
    assert {one.email for one in bunce.members(str(segment.bunce_id))} == {"x@y.z"}
    User.objects.filter(username="u-0").update(first_name="Ann")
    difference = audience_runs.compare(WithProfile())
    assert difference is not None
    assert difference.counts == {"change": 1, "unchanged": 1}


def test_the_segment_is_renamed_with_the_class(bunce: Emulator, audience: Staff) -> None:
    segment = sync(audience)

    class Renamed(Staff):
        key = "staff"
        name = "Colleagues"

    assert sync(Renamed()).pk == segment.pk
    assert [one.name for one in bunce.segments] == ["Colleagues"]


def test_an_exception_in_the_queryset_removes_nobody(bunce: Emulator, audience: Staff) -> None:
    people(3)
    segment = sync(audience)

    class Broken(Staff):
        key = "staff"

        def get_queryset(self) -> QuerySet[User]:
            raise ZeroDivisionError

    with pytest.raises(AudienceFailed):
        audience_runs.compare(Broken())
    assert held(audience).run_error == "ZeroDivisionError"
    assert set(statuses(segment).values()) == {"in_bunce"}


def test_a_comparison_on_demand_that_failed_is_repeated(
    bunce: Emulator, audience: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Staff) -> QuerySet[User]:
        raise RuntimeError("no column")

    monkeypatch.setattr(Staff, "interval", None)
    people(3)
    sync(audience)
    CustomerSync.objects.update(next_run_at=ago(1))
    assert audience_runs.due_audiences() == []
    with monkeypatch.context() as patched:
        patched.setattr(Staff, "get_queryset", fail)
        with pytest.raises(AudienceFailed):
            audience_runs.compare(audience)
    assert audience_runs.due_audiences() == []  # not at once
    CustomerSync.objects.update(next_run_at=ago(1))
    assert audience_runs.run(Budget(30)).requests == 1
    row = held(audience)
    assert (row.run_error, row.next_run_at) == ("", None)


def test_an_empty_queryset_removes_nobody(bunce: Emulator, audience: Staff) -> None:
    people(3)
    segment = sync(audience)
    User.objects.update(is_active=False)
    sync(audience)
    assert len(members(bunce, segment)) == 3
    assert held(audience).held_empty


def test_too_many_removals_are_held_and_adds_flow(bunce: Emulator, audience: Staff) -> None:
    people(300)
    received: list[Segment] = []

    def note(segment: Segment, **kwargs: Any) -> None:
        received.append(segment)

    signals.removals_held.connect(note)
    segment = sync(audience)
    User.objects.filter(username__startswith="u-1").update(is_active=False)
    people(5, "new")
    sync(audience)
    signals.removals_held.disconnect(note)
    assert len(members(bunce, segment)) == 305
    state = held(audience)
    assert (state.held_removals, state.held_members) == (111, 300)


def test_while_it_is_held_no_removal_is_sent(bunce: Emulator, audience: Staff) -> None:
    people(20)
    segment = sync(audience)
    User.objects.filter(username="u-1").update(is_active=False)
    audience_runs.compare(audience)
    CustomerSync.objects.update(held_at=ago(60), held_removals=19)
    customers.run(Budget(30))
    assert len(members(bunce, segment)) == 20, "the one that waited before is held as well"
    CustomerSync.objects.update(held_at=None)
    customers.run(Budget(30))
    assert members(bunce, segment) == usernames()


def test_removals_within_a_day_are_added_up(bunce: Emulator, audience: Staff) -> None:
    people(300)
    segment = sync(audience)
    for prefix in ("u-10", "u-11", "u-12", "u-13", "u-14", "u-15", "u-16", "u-17", "u-18", "u-2"):
        User.objects.filter(username__startswith=prefix).update(is_active=False)
        sync(audience)
    assert held(audience).held_at is not None
    assert len(members(bunce, segment)) >= 300 - 100


def test_confirmed_removals_happen(bunce: Emulator, audience: Staff) -> None:
    people(300)
    segment = sync(audience)
    User.objects.filter(username__startswith="u-1").update(is_active=False)
    sync(audience)
    with pytest.raises(services.RemovalsChanged):
        services.confirm_removals(segment, shown=110)
    services.confirm_removals(segment, shown=111)
    sync(audience)
    assert members(bunce, segment) == usernames()
    assert held(audience).held_at is None


def test_a_confirmation_does_not_cover_more_removals(bunce: Emulator, audience: Staff) -> None:
    people(300)
    segment = sync(audience)
    User.objects.filter(username__startswith="u-1").update(is_active=False)
    sync(audience)
    services.confirm_removals(segment, shown=111)
    User.objects.filter(username__startswith="u-2").update(is_active=False)
    sync(audience)
    assert len(members(bunce, segment)) == 300
    assert held(audience).held_removals == 222


def test_a_hold_ends_by_itself_when_the_queryset_is_back(bunce: Emulator, audience: Staff) -> None:
    people(3)
    sync(audience)
    User.objects.update(is_active=False)
    sync(audience)
    User.objects.update(is_active=True)
    sync(audience)
    assert held(audience).held_at is None


def test_who_returns_before_the_removal_is_sent_stays(bunce: Emulator, audience: Staff) -> None:
    people(20)
    segment = sync(audience)
    User.objects.filter(username="u-1").update(is_active=False)
    audience_runs.compare(audience)
    User.objects.filter(username="u-1").update(is_active=True)
    customers.run(Budget(30))
    assert members(bunce, segment) == usernames()
    assert "DELETE" not in {call.method for call in bunce.requests}


def test_an_exception_right_before_removals_removes_nobody(
    bunce: Emulator, audience: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(20)
    segment = sync(audience)
    User.objects.filter(username="u-1").update(is_active=False)
    audience_runs.compare(audience)

    def fail(self: Staff) -> QuerySet[User]:
        raise ValueError("the settings of this site are incomplete")

    monkeypatch.setattr(Staff, "get_queryset", fail)
    customers.run(Budget(30))
    assert len(members(bunce, segment)) == 20


def test_removals_of_a_combined_queryset_are_sent(
    bunce: Emulator, audience: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    def union(self: Staff) -> QuerySet[User]:
        active = User.objects.filter(is_active=True)
        return active.filter(username="u-2").union(active)

    people(20)
    monkeypatch.setattr(Staff, "get_queryset", union)
    sync(audience)
    User.objects.filter(username="u-1").update(is_active=False)
    segment = sync(audience)
    assert members(bunce, segment) == usernames()


def test_suppressed_and_forgotten_customers_are_left_out(
    bunce: Emulator, audience: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_suppressed(self: Staff, identifiers: Sequence[str]) -> list[str]:
        return [one for one in identifiers if one == "u-1"]

    people(4)
    ForgottenCustomer.objects.create(digest=ForgottenCustomer.digests_of("u-2")[0])
    monkeypatch.setattr(Staff, "is_suppressed", is_suppressed)
    segment = sync(audience)
    assert members(bunce, segment) == {"u-0", "u-3"}


def test_customers_of_an_audience_are_not_changed_by_hand(bunce: Emulator, audience: Staff) -> None:
    segment = sync(audience)
    with pytest.raises(CustomersNotByHand):
        segment.add_customers(["c-1"])


def test_large_querysets_are_read_in_parts(
    bunce: Emulator, audience: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audiences, "CHUNK", 7)
    people(50)
    segment = sync(audience)
    assert members(bunce, segment) == usernames()


@pytest.mark.parametrize("sliced", [True, False])
def test_any_queryset_can_be_read(bunce: Emulator, audience: Staff, sliced: bool) -> None:
    class Other(Staff):
        key = "staff"
        customer_id = Concat(Value("c-"), "username")  # type: ignore[assignment]  # not text

        def get_queryset(self) -> QuerySet[User]:
            return User.objects.order_by("-pk")[:100] if sliced else User.objects.distinct()

    people(30)
    segment = sync(Other())
    assert members(bunce, segment) == {f"c-{one}" for one in usernames()}


def test_rows_without_an_identifier_are_counted(bunce: Emulator, audience: Staff) -> None:
    class ByMail(Staff):
        key = "staff"
        customer_id = ""
        email = "email"

    people(2)
    people(1, "m", email="A@b.c")
    difference = audience_runs.compare(ByMail())
    assert difference is not None
    assert difference.counts == {"add": 1, "unusable": 2}


def test_due_audiences_are_compared(bunce: Emulator, audience: Staff) -> None:
    people(2)
    assert audience_runs.workers_needed(10) == 1
    audience_runs.run(Budget(30))
    assert audience_runs.workers_needed(10) == 0
    CustomerSync.objects.update(next_run_at=ago(1))
    assert audience_runs.workers_needed(10) == 1


def test_two_comparisons_at_once_are_one(bunce: Emulator, audience: Staff) -> None:
    audience_runs.ensure(audience)
    CustomerSync.objects.update(run_lease_until=ago(-60))
    assert audience_runs.compare(audience) is None


def test_a_plan_writes_nothing(bunce: Emulator, audience: Staff) -> None:
    people(3)
    difference = audience_runs.plan(audience)
    assert difference.counts == {"add": 3}
    assert difference.examples["add"] == ["u-0", "u-1", "u-2"]
    assert not Segment.objects.exists()


def test_a_class_that_is_gone_leaves_its_segment(bunce: Emulator, audience: Staff) -> None:
    people(3)
    segment = sync(audience)
    audiences.unregister(Staff)
    assert audience_runs.due_audiences() == []
    assert set(statuses(segment).values()) == {"in_bunce"}


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"customer_id": ""}, "bunce_sync.E022"),
        ({"add_all_customers": True}, "bunce_sync.E024"),
        ({"name": " "}, "bunce_sync.E025"),
    ],
)
def test_mistakes_are_found_by_check(attributes: dict[str, Any], found: str) -> None:
    wrong = type("Wrong", (Staff,), {"key": "wrong", **attributes})
    audiences.register(wrong)
    try:
        assert [message.id for message in checks.check_audiences()] == [found]
    finally:
        audiences.unregister(wrong)


def test_a_key_that_is_used_twice_is_found_by_check(audience: Staff) -> None:
    class Other(Staff):
        key = "staff"

    audiences.register(Other)
    try:
        assert [message.id for message in checks.check_audiences()] == ["bunce_sync.E023"]
    finally:
        audiences.unregister(Other)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("PayingCustomers", "paying_customers"),
        ("VIP", "vip"),
        ("HTTPUsers", "http_users"),
        ("B2BCustomers", "b2_b_customers"),
    ],
)
def test_the_key_is_made_of_the_name_of_the_class(name: str, key: str) -> None:
    made: type[Audience] = type(name, (Audience,), {})
    assert made.get_key() == key

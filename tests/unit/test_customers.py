"""Customers of segments: batches, unknown outcomes, refusals, and who is in the segment after."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from django.test import override_settings
from pytest_django import Settings

from bunce_sync import no_push, services
from bunce_sync.conf import conf
from bunce_sync.customer_entries import InvalidCustomer
from bunce_sync.exceptions import Conflict, CustomersNotByHand, NotFound, NotSent
from bunce_sync.fingerprint import normalize
from bunce_sync.models import (
    ApiCall,
    CustomerQueue,
    ForgottenCustomer,
    Member,
    MemberQuerySet,
    Segment,
)
from bunce_sync.services import resync_customers
from bunce_sync.sync import customers, push, shared_state, sweep
from bunce_sync.sync.budget import Budget
from bunce_sync.testing.emulator import Emulator, Faults

from .core import Outcome, Status, ago, configure, fresh, make, record_calls, run_refresh

pytestmark = pytest.mark.django_db


def in_bunce(bunce: Emulator, name: str = "VIP") -> Segment:
    """Return a synced segment that Bunce has."""
    return make(name, bunce_id=bunce.add_segment(name).id, status=Status.SYNCED)


def run(*, seconds: float = 30.0) -> int:
    """Send batches until none is due; return how many requests were made."""
    return customers.run(Budget(seconds)).requests


def members(bunce: Emulator, segment: Segment) -> set[str]:
    """Return the identifiers of the customers that Bunce has in a segment."""
    return bunce.member_ids(str(segment.bunce_id))


def statuses(segment: Segment) -> dict[str, str]:
    rows = Member.objects.filter(segment=segment)
    return dict(rows.values_list("identifier", "status"))


def make_due() -> None:
    """Let every wait be over: backoffs, grace periods and pauses of queues."""
    Member.objects.exclude(status=Member.Status.SENDING).update(due_at=ago(1))
    Member.objects.filter(late_until__isnull=False).update(late_until=ago(1))
    CustomerQueue.objects.update(due_at=ago(1))


def ids(number: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}-{place}" for place in range(number)]


def test_customers_are_added_in_batches(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    counts = segment.add_customers(ids(250))
    assert counts == {"added": 250}
    assert run() == 3
    assert members(bunce, segment) == set(ids(250))
    assert set(statuses(segment).values()) == {"in_bunce"}


def test_only_the_identifier_is_sent_unless_more_is_given(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(
        ["c-1", "Ann@Example.com", {"customer_id": "c-2", "email": "B@x.org", "first_name": " Bo "}]
    )
    run()
    [call] = [call for call in bunce.requests if call.path.endswith("/customers")]
    assert json.loads(call.raw_body) == {
        "customers": [
            {"email": "ann@example.com"},
            {"customer_id": "c-1"},
            {"customer_id": "c-2", "email": "b@x.org", "first_name": "Bo"},
        ]
    }


def test_identifiers_that_look_alike_are_different_customers_on_each_database(
    bunce: Emulator,
) -> None:
    segment = in_bunce(bunce)
    alike = [
        "Ab",
        "ab",
        "AB",
        "äb",
        "a\u030ab",
        "åc",
        "æ",
        "ae",
        "ß",
        "ss",
        "😀",
        "😁",
        "0",
        "00",
    ]
    different = {normalize(one) for one in alike}
    assert segment.add_customers([*alike, " ab ", "ab\u00a0"])["added"] == len(different)
    run()
    assert members(bunce, segment) == different
    assert segment.add_customers(alike) == {"unchanged": len(different)}
    assert segment.remove_customers(["ab ", "😀", "ss"])["removed"] == 3
    run()
    assert members(bunce, segment) == different - {"ab", "😀", "ss"}
    assert set(statuses(segment)) == different - {"ab", "😀", "ss"}


def test_an_unchanged_customer_is_not_sent_again(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    customer = {"customer_id": "c-1", "phone_no": "+1"}
    segment.add_customers([customer])
    run()
    assert segment.add_customers([customer]) == {"unchanged": 1}
    assert run() == 0
    assert segment.add_customers([{**customer, "phone_no": "+2"}]) == {"changed": 1}
    assert run() == 1
    [stored] = bunce.members(str(segment.bunce_id))
    assert stored.phone_no == "+2"


def test_the_profile_is_not_kept_once_bunce_has_it(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers([{"customer_id": "c-1", "phone_no": "+1"}])
    run()
    assert Member.objects.get().profile is None


def test_removed_customers_leave_no_row(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(3))
    run()
    assert segment.remove_customers(["c-1", "unknown"]) == {"removed": 1, "unchanged": 1}
    assert run() == 1
    assert members(bunce, segment) == {"c-0", "c-2"}
    assert set(statuses(segment)) == {"c-0", "c-2"}


def test_a_customer_who_was_never_sent_is_removed_without_a_request(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(1))
    segment.remove_customers(ids(1))
    assert run() == 0
    assert not Member.objects.exists()


def test_a_removal_that_was_not_sent_yet_is_undone_without_a_request(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(1))
    run()
    segment.remove_customers(ids(1))
    segment.add_customers(ids(1))
    assert run() == 0
    assert statuses(segment) == {"c-0": "in_bunce"}


def test_a_profile_that_was_not_sent_yet_is_sent_if_a_removal_is_undone(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers([{"customer_id": "c-0", "first_name": "Ann"}])
    run()
    customer = {"customer_id": "c-0", "first_name": "Bo"}
    segment.add_customers([customer])
    segment.remove_customers(ids(1))
    segment.add_customers([customer])
    assert run() == 1
    [stored] = bunce.members(str(segment.bunce_id))
    assert stored.first_name == "Bo"


def test_a_customer_whose_row_a_worker_deletes_meanwhile_is_added(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(3))
    run()
    segment.remove_customers(["c-1"])
    locked = MemberQuerySet.locked
    removed = [Member.objects.get(identifier="c-1").pk]

    def delete_and_lock(rows: MemberQuerySet) -> MemberQuerySet:
        Member.objects.filter(pk__in=removed).delete()
        return locked(rows)

    with monkeypatch.context() as patched:
        patched.setattr(MemberQuerySet, "locked", delete_and_lock)
        assert segment.add_customers(ids(4)) == {"added": 2, "unchanged": 2}
    assert statuses(segment)["c-1"] == "pending"


def test_customers_wait_until_their_segment_is_in_bunce(bunce: Emulator) -> None:
    segment = make("VIP")
    segment.add_customers(ids(1))
    assert run() == 0
    assert statuses(segment) == {"c-0": "pending"}


def test_a_batch_of_unknown_outcome_is_sent_again(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(3))
    bunce.set_faults(Faults(lost_answer=1, customer_calls=True))
    run()
    bunce.set_faults(Faults())
    assert set(statuses(segment).values()) == {"pending"}
    make_due()
    run()
    assert set(statuses(segment).values()) == {"in_bunce"}


def test_the_opposite_waits_until_a_lost_request_can_no_longer_act(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(1))
    bunce.set_faults(Faults(lost_answer=1, customer_calls=True))
    run()
    bunce.set_faults(Faults())
    segment.remove_customers(ids(1))
    CustomerQueue.objects.update(due_at=ago(1))
    assert run() == 0
    assert Member.objects.get().due_at > ago(-60)
    make_due()
    assert run() == 1
    assert members(bunce, segment) == set()


def test_a_confirmed_repetition_does_not_end_the_wait(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(1))
    bunce.set_faults(Faults(lost_answer=1, customer_calls=True))
    run()
    bunce.set_faults(Faults())
    Member.objects.update(due_at=ago(1))
    CustomerQueue.objects.update(due_at=ago(1))
    assert run() == 1
    segment.remove_customers(ids(1))
    assert run() == 0, "the first add could still take effect"


def test_an_unsent_repetition_does_not_end_the_wait(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(1))
    bunce.set_faults(Faults(lost_answer=1, customer_calls=True))
    run()
    bunce.set_faults(Faults())
    send = customers.Batch.send

    def remove_and_fail(batch: customers.Batch, record: Any) -> None:
        if not batch.adds:
            return send(batch, record)
        segment.remove_customers(ids(1))
        raise NotSent("refused")

    monkeypatch.setattr(customers.Batch, "send", remove_and_fail)
    Member.objects.update(due_at=ago(1))
    CustomerQueue.objects.update(due_at=ago(1))
    assert run() == 1, "the first add could still take effect"


def test_a_lost_removal_cannot_undo_an_add_that_follows_the_next_one(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(1))
    run()
    segment.remove_customers(ids(1))
    bunce.set_faults(Faults(lost_answer=1, methods=frozenset({"DELETE"}), customer_calls=True))
    run()
    bunce.set_faults(Faults())
    Member.objects.update(due_at=ago(1))
    CustomerQueue.objects.update(due_at=ago(1))
    assert run() == 1
    for _ in range(2):
        segment.add_customers(ids(1))
        segment.remove_customers(ids(1))
    segment.add_customers(ids(1))
    assert run() == 0, "the first removal could still take effect"
    segment.remove_customers(ids(1))
    make_due()
    sweep.sweep()
    assert not Member.objects.exists()


def test_a_change_during_the_request_is_sent_afterwards(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(2))
    send = customers.Batch.send

    def send_and_remove(batch: customers.Batch, record: Any) -> None:
        send(batch, record)
        if batch.adds:
            segment.remove_customers(["c-1"])

    monkeypatch.setattr(customers.Batch, "send", send_and_remove)
    run()
    assert members(bunce, segment) == {"c-0"}
    assert statuses(segment) == {"c-0": "in_bunce"}


def test_a_lost_worker_frees_its_batch(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(2))
    [queue] = customers.ready_queues()
    customers.begin_again(segment.pk, str(segment.bunce_id))
    queue.sync.refresh_from_db()
    batch = customers.Batch(queue)
    assert batch.reserve(Budget(30))
    assert set(statuses(segment).values()) == {"sending"}
    Member.objects.update(due_at=ago(1))
    sweep.sweep()
    assert set(statuses(segment).values()) == {"pending"}
    run()
    assert members(bunce, segment) == set(ids(2))


def test_a_refused_customer_stands_alone(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers([*ids(300), "bad@"])
    bunce.set(refused_customers=["bad@"])
    requests = run()
    assert requests <= 4 + 14
    assert members(bunce, segment) == set(ids(300))
    refused = Member.objects.get(status=Member.Status.REFUSED)
    assert refused.identifier == "bad@"
    assert "bad@" in refused.last_error
    assert "bad@" not in "".join(ApiCall.objects.values_list("message", flat=True))


def test_ten_refused_among_ten_thousand_cost_few_requests(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    bad = [f"c-{place}" for place in range(7, 10_000, 1_009)]
    assert len(bad) == 10
    bunce.set(refused_customers=bad, rate_limit=None)
    segment.add_customers(ids(10_000))
    most = 10_000 / 100 + 10 * 2 * math.log2(100)
    with override_settings(BUNCE_SYNC={**django_settings.BUNCE_SYNC, "RATE_LIMIT": None}):
        run(seconds=120)
    assert len(bunce.customer_requests()) <= most
    assert members(bunce, segment) == {*ids(10_000)} - {*bad}
    refused = Member.objects.filter(status=Member.Status.REFUSED)
    assert {one.identifier for one in refused if one.identifier in one.last_error} == {*bad}


def test_several_refused_customers_of_one_batch_are_found(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    bad = ["bad-3", "bad-50", "bad-77"]
    segment.add_customers([*ids(97), *bad])
    bunce.set(refused_customers=bad)
    run()
    assert members(bunce, segment) == set(ids(97))
    assert {one for one, status in statuses(segment).items() if status == "refused"} == set(bad)


def test_a_limit_of_the_plan_costs_a_handful_of_requests(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(1_000))
    bunce.set(customers_plan_limit=0)
    assert run() <= 10
    assert not Member.objects.filter(status=Member.Status.REFUSED).exists()
    queue = CustomerQueue.objects.get(operation="add")
    assert queue.last_code == "all_refused"
    assert "limit of your plan" in queue.last_error
    bunce.set(customers_plan_limit=None)
    make_due()
    run()
    assert len(members(bunce, segment)) == 1_000


@pytest.mark.parametrize("status", [413, 422])
def test_a_refused_size_halves_the_batch(bunce: Emulator, status: int) -> None:
    segment = in_bunce(bunce)
    bunce.set(customers_limit=30, customers_limit_status=status)
    segment.add_customers(ids(200))
    run()
    assert len(members(bunce, segment)) == 200
    assert shared_state.customer_batch().size == 25
    segment.add_customers(ids(50, "d"))
    assert run() == 2


def test_all_members_are_sent_to_a_new_segment_in_bunce(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(3))
    run()
    Segment.objects.filter(pk=segment.pk).update_sync_fields(bunce_id=bunce.add_segment("VIP").id)
    sweep.sweep()
    run()
    assert members(bunce, fresh(segment)) == set(ids(3))


def test_members_start_again_with_a_new_segment_in_bunce(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(3))
    run()
    other = bunce.add_segment("VIP")
    Segment.objects.filter(pk=segment.pk).update_sync_fields(bunce_id=other.id)
    Member.objects.filter(identifier="c-0").update(wanted=False, status="pending")
    segment.add_customers(["c-9"])
    run()
    assert members(bunce, fresh(segment)) == {"c-1", "c-2", "c-9"}


def test_a_worker_that_saw_an_older_id_does_not_begin_again_once_more(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(3))
    run()
    Segment.objects.filter(pk=segment.pk).update_sync_fields(bunce_id=bunce.add_segment("VIP").id)
    before = fresh(segment)
    sweep.sweep()
    assert run() == 1
    before.remove_customers(ids(1))
    customers.begin_again(segment.pk, str(before.bunce_id))
    customers.begin_again(segment.pk, str(segment.bunce_id))
    run()
    assert members(bunce, before) == {"c-1", "c-2"}


def test_a_batch_that_is_under_way_to_an_old_segment_is_sent_to_the_new_one(
    bunce: Emulator,
) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(2))
    [queue] = customers.ready_queues()
    customers.begin_again(segment.pk, str(segment.bunce_id))
    queue.sync.refresh_from_db()
    batch = customers.Batch(queue)
    assert batch.reserve(Budget(30))
    Segment.objects.filter(pk=segment.pk).update_sync_fields(bunce_id=bunce.add_segment("VIP").id)
    segment.remove_customers(ids(1))
    segment.add_customers(["c-9"])
    assert run() == 1
    batch.record(batch.perform(Budget(30)))
    assert run() == 0
    assert members(bunce, fresh(segment)) == {"c-1", "c-9"}


def test_all_customers_are_told_again_on_request(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(2))
    run()
    segment.add_customers(["c-9"])
    assert resync_customers(segment) == 3
    segment.remove_customers(["c-9"])
    assert run() == 1
    assert members(bunce, segment) == set(ids(2))
    assert "DELETE" not in {call.method for call in bunce.requests}


def test_the_segment_is_refreshed_when_all_is_sent(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(2))
    run()
    assert fresh(segment).refresh_requested_at is not None
    run_refresh()
    assert fresh(segment).bunce_customers_count == 2
    assert segment.customer_sync.sent_count == 2


def test_a_segment_that_bunce_does_not_have_any_more_gets_no_customers(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(2))
    bunce.remove_segment(str(segment.bunce_id))
    assert run() == 1
    run_refresh()
    assert fresh(segment).last_code == "not_found"
    make_due()
    assert run() == 0
    assert set(statuses(segment).values()) == {"pending"}


def test_customers_of_a_segment_with_all_customers_cannot_be_added(bunce: Emulator) -> None:
    segment = make("All", add_all_customers=True)
    with pytest.raises(CustomersNotByHand):
        segment.add_customers(ids(1))


@pytest.mark.parametrize(
    "value", ["", None, {}, {"name": "x"}, "a\nb", "x" * 256, True, 1.5, {"email": ""}]
)
def test_an_unusable_customer_is_named_by_its_position(bunce: Emulator, value: Any) -> None:
    segment = in_bunce(bunce)
    with pytest.raises(InvalidCustomer, match=r"^Customer 2: "):
        segment.add_customers(["c-1", value])
    assert not Member.objects.exists()


def test_the_call_log_names_no_customer(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(["ann@example.com"])
    run()
    call = ApiCall.objects.get(operation="add")
    assert call.body == {"customers": 1}
    assert call.outcome == Outcome.CONFIRMED


def test_forgotten_customers_are_left_out(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    ForgottenCustomer.objects.create(digest=ForgottenCustomer.digests_of("c-1")[0])
    assert segment.add_customers(ids(3)) == {"added": 2, "forgotten": 1}
    assert set(statuses(segment)) == {"c-0", "c-2"}


def test_nothing_is_stored_if_the_sites_transaction_fails(bunce: Emulator) -> None:
    segment = in_bunce(bunce)

    def add_and_fail() -> None:
        with transaction.atomic():
            segment.add_customers(ids(2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        add_and_fail()
    assert not Member.objects.exists()


def test_the_number_of_customers_in_a_request_is_a_setting(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, CUSTOMERS_PER_REQUEST=10)
    segment = in_bunce(bunce)
    segment.add_customers(ids(30))
    assert run() == 3


@pytest.mark.parametrize("segments_wait", [True, False])
def test_customers_leave_half_of_the_window_to_segments_that_wait(
    bunce: Emulator, settings: Settings, segments_wait: bool
) -> None:
    configure(settings, RATE_LIMIT=10, CUSTOMERS_PER_REQUEST=1)
    segment = in_bunce(bunce)
    segment.add_customers(ids(5))
    record_calls(*range(30, 34), operation="add", environment=conf.environment)
    record_calls(35, operation="read", environment=conf.environment)
    if segments_wait:
        make("Waiting")
        assert run(seconds=3) == 0
        assert push.run(Budget(3)).requests == 1
    assert run(seconds=3) >= 1


def test_a_no_push_block_holds_customers_until_it_ends(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    with no_push():
        segment.add_customers(ids(2))
        assert run() == 0
    assert run() == 1


def test_a_pause_holds_customers(bunce: Emulator) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(2))
    services.pause(reason="test", by="me")
    assert run() == 0
    services.resume()
    assert run() == 1


@pytest.mark.parametrize(
    ("words", "status", "halves"),
    [
        ("The customers field must not have more than 50 items.", 422, True),
        ("Too many customers", 400, True),
        ("The batch size must not exceed 20", 422, True),
        ("Payload", 413, True),
        ("Your plan allows at most 500 customers.", 422, False),
        ("The email must not have more than 64 characters.", 422, False),
        ("You have reached the limit of your plan.", 422, False),
    ],
)
def test_only_a_refusal_of_the_size_halves_the_batch(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch, words: str, status: int, halves: bool
) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(100))

    def refuse(batch: customers.Batch, record: Any) -> None:
        record.http_status = status
        raise Conflict(words, http_status=status)

    monkeypatch.setattr(customers.Batch, "send", refuse)
    [queue] = customers.ready_queues()
    customers.begin_again(segment.pk, str(segment.bunce_id))
    queue.sync.refresh_from_db()
    customers.Batch(queue).run(Budget(30))
    assert shared_state.customer_batch().size == (50 if halves else 100)


def test_a_customer_that_bunce_does_not_know_does_not_keep_others_from_leaving(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(10))
    run()
    run_refresh()
    send = customers.Batch.send

    def not_found(batch: customers.Batch, record: Any) -> None:
        if "c-3" in {row.identifier for row in batch.members}:
            raise NotFound("Customer not found", http_status=404)
        send(batch, record)

    monkeypatch.setattr(customers.Batch, "send", not_found)
    segment.remove_customers(ids(10))
    for _ in range(12):
        make_due()
        run()
        run_refresh()
    assert statuses(segment) == {"c-3": "refused"}
    assert members(bunce, segment) == {"c-3"}


def test_customers_are_found_by_the_beginning_in_the_order_of_the_index() -> None:
    segment = make("A")
    segment.add_customers(["c-2", "c-10", "c1", "C-1", "é-1", "ca", "c."])
    members = Member.objects.filter(segment=segment)

    def found(*texts: str) -> list[str]:
        return [*members.beginning_with(*texts).values_list("identifier", flat=True)]

    assert found("c-") == ["c-10", "c-2"]
    assert found("C", "c-1") == ["C-1", "c-10"]
    assert found("é") == ["é-1"]
    assert [*members.values_list("identifier", flat=True)] == [
        *("C-1", "c-10", "c-2", "c.", "c1", "ca", "é-1")
    ]
    assert "JOIN" not in str(members.query)

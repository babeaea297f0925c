"""Reconciliation: which rows in doubt match a segment in Bunce's list, and which are absent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pytest_django import Settings

from bunce_sync.models import ApiCall, Segment
from bunce_sync.sync import reconcile as reconcile_module
from bunce_sync.sync.push import push
from bunce_sync.testing.emulator import Emulator, Faults

from .core import (
    Operation,
    Outcome,
    Status,
    ago,
    calls,
    configure,
    digests_of,
    doubtful,
    due,
    fresh,
    judge_absent,
    let_time_pass,
    make,
    record_calls,
    run_reconcile,
)

pytestmark = pytest.mark.django_db

Decision = ApiCall.Decision


@pytest.fixture(autouse=True)
def unlimited(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=None, PAGE_SIZE=10)


def look() -> int:
    return run_reconcile(seconds=30)


def decision(row: Segment) -> str:
    return ApiCall.objects.get(segment=row).decision


# Found


def test_a_row_found_in_bunce_is_adopted_with_all_that_bunce_has(bunce: Emulator) -> None:
    stored = bunce.add_segment("VIP", "The best", created_at=ago(300))
    row = doubtful("VIP", "The best", attempts=3)
    assert look() == 1
    row = fresh(row)
    assert (row.status, row.bunce_id, row.bunce_type) == (Status.SYNCED, stored.id, stored.type)
    assert row.bunce_created_at == stored.created_at
    assert (row.attempts, row.last_code) == (0, "")
    [call] = ApiCall.objects.filter(segment=row)
    assert (call.decision, call.bunce_id) == (Decision.ADOPTED, stored.id)
    assert call.decided_at is not None
    assert (Operation.LIST, Outcome.CONFIRMED) in calls(), "the page is in the call log as well"


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (("VIP", None), ("VIP", "")),
        (("VIP", ""), ("VIP", None)),
        (("VIP", "  "), ("VIP", None)),
        (("VIP", "The best"), ("  VIP ", " The best\n")),
        ((" VIP", None), ("VIP", None)),
    ],
)
def test_surrounding_whitespace_and_an_empty_description_do_not_matter(
    bunce: Emulator, here: tuple[str, str | None], there: tuple[str, str | None]
) -> None:
    stored = bunce.add_segment(*there)
    row = doubtful(*here)
    look()
    assert fresh(row).bunce_id == stored.id


@pytest.mark.parametrize("there", [("vip", None), ("VIP", "The best"), ("V IP", None)])
def test_other_content_is_another_segment(bunce: Emulator, there: tuple[str, str | None]) -> None:
    bunce.add_segment(*there)
    row = doubtful()
    look()
    assert (fresh(row).bunce_id, fresh(row).status) == (None, Status.PENDING)


@pytest.mark.parametrize(
    ("apart", "found"),
    [
        (timedelta(hours=23, minutes=59), True),
        (-timedelta(hours=23, minutes=59), True),
        (timedelta(hours=24, minutes=1), False),
        (-timedelta(hours=24, minutes=1), False),
    ],
)
def test_a_match_must_be_created_within_a_day_of_the_attempt(
    bunce: Emulator, apart: timedelta, found: bool
) -> None:
    bunce.add_segment("VIP", created_at=ago(300) + apart)
    row = doubtful(sent=300)
    look()
    assert (fresh(row).status == Status.SYNCED) is found


def test_a_segment_that_belongs_to_another_row_is_not_taken_from_it(bunce: Emulator) -> None:
    stored = bunce.add_segment("VIP")
    owner = make(status=Status.SYNCED, bunce_id=stored.id)
    row = doubtful()
    look()
    assert (fresh(row).bunce_id, fresh(owner).bunce_id) == (None, stored.id)
    assert fresh(row).status == Status.PENDING


def test_each_segment_is_linked_to_one_row(bunce: Emulator) -> None:
    rows = [doubtful() for _ in range(3)]
    stored = {bunce.add_segment("VIP").id for _ in range(2)}
    look()
    states = [fresh(row) for row in rows]
    assert {row.bunce_id for row in states} == {*stored, None}
    assert sorted(row.status for row in states) == [Status.PENDING, Status.SYNCED, Status.SYNCED]


def test_a_segment_is_linked_to_the_row_nearest_in_time(bunce: Emulator) -> None:
    rows = [doubtful(sent=sent) for sent in (9000, 3000, 300)]
    stored = bunce.add_segment("VIP", created_at=ago(3010))
    look()
    assert [fresh(row).bunce_id for row in rows] == [None, stored.id, None]


def test_each_row_is_linked_to_the_segment_nearest_in_time(bunce: Emulator) -> None:
    early, late = doubtful(sent=9000), doubtful(sent=300)
    made_late = bunce.add_segment("VIP", created_at=ago(290))
    made_early = bunce.add_segment("VIP", created_at=ago(8990))
    look()
    assert (fresh(early).bunce_id, fresh(late).bunce_id) == (made_early.id, made_late.id)


def test_a_row_edited_while_in_doubt_is_matched_by_what_was_sent_and_then_updated(
    bunce: Emulator,
) -> None:
    stored = bunce.add_segment("VIP")
    sent = digests_of("VIP")
    row = doubtful(
        "Edited since", sent_digest=sent["sent_digest"], listed_digest=sent["listed_digest"]
    )
    look()
    row = fresh(row)
    assert (row.status, row.bunce_id, due(row)) == (Status.PENDING, stored.id, True)
    assert push(row.pk)
    assert [segment.name for segment in bunce.segments] == ["Edited since"]
    assert fresh(row).status == Status.SYNCED


def test_an_edit_between_reading_the_list_and_the_adoption_is_sent(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bunce.add_segment("VIP")
    row = doubtful()
    distance = reconcile_module._distance

    def edit_meanwhile(*args: Any) -> Any:
        Segment.objects.filter(pk=row.pk).update(name="Edited")
        return distance(*args)

    monkeypatch.setattr(reconcile_module, "_distance", edit_meanwhile)
    look()
    assert (fresh(row).status, fresh(row).name) == (Status.PENDING, "Edited")


def test_a_row_that_was_resolved_meanwhile_is_not_changed(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bunce.add_segment("VIP")
    row = doubtful()
    distance = reconcile_module._distance

    def settle_meanwhile(*args: Any) -> Any:
        Segment.objects.filter(pk=row.pk).update_sync_fields(
            status=Status.SYNCED, bunce_id="of-its-own"
        )
        return distance(*args)

    monkeypatch.setattr(reconcile_module, "_distance", settle_meanwhile)
    look()
    assert fresh(row).bunce_id == "of-its-own"


def test_a_row_whose_match_another_row_takes_meanwhile_is_sent_again(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = bunce.add_segment("VIP")
    row = doubtful()
    distance = reconcile_module._distance

    def take_meanwhile(*args: Any) -> Any:
        make("Other", status=Status.SYNCED, bunce_id=stored.id)
        return distance(*args)

    monkeypatch.setattr(reconcile_module, "_distance", take_meanwhile)
    look()
    assert (fresh(row).status, fresh(row).bunce_id) == (Status.PENDING, None)


# Not found


def test_a_row_that_is_not_in_bunce_is_to_be_sent_again(bunce: Emulator) -> None:
    for number in range(25):
        bunce.add_segment(f"Segment {number}")
    row = doubtful(attempts=1)
    assert look() == 5, "two empty pages prove the end"
    row = fresh(row)
    assert (row.status, due(row)) == (Status.PENDING, True)
    assert row.last_code == "read_timeout", "the cause is kept"
    assert row.absent_at is not None
    assert row.attempts == 1, "the backoff continues"
    assert decision(row) == Decision.ABSENT
    assert push(row.pk)
    assert fresh(row).status == Status.SYNCED


def test_an_empty_list_resolves_a_row_in_doubt_too(bunce: Emulator) -> None:
    row = doubtful()
    assert look() == 2
    assert fresh(row).status == Status.PENDING


def test_a_row_within_its_grace_period_is_not_considered(bunce: Emulator) -> None:
    bunce.add_segment("VIP")
    row = make(status=Status.IN_DOUBT, due_at=ago(-60))
    assert look() == 0
    other = doubtful("Other")
    look()
    assert (fresh(row).status, fresh(other).status) == (Status.IN_DOUBT, Status.PENDING)


def test_only_unresolved_creates_get_a_decision(bunce: Emulator) -> None:
    row = doubtful()
    record_calls(9000, outcome=Outcome.NOT_SENT, segment=row)
    record_calls(9000, outcome=Outcome.UNKNOWN, segment=row, decision=Decision.ABSENT)
    look()
    assert list(ApiCall.objects.filter(segment=row).order_by("pk").values_list("decision")) == [
        (Decision.ABSENT,),
        ("",),
        (Decision.ABSENT,),
    ]


def test_a_row_refused_as_a_duplicate_of_its_own_segment_is_adopted(bunce: Emulator) -> None:
    bunce.set(unique_names=True)
    bunce.script(["lost_answer"])
    row = make()
    assert push(row.pk)
    judge_absent(row)
    assert push(row.pk)
    assert (fresh(row).status, fresh(row).last_code) == (Status.IN_DOUBT, "conflict")
    look()
    assert (fresh(row).status, fresh(row).bunce_id) == (Status.SYNCED, bunce.segments[0].id)


def refused_after_doubt(bunce: Emulator) -> Segment:
    """Return a row whose name is taken in Bunce, and whose first create never arrived."""
    bunce.set(unique_names=True)
    bunce.script(["reset_before"])
    row = make()
    assert push(row.pk)
    let_time_pass(300)
    look()
    bunce.add_segment("VIP", "someone else's")
    assert push(row.pk)
    assert (fresh(row).status, fresh(row).last_code) == (Status.IN_DOUBT, "conflict")
    return row


def test_a_row_refused_after_doubt_whose_duplicate_is_not_ours_is_rejected(bunce: Emulator) -> None:
    row = refused_after_doubt(bunce)
    look()
    assert (fresh(row).status, fresh(row).last_code) == (Status.REJECTED, "conflict")
    assert "name" in fresh(row).last_error


def test_a_row_refused_after_doubt_and_edited_since_is_sent_again(bunce: Emulator) -> None:
    row = refused_after_doubt(bunce)
    Segment.objects.update(name="A name of our own")
    look()
    assert fresh(row).status == Status.PENDING
    assert push(row.pk)
    assert fresh(row).status == Status.SYNCED


@pytest.mark.parametrize("fault", ["lost_answer", "reset_before", "late_store", "html_502"])
def test_every_outcome_of_a_create_ends_with_exactly_one_segment(
    bunce: Emulator, fault: str
) -> None:
    bunce.set_faults(Faults(late_seconds=0.1), script=[fault])
    row = make()
    assert push(row.pk)
    bunce.wait_for(lambda bunce: not bunce.pending_writes)
    for _ in range(3):
        let_time_pass(300)
        look()
        push(row.pk)
    assert fresh(row).status == Status.SYNCED
    assert [segment.id for segment in bunce.segments] == [fresh(row).bunce_id]

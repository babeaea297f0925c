"""The circuit breakers: whether a failure concerns a row, an operation or all requests."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from bunce_sync.models import ApiCall, OperationState, Segment
from bunce_sync.status.presenters import StatusMessage, describe_segment, reasons_to_wait
from bunce_sync.status.status import get_status
from bunce_sync.sync.circuit_breaker import (
    LONGEST_PAUSE,
    OUTAGE_THRESHOLD,
    PROOFS,
    THRESHOLD,
    OperationPaused,
)
from bunce_sync.sync.push import push
from bunce_sync.sync.rate_limiter import NoPermit
from bunce_sync.sync.sweep import run_once, sweep
from bunce_sync.testing.emulator import Emulator, Faults

from .core import (
    Operation,
    Reason,
    Status,
    blocked_until,
    calls,
    configure,
    drain,
    fresh,
    judge_absent,
    let_pauses_pass,
    let_time_pass,
    make,
    paused,
    run_reconcile,
    run_refresh,
    seconds_until,
    state,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def unlimited(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=None)


def linked(bunce: Emulator, name: str = "VIP", **fields: Any) -> Segment:
    """Return a row that waits for an update of its segment in Bunce."""
    return make(name, bunce_id=bunce.add_segment("Before").id, **fields)


def statuses(rows: list[Segment]) -> list[str]:
    return [fresh(row).status for row in rows]


def message(row: Segment) -> StatusMessage:
    """Return what the admin says about the row."""
    return describe_segment(fresh(row), get_status())


def notices() -> list[StatusMessage]:
    """Return why requests wait, as the panel shows it, except that no worker runs here."""
    return [one for one in reasons_to_wait(get_status()) if "orker" not in one.summary]


def doubled(waits: list[float]) -> bool:
    """Return whether the pauses doubled up to a minute, on a machine that may be slow."""
    expected = [min(2.0 ** (number + 1), LONGEST_PAUSE) for number in range(len(waits))]
    return all(
        wait <= longest and (longest < 16 or wait > longest / 2)
        for wait, longest in zip(waits, expected, strict=True)
    )


# 403: of the row, or of its operation


def test_content_that_a_firewall_blocks_concerns_its_row_alone(bunce: Emulator) -> None:
    bunce.set(blocked_text="../")
    bad = make("../etc/passwd")
    others = [make(f"Segment {number}") for number in range(60)]
    drain(seconds=30)
    assert statuses(others) == [Status.SYNCED] * 60
    row = fresh(bad)
    assert (row.status, row.last_code) == (Status.REJECTED, "forbidden")
    assert "403 Forbidden" in row.last_error
    assert (paused(), notices()) == (set(), [])
    assert "firewall" in message(bad).cause
    assert "correct it below" in message(bad).action


def test_several_blocked_rows_in_a_row_pause_creates_until_others_succeed(bunce: Emulator) -> None:
    """They look like a failure of the operation until another row succeeds."""
    bunce.set(blocked_text="../")
    bad = [make(f"../{number}") for number in range(THRESHOLD + 1)]
    drain(seconds=30)
    assert paused() == {Operation.CREATE}
    assert statuses(bad) == [Status.PENDING] * len(bad), "rows refused before wait as well"
    for number in range(PROOFS):
        good = make(f"Good {number}")
        let_time_pass(LONGEST_PAUSE)
        drain(seconds=30)
        assert fresh(good).status == Status.SYNCED
    assert statuses(bad) == [Status.REJECTED] * len(bad)
    assert paused() == set()


def test_one_success_within_a_plans_limit_proves_nothing_about_the_other_rows(
    bunce: Emulator,
) -> None:
    bunce.set(plan_limit=0)
    rows = [make(f"New {number}") for number in range(THRESHOLD + 2)]
    drain(seconds=30)
    bunce.set(plan_limit=1)
    let_time_pass(LONGEST_PAUSE)
    drain(seconds=30)
    assert sorted(statuses(rows)) == [Status.PENDING] * (THRESHOLD + 1) + [Status.SYNCED]
    assert paused() == {Operation.CREATE}
    bunce.set(plan_limit=None)
    let_time_pass(LONGEST_PAUSE)
    drain(seconds=30)
    assert statuses(rows) == [Status.SYNCED] * len(rows)


def test_a_plans_limit_pauses_only_creates_and_its_message_is_shown(
    bunce: Emulator,
) -> None:
    bunce.set(plan_limit=0)
    creates = [make(f"New {number}") for number in range(10)]
    drain(seconds=30)
    update = linked(bunce)
    drain(seconds=30)
    assert fresh(update).status == Status.SYNCED
    assert statuses(creates) == [Status.PENDING] * 10
    [notice] = notices()
    assert notice.summary.startswith("Creating segments in Bunce is paused.")
    assert "HTTP 403" in notice.cause
    assert "limit of the plan" in notice.action
    assert notice.detail == "You have reached the limit of your plan."
    for row in creates:
        assert "Creating segments in Bunce is paused" in message(row).action
        assert message(row).detail == "You have reached the limit of your plan."


def test_all_rows_are_sent_automatically_once_the_plan_is_larger(bunce: Emulator) -> None:
    bunce.set(plan_limit=0)
    creates = [make(f"New {number}") for number in range(10)]
    drain(seconds=30)
    for _ in range(3):
        let_time_pass(LONGEST_PAUSE)
        drain(seconds=30)
    assert bunce.served <= THRESHOLD + 5, "one probe at a time"
    bunce.set(plan_limit=None)
    let_time_pass(LONGEST_PAUSE)
    drain(seconds=30)
    assert statuses(creates) == [Status.SYNCED] * 10
    assert len(bunce.segments) == 10
    assert notices() == []


def test_a_row_refused_before_another_succeeded_waits_with_the_rest(
    bunce: Emulator,
) -> None:
    bunce.set(plan_limit=0)
    first = make("First")
    drain(seconds=30)
    assert fresh(first).status == Status.REJECTED
    bunce.set(plan_limit=1)
    drain(seconds=30)
    make("Room for one")
    drain(seconds=30)
    rows = [make(f"New {number}") for number in range(THRESHOLD)]
    drain(seconds=30)
    assert statuses([first, *rows]) == [Status.PENDING] * (THRESHOLD + 1)
    bunce.set(plan_limit=None)
    let_time_pass(LONGEST_PAUSE)
    drain(seconds=30)
    assert statuses([first, *rows]) == [Status.SYNCED] * (THRESHOLD + 1)


def test_each_probe_is_a_different_row(bunce: Emulator) -> None:
    bunce.set(plan_limit=0)
    for number in range(THRESHOLD + 3):
        make(f"New {number}")
    drain(seconds=30)
    for _ in range(3):
        let_time_pass(LONGEST_PAUSE)
        drain(seconds=30)
    assert ApiCall.objects.values("segment_id").distinct().count() == THRESHOLD + 3


def test_a_row_that_failed_does_not_probe_while_another_waits(bunce: Emulator) -> None:
    bunce.set(plan_limit=0)
    rows = [make(f"New {number}") for number in range(THRESHOLD + 1)]
    for row in rows[:THRESHOLD]:
        push(row.pk)
    let_time_pass(LONGEST_PAUSE)
    with pytest.raises(OperationPaused):
        push(rows[0].pk)
    assert push(rows[THRESHOLD].pk)


def test_the_pause_doubles_with_each_failed_probe(bunce: Emulator) -> None:
    bunce.set(plan_limit=0)
    for number in range(THRESHOLD + 9):
        make(f"New {number}")
    drain(seconds=30)
    waits = []
    for _ in range(7):
        waits.append(seconds_until(blocked_until(Operation.CREATE)))
        let_pauses_pass(LONGEST_PAUSE)
        drain(seconds=30)
    assert doubled(waits)


def test_a_success_between_refusals_shows_that_they_concern_single_rows(bunce: Emulator) -> None:
    bunce.set(blocked_text="../")
    for number in range(3 * THRESHOLD):
        name = "Good" if number % THRESHOLD == THRESHOLD - 1 else "../"
        push(make(f"{name} {number}").pk)
    assert paused() == set()
    assert Segment.objects.filter(status=Status.REJECTED).count() == 6


def test_a_retried_row_that_fails_alone_never_pauses_the_others(bunce: Emulator) -> None:
    bunce.set(blocked_text="../")
    bad = [make(f"../{number}") for number in range(THRESHOLD)]
    drain(seconds=30)
    for number in range(PROOFS):
        make(f"Good {number}")
        let_time_pass(LONGEST_PAUSE)
        drain(seconds=30)
    for _ in range(3):
        Segment.objects.filter(pk__in=[row.pk for row in bad]).update_sync_fields(
            status=Status.PENDING
        )
        drain(seconds=30)
        assert statuses(bad) == [Status.REJECTED] * THRESHOLD
    assert paused() == set()


def test_a_key_without_permission_to_update_pauses_only_updates(bunce: Emulator) -> None:
    bunce.script(["forbidden"] * 10, method="PATCH")
    updates = [linked(bunce, f"Edited {number}") for number in range(5)]
    create = make("New")
    drain(seconds=30)
    assert paused() == {Operation.UPDATE}
    assert statuses(updates) == [Status.PENDING] * 5
    assert fresh(create).status == Status.SYNCED


def test_a_refused_key_pauses_all_requests(bunce: Emulator) -> None:
    bunce.set_faults(Faults(unauthorized=1.0))
    push(make().pk)
    assert state().blocked_reason == Reason.KEY_REFUSED
    assert paused() == set()


# 404


@pytest.fixture
def wrong_path(bunce: Emulator, settings: Settings) -> None:
    configure(settings, BASE_URL=bunce.base_url.replace("/v1", "/v2"))


def test_a_404_for_a_create_says_that_the_address_is_wrong(
    bunce: Emulator, wrong_path: None
) -> None:
    row = make()
    push(row.pk)
    assert (fresh(row).status, fresh(row).last_code) == (Status.REJECTED, "no_such_address")
    assert message(row).summary == "Bunce refused to create it."
    assert "BUNCE_SYNC['BASE_URL']" in message(row).cause
    assert "Correct the setting" in message(row).action


def test_a_wrong_base_path_pauses_pushes_and_all_rows_are_sent_once_it_is_corrected(
    bunce: Emulator, settings: Settings, wrong_path: None
) -> None:
    rows = [make(f"New {number}") for number in range(6)]
    updates = [linked(bunce, f"Edited {number}") for number in range(6)]
    drain(seconds=30)
    assert paused() == {Operation.CREATE, Operation.UPDATE}
    assert statuses(rows + updates) == [Status.PENDING] * 12
    assert any("address does not exist (HTTP 404)" in notice.cause for notice in notices())
    configure(settings, BASE_URL=bunce.base_url)
    let_time_pass(LONGEST_PAUSE)
    drain(seconds=30)
    assert statuses(rows + updates) == [Status.SYNCED] * 12
    assert len(bunce.segments) == 12


def test_a_segment_that_is_gone_concerns_its_row_alone(bunce: Emulator) -> None:
    gone = make("Gone", bunce_id="9da67caa-b803-4691-a2b6-bdcd58008aaf")
    rows = [linked(bunce, f"Edited {number}") for number in range(5)]
    drain(seconds=30)
    assert (fresh(gone).status, fresh(gone).last_code) == (Status.REJECTED, "not_found")
    assert message(gone).summary == "No longer in Bunce."
    assert statuses(rows) == [Status.SYNCED] * 5


# Unreadable successes


@pytest.mark.parametrize("shape", ["not_json", "not_object", "no_id", "failed"])
def test_creates_with_unreadable_responses_are_in_doubt_and_pause_creates(
    bunce: Emulator, shape: Any
) -> None:
    bunce.set_faults(Faults(wrong_shape=1.0, shape=shape))
    rows = [make(f"New {number}") for number in range(5)]
    updates = [linked(bunce, f"Edited {number}") for number in range(5)]
    drain(seconds=30)
    assert statuses(rows).count(Status.IN_DOUBT) == THRESHOLD
    assert statuses(rows).count(Status.PENDING) == 5 - THRESHOLD
    assert statuses(updates) == [Status.SYNCED] * 5
    assert state().blocked_reason == ""
    [notice] = notices()
    assert notice.summary.startswith("Creating segments in Bunce is paused.")
    bunce.set_faults(None)
    for _ in range(2):
        let_time_pass(300)
        run_once(seconds=10)
    assert statuses(rows) == [Status.SYNCED] * 5
    assert len(bunce.segments) == 10


def test_an_update_with_an_unreadable_response_is_read_before_it_is_sent_again(
    bunce: Emulator,
) -> None:
    row = linked(bunce, "Edited")
    bunce.set_faults(Faults(wrong_shape=1.0, shape="not_json", methods=frozenset({"PATCH"})))
    drain(seconds=30)
    assert fresh(row).status == Status.PENDING
    run_once(seconds=10)
    assert fresh(row).status == Status.SYNCED
    assert [operation for operation, _ in calls(row)] == [Operation.UPDATE, Operation.READ]


# Successes without content


def test_an_update_confirmed_by_a_204_is_synced_and_a_refresh_follows(bunce: Emulator) -> None:
    bunce.script(["no_content"] * 6, method="PATCH")
    rows = [linked(bunce, f"Edited {number}") for number in range(6)]
    run_once(seconds=10)
    assert statuses(rows) == [Status.SYNCED] * 6
    run_once(seconds=10)
    assert {fresh(row).bunce_name for row in rows} == {f"Edited {number}" for number in range(6)}
    assert (state().failures, paused()) == (0, set())
    assert calls(rows[0]) == [
        (Operation.UPDATE, "confirmed"),
        (Operation.READ, "confirmed"),
    ]


def test_a_create_confirmed_by_a_204_is_reconciled(bunce: Emulator) -> None:
    bunce.script(["no_content"] * 4)
    rows = [make(f"New {number}") for number in range(4)]
    drain(seconds=30)
    assert statuses(rows) == [Status.IN_DOUBT] * 4
    let_time_pass(300)
    run_once(seconds=10)
    assert statuses(rows) == [Status.SYNCED] * 4
    assert len(bunce.segments) == 4


# Successful responses that report a failure


def test_a_create_that_bunce_reports_as_failed_is_rejected_after_a_second_scan(
    bunce: Emulator,
) -> None:
    bunce.script(["name_taken"] * 9)
    row, others = make("Taken"), [make(f"Other {number}") for number in range(2)]
    push(row.pk)
    assert (fresh(row).status, fresh(row).last_error) == (Status.IN_DOUBT, "Name already taken")
    let_time_pass(300)
    run_reconcile(seconds=10)
    waiting = fresh(row)
    assert (waiting.status, waiting.last_error) == (Status.PENDING, "Name already taken")
    assert "searched" in message(row).cause
    assert message(row).detail == "Name already taken"
    push(row.pk)
    assert fresh(row).status == Status.IN_DOUBT, "it may have arrived this time"
    let_time_pass(300)
    run_reconcile(seconds=10)
    assert (fresh(row).status, fresh(row).last_error) == (Status.REJECTED, "Name already taken")
    bunce.set_faults(None)
    drain(seconds=30)
    assert statuses(others) == [Status.SYNCED] * 2
    assert {segment.name for segment in bunce.segments} == {"Other 0", "Other 1"}


def test_failures_with_different_messages_concern_single_rows(bunce: Emulator) -> None:
    in_other_words = Faults(wrong_shape=1.0, shape="failed", methods=frozenset({"PATCH"}))
    for number in range(2 * THRESHOLD):
        row = linked(bunce, f"Edited {number}")
        bunce.set_faults(in_other_words)
        bunce.script(["name_taken"] if number % 2 else [], method="PATCH")
        push(row.pk)
        assert fresh(row).status == Status.REJECTED
    assert paused() == set()


def test_rows_that_fail_hours_apart_count_as_consecutive(bunce: Emulator) -> None:
    bunce.set(plan_limit=0)
    rows = []
    for number in range(THRESHOLD):
        rows.append(make(f"New {number}"))
        drain(seconds=30)
        let_time_pass(3600)
        sweep()
    assert paused() == {Operation.CREATE}
    assert statuses(rows) == [Status.PENDING] * THRESHOLD


def test_a_create_stored_despite_a_failure_message_makes_no_second_segment(bunce: Emulator) -> None:
    bunce.script(["name_taken"])
    row = make()
    push(row.pk)
    let_time_pass(300)
    run_reconcile(seconds=10)
    let_time_pass(300)
    bunce.set_faults(Faults(wrong_shape=1.0, shape="failed"))  # stored nevertheless
    push(row.pk)
    let_time_pass(300)
    run_reconcile(seconds=10)
    assert (fresh(row).status, fresh(row).bunce_id) == (Status.SYNCED, bunce.segments[0].id)
    assert len(bunce.segments) == 1


def test_an_update_that_bunce_reports_as_failed_is_rejected_with_its_message(
    bunce: Emulator,
) -> None:
    row = linked(bunce, "Edited")
    bunce.script(["name_taken"], method="PATCH")
    push(row.pk)
    assert (fresh(row).status, fresh(row).last_error) == (Status.REJECTED, "Name already taken")


@pytest.mark.parametrize("fault", ["error_before", "html_502"])
def test_the_cause_stays_shown_while_a_row_waits_to_be_sent_again(
    bunce: Emulator, fault: str
) -> None:
    bunce.script([fault])
    row = make()
    push(row.pk)
    cause = message(row).cause
    let_time_pass(300)
    run_reconcile(seconds=10)
    assert fresh(row).status == Status.PENDING
    assert cause in message(row).cause
    assert "does not contain it" in message(row).cause


# A refusal after an unresolved create


def test_a_taken_name_after_an_unresolved_create_is_reconciled_first(
    bunce: Emulator,
) -> None:
    bunce.set_faults(Faults(late_seconds=0.1), script=["late_store"])
    row = make("Mine")
    push(row.pk)
    # Judged absent too early: the list did not contain it yet.
    judge_absent(row)
    bunce.wait_for(lambda bunce: not bunce.pending_writes)
    bunce.set(taken_names=["Mine"])
    let_time_pass(300)
    assert push(row.pk)
    assert (fresh(row).status, fresh(row).last_error) == (Status.IN_DOUBT, "name taken")
    Segment.objects.filter(pk=row.pk).update(name="Renamed")
    let_time_pass(300)
    for _ in range(2):
        run_once(seconds=10)
    assert (fresh(row).status, fresh(row).bunce_id) == (Status.SYNCED, bunce.segments[0].id)
    assert [segment.name for segment in bunce.segments] == ["Renamed"]


# An internal error


def test_internal_errors_pause_nothing(bunce: Emulator) -> None:
    for number in range(OUTAGE_THRESHOLD + 1):
        push(make(f"Bad {number}", bunce_id=f"not an id {number}").pk)
    assert (state().failures, state().blocked_until, paused()) == (0, None, set())
    row = make("Good")
    assert push(row.pk)
    assert fresh(row).status == Status.SYNCED


# Content stored differently than sent


@pytest.mark.parametrize("stored_name", ["upper", "keep_old"])
def test_content_stored_differently_is_shown_and_not_sent_again(
    bunce: Emulator, stored_name: Any
) -> None:
    row = linked(bunce, "Edited")
    bunce.set(stored_name=stored_name)
    run_once(seconds=10)
    stored = fresh(row)
    assert (stored.status, stored.last_code) == (Status.SYNCED, "stored_differently")
    assert message(row).summary == "In Bunce, but with different content than was sent."
    assert "“Push ours” replaces Bunce's content" in message(row).action
    served = bunce.served
    run_once(seconds=10)
    assert bunce.served == served


def test_a_name_that_bunce_changes_on_storing_does_not_become_drift(bunce: Emulator) -> None:
    bunce.set(stored_name="upper")
    row = make("Edited")
    run_once(seconds=10)
    for _ in range(2):
        Segment.objects.filter(pk=row.pk).update_sync_fields(refresh_requested_at=row.created_at)
        run_once(seconds=10)
        assert fresh(row).last_code == "stored_differently"


# The list


def test_an_unreadable_list_is_shown_in_the_panel_and_for_each_row_in_doubt(
    bunce: Emulator,
) -> None:
    bunce.script(["lost_answer"])
    row = make()
    push(row.pk)
    let_time_pass(300)
    bunce.script(["forbidden"], method="GET")
    run_reconcile(seconds=10)
    [notice] = notices()
    assert notice.summary.startswith("Bunce's list of segments cannot be read")
    assert notice.detail == "You are not allowed to do this."
    assert "cannot be read" in message(row).action
    other = make("Other")
    assert push(other.pk)
    let_time_pass(LONGEST_PAUSE)
    run_reconcile(seconds=10)
    assert notices() == []
    assert fresh(row).bunce_id == bunce.segments[0].id


def test_a_pause_that_no_row_waits_for_ends(bunce: Emulator) -> None:
    bunce.set(plan_limit=0)
    rows = [make(f"New {number}") for number in range(THRESHOLD)]
    drain(seconds=30)
    sweep()
    assert paused() == {Operation.CREATE}
    Segment.objects.filter(pk__in=[row.pk for row in rows]).delete()
    sweep()
    assert not OperationState.objects.exists()


def test_a_sweep_wakes_no_workers_for_rows_whose_operation_is_paused(bunce: Emulator) -> None:
    bunce.set(plan_limit=0)
    for number in range(THRESHOLD + 20):
        make(f"New {number}")
    drain(seconds=30)
    assert not any(sweep().workers.values())
    linked(bunce)
    assert sweep().workers["push"] == 1


def lost(name: str, bunce: Emulator) -> Segment:
    """Return a row whose create was lost, and whose grace period is over."""
    bunce.script(["lost_answer"])
    row = make(name)
    push(row.pk)
    let_time_pass(300)
    return row


@pytest.mark.parametrize("fault", ["error_before", "redirect", "reset_before"])
def test_a_list_that_always_fails_is_shown_and_pauses_nothing_else(
    bunce: Emulator, fault: str
) -> None:
    row = lost("Lost", bunce)
    bunce.script([fault] * 30, method="GET")
    for number in range(OUTAGE_THRESHOLD + 3):
        run_reconcile(seconds=10)
        let_pauses_pass(LONGEST_PAUSE)
        assert number < THRESHOLD - 1 or paused() == {Operation.LIST}
    assert state().blocked_reason == ""
    [notice] = notices()
    assert notice.summary.startswith("Bunce's list of segments cannot be read")
    assert push(make("Other").pk)
    bunce.set_faults(None)
    let_time_pass(LONGEST_PAUSE)
    run_reconcile(seconds=10)
    assert (fresh(row).status, notices()) == (Status.SYNCED, [])


def test_a_list_that_fails_once_is_read_again_at_once(bunce: Emulator) -> None:
    row = lost("Lost", bunce)
    bunce.script(["reset_before"], method="GET")
    run_reconcile(seconds=10)
    run_reconcile(seconds=10)
    assert fresh(row).status == Status.SYNCED


# Reads


def request_refresh(rows: list[Segment]) -> list[Segment]:
    """Request a refresh of the rows, and return them."""
    Segment.objects.filter(pk__in=[row.pk for row in rows]).update_sync_fields(
        refresh_requested_at=rows[0].created_at
    )
    return rows


def synced(bunce: Emulator, count: int) -> list[Segment]:
    """Return synced rows whose segments are in Bunce."""
    return [
        make(f"Known {number}", status=Status.SYNCED, bunce_id=bunce.add_segment("Known").id)
        for number in range(count)
    ]


def read_everything(rounds: int = 8) -> None:
    for _ in range(rounds):
        let_pauses_pass(LONGEST_PAUSE)
        sweep()
        run_refresh(seconds=10)


def test_segments_that_are_gone_do_not_stop_the_reads_of_others(bunce: Emulator) -> None:
    good = synced(bunce, 5)
    request_refresh(good[:1])
    run_refresh(seconds=10)  # shows that segments can be read
    gone = [make(f"Gone {number}", status=Status.SYNCED) for number in range(THRESHOLD)]
    request_refresh(gone)
    run_refresh(seconds=10)
    assert paused() == {Operation.READ}, "a wrong key would look like this"
    request_refresh(good)
    read_everything()
    assert not Segment.objects.refresh_requested().exists()
    assert {fresh(row).last_code for row in gone} == {"not_found"}
    assert statuses(good) == [Status.SYNCED] * 5
    assert paused() == set()


@pytest.mark.parametrize("fault", ["forbidden", "html_200"])
def test_refused_reads_are_repeated_once_reads_work_again(bunce: Emulator, fault: str) -> None:
    rows = request_refresh(synced(bunce, THRESHOLD + 2))
    if fault == "forbidden":
        bunce.script(["forbidden"] * THRESHOLD, method="GET")
    else:
        bunce.set_faults(Faults(wrong_shape=1.0, shape="not_json", methods=frozenset({"GET"})))
    run_refresh(seconds=10)
    assert paused() == {Operation.READ}
    bunce.set_faults(None)
    read_everything()
    assert not Segment.objects.refresh_requested().exists()
    assert {fresh(row).bunce_name for row in rows} == {"Known"}


def test_reads_do_not_wait_for_paused_updates(bunce: Emulator) -> None:
    bunce.script(["forbidden"] * THRESHOLD, method="GET")
    rows = request_refresh(synced(bunce, THRESHOLD))
    run_refresh(seconds=10)
    bunce.script(["forbidden"] * 20, method="PATCH")
    for number in range(THRESHOLD + 1):
        linked(bunce, f"Edited {number}")
    drain(seconds=30)
    assert paused() == {Operation.READ, Operation.UPDATE}
    read_everything()
    assert not Segment.objects.refresh_requested().filter(pk__in=[row.pk for row in rows]).exists()


def test_no_row_is_considered_gone_while_single_segments_cannot_be_read(
    bunce: Emulator,
) -> None:
    """Bunce's pages do not document the call, which follows an update without content."""
    row = make(status=Status.SYNCED, refresh_requested_at=make().created_at)
    run_refresh(seconds=10)
    assert (fresh(row).status, fresh(row).last_code) == (Status.SYNCED, "not_found")


def test_a_duplicate_is_not_considered_removed_while_reads_fail(bunce: Emulator) -> None:
    row = make(
        status=Status.SYNCED, bunce_duplicate_id="b-2", refresh_requested_at=make().created_at
    )
    run_refresh(seconds=10)
    assert fresh(row).bunce_duplicate_id == "b-2"
    [real] = synced(bunce, 1)
    Segment.objects.filter(pk=real.pk).update_sync_fields(
        bunce_duplicate_id="9da67caa-b803-4691-a2b6-bdcd58008aaf"
    )
    request_refresh([real])
    run_refresh(seconds=10)
    assert fresh(real).bunce_duplicate_id is None


# How long Bunce asks to wait


def test_a_503_with_a_retry_after_pauses_all_requests_until_then(bunce: Emulator) -> None:
    bunce.set_faults(Faults(unavailable=1.0, retry_seconds=120))
    rows = [make(f"New {number}") for number in range(8)]
    for row in rows:
        try:
            push(row.pk)
        except NoPermit:
            continue
    assert bunce.served == 1
    assert sorted(statuses(rows)) == [Status.IN_DOUBT, *[Status.PENDING] * 7]
    assert state().blocked_reason == Reason.UNAVAILABLE
    assert 118 < seconds_until(state().blocked_until) < 122
    [notice] = notices()
    assert notice.summary.startswith("Bunce is unavailable and asked for a pause until")


def test_a_very_long_pause_is_probed_after_an_hour_and_both_times_are_shown(
    bunce: Emulator,
) -> None:
    bunce.set_faults(Faults(limit_429=1.0, retry_seconds=86400))
    row = make()
    push(row.pk)
    assert 3590 < seconds_until(state().blocked_until) < 3610
    assert 86390 < seconds_until(state().asked_until) < 86410
    seen = get_status()
    [notice] = notices()
    assert seen.rate_limiter.asked_until is not None
    assert "Paused until" in notice.summary
    assert "One request at" in notice.action
    assert "until" in message(row).action
    bunce.set_faults(None)
    let_pauses_pass(3610)
    assert push(row.pk)
    assert state().asked_until is None


def test_a_shorter_pause_does_not_replace_a_longer_one(bunce: Emulator) -> None:
    bunce.set_faults(Faults(limit_429=1.0, retry_seconds=86400))
    push(make().pk)
    let_pauses_pass(3610)
    bunce.set_faults(Faults(limit_429=1.0, retry_seconds=5))
    push(make().pk)
    assert state().asked_until is not None


def test_repeated_503s_with_a_short_retry_after_leave_few_rows_in_doubt(bunce: Emulator) -> None:
    bunce.set_faults(Faults(unavailable=1.0, retry_seconds=1))
    for number in range(40):
        make(f"New {number}")
    waits = []
    for _ in range(6):
        drain(seconds=30)
        waits.append(seconds_until(state().blocked_until))
        let_pauses_pass(waits[-1] + 1)
    assert doubled(waits)
    assert Segment.objects.filter(status=Status.IN_DOUBT).count() == 6


def test_one_row_that_always_fails_pauses_nothing(bunce: Emulator) -> None:
    row = linked(bunce, "Poison")
    bunce.script(["error_before"] * 20, method="PATCH")
    for _ in range(OUTAGE_THRESHOLD + 2):
        let_time_pass(7200)
        assert push(row.pk)
    assert state().blocked_until is None
    assert push(make("Other").pk)


def test_redirects_of_one_operation_pause_only_that_operation(bunce: Emulator) -> None:
    bunce.script(["redirect"] * 20)
    for number in range(THRESHOLD + 3):
        make(f"New {number}")
    drain(seconds=30)
    assert (paused(), state().blocked_until) == ({Operation.CREATE}, None)
    update = linked(bunce)
    drain(seconds=30)
    assert fresh(update).status == Status.SYNCED


@pytest.mark.parametrize("operation", [Operation.CREATE, Operation.UPDATE])
def test_another_request_probes_after_a_probe_without_a_result(
    bunce: Emulator, operation: str
) -> None:
    method = "POST" if operation == Operation.CREATE else "PATCH"
    add = make if operation == Operation.CREATE else lambda name: linked(bunce, name)
    bunce.script(["forbidden"] * THRESHOLD + ["limit_429"], method=method)
    rows = [add(f"Row {number}") for number in range(THRESHOLD + 2)]
    drain(seconds=30)
    assert paused() == {operation}
    let_pauses_pass(LONGEST_PAUSE)
    drain(seconds=30)  # Bunce asks the probe to wait
    let_pauses_pass(3700)
    drain(seconds=30)
    assert statuses(rows) == [Status.SYNCED] * len(rows)

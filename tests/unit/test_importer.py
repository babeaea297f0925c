"""Imports: every segment of the account becomes a row, once, and rows learn what Bunce has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.models import ImportRun, Segment, SegmentQuerySet
from bunce_sync.sync import importer
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.push import Push
from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.emulator.options import Layout, Paging, Times
from tests.emulator_client import LIST_STYLES
from tests.model.interruption import interrupted
from tests.neighbours.models import Vip

from .core import (
    Operation,
    Status,
    ago,
    configure,
    counted,
    doubtful,
    drain,
    during_the_first_page,
    fill,
    fresh,
    judge_absent,
    let_time_pass,
    make,
    record_calls,
    run_import,
    run_reconcile,
    run_refresh,
)

pytestmark = pytest.mark.django_db

PAGE = 10


@pytest.fixture(autouse=True)
def unlimited(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=None, PAGE_SIZE=PAGE)


def stored_rows() -> dict[str | None, dict[str, Any]]:
    """Return all columns of all rows by Bunce id."""
    return {row["bunce_id"]: dict(row) for row in Segment.objects.values()}


# What becomes of a segment


@pytest.mark.parametrize(
    ("paging", "layout", "count"),
    [
        (paging, layout, count)
        for paging, layout in LIST_STYLES
        for count in (0, PAGE, 2 * PAGE + 5)
        if (paging, count) not in (("clamp", 0), ("clamp", PAGE))  # the end cannot be found
    ],
)
def test_every_style_of_list_is_imported(
    bunce: Emulator, paging: Paging, layout: Layout, count: int
) -> None:
    bunce.set(paging=paging, layout=layout)
    fill(bunce, count)
    run = run_import()
    assert run.finished_at is not None
    assert {row.bunce_id for row in Segment.objects.all()} == {one.id for one in bunce.segments}
    assert run.counts["imported"] == count


@pytest.mark.parametrize("times", ["plain", "iso", "none"])
def test_a_row_is_synced_and_has_all_that_bunce_shows(bunce: Emulator, times: Times) -> None:
    bunce.set(times=times)
    moment = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
    stored = bunce.add_segment(
        "VIP", "Very important", type="imaginary", all_customers=True, created_at=moment
    )
    run_import()
    row = Segment.objects.get()
    assert (row.name, row.description, row.add_all_customers) == ("VIP", "Very important", True)
    assert (row.status, row.last_code, row.problem_code) == (Status.SYNCED, "", "")
    assert (row.bunce_id, row.bunce_type, row.bunce_all_customers) == (stored.id, "imaginary", True)
    assert row.bunce_created_at == (None if times == "none" else moment)
    assert row.imported_at is not None
    assert drain() == 0, "nothing is to be sent"


ODD = {
    "blank": "",
    "spaces": "  \t\n ",
    "invisible": "\u200b\u2800",
    "long": "x" * 256,
    "far too long": "ü" * 5000,
    "control characters": "V\x07I\x1bP\x00",
    "a lone surrogate": "VIP \ud83d",
    "line breaks": "First\r\nsecond",
    "an emoji": "VIP 🎉",
}


@pytest.mark.parametrize("name", ODD.values(), ids=[*ODD])
def test_an_odd_name_is_imported_shown_and_left_as_it_is(bunce: Emulator, name: str) -> None:
    stored = bunce.add_segment(name)
    run_import()
    row = Segment.objects.get()
    row.full_clean()
    assert str(row).strip()
    assert row.status == Status.SYNCED
    assert row.last_code == ""
    assert drain() == 0
    assert counted(run_import()) == {"unchanged": 1}
    row.description = "Edited here"
    row.save()
    drain()
    assert (bunce.segments[0].name, bunce.segments[0].description) == (name, "Edited here")
    assert bunce.segments[0].id == stored.id
    assert (fresh(row).status, fresh(row).last_code) == (Status.SYNCED, "")


def test_a_description_of_any_length_is_imported(bunce: Emulator) -> None:
    bunce.add_segment("VIP", "d" * 60_000)
    bunce.add_segment("New", "\x07\ud83d\x00")
    run_import()
    long, odd = Segment.objects.get(name="VIP"), Segment.objects.get(name="New")
    assert len(long.description or "") == 50_000
    assert odd.description in (None, "\N{REPLACEMENT CHARACTER}")
    assert counted(run_import()) == {"unchanged": 2}
    assert {row.status for row in (long, odd)} == {Status.SYNCED}
    Segment.objects.filter(pk=long.pk).update(name="Edited")
    drain()
    assert {len(one.description or "") for one in bunce.segments} == {60_000, 3}


def test_segments_of_the_same_content_each_get_a_row(bunce: Emulator) -> None:
    for _ in range(3):
        bunce.add_segment("VIP")
    assert counted(run_import()) == {"imported": 3}
    assert counted(run_import()) == {"unchanged": 3}
    assert [row.name for row in Segment.objects.all()] == ["VIP"] * 3


def test_rows_that_are_known_learn_what_bunce_has_and_keep_what_is_wanted(bunce: Emulator) -> None:
    run_import_of(bunce, "VIP", "New", "Old")
    changed, edited, both = (Segment.objects.get(name=name) for name in ("VIP", "New", "Old"))
    bunce.change_segment(str(changed.bunce_id), name="Theirs")
    Segment.objects.filter(pk=edited.pk).update(name="Ours")
    Segment.objects.filter(pk=both.pk).update(description="Ours")
    bunce.change_segment(str(both.bunce_id), name="Theirs too")
    assert counted(run_import()) == {"changed": 2, "unchanged": 1}
    changed, edited, both = fresh(changed), fresh(edited), fresh(both)
    assert (changed.name, changed.bunce_name) == ("VIP", "Theirs")
    assert (changed.status, changed.last_code) == (Status.SYNCED, "drift")
    assert (edited.name, edited.status) == ("Ours", Status.PENDING)
    assert (both.name, both.bunce_name, both.status) == ("Old", "Theirs too", Status.PENDING)
    drain()
    assert {one.name for one in bunce.segments} == {"Theirs", "Ours", "Theirs too"}
    assert (fresh(both).status, fresh(both).last_code) == (Status.SYNCED, "drift")
    assert bunce.segment(str(both.bunce_id)).description == "Ours"


def run_import_of(bunce: Emulator, *names: str) -> ImportRun:
    """Add segments to Bunce and import them."""
    for name in names:
        bunce.add_segment(name)
    return run_import()


def test_drift_that_was_undone_in_bunce_is_no_longer_shown(bunce: Emulator) -> None:
    run_import_of(bunce, "VIP")
    row = Segment.objects.get()
    bunce.change_segment(str(row.bunce_id), name="Theirs")
    run_import()
    bunce.change_segment(str(row.bunce_id), name="VIP")
    run_import()
    assert (fresh(row).bunce_name, fresh(row).last_code) == ("VIP", "")


def test_a_service_that_normalizes_names_does_not_look_changed(bunce: Emulator) -> None:
    bunce.set(stored_name="upper")
    row = make("vip")
    drain()
    for _ in range(2):
        run_import()
        assert fresh(row).last_code == "stored_differently"
    Segment.objects.filter(pk=row.pk).update(description="Edited")
    drain()
    assert fresh(row).last_code == "stored_differently", "the name was not sent"
    run_import()
    assert fresh(row).last_code == "stored_differently"
    bunce.change_segment(str(fresh(row).bunce_id), name="Theirs")
    run_import()
    assert fresh(row).last_code == "drift"
    Segment.objects.filter(pk=row.pk).update(description="Edited again")
    drain()
    assert fresh(row).last_code == "drift", "only the description was sent"
    run_import()
    assert fresh(row).last_code == "drift"


@pytest.mark.parametrize(
    ("changed", "code"),
    [({"description": "Edited"}, "stored_differently"), ({"name": "Theirs"}, "drift")],
    ids=["by_an_update_whose_response_was_lost", "by_a_person"],
)
def test_what_an_import_shows_of_a_waiting_row_is_drift_only_if_a_person_changed_it(
    bunce: Emulator, changed: dict[str, str], code: str
) -> None:
    bunce.set(stored_name="upper")
    row = make("vip")
    drain()
    Segment.objects.filter(pk=row.pk).update(description="Edited")
    bunce.change_segment(str(fresh(row).bunce_id), **changed)
    run_import()
    assert fresh(row).status == Status.PENDING
    drain()
    assert fresh(row).last_code == code


def test_an_edit_that_was_undone_before_it_was_sent_shows_no_false_difference(
    bunce: Emulator,
) -> None:
    bunce.set(stored_name="upper")
    row = make("vip")
    drain()
    for name in ("edited", "vip"):
        Segment.objects.filter(pk=row.pk).update(name=name)
    drain()
    assert (fresh(row).status, fresh(row).last_code) == (Status.SYNCED, "stored_differently")


def test_a_segment_that_cannot_be_stored_keeps_no_other_out(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(bunce, 2 * PAGE)
    unlucky = bunce.add_segment("Unlucky")
    insert = SegmentQuerySet.insert_as_stored

    def insert_all_but_one(queryset: SegmentQuerySet, rows: Any) -> None:
        for row in rows:
            if row.bunce_id == unlucky.id:
                row.name = ""  # a constraint refuses it
        insert(queryset, rows)

    monkeypatch.setattr(SegmentQuerySet, "insert_as_stored", insert_all_but_one)
    assert counted(run_import()) == {"imported": 2 * PAGE, "refused": 1}
    assert f"Segment {unlucky.id} of Bunce cannot be stored" in caplog.text
    assert "Unlucky" not in caplog.text


def test_rows_of_another_environment_are_left_alone(bunce: Emulator) -> None:
    stored = bunce.add_segment("Theirs")
    row = make(status=Status.SYNCED, bunce_id=stored.id, environment="https://elsewhere:443 live")
    before = stored_rows()
    assert counted(run_import()) == {"elsewhere": 1}
    assert stored_rows() == before
    assert fresh(row).name == "VIP"


# Pages


def test_a_second_import_writes_nothing_to_segments(bunce: Emulator) -> None:
    fill(bunce, 2 * PAGE)
    make("Ours")
    drain()
    run_import()
    before = stored_rows()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        run = run_import()
    table = Segment._meta.db_table
    written = [
        one["sql"]
        for one in queries
        if one["sql"].startswith(("INSERT", "UPDATE", "DELETE")) and f'"{table}"' in one["sql"][:60]
    ]
    assert written == []
    assert stored_rows() == before
    assert counted(run) == {"unchanged": 2 * PAGE + 1}


@pytest.mark.parametrize("what", ["new", "known", "changed", "deleted", "adopted by none"])
def test_a_page_of_a_hundred_takes_as_many_queries_as_one_of_ten(
    bunce: Emulator, settings: Settings, what: str
) -> None:
    used = []
    for size in (10, 100):
        bunce.reset()
        bunce.set(times="none")
        Segment.objects.all().delete()
        configure(settings, RATE_LIMIT=None, PAGE_SIZE=size)
        run_import()  # the shared rows exist from now on
        bunce.add_segments(2 * size)
        if what in ("known", "changed", "deleted"):
            run_import()
        if what == "changed":
            for one in bunce.segments:
                bunce.change_segment(one.id, description="Theirs")
        if what == "deleted":
            Segment.objects.all().delete()
        with CaptureQueriesContext(connection) as queries:
            run = run_import(adopt=what == "adopted by none")
        assert run.finished_at is not None
        used.append(kinds(queries))
    assert used[0] == used[1]


def kinds(queries: CaptureQueriesContext) -> Counter[str]:
    """Count queries by their first words; SQLite needs several INSERTs for a hundred rows."""
    begins = [one["sql"][:40] for one in queries]
    counts = Counter(one for one in begins if "SAVEPOINT" not in one)
    return counts - Counter({one: counts[one] - 1 for one in counts if one.startswith("INSERT")})


def test_pages_that_shift_repeat_and_shrink_do_no_harm(bunce: Emulator) -> None:
    fill(bunce, 3 * PAGE)
    run_import()
    known = Segment.objects.count()
    removed = [one.id for one in bunce.newest(3)]
    fill(bunce, PAGE, age=10_000)
    bunce.before_next(
        [
            None,
            lambda: bunce.add_segments(5),  # what was on this page moves to the next
            lambda: [bunce.remove_segment(one) for one in removed],  # what was on it moves up
        ]
    )
    run = run_import()
    assert run.finished_at is not None
    run_import()
    ids = [*Segment.objects.values_list("bunce_id", flat=True)]
    assert {*ids} >= {one.id for one in bunce.segments}
    assert len(ids) == len({*ids}) == known + PAGE + 5


def test_a_list_in_another_order_each_time_is_imported_in_the_end(bunce: Emulator) -> None:
    bunce.set(order="shuffled")
    fill(bunce, 2 * PAGE)
    for _ in range(10):
        run_import()
    assert Segment.objects.count() == 2 * PAGE


def test_a_page_that_is_older_than_a_push_shows_no_false_difference(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_import_of(bunce, "VIP")
    row = Segment.objects.get()

    def edit_and_push() -> None:
        Segment.objects.filter(pk=row.pk).update(name="Ours")
        drain()

    during_the_first_page(monkeypatch, edit_and_push)
    run_import()
    assert (fresh(row).bunce_name, fresh(row).last_code) == ("Ours", "")


def test_a_page_that_is_older_than_a_read_changes_nothing(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_import_of(bunce, "VIP")
    row = Segment.objects.get()
    bunce.change_segment(str(row.bunce_id), name="Theirs")

    def undo_and_read() -> None:
        bunce.change_segment(str(row.bunce_id), name="VIP")
        services.refresh(Segment.objects.all())
        run_refresh()

    during_the_first_page(monkeypatch, undo_and_read)
    run_import()
    assert (fresh(row).bunce_name, fresh(row).last_code) == ("VIP", "")


# Deleted rows


def delete_instance(row: Segment) -> None:
    row.delete()


def delete_queryset(row: Segment) -> None:
    Segment.objects.filter(pk=row.pk).delete()


def delete_by_service(row: Segment) -> None:
    services.delete_segments(Segment.objects.filter(pk=row.pk))


DELETES = [delete_instance, delete_queryset, delete_by_service]


@pytest.mark.parametrize("delete", DELETES)
def test_a_deleted_row_stays_deleted_unless_asked_for(bunce: Emulator, delete: Any) -> None:
    run_import_of(bunce, "VIP", "New")
    delete(Segment.objects.get(name="VIP"))
    assert counted(run_import()) == {"unchanged": 1, "deleted": 1}
    assert counted(run_import(include_deleted=True)) == {"unchanged": 1, "imported": 1}
    assert counted(run_import()) == {"unchanged": 2}
    delete(Segment.objects.get(name="VIP"))
    assert counted(run_import()) == {"unchanged": 1, "deleted": 1}


def test_a_row_that_was_loaded_before_it_was_created_in_bunce_stays_deleted(
    bunce: Emulator,
) -> None:
    row = make("VIP")
    drain()
    assert row.bunce_id is None
    row.delete()
    assert counted(run_import()) == {"deleted": 1}


def test_a_row_that_was_deleted_while_it_was_created_stays_deleted(bunce: Emulator) -> None:
    row = make("VIP")
    attempt = created(row)
    Segment.objects.filter(pk=row.pk).delete()
    attempt.record(attempt.result)
    assert counted(run_import()) == {"deleted": 1}


class created:  # noqa: N801 - reads as a verb
    """A create that Bunce has answered, and whose response is not recorded yet."""

    def __init__(self, row: Segment) -> None:
        self.push = Push(fresh(row))
        assert self.push.reserve(Budget(30))
        self.result = self.push.perform(Budget(30))
        self.record = self.push.record


def test_a_segment_of_a_deleted_row_whose_create_was_lost_stays_out(bunce: Emulator) -> None:
    stored = bunce.add_segment("VIP", created_at=ago(300))
    doubtful("VIP").delete()
    assert counted(run_import()) == {"deleted": 1}
    assert counted(run_import(include_deleted=True)) == {"imported": 1}
    assert Segment.objects.get().bunce_id == stored.id


# Creates of unknown outcome


def test_a_segment_of_a_create_under_way_becomes_no_row(bunce: Emulator) -> None:
    row = make("VIP")
    attempt = created(row)
    assert counted(run_import()) == {"reserved": 1}
    attempt.record(attempt.result)
    assert counted(run_import()) == {"unchanged": 1}
    assert Segment.objects.get().status == Status.SYNCED


def test_a_segment_that_fits_a_row_in_doubt_is_left_to_reconciliation(bunce: Emulator) -> None:
    stored = bunce.add_segment("VIP", created_at=ago(300))
    row = doubtful("VIP")
    assert counted(run_import()) == {"reserved": 1}
    assert fresh(row).status == Status.IN_DOUBT
    run_reconcile()
    assert fresh(row).bunce_id == stored.id
    assert counted(run_import()) == {"unchanged": 1}


def test_a_create_of_long_ago_explains_no_segment(bunce: Emulator) -> None:
    bunce.add_segment("VIP", created_at=ago(300))
    doubtful("VIP", sent=3 * 86400)
    assert counted(run_import()) == {"imported": 1}


@pytest.mark.parametrize("status", [Status.PENDING, Status.REJECTED])
def test_a_segment_that_appears_after_its_row_was_judged_absent_is_linked(
    bunce: Emulator, status: Status
) -> None:
    row = doubtful("VIP")
    judge_absent(row)
    Segment.objects.filter(pk=row.pk).update_sync_fields(status=status)
    stored = bunce.add_segment("VIP", created_at=ago(290))
    assert counted(run_import()) == {"found": 1}
    row = fresh(row)
    assert (row.status, row.bunce_id, row.last_code) == (Status.SYNCED, stored.id, "")
    assert drain() == 0
    assert len(bunce.segments) == 1
    Segment.objects.filter(pk=row.pk).update(description="Edited")
    bunce.change_segment(stored.id, name="Theirs")
    drain()
    assert bunce.segments[0].name == "Theirs", "the name was not edited here"


def test_a_late_segment_of_a_row_that_was_created_again_is_shown_as_its_second(
    bunce: Emulator,
) -> None:
    row = doubtful("VIP")
    judge_absent(row)
    drain()
    late = bunce.add_segment("VIP", created_at=ago(290))
    assert counted(run_import()) == {"unchanged": 1, "duplicates": 1}
    assert fresh(row).bunce_duplicate_id == late.id
    assert counted(run_import()) == {"unchanged": 1, "duplicates": 1}
    assert Segment.objects.count() == 1


def test_a_late_segment_waits_while_its_row_is_sent_again(bunce: Emulator) -> None:
    row = doubtful("VIP")
    judge_absent(row)
    late = bunce.add_segment("VIP", created_at=ago(290))
    Segment.objects.filter(pk=row.pk).update_sync_fields(
        status=Status.SENDING, lease_token=uuid4(), lease_until=ago(-60)
    )
    assert counted(run_import()) == {"reserved": 1}
    assert late.id not in stored_rows()


# Rows that were imported too early


def imported_while_created(bunce: Emulator) -> tuple[Segment, Segment, Any]:
    """Import a segment between its creation and the response, which shows another name."""
    bunce.set(stored_name="upper")
    row = make("vip")
    attempt = created(row)
    assert counted(run_import()) == {"imported": 1}
    return row, Segment.objects.exclude(pk=row.pk).get(), attempt


def test_an_imported_row_gives_way_to_the_row_that_created_its_segment(bunce: Emulator) -> None:
    row, imported, attempt = imported_while_created(bunce)
    attempt.record(attempt.result)
    assert (fresh(row).status, fresh(row).bunce_id) == (Status.SYNCED, imported.bunce_id)
    assert not Segment.objects.filter(pk=imported.pk).exists()
    run_import()
    assert len(bunce.segments) == Segment.objects.count() == 1


def test_an_imported_row_that_was_edited_needs_attention_and_sends_nothing(
    bunce: Emulator,
) -> None:
    row, imported, attempt = imported_while_created(bunce)
    Segment.objects.filter(pk=imported.pk).update(name="Edited")
    attempt.record(attempt.result)
    assert fresh(row).bunce_id == bunce.segments[0].id
    imported = fresh(imported)
    assert (imported.status, imported.last_code) == (Status.REJECTED, "linked_elsewhere")
    assert (imported.name, imported.bunce_id) == ("Edited", None)
    drain()
    assert len(bunce.segments) == 1


def test_an_imported_row_that_is_being_sent_gives_way_too(bunce: Emulator) -> None:
    row, imported, attempt = imported_while_created(bunce)
    Segment.objects.filter(pk=imported.pk).update(name="Edited")
    update = created(imported)
    attempt.record(attempt.result)
    update.record(update.result)
    assert fresh(imported).bunce_id is None
    row = fresh(row)
    assert (row.status, row.bunce_id) == (Status.SYNCED, bunce.segments[0].id)
    assert row.refresh_requested_at is not None, "the update may have changed it since"
    assert [one.name for one in bunce.segments] == ["EDITED"]


def test_an_imported_row_that_other_rows_refer_to_is_not_deleted(bunce: Emulator) -> None:
    row, imported, attempt = imported_while_created(bunce)
    Vip(segment_ptr=imported, owner="ann").save_base(raw=True)
    attempt.record(attempt.result)
    assert fresh(imported).last_code == "linked_elsewhere"
    assert Vip.objects.get().owner == "ann"
    assert fresh(row).status == Status.SYNCED


def test_an_imported_row_gives_way_to_the_deleted_row_that_comes_back(bunce: Emulator) -> None:
    row = make("VIP")
    drain()
    before = Segment(pk=row.pk, name="VIP", created_at=row.created_at)
    fresh(row).delete()
    run_import(include_deleted=True)
    imported = Segment.objects.get()
    before.save_base(raw=True)  # as from a version of before it had an id
    drain()
    assert [one.pk for one in Segment.objects.all()] == [row.pk]
    assert fresh(row).bunce_id == imported.bunce_id
    assert len(bunce.segments) == 1


# Adoption


def test_an_import_that_adopts_links_waiting_rows_instead_of_creating_twins(
    bunce: Emulator,
) -> None:
    same = [bunce.add_segment("VIP", "d") for _ in range(2)]
    bunce.add_segment("Other")
    rows = [make("VIP", "d") for _ in range(3)]
    make("Other", "another description")
    run = run_import(adopt=True)
    assert counted(run) == {"adopted": 2, "imported": 1}
    linked = [fresh(row).bunce_id for row in rows[:2]]
    assert {*linked} == {one.id for one in same}
    assert {fresh(row).status for row in rows[:2]} == {Status.SYNCED}
    assert fresh(rows[2]).status == Status.PENDING
    drain()
    assert len(bunce.segments) == 5, "the third and the one with another description are created"


def test_creates_are_held_while_an_import_adopts_and_updates_flow(bunce: Emulator) -> None:
    fill(bunce, 2 * PAGE)
    row = make("Ours")
    linked = make("Edited", bunce_id=bunce.add_segment("Before").id)
    services.request_import(adopt=True)
    assert drain() == 1
    assert fresh(row).status == Status.PENDING
    assert fresh(linked).status == Status.SYNCED
    importer.run(Budget(30))
    assert drain() == 1
    assert fresh(row).status == Status.SYNCED


@pytest.mark.parametrize("fault", ["error_before", "limit_429", "unauthorized", "reset_before"])
def test_a_row_that_was_tried_in_vain_is_adopted_if_nothing_can_have_arrived(
    bunce: Emulator, fault: str
) -> None:
    row = make("VIP")
    if fault == "reset_before":
        bunce.set(outage="refuse")
    else:
        bunce.script([fault])
    drain()
    bunce.set(outage=None)
    stored = bunce.add_segment("VIP")
    let_time_pass(3600)
    run = run_import(adopt=True)
    if fault == "error_before":  # a 500 proves nothing
        assert counted(run) == {"reserved": 1}
        assert fresh(row).status == Status.IN_DOUBT
    else:
        assert counted(run) == {"adopted": 1}
        assert fresh(row).bunce_id == stored.id


def test_a_row_that_gave_up_its_segment_can_be_adopted(bunce: Emulator) -> None:
    row = make("VIP")
    drain()
    bunce.remove_segment(str(fresh(row).bunce_id))
    services.refresh(Segment.objects.all())
    record_a_read()
    run_refresh()
    assert services.create_again(Segment.objects.all()) == 1
    stored = bunce.add_segment("VIP")
    assert counted(run_import(adopt=True)) == {"adopted": 1}
    assert fresh(row).bunce_id == stored.id


def record_a_read() -> None:
    """Make a 404 of a read credible."""
    record_calls(1, operation=Operation.READ)


def test_a_waiting_row_takes_over_from_a_row_that_was_imported_before(bunce: Emulator) -> None:
    run_import_of(bunce, "VIP", "New")
    vip = Segment.objects.get(name="VIP")
    Segment.objects.filter(name="New").update(description="Edited here")
    rows = make("VIP"), make("New")
    run = run_import(adopt=True)
    assert counted(run) == {"adopted": 1, "unchanged": 1}
    assert fresh(rows[0]).bunce_id == vip.bunce_id
    assert not Segment.objects.filter(pk=vip.pk).exists()
    assert fresh(rows[1]).status == Status.PENDING
    assert counted(run_import()) == {"unchanged": 2}, "no tombstone"


def test_a_row_does_not_take_over_a_segment_that_was_changed_in_bunce(bunce: Emulator) -> None:
    run_import_of(bunce, "VIP")
    bunce.change_segment(bunce.segments[0].id, name="Theirs")
    row = make("VIP")
    assert counted(run_import(adopt=True)) == {"changed": 1}
    assert services.adoptable(Segment.objects.all()) == []
    assert fresh(row).status == Status.PENDING


def test_adoption_by_hand_links_the_pairs_that_were_shown(bunce: Emulator) -> None:
    run_import_of(bunce, "VIP", "New")
    vip, new = make("VIP"), make("New")
    pairs = services.adoptable(Segment.objects.all())
    assert {row.pk for row, _imported in pairs} == {vip.pk, new.pk}
    Segment.objects.filter(pk=new.pk).update(name="Edited meanwhile")
    keys = [(row.pk, imported.pk) for row, imported in pairs]
    assert services.adopt(keys) == [vip.pk]
    assert services.adopt(keys) == []
    assert Segment.objects.filter(name="VIP").count() == 1


# Requests


def test_an_import_that_is_asked_for_adoption_begins_with_the_first_page_again(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bunce, 2 * PAGE)
    stored = bunce.add_segment("VIP")
    row = make("VIP")
    first = services.request_import()
    with monkeypatch.context() as patch:
        during_the_first_page(patch, lambda: services.request_import(adopt=True, by="second"))
        importer.run(Budget(30))
    run = run_import()
    assert run.pk == first.pk
    assert run.finished_at is not None
    assert Segment.objects.count() == 2 * PAGE + 1
    assert fresh(row).bunce_id == stored.id


def test_one_import_is_open_at_a_time(bunce: Emulator) -> None:
    first = services.request_import(by="ann")
    assert services.request_import(by="bob").pk == first.pk
    importer.run(Budget(30))
    assert services.request_import().pk != first.pk


def test_a_cancelled_import_ends_at_the_next_page(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bunce, 3 * PAGE)
    services.request_import()
    during_the_first_page(monkeypatch, services.cancel_import)
    importer.run(Budget(30))
    run = ImportRun.objects.get()
    assert run.cancelled
    assert run.finished_at is not None
    assert bunce.served == 1
    assert importer.run(Budget(30)).requests == 0
    assert not services.cancel_import()


def test_imports_run_at_the_interval(bunce: Emulator, settings: Settings) -> None:
    assert importer.workers_needed(100) == 0, "off by default"
    configure(settings, RATE_LIMIT=None, IMPORT_INTERVAL=3600)
    assert importer.workers_needed(0) == 0, "no permit"
    assert ImportRun.objects.count() == 0
    assert importer.workers_needed(100) == 1
    importer.run(Budget(30))
    assert importer.workers_needed(100) == 0
    ImportRun.objects.update(requested_at=ago(3601))
    assert importer.workers_needed(100) == 1
    assert ImportRun.objects.count() == 2


def test_a_budget_that_ends_leaves_the_rest_to_the_next_run(bunce: Emulator) -> None:
    fill(bunce, 2 * PAGE)
    services.request_import()
    while importer.run(OnePage(30)).more:
        continue
    run = ImportRun.objects.get()
    assert run.finished_at is not None
    assert run.pages == bunce.served == 4, "two with segments, two empty ones"
    assert counted(run) == {"imported": 2 * PAGE}


class OnePage(Budget):
    """A budget that one page uses up."""

    asked = 0

    @property
    def out_of_time(self) -> bool:
        self.asked += 1
        return self.asked > 1


# Killed


def killed_at(statement: int) -> bool:
    """Run an import that dies before a statement; return whether it came so far."""

    def die() -> None:
        raise KeyboardInterrupt

    try:
        with interrupted(at=statement, by=die):
            importer.run(Budget(30))
    except KeyboardInterrupt:
        return True
    return False


def outcome() -> tuple[list[tuple[object, ...]], dict[str, int], bool]:
    """Return what an import leaves behind: the rows, its counts, and whether it has ended."""
    fields = ("name", "description", "status", "bunce_id", "bunce_name", "last_code", "settled")
    run = ImportRun.objects.get()
    rows = sorted(Segment.objects.values_list(*fields), key=repr)
    return rows, counted(run), run.finished_at is not None


@pytest.mark.parametrize("part", range(4))
def test_an_import_killed_before_any_statement_ends_as_if_it_was_not_killed(
    bunce: Emulator, settings: Settings, part: int
) -> None:
    configure(settings, RATE_LIMIT=None, PAGE_SIZE=3)
    changed, gone = make("Before"), make("Gone")
    drain()
    bunce.change_segment(str(fresh(changed).bunce_id), name="Theirs")
    fresh(gone).delete()
    for name in ("Foreign", "Adopted", ""):
        bunce.add_segment(name)
    bunce.add_segment("Lost", created_at=ago(300))
    doubtful("Lost")
    make("Adopted")
    services.request_import(adopt=True)
    with undone():
        importer.run(Budget(30))
        expected = outcome()
    assert expected[1] == {"imported": 2, "changed": 1, "adopted": 1, "deleted": 1, "reserved": 1}
    statement, died = part + 1, True
    while died:
        with undone():
            died = killed_at(statement)
            ImportRun.objects.update(scan_lease_until=None)  # as after some time
            importer.run(Budget(30))
            assert outcome() == expected, f"killed before statement {statement}"
        statement += 4
    assert statement > 20


@contextmanager
def undone() -> Iterator[None]:
    """Undo what the block writes."""
    point = connection.savepoint()  # transaction.savepoint() is deprecated since Django 6.1
    assert point is not None, "no transaction is open"
    yield
    assert point is not None  # a transaction is open
    connection.savepoint_rollback(point)

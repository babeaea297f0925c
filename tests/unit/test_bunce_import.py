"""`manage.py bunce_import`: an import in the foreground, its preview, and its end."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.management import foreground
from bunce_sync.models import ApiCall, ImportRun, OperationState, Segment
from bunce_sync.status.status import get_status
from bunce_sync.sync import importer, list_scan
from bunce_sync.sync.budget import Budget
from bunce_sync.testing.emulator import Emulator
from tests.unit.commands import run, signal_after
from tests.unit.core import (
    Operation,
    Outcome,
    Status,
    ago,
    configure,
    doubtful,
    drain,
    fresh,
    in_threads,
    judge_absent,
    make,
    now,
    set_state,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(bunce: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the local Bunce, and look often at what keeps the work waiting."""
    monkeypatch.setattr(foreground, "RECHECK", 0.05)


def stored() -> list[dict[str, Any]]:
    """Return everything an import could write."""
    # The fingerprints of waiting rows, by which those to adopt are found, are no change.
    ignored = {"scan_token", "listed_digest"}
    return [
        {name: value for name, value in row.items() if name not in ignored}
        for model in (Segment, ImportRun)
        for row in model._default_manager.order_by("pk").values()
    ]


def note_content(row: Segment) -> None:
    """Note in the call log what the creates of a row have sent."""
    body = row.content(Segment.CREATE_FIELDS)
    ApiCall.objects.filter(segment=row).update(listed_digest=row.listed_digest, body=body)


def everything_at_once(bunce: Emulator) -> dict[str, Segment]:
    """Make a segment of each kind that an import distinguishes."""
    rows = {name: make(name) for name in ("changed", "unchanged", "deleted", "twice", "late")}
    drain()
    rows = {name: fresh(row) for name, row in rows.items()}
    bunce.change_segment(str(rows["changed"].bunce_id), name="changed there")
    Segment.objects.filter(pk=rows["deleted"].pk).delete()
    second = bunce.add_segment("twice")
    Segment.objects.filter(pk=rows["twice"].pk).update_sync_fields(bunce_duplicate_id=second.id)
    bunce.add_segment("foreign")
    bunce.add_segment("waiting")
    rows["waiting"] = make("waiting")
    rows["reserved"] = doubtful("reserved")
    note_content(rows["reserved"])
    bunce.add_segment("reserved", created_at=ago(300))
    rows["found"] = doubtful("found")
    note_content(rows["found"])
    judge_absent(rows["found"])
    bunce.add_segment("found", created_at=ago(300))
    there = bunce.add_segment("elsewhere")
    rows["elsewhere"] = make(
        status=Status.SYNCED, bunce_id=there.id, environment="https://api.bunce.so:443 live"
    )
    return rows


def test_all_segments_are_imported_and_counted(bunce: Emulator) -> None:
    bunce.add_segments(250)
    ran = run("bunce_import")
    assert ran.code == 0
    assert ran.out.startswith("Read 250 segments of sandbox (127.0.0.1:")
    assert "), 5 pages:\n" in ran.out
    assert "      250  added\n" in ran.out
    assert Segment.objects.filter(status=Status.SYNCED).count() == 250
    again = run("bunce_import")
    assert (again.code, "      250  unchanged\n" in again.out) == (0, True)
    [first, second] = ImportRun.objects.order_by("pk")
    assert first.finished_at is not None
    assert "process" in second.requested_by


@pytest.mark.parametrize("options", [[], ["--adopt"], ["--adopt", "--include-deleted"]])
def test_a_dry_run_tells_what_the_import_then_does_and_writes_nothing(
    bunce: Emulator, options: list[str]
) -> None:
    everything_at_once(bunce)
    before, calls = stored(), ApiCall.objects.count()
    preview = run("bunce_import", "--dry-run", "--json", *options)
    assert preview.code == 0
    assert stored() == before
    assert set(ApiCall.objects.order_by("pk")[calls:].values_list("operation", "outcome")) == {
        (Operation.LIST, Outcome.CONFIRMED)
    }
    done = run("bunce_import", "--json", *options)
    assert done.code == 0
    assert preview.json["counts"] == done.json["counts"]
    counts = done.json["counts"]
    assert counts["imported"] == 2 - ("--adopt" in options) + ("--include-deleted" in options)
    assert counts["adopted"] == ("--adopt" in options)
    assert counts["deleted"] == ("--include-deleted" not in options)
    for name in ("found", "reserved", "duplicates", "elsewhere"):
        assert counts[name] == 1, name


def test_a_dry_run_names_the_segments(bunce: Emulator) -> None:
    rows = everything_at_once(bunce)
    ran = run("bunce_import", "--dry-run", "--adopt")
    ids = {segment.name: segment.id for segment in bunce.segments}
    assert "Nothing was changed." in ran.out
    assert (
        "        1  would be linked to segments that wait to be created\n"
        f"           “waiting” {ids['waiting']}  →  #{rows['waiting'].pk} “waiting”\n"
    ) in ran.out
    assert (
        "        1  would be refreshed with what Bunce has now\n"
        f"           “changed there” {ids['changed there']}  →  #{rows['changed'].pk} “changed”\n"
    ) in ran.out
    assert f"           “foreign” {ids['foreign']}\n" in ran.out
    assert "--include-deleted brings them back" in ran.out


def test_a_name_without_a_visible_character_is_shown_as_blank(bunce: Emulator) -> None:
    stored = bunce.add_segment("\u200b ")
    for command in (("bunce_import", "--dry-run"), ("bunce_plan", "--refresh")):
        assert f"(blank) {stored.id}" in run(*command).out


def test_without_a_segment_there_is_no_list_of_counts(bunce: Emulator) -> None:
    assert run("bunce_import").out.splitlines()[0].endswith(" pages.")


def test_a_dry_run_tells_that_imported_rows_would_be_taken_over(bunce: Emulator) -> None:
    bunce.add_segment("VIP")
    run("bunce_import")
    row = make("VIP")
    preview = run("bunce_import", "--dry-run", "--adopt", "--json").json
    assert preview["counts"]["adopted"] == 1
    assert [one["segment_id"] for one in preview["segments"]["adopted"]] == [row.pk]
    assert run("bunce_import", "--adopt", "--json").json["counts"] == preview["counts"]
    assert Segment.objects.get().pk == row.pk


def test_a_waiting_row_is_promised_to_one_segment_only(bunce: Emulator, settings: Settings) -> None:
    configure(settings, PAGE_SIZE=10)
    for name in ("VIP", *(f"Other {n}" for n in range(10)), "VIP"):  # on two pages
        bunce.add_segment(name)
    make("VIP")
    preview = run("bunce_import", "--dry-run", "--adopt", "--json").json
    assert (preview["counts"]["adopted"], preview["counts"]["imported"]) == (1, 11)
    assert run("bunce_import", "--adopt", "--json").json["counts"] == preview["counts"]


def test_a_list_that_repeats_segments_is_counted_once(bunce: Emulator, settings: Settings) -> None:
    configure(settings, PAGE_SIZE=10)
    bunce.add_segments(15)
    bunce.before_next([None, lambda: bunce.add_segment("Newest")])  # moves the others down
    preview = run("bunce_import", "--dry-run", "--json").json
    assert preview["counts"]["imported"] == 15


def test_ctrl_c_leaves_the_import_to_workers_and_it_can_be_continued(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(settings, PAGE_SIZE=10)
    bunce.add_segments(300)
    monkeypatch.setattr(foreground, "TURN", 0.01)
    with monkeypatch.context() as patch:
        signal_after(patch, list_scan.Walk, "use_page", calls=3)
        ran = run("bunce_import")
    assert ran.code == 130
    assert "), 3 pages so far:\n" in ran.out
    assert "Interrupted after the request under way." in ran.out
    assert "Continue here: `manage.py bunce_import`. Cancel: `manage.py bunce_import --cancel`."
    run_ = ImportRun.objects.get()
    assert (run_.finished_at, run_.scan_token) == (None, None)
    assert Segment.objects.count() == 30
    done = run("bunce_import", "--json")
    assert (done.code, done.json["counts"]["imported"]) == (0, 300)
    assert ImportRun.objects.count() == 1
    assert Segment.objects.count() == 300


def test_ctrl_c_during_a_dry_run_changes_nothing(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(settings, PAGE_SIZE=10)
    bunce.add_segments(100)
    signal_after(monkeypatch, list_scan.Reading, "read_page", calls=2)
    ran = run("bunce_import", "--dry-run")
    assert ran.code == 130
    assert "Interrupted before the end of the list. Nothing was changed." in ran.out
    assert bunce.served == 2


def test_an_import_can_be_cancelled(bunce: Emulator) -> None:
    assert run("bunce_import", "--cancel").out == "No import is open.\n"
    services.request_import()
    ran = run("bunce_import", "--cancel", "--json")
    assert (ran.code, ran.json) == (0, {"cancelled": True})
    assert ImportRun.objects.get().cancelled
    assert run("bunce_import", "--cancel", "--adopt").code == 1


def test_an_import_that_is_cancelled_meanwhile_is_told(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(settings, PAGE_SIZE=10)
    bunce.add_segments(100)
    read = list_scan.ListPage.send

    def cancel_and_read(page: Any, record: Any) -> Any:
        if page.position.page == 3:
            services.cancel_import()
        return read(page, record)

    monkeypatch.setattr(list_scan.ListPage, "send", cancel_and_read)
    ran = run("bunce_import")
    assert ran.code == 1
    assert "The import was cancelled. What it did stays." in ran.out
    assert Segment.objects.count() == 20


def test_two_at_once_share_one_import(bunce: Emulator, settings: Settings) -> None:
    configure(settings, PAGE_SIZE=10)
    bunce.add_segments(200)
    one, two = in_threads([lambda: run("bunce_import", "--json")] * 2)
    assert (one.code, two.code) == (0, 0)
    assert one.json["counts"]["imported"] == two.json["counts"]["imported"] == 200
    assert Segment.objects.count() == 200
    assert ImportRun.objects.count() == 1


def test_the_import_of_a_worker_is_watched(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bunce.add_segments(5)
    run_ = services.request_import()
    ImportRun.objects.filter(pk=run_.pk).update(
        scan_token="00000000-0000-0000-0000-000000000001", scan_lease_until=ago(-60)
    )
    looks: list[int] = []

    def look() -> Any:
        looks.append(1)
        if len(looks) == 1:
            ImportRun.objects.filter(pk=run_.pk).update(pages=1)
        if len(looks) == 3:
            ImportRun.objects.filter(pk=run_.pk).update(scan_token=None, scan_lease_until=None)
            assert importer.run(Budget(10)).requests
        return get_status()

    monkeypatch.setattr(foreground, "get_status", look)
    ran = run("bunce_import")
    assert ran.code == 0
    assert "(another process reads the list)" in ran.out
    assert "        5  added" in ran.out


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_refused_key_ends_it_with_the_reason(bunce: Emulator, options: list[str]) -> None:
    bunce.set(key="sk_test_another")
    ran = run("bunce_import", *options)
    assert ran.code == 1
    told = ran.out + ran.error
    assert "Bunce refused the API key." in told
    if not options:
        assert "The import stays open" in told


def test_with_the_key_of_another_account_it_ends_with_the_reason(
    bunce: Emulator, settings: Settings
) -> None:
    make("VIP")
    drain()
    bunce.remove_segment(bunce.segments[0].id)
    bunce.add_segment("Of another site")
    configure(settings, API_KEY="sk_test_another")
    for options in ([], ["--dry-run"]):
        ran = run("bunce_import", *options)
        assert ran.code == 1
        assert "this key seems to belong to another account" in ran.out + ran.error
    assert Segment.objects.count() == 1


def test_a_page_that_fails_is_read_again(bunce: Emulator) -> None:
    bunce.add_segments(5)
    bunce.script(["error_before"], "GET")
    assert run("bunce_import", "--dry-run", "--json").json["counts"]["imported"] == 5
    bunce.script(["error_before"], "GET")
    assert run("bunce_import", "--json").json["counts"]["imported"] == 5


def test_a_list_that_fails_for_a_while_ends_it(bunce: Emulator) -> None:
    OperationState.objects.create(
        operation=Operation.LIST,
        code="not_json",
        since=ago(foreground.PATIENCE.total_seconds() + 5),
        blocked_until=ago(-30),
        detail="<html>",
    )
    ran = run("bunce_import")
    assert ran.code == 1
    assert "Bunce's list of segments cannot be read" in ran.out
    assert bunce.served == 0


def test_pushes_that_are_paused_do_not_keep_an_import_waiting(bunce: Emulator) -> None:
    services.pause(reason="moving house", by="ada")
    bunce.add_segments(5)
    assert run("bunce_import").code == 0
    assert Segment.objects.count() == 5


def test_progress_is_told_now_and_then(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(settings, PAGE_SIZE=10)
    monkeypatch.setattr("bunce_sync.management.console.PLAIN_SECONDS", 0.0)
    monkeypatch.setattr("bunce_sync.management.list_reading.FIRST_PACE", 0.0)
    monkeypatch.setattr(foreground, "TURN", 0.05)
    bunce.add_segments(200)
    ran = run("bunce_import")
    assert "Importing: " in ran.out
    assert "pages a minute" in ran.out


def test_it_waits_while_bunce_asks_for_a_pause(bunce: Emulator) -> None:
    bunce.add_segments(5)
    set_state(blocked_until=ago(-0.6), blocked_reason="rate_limited", blocked_since=now())
    ran = run("bunce_import")
    assert ran.code == 0
    assert "(Paused until" in ran.out


def test_with_verbosity_zero_it_is_silent(bunce: Emulator) -> None:
    bunce.add_segments(5)
    assert run("bunce_import", "--dry-run", verbosity=0).out == ""
    assert run("bunce_import", verbosity=0).out == ""
    assert Segment.objects.count() == 5

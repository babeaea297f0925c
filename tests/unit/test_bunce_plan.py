"""`manage.py bunce_plan`: what a push would do, like a diff."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.management import foreground
from bunce_sync.models import Segment
from bunce_sync.sync import list_scan
from bunce_sync.testing.emulator import Emulator
from tests.unit.commands import run, signal_after
from tests.unit.core import Status, ago, configure, doubtful, drain, fresh, make, run_refresh

pytestmark = pytest.mark.django_db(transaction=True)

LIVE = "https://api.bunce.so:443 live"


@pytest.fixture(autouse=True)
def quick(bunce: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the local Bunce, and look often at what keeps the work waiting."""
    monkeypatch.setattr(foreground, "RECHECK", 0.05)


def lines(ran: Any) -> list[str]:
    return [line for line in ran.out.splitlines() if line]


def drifted(bunce: Emulator, name: str, theirs: str) -> Segment:
    """Make a segment that was changed in Bunce, which a refresh has shown."""
    row = make(name)
    drain()
    bunce.change_segment(str(fresh(row).bunce_id), name=theirs)
    services.refresh(Segment.objects.filter(pk=row.pk))
    run_refresh()
    return fresh(row)


def test_without_anything_to_do_the_exit_code_is_0(bunce: Emulator) -> None:
    make("A")
    drain()
    ran = run("bunce_plan")
    assert ran.code == 0
    assert "Plan: 0 to create, 0 to update; 1 in sync." in ran.out


def test_a_create_is_shown_with_its_fields(bunce: Emulator) -> None:
    row = make("A", "First line\nsecond", add_all_customers=True)
    ran = run("bunce_plan")
    assert ran.code == 3
    assert lines(ran)[:3] == [
        f"+ create   #{row.pk} “A”",
        "    description: “First line second”",
        "    add all customers: yes",
    ]
    assert bunce.served == 0


def test_an_update_is_shown_with_the_fields_that_are_sent(bunce: Emulator) -> None:
    row = make("Before", "Stays")
    drain()
    Segment.objects.filter(pk=row.pk).update(name="After")
    ran = run("bunce_plan")
    assert ran.code == 3
    assert lines(ran)[:2] == [f"~ update   #{row.pk} “After”", "    name: “Before” → “After”"]
    assert "Stays" not in ran.out
    assert "Plan: 0 to create, 1 to update; 0 in sync." in ran.out


def test_an_edit_that_was_undone_is_nothing_to_do(bunce: Emulator) -> None:
    row = make("Before")
    drain()
    for name in ("After", "Before"):
        segment = fresh(row)
        segment.name = name
        segment.save()
    Segment.objects.filter(pk=row.pk).update_sync_fields(status=Status.PENDING)
    assert run("bunce_plan").code == 0


def test_what_differs_in_bunce_is_shown_from_both_sides(bunce: Emulator) -> None:
    row = drifted(bunce, "Ours", "Theirs\x1b[31m")
    ran = run("bunce_plan")
    assert ran.code == 3
    assert lines(ran)[0] == f"≠ changed in Bunce #{row.pk} “Ours”"
    assert lines(ran)[1].startswith("    name: here “Ours”, in Bunce “Theirs")
    assert "\x1b" not in ran.out


def test_content_that_bunce_stored_differently_alone_is_nothing_to_do(bunce: Emulator) -> None:
    bunce.set(stored_name="upper")
    row = make("vip")
    drain()
    assert fresh(row).last_code == "stored_differently"
    ran = run("bunce_plan")
    assert ran.code == 0
    assert f"≠ differs in Bunce #{row.pk} “vip”  (stored differently by Bunce)" in ran.out
    assert "    name: here “vip”, in Bunce “VIP”" in ran.out


def test_what_needs_attention_is_shown_with_bunces_words(bunce: Emulator) -> None:
    bunce.set(taken_names=["A"])
    row = make("A")
    drain()
    ran = run("bunce_plan")
    assert ran.code == 3
    assert lines(ran)[0] == f"! needs attention #{row.pk} “A”"
    assert lines(ran)[1] == "    Bunce does not accept this request. “name taken”"
    twice = make("B", status=Status.SYNCED, bunce_duplicate_id="second-one")
    assert f"! needs attention #{twice.pk} “B”" in run("bunce_plan").out


def test_only_the_fields_that_differ_are_shown(bunce: Emulator) -> None:
    row = Segment.objects.link(bunce.add_segment("Theirs").id, name="Ours", description="")
    drain()
    run_refresh()
    assert lines(run("bunce_plan"))[:3] == [
        f"≠ changed in Bunce #{row.pk} “Ours”",
        "    name: here “Ours”, in Bunce “Theirs”",
        "Plan: 0 to create, 0 to update, 1 changed in Bunce; 0 in sync.",
    ]


def test_segments_in_doubt_are_something_to_do(bunce: Emulator) -> None:
    row = doubtful("A")
    Segment.objects.filter(pk=row.pk).update_sync_fields(due_at=ago(-60))
    ran = run("bunce_plan")
    assert ran.code == 3
    assert lines(ran)[0].startswith(f"? being checked with Bunce #{row.pk} “A”  (looked for from")
    assert "1 being checked with Bunce" in ran.out


def test_what_belongs_elsewhere_is_counted(bunce: Emulator) -> None:
    for _ in range(3):
        make(status=Status.SYNCED, environment=LIVE)
    ran = run("bunce_plan")
    assert ran.code == 0
    assert "· 3 segments of live (api.bunce.so); `manage.py bunce_rehome` moves them" in ran.out
    assert "3 elsewhere" in ran.out


def test_what_keeps_the_plan_from_being_carried_out_is_told(bunce: Emulator) -> None:
    services.pause(reason="moving house", by="ada")
    with services.no_push("a load"):
        row = Segment.objects.create(name="A")
        ran = run("bunce_plan")
        hold = fresh(row).hold_id
    assert f"+ create   #{row.pk} “A”  (held by block {hold})\n" in ran.out
    assert f"python manage.py bunce_resume --hold {hold}" in ran.out
    assert "Paused by ada since" in ran.out
    assert "  Reason: “moving house”." in ran.out
    assert "A no_push() block has held 1 segment since" in ran.out


def test_only_some_of_each_kind_are_shown(bunce: Emulator) -> None:
    for n in range(25):
        make(f"New {n}")
    ran = run("bunce_plan")
    assert ran.out.count("+ create") == 20
    assert "+ … and 5 more: create" in ran.out
    assert run("bunce_plan", "--limit", 0).out.count("+ create") == 0
    assert run("bunce_plan", "--limit", 100).out.count("+ create") == 25
    assert run("bunce_plan", "--limit", "-1").code == 1


def test_it_says_how_old_bunces_copies_are(bunce: Emulator) -> None:
    assert "Bunce's content: as each segment was last sent or read." in run("bunce_plan").out
    run("bunce_import")
    assert "Bunce's content: as of the import at " in run("bunce_plan").out


def test_a_refresh_shows_what_is_in_bunce_now_and_adds_nothing(bunce: Emulator) -> None:
    rows = {name: make(name) for name in ("A", "Gone", "Same")}
    drain()
    bunce.change_segment(str(fresh(rows["A"]).bunce_id), name="A changed")
    bunce.remove_segment(str(fresh(rows["Gone"]).bunce_id))
    foreign = bunce.add_segment("Foreign")
    assert run("bunce_plan").code == 0
    ran = run("bunce_plan", "--refresh")
    assert ran.code == 3
    assert "    name: here “A”, in Bunce “A changed”" in ran.out
    assert f"- not in Bunce's list #{rows['Gone'].pk} “Gone”" in ran.out
    assert f"· only in Bunce “Foreign” {foreign.id}" in ran.out
    assert "1 changed in Bunce, 1 not in Bunce's list, 1 only in Bunce; 1 in sync." in ran.out
    assert "Bunce's content: just read from sandbox (127.0.0.1" in ran.out
    assert fresh(rows["A"]).bunce_name == "A changed"
    assert fresh(rows["A"]).name == "A"
    assert Segment.objects.count() == 3
    assert not any(request.method != "GET" for request in list(bunce.requests)[3:])


def test_a_refresh_is_stopped_by_ctrl_c(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(settings, PAGE_SIZE=10)
    bunce.add_segments(100)
    signal_after(monkeypatch, list_scan.Reading, "read_page", calls=2)
    ran = run("bunce_plan", "--refresh")
    assert (ran.code, bunce.served) == (130, 2)
    assert "Interrupted before the end of the list." in ran.out


def test_a_refresh_with_a_refused_key_fails(bunce: Emulator) -> None:
    bunce.set(key="sk_test_another")
    ran = run("bunce_plan", "--refresh")
    assert ran.code == 1
    assert "Bunce refused the API key." in ran.error


def test_for_machines_one_object_is_printed(bunce: Emulator) -> None:
    row = drifted(bunce, "Ours", "Theirs")
    new = make("New")
    make(status=Status.SYNCED, environment=LIVE)
    ran = run("bunce_plan", "--json")
    assert ran.code == 3
    plan = ran.json
    assert plan["to_do"] is True
    assert plan["create"]["count"] == 1
    assert plan["create"]["segments"][0]["id"] == new.pk
    [item] = plan["differs"]["segments"]
    assert (item["id"], item["code"]) == (row.pk, "drift")
    assert item["changes"] == [{"field": "name", "bunce": "Theirs", "here": "Ours", "seen": True}]
    assert plan["elsewhere"] == {LIVE: 1}
    refreshed = run("bunce_plan", "--refresh", "--json").json
    assert refreshed["only_in_bunce"] == {"count": 0, "segments": []}


def test_it_needs_a_fixed_number_of_queries_and_little_memory(bunce: Emulator) -> None:
    def measure() -> tuple[int, int]:
        tracemalloc.start()
        with CaptureQueriesContext(connection) as queries:
            assert run("bunce_plan").code == 3
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return len(queries), peak

    Segment.objects.bulk_create(Segment(name=f"A {n}", description="x" * 200) for n in range(100))
    measure()  # which creates the shared row
    few, before = measure()
    Segment.objects.bulk_create(Segment(name=f"A {n}", description="x" * 200) for n in range(5_000))
    many, after = measure()
    assert many == few
    assert after - before < 5_000_000

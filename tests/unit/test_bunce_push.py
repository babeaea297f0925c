"""`manage.py bunce_push`: what waits, or some segments, in the foreground."""

from __future__ import annotations

import signal

import pytest
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.management import foreground
from bunce_sync.models import Segment
from bunce_sync.status.status import get_status
from bunce_sync.sync import push, rate_limiter
from bunce_sync.sync.budget import Budget
from bunce_sync.testing.emulator import Emulator
from tests.unit.commands import run, signal_after
from tests.unit.core import (
    Reason,
    Status,
    ago,
    configure,
    drain,
    fresh,
    in_threads,
    make,
    set_state,
)

pytestmark = pytest.mark.django_db(transaction=True)

LIVE = "https://api.bunce.so:443 live"


@pytest.fixture(autouse=True)
def quick(bunce: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the local Bunce, and look often at what keeps the work waiting."""
    monkeypatch.setattr(foreground, "RECHECK", 0.05)


def names(bunce: Emulator) -> list[str]:
    return sorted(segment.name for segment in bunce.segments)


def test_everything_that_waits_is_sent_also_what_waits_for_a_retry(bunce: Emulator) -> None:
    make("A")
    make("B", due_at=ago(-600), last_code="server_error", attempts=5)
    rejected = make("C", status=Status.REJECTED, last_code="conflict")
    ran = run("bunce_push")
    assert (ran.code, ran.out) == (0, "Synced 2 segments.\n")
    assert names(bunce) == ["A", "B"]
    assert fresh(rejected).status == Status.REJECTED
    again = run("bunce_push")
    assert (again.code, again.out) == (0, "Nothing to send: no segment is waiting.\n")
    assert bunce.served == 2


def test_only_the_named_segments_are_sent(bunce: Emulator) -> None:
    rows = [make(name, due_at=ago(-600)) for name in ("A", "B", "C", "D")]
    ran = run("bunce_push", rows[1].pk, rows[2].pk)
    assert (ran.code, ran.out) == (0, "Synced 2 segments.\n")
    assert names(bunce) == ["B", "C"]


def test_a_named_segment_that_was_refused_is_retried(bunce: Emulator) -> None:
    row = make("A", status=Status.REJECTED, last_code="conflict")
    other = make("B", status=Status.REJECTED, last_code="conflict")
    ran = run("bunce_push", row.pk)
    assert (ran.code, ran.out) == (0, "Synced 1 segment.\n")
    assert fresh(other).status == Status.REJECTED
    assert run("bunce_push", "--all-rejected").code == 0
    assert names(bunce) == ["A", "B"]


def test_refusals_are_told_in_bunces_words(bunce: Emulator) -> None:
    bunce.set(taken_names=["A", "\x1b[31mB"])
    rows = [make("A"), make("\x1b[31mB"), make("C")]
    ran = run("bunce_push")
    assert ran.code == 1
    assert "Synced 1 segment." in ran.out
    assert "Refused by Bunce: 2 segments" in ran.out
    assert f"  #{rows[0].pk} “A”: Bunce does not accept this request. “name taken”" in ran.out
    assert "\x1b" not in ran.out
    assert run("bunce_push").code == 0, "what was refused before is no failure of this run"


def test_many_refusals_are_counted(bunce: Emulator) -> None:
    bunce.set(taken_names=[f"Segment {n}" for n in range(30)])
    for n in range(30):
        make(f"Segment {n}")
    ran = run("bunce_push")
    assert ran.out.count("name taken") == 20
    assert "… and 10 more" in ran.out
    assert run("bunce_push", "--all-rejected", "--json").json["refused"]["count"] == 30


def test_a_create_of_unknown_outcome_is_told(bunce: Emulator) -> None:
    row = make("A")
    bunce.script(["lost_answer"])
    ran = run("bunce_push", row.pk)
    assert ran.code == 1
    assert "it is not known whether Bunce created them" in ran.out
    assert f"#{row.pk} “A”: The connection was closed" in ran.out
    assert "Looked for from" in ran.out
    again = run("bunce_push", row.pk)
    assert (again.code, again.out) == (
        1,
        f"#{row.pk} “A” is being checked with Bunce, and not sent before its list was searched.\n",
    )
    assert len(bunce.segments) == 1


def test_a_failed_attempt_is_told_with_the_time_of_the_next(bunce: Emulator) -> None:
    row = make("A", status=Status.PENDING, bunce_id="a1", settled={})
    bunce.script(["error_before"], "PATCH")
    ran = run("bunce_push")
    assert ran.code == 1
    assert "Still waiting; workers send them: 1 segment" in ran.out
    assert f"#{row.pk} “A”: Bunce had an internal error." in ran.out
    assert "Next attempt at" in ran.out


def test_segments_that_cannot_be_pushed_are_told_with_the_reason(bunce: Emulator) -> None:
    missing = 10**9
    elsewhere = make("There", environment=LIVE)
    with services.no_push("a test"):
        held = Segment.objects.create(name="Held")
        drifted = make("Drifted", status=Status.SYNCED, last_code="drift")
        synced = make("Synced", status=Status.SYNCED)
        ran = run("bunce_push", missing, elsewhere.pk, held.pk, drifted.pk, synced.pk)
        hold = fresh(held).hold_id
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert lines[0] == f"#{missing} does not exist."
    assert lines[1].startswith(f"#{elsewhere.pk} “There” belongs to live (api.bunce.so).")
    assert f"bunce_resume --hold {hold}" in lines[2]
    assert lines[3].startswith(f"#{drifted.pk} “Drifted” differs in Bunce")
    assert lines[4] == f"#{synced.pk} “Synced” is in sync."
    assert bunce.served == 0
    assert run("bunce_push", synced.pk).code == 0, "there is nothing to do about it"
    there = make("Synced there", status=Status.SYNCED, environment=LIVE)
    assert run("bunce_push", there.pk).code == 1


def test_what_a_block_holds_is_told_and_no_failure(bunce: Emulator) -> None:
    with services.no_push("a load"):
        Segment.objects.bulk_create(Segment(name=f"Held {n}") for n in range(9))
        ran = run("bunce_push")
        [hold] = get_status().holds
    assert ran.code == 0
    nothing, about, *more = ran.out.splitlines()
    assert nothing == "Nothing to send: nothing else waits."
    assert about.startswith("A no_push() block (a load) has held 9 segments since")
    assert about.endswith(f"python manage.py bunce_resume --hold {hold.id}")
    assert not more, "one line for each block, not for each segment"
    assert bunce.served == 0


def test_while_pushes_are_paused_nothing_is_done(bunce: Emulator) -> None:
    row = make("A", due_at=ago(-600))
    services.pause(reason="moving house", by="ada")
    ran = run("bunce_push", row.pk)
    assert ran.code == 1
    assert "Nothing was sent. Pushes are paused by ada" in ran.error
    assert "moving house" in ran.error
    assert "bunce_resume" in ran.error
    assert fresh(row).due_at == row.due_at
    assert bunce.served == 0


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(bunce: Emulator) -> None:
    new = make("New", "A description", due_at=ago(-600))
    refused = make("Refused", status=Status.REJECTED, last_code="conflict")
    edited = make("Edited")
    drain()
    Segment.objects.filter(pk=edited.pk).update(name="Edited since")
    served, rows = bunce.served, list(Segment.objects.values())
    ran = run("bunce_push", "--dry-run")
    assert ran.code == 0
    assert f"+ create   #{new.pk} “New”  (not before" in ran.out
    assert "    description: “A description”" in ran.out
    assert f"~ update   #{edited.pk} “Edited since”" in ran.out
    assert "    name: “Edited” → “Edited since”" in ran.out
    assert "Refused" not in ran.out
    assert "Would create 1 segment and update 1." in ran.out
    named = run("bunce_push", refused.pk, "--dry-run")
    assert named.out.splitlines()[-1] == "Would create 1 segment and update 0."
    everything = run("bunce_push", "--all-rejected", "--dry-run", "--json").json
    assert everything["create"]["count"] == 2
    assert (bunce.served, list(Segment.objects.values())) == (served, rows)


def test_for_machines_one_object_is_printed(bunce: Emulator) -> None:
    bunce.set(taken_names=["B"])
    make("A")
    row = make("B")
    ran = run("bunce_push", "--json")
    assert ran.code == 1
    assert ran.json["synced"] == 1
    [refused] = ran.json["refused"]["segments"]
    assert (refused["id"], refused["code"], refused["detail"]) == (row.pk, "rejected", "name taken")
    assert (ran.json["blocked"], ran.json["interrupted"]) == ("", False)


def test_an_error_is_an_object_for_machines_as_well(settings: Settings) -> None:
    configure(settings, API_KEY="")
    make("A")
    ran = run("bunce_push", "--json")
    assert ran.code == 1
    assert "Nothing is sent to Bunce" in ran.json["error"]
    assert "Nothing is sent to Bunce" in ran.error


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_after_the_request_under_way(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    for n in range(30):
        make(f"Segment {n}")
    monkeypatch.setattr(foreground, "TURN", 0.01)  # hardly time for one request
    signal_after(monkeypatch, push.Push, "record", calls=3, number=number)
    ran = run("bunce_push")
    assert ran.code == code
    assert "Interrupted after the request under way. Workers send what is left." in ran.out
    sent = len(bunce.segments)
    assert 3 <= sent < 30
    assert f"Synced {sent} segments." in ran.out
    assert Segment.objects.filter(status=Status.SYNCED).count() == sent
    assert run("bunce_push").code == 0
    assert len(bunce.segments) == 30


def test_a_refused_key_ends_it_with_the_reason(bunce: Emulator) -> None:
    bunce.set(key="sk_test_another")
    make("A")
    ran = run("bunce_push")
    assert ran.code == 1
    assert "Bunce refused the API key." in ran.out
    assert "Set a valid key" in ran.out
    assert bunce.served == 1


def test_a_short_pause_is_waited_for(bunce: Emulator) -> None:
    make("A")
    bunce.set_faults(script=["limit_429"])
    set_state(blocked_until=ago(-0.6), blocked_reason=Reason.UNAVAILABLE, blocked_since=ago(1))
    bunce.set_faults()
    ran = run("bunce_push")
    assert (ran.code, len(bunce.segments)) == (0, 1)
    assert "Pushing: 0 of 1 segment (Bunce is unavailable and asked for a pause until" in ran.out


def test_a_long_pause_ends_it(bunce: Emulator) -> None:
    make("A")
    set_state(blocked_until=ago(-3000), blocked_reason=Reason.UNAVAILABLE, blocked_since=ago(1))
    ran = run("bunce_push")
    assert ran.code == 1
    assert "asked for a pause until" in ran.out
    assert "Still waiting; workers send them: 1 segment" in ran.out


def test_an_outage_that_lasts_ends_it(bunce: Emulator) -> None:
    make("A")
    set_state(
        blocked_until=ago(-10),
        blocked_reason=Reason.UNREACHABLE,
        blocked_since=ago(foreground.PATIENCE.total_seconds() + 5),
    )
    ran = run("bunce_push")
    assert ran.code == 1
    assert "Bunce has not responded since" in ran.out


def test_creates_that_an_import_holds_back_are_told(bunce: Emulator) -> None:
    make("A")
    services.request_import(adopt=True)
    ran = run("bunce_push")
    assert ran.code == 1
    assert "No segment is created until the open import ends" in ran.out
    assert "`manage.py bunce_import` completes it." in ran.out
    assert bunce.served == 0


def test_a_segment_that_a_worker_is_sending_is_waited_for(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = make("A")
    sending = push.Push(fresh(row))
    assert sending.reserve(Budget(10))
    result = sending.perform(Budget(10))
    looks: list[int] = []

    def look(*args: object) -> object:
        looks.append(1)
        if len(looks) == 2:
            sending.record(result)
        return get_status()

    monkeypatch.setattr(foreground, "get_status", look)
    ran = run("bunce_push", row.pk)
    assert (ran.code, ran.out) == (0, "Synced 1 segment.\n")
    assert len(bunce.segments) == 1


@pytest.mark.parametrize("ended", [1, -0.5])
def test_a_segment_that_a_dead_worker_left_is_freed(bunce: Emulator, ended: float) -> None:
    row = make(
        *("A", None),
        status=Status.SENDING,
        bunce_id="a1",
        lease_until=ago(ended),
        settled={},
        due_at=ago(60),
    )
    ran = run("bunce_push", row.pk)
    assert "Refused by Bunce: 1 segment" in ran.out
    assert bunce.served == 1


def test_the_limit_is_kept_and_shown(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limiter, "PERMIT_SECONDS", 0.2)
    configure(settings, RATE_LIMIT=10, RATE_WINDOW=1.0)
    for n in range(25):
        make(f"Segment {n}")
    ran = run("bunce_push")
    assert (ran.code, len(bunce.segments)) == (0, 25)
    assert bunce.worst_window(1.0) <= 10


def test_two_at_once_send_each_segment_once(bunce: Emulator) -> None:
    rows = [make(f"Segment {n}") for n in range(20)]
    keys = [row.pk for row in rows]
    one, two = in_threads([lambda: run("bunce_push"), lambda: run("bunce_push", *keys)])
    assert {one.code, two.code} == {0}
    assert len(bunce.segments) == 20

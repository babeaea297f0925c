"""`manage.py bunce_pause` and `bunce_resume`: the brake, and blocks whose process died."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.models import PushHold, Segment
from bunce_sync.status.status import get_status
from bunce_sync.testing.emulator import Emulator
from tests.unit.commands import run
from tests.unit.core import Status, configure, drain, fresh, make, run_refresh

pytestmark = pytest.mark.django_db(transaction=True)


def held_by_a_dead_process() -> tuple[Segment, int]:
    """Make a segment that the block of a process holds which has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    where = services.process_name().partition(", process ")[0]
    hold = PushHold.objects.create(by=f"{where}, process {ended.pid}", reason="a load")
    row = make("Held", hold=hold)
    return row, hold.pk


def test_nothing_is_sent_until_pushes_are_resumed(bunce: Emulator) -> None:
    row = make("A")
    ran = run("bunce_pause", "--reason", "moving house")
    assert ran.code == 0
    assert "Pushes are paused by " in ran.out
    assert "moving house" in ran.out
    assert "`manage.py bunce_resume`" in ran.out
    assert (drain(), bunce.served) == (0, 0)
    pause = get_status().pause
    assert pause is not None
    assert (pause.reason, "@" in pause.by) == ("moving house", True)
    assert run("bunce_resume").out == "Pushes are resumed; 1 segment waits.\n"
    assert drain() == 1
    assert fresh(row).status == Status.SYNCED
    again = run("bunce_resume")
    assert (again.code, again.out) == (0, "Pushes are not paused.\n")


def test_reads_go_on_meanwhile(bunce: Emulator) -> None:
    row = make("A")
    drain()
    run("bunce_pause", "--reason", "moving house")
    services.refresh(Segment.objects.filter(pk=row.pk))
    assert run_refresh() == 1


def test_a_pause_that_is_in_force_gets_the_new_reason(bunce: Emulator) -> None:
    run("bunce_pause", "--reason", "moving house", "--by", "ada")
    ran = run("bunce_pause", "--reason", "still moving", "--by", "grace", "--json")
    assert ran.code == 0
    assert ran.json["was_paused"] is True
    assert ran.json["paused"]["reason"] == "still moving"
    assert "The reason was changed." in run("bunce_pause", "--reason", "done soon").out
    assert PushHold.objects.count() == 1


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_reason_is_required(reason: str) -> None:
    ran = run("bunce_pause", "--reason", reason)
    assert (ran.code, get_status().pause) == (1, None)
    assert "Give a reason" in ran.error


def test_a_user_is_named_and_the_admin_logs_it(bunce: Emulator) -> None:
    user = User.objects.create(username="ada")
    run("bunce_pause", "--reason", "100 % sure", "--user", "ada")
    pause = get_status().pause
    assert pause is not None
    assert pause.by == "ada"
    run("bunce_resume", "--user", "ada")
    entries = LogEntry.objects.order_by("pk")
    assert [entry.change_message for entry in entries] == ["Paused: 100 % sure", "Resumed"]
    assert {entry.user_id for entry in entries} == {user.pk}
    ran = run("bunce_pause", "--reason", "x", "--user", "nobody")
    assert (ran.code, get_status().pause) == (1, None)
    assert "There is no user 'nobody'. Nothing was changed." in ran.error


def test_dry_runs_change_nothing(bunce: Emulator) -> None:
    assert "Would pause" in run("bunce_pause", "--reason", "x", "--dry-run").out
    assert get_status().pause is None
    run("bunce_pause", "--reason", "x")
    make("A")
    ran = run("bunce_resume", "--dry-run")
    assert ran.out == "Would resume pushes; 1 segment waits. Nothing was changed.\n"
    assert get_status().pause is not None


def test_pausing_works_with_unusable_settings(settings: Settings) -> None:
    configure(settings, API_KEY="", RATE_LIMIT="many")
    assert run("bunce_pause", "--reason", "x").code == 0
    assert run("bunce_status").code == 1
    assert run("bunce_resume").code == 0


# Blocks of no_push()


def test_what_a_dead_process_holds_is_shown_and_released(bunce: Emulator) -> None:
    row, hold = held_by_a_dead_process()
    assert drain() == 0
    shown = run("bunce_status").out
    assert "A no_push() block has held 1 segment since" in shown
    assert f"python manage.py bunce_resume --hold {hold}" in shown
    assert f"bunce_resume --hold {hold}" in run("bunce_resume").out
    assert (
        run("bunce_resume", "--hold", hold, "--dry-run").out
        == "Would release 1 segment. Nothing was changed.\n"
    )
    assert run("bunce_resume", "--hold", hold).out == "Released 1 segment.\n"
    assert drain() == 1
    assert fresh(row).status == Status.SYNCED
    assert not PushHold.objects.exists()


def test_a_block_that_is_running_is_released_only_by_force(bunce: Emulator) -> None:
    with services.no_push():
        Segment.objects.create(name="A")
        hold = PushHold.objects.get().pk
        ran = run("bunce_resume", "--hold", hold)
        assert ran.code == 1
        assert "is still running" in ran.error
        assert f"process {os.getpid()}" in ran.error
        assert run("bunce_resume", "--hold", hold, "--force", "--json").json == {
            "released": 1,
            "hold": hold,
            "dry_run": False,
        }
    assert drain() == 1


@pytest.mark.parametrize("which", ["missing", "pause"])
def test_another_number_is_refused(bunce: Emulator, which: str) -> None:
    pause = services.pause(reason="x", by="ada")
    _row, hold = held_by_a_dead_process()
    ran = run("bunce_resume", "--hold", pause.pk if which == "pause" else 10**9)
    assert ran.code == 1
    assert f"Open: {hold}." in ran.error
    assert PushHold.objects.count() == 2


@pytest.mark.parametrize(
    ("process", "running"),
    [
        ("{who}@{host}, process {pid}", True),
        ("{who}@not-{host}, process {pid}", False),
        ("{who}@{host}, process 1", True),
        ("{who}@{host}, process 99999999999999999999", False),
        ("ada", False),
        ("", False),
    ],
)
def test_a_process_of_this_host_is_recognized(process: str, running: bool) -> None:
    who, _at, host = services.user_at_host().rpartition("@")
    assert services.is_running(process.format(who=who, host=host, pid=os.getpid())) is running


def test_the_user_of_a_process_may_have_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def getuser() -> Any:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", getuser)
    assert services.process_name().startswith("unknown@")

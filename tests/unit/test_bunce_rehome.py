"""`manage.py bunce_rehome`: the preview, the question, and the move. See also test_rehome.py."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from pytest_django import Settings

from bunce_sync.conf import conf
from bunce_sync.management import foreground
from bunce_sync.models import Segment
from bunce_sync.sync import list_scan, rehome, shared_state
from bunce_sync.testing.emulator import Emulator
from tests.unit.commands import run, signal_after
from tests.unit.core import Status, configure, drain, fresh, make

pytestmark = pytest.mark.django_db(transaction=True)

LIVE = "https://api.bunce.so:443 live"
OTHER = "https://proxy.example:8443 live"


@pytest.fixture(autouse=True)
def quick(bunce: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the local Bunce, and look often at what keeps the work waiting."""
    monkeypatch.setattr(foreground, "RECHECK", 0.05)


class Keyboard(StringIO):
    """An input on which somebody types."""

    def isatty(self) -> bool:
        return True


def typing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let somebody answer the question."""
    monkeypatch.setattr("sys.stdin", Keyboard(text))
    monkeypatch.setattr("bunce_sync.management.console.find_spec", lambda name: None)


def rows_elsewhere(bunce: Emulator, count: int = 1, environment: str = LIVE) -> list[Segment]:
    """Make rows of another environment, the first of which is in this account as well."""
    rows = [
        make(f"Segment {n}", "kept", status=Status.SYNCED, environment=environment)
        for n in range(count)
    ]
    there = bunce.add_segment("Segment 0")
    Segment.objects.filter(pk=rows[0].pk).update_sync_fields(bunce_id=there.id)
    return rows


def test_nothing_elsewhere_is_nothing_to_do(bunce: Emulator) -> None:
    make("A")
    ran = run("bunce_rehome")
    assert ran.code == 0
    assert ran.out.startswith("All segments belong to sandbox (127.0.0.1:")
    assert bunce.served == 0


def test_a_dry_run_shows_counts_and_names_and_changes_nothing(bunce: Emulator) -> None:
    rows = rows_elsewhere(bunce, 8)
    before = list(Segment.objects.order_by("pk").values())
    ran = run("bunce_rehome", "--dry-run")
    assert ran.code == 0
    assert "8 segments belong to live (api.bunce.so):\n" in ran.out
    assert (
        "        1  in the account used now: only their environment changes\n"
        f"           #{rows[0].pk} “Segment 0”\n"
        "        7  not in the account used now: they give up their Bunce ids and are created"
        " there\n"
    ) in ran.out
    assert "           … and 2 more" in ran.out
    assert "Nothing was changed." in ran.out
    assert list(Segment.objects.order_by("pk").values()) == before


def test_yes_moves_without_a_question_and_the_rows_are_then_sent(bunce: Emulator) -> None:
    rows = rows_elsewhere(bunce, 3)
    ran = run("bunce_rehome", "--yes")
    assert ran.code == 0
    assert "Moved 3 segments to sandbox (127.0.0.1:" in ran.out
    assert "        1  kept, since the account used now has them\n" in ran.out
    assert "        2  to be created in the account used now\n" in ran.out
    assert fresh(rows[0]).status == Status.SYNCED
    assert drain() == 2
    assert sorted(one.name for one in bunce.segments) == ["Segment 0", "Segment 1", "Segment 2"]
    assert {one.description for one in bunce.segments[1:]} == {"kept"}
    assert run("bunce_rehome").out.startswith("All segments belong to sandbox")


@pytest.mark.parametrize(("answer", "moved"), [("y\n", 1), ("yes\n", 1), ("n\n", 0), ("\n", 0)])
def test_it_asks_on_a_terminal(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch, answer: str, moved: int
) -> None:
    rows_elsewhere(bunce)
    typing(monkeypatch, answer)
    ran = run("bunce_rehome", terminal=True)
    assert ran.code == 0
    assert "Move them? [y/N] " in ran.out
    assert Segment.objects.filter(environment=conf.environment).count() == moved
    assert ("Nothing was changed." in ran.out) is not bool(moved)


def test_without_a_terminal_it_needs_yes(bunce: Emulator) -> None:
    rows_elsewhere(bunce)
    for options in ([], ["--json"]):
        ran = run("bunce_rehome", *options)
        assert ran.code == 1
        assert "Nothing was changed: add --yes" in ran.error
    assert Segment.objects.elsewhere().count() == 1


def test_ctrl_c_at_the_question_changes_nothing(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_elsewhere(bunce)
    keyboard = Keyboard("y\n")
    signal_after(monkeypatch, keyboard, "readline")
    monkeypatch.setattr("sys.stdin", keyboard)
    ran = run("bunce_rehome", terminal=True)
    assert ran.code == 130
    assert "Nothing was changed." in ran.out
    assert Segment.objects.elsewhere().count() == 1


def test_ctrl_c_while_the_list_is_read_changes_nothing(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(settings, PAGE_SIZE=10)
    bunce.add_segments(100)
    rows_elsewhere(bunce)
    signal_after(monkeypatch, list_scan.Reading, "read_page", calls=2)
    ran = run("bunce_rehome", "--yes")
    assert (ran.code, bunce.served) == (130, 2)
    assert "Interrupted before the end of the list. Nothing was changed." in ran.out
    assert Segment.objects.elsewhere().count() == 1


def test_ctrl_c_while_rows_are_moved_leaves_the_others(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehome, "BATCH", 2)
    rows_elsewhere(bunce, 5)
    with monkeypatch.context() as patch:
        signal_after(patch, rehome.Rehome, "_move")
        ran = run("bunce_rehome", "--yes")
    assert ran.code == 130
    assert "Moved 2 segments" in ran.out
    assert "Interrupted: run it again to move the others." in ran.out
    assert Segment.objects.elsewhere().count() == 3
    assert run("bunce_rehome", "--yes", "--json").json["counts"][LIVE]["anew"] == 3
    assert drain() == 4


@pytest.mark.parametrize(
    "label", ["live", "api.bunce.so", "https://api.bunce.so:443", LIVE, "live (api.bunce.so)"]
)
def test_one_environment_can_be_chosen(bunce: Emulator, label: str) -> None:
    rows_elsewhere(bunce)
    make(status=Status.SYNCED, environment="https://old.example:443 sandbox")
    assert run("bunce_rehome", "--from", label, "--yes").code == 0
    assert [row.environment for row in Segment.objects.elsewhere()] == [
        "https://old.example:443 sandbox"
    ]


def test_a_label_can_name_several_environments(bunce: Emulator) -> None:
    rows_elsewhere(bunce)
    make(status=Status.SYNCED, environment=OTHER)
    preview = run("bunce_rehome", "--from", "live", "--dry-run", "--json").json
    assert preview["counts"].keys() == {LIVE, OTHER}
    assert "1 segment belongs to live (proxy.example:8443):" in run("bunce_rehome", "--dry-run").out


def test_an_unknown_environment_is_refused(bunce: Emulator) -> None:
    rows_elsewhere(bunce)
    ran = run("bunce_rehome", "--from", "staging", "--yes")
    assert ran.code == 1
    assert "No segment belongs to 'staging'. Other environments: live (api.bunce.so)." in ran.error


def test_rows_that_are_being_sent_elsewhere_are_left_and_told(bunce: Emulator) -> None:
    make("A", status=Status.SENDING, environment=LIVE)
    preview = run("bunce_rehome", "--yes")
    assert preview.code == 0
    assert "being sent by another process right now: left as they are" in preview.out
    rows_elsewhere(bunce)
    ran = run("bunce_rehome", "--yes")
    assert ran.code == 1
    assert "Moved 1 segment" in ran.out
    assert "        1  left, since another process was sending them; run this again" in ran.out
    assert Segment.objects.elsewhere().count() == 1


# Another account


def of_another_account(bunce: Emulator, settings: Settings) -> Segment:
    """Make a synced row that the account of the key used now does not have."""
    row = make("VIP")
    drain()
    bunce.remove_segment(bunce.segments[0].id)
    bunce.add_segment("Of another site")
    configure(settings, API_KEY="sk_test_another")
    return row


def test_with_the_key_of_another_account_nothing_is_moved_by_mistake(
    bunce: Emulator, settings: Settings
) -> None:
    of_another_account(bunce, settings)
    rows_elsewhere(bunce)
    ran = run("bunce_rehome", "--yes")
    assert ran.code == 1
    assert "the API key seems to belong to another account" in ran.error
    assert "--this-account" in ran.error
    assert Segment.objects.elsewhere().count() == 1


def test_rows_move_to_another_account_if_that_is_said(bunce: Emulator, settings: Settings) -> None:
    row = of_another_account(bunce, settings)
    ran = run("bunce_rehome", "--this-account", "--yes")
    assert ran.code == 0
    assert "1 segment of sandbox (127.0.0.1:" in ran.out
    assert "to be moved to another account:" in ran.out
    assert drain() == 1
    assert fresh(row).status == Status.SYNCED
    assert sorted(one.name for one in bunce.segments) == ["Of another site", "VIP"]


def test_a_key_can_be_accepted_without_a_look(bunce: Emulator, settings: Settings) -> None:
    of_another_account(bunce, settings)
    assert not shared_state.key_is_known(shared_state.read()[0])
    assert "Would accept" in run("bunce_rehome", "--accept-key", "--dry-run").out
    assert not shared_state.key_is_known(shared_state.read()[0])
    served = bunce.served
    ran = run("bunce_rehome", "--accept-key")
    assert (ran.code, ran.out.startswith("Accepted the API key for sandbox")) == (0, True)
    assert shared_state.key_is_known(shared_state.read()[0])
    assert bunce.served == served
    configure(settings, API_KEY="")
    assert "Nothing is sent to Bunce" in run("bunce_rehome", "--accept-key").error


# Other output


def test_a_user_is_named_and_the_admin_logs_it(bunce: Emulator) -> None:
    user = User.objects.create(username="ada")
    rows_elsewhere(bunce, 2)
    run("bunce_rehome", "--yes", "--user", "ada")
    entry = LogEntry.objects.get()
    assert entry.user_id == user.pk
    assert entry.change_message.startswith("Moved segments from live (api.bunce.so) to sandbox")
    assert entry.change_message.endswith(": 2.")


def test_for_machines_one_object_is_printed(bunce: Emulator) -> None:
    [row, _other] = rows_elsewhere(bunce, 2)
    preview = run("bunce_rehome", "--dry-run", "--json").json
    assert preview["applied"] is False
    done = run("bunce_rehome", "--yes", "--json").json
    assert done["applied"] is True
    assert preview["counts"] == done["counts"]
    assert done["counts"][LIVE] == {
        "found": 1,
        "back": 0,
        "unresolved": 0,
        "anew": 1,
        "sending": 0,
    }
    assert done["examples"][0] == {
        "environment": LIVE,
        "verdict": "found",
        "id": row.pk,
        "name": "Segment 0",
    }
    assert run("bunce_rehome", "--json").json["counts"] == {}


def test_a_list_that_cannot_be_read_ends_it(bunce: Emulator) -> None:
    rows_elsewhere(bunce)
    bunce.set(key="sk_test_another")
    ran = run("bunce_rehome", "--yes")
    assert ran.code == 1
    assert "Bunce refused the API key." in ran.error
    assert Segment.objects.elsewhere().count() == 1


def test_the_terminal_is_asked_after_the_bar(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_elsewhere(bunce)
    monkeypatch.setattr("sys.stdin", Keyboard("y\n"))
    monkeypatch.setenv("TERM", "xterm")
    ran = run("bunce_rehome", terminal=True)
    assert ran.code == 0
    assert ran.out.index("Reading the list of") < ran.out.index("Move them?")
    assert "Moved 1 segment to" in ran.out

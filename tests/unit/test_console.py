"""What the commands share: progress on a terminal and elsewhere, signals, texts, exit codes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.db import OperationalError
from django.utils import translation
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.choices import Operation
from bunce_sync.management import console, foreground
from bunce_sync.management.console import SyncCommand, printable, stop_on_signals
from bunce_sync.management.rich_progress import logs_follow_stderr
from bunce_sync.status.status import get_status
from bunce_sync.testing.emulator import Emulator
from tests.unit.commands import run
from tests.unit.core import make

ROOT = Path(__file__).resolve().parents[2]
OURS = sorted(name for name, app in get_commands().items() if app == "bunce_sync")
SHARING = [name for name in OURS if name not in ("bunce_doctor", "bunce_emulator")]

database = pytest.mark.django_db(transaction=True)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that shows colors and moves the cursor."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


def command(name: str) -> BaseCommand:
    return load_command_class("bunce_sync", name)


@pytest.mark.parametrize("name", SHARING)
def test_each_command_shares_options_and_documents_its_exit_codes(name: str) -> None:
    one = command(name)
    assert isinstance(one, SyncCommand)
    assert "xit code" in one.help
    options = one.create_parser("manage.py", name).format_help()
    assert ("--json" in options) is (name != "bunce_sweep")


@pytest.mark.parametrize("name", SHARING)
def test_each_command_is_documented(name: str) -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    parser = command(name).create_parser("manage.py", name)
    own = {
        option
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    }
    own -= {"--help", "--version", "--verbosity", "--settings", "--pythonpath", "--traceback"}
    own -= {"--no-color", "--force-color", "--skip-checks"}
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{name}")]
    missing = [option for option in sorted(own) if option not in row]
    assert missing == []


# A terminal


@database
def test_on_a_terminal_progress_is_a_bar_that_disappears(bunce: Emulator, terminal: None) -> None:
    make("[red]A[/red]")
    ran = run("bunce_push", terminal=True)
    assert ran.code == 0
    assert "\x1b[2K" in ran.out, "lines are erased"
    assert "\x1b[?25h" in ran.out, "the cursor is shown again"
    assert ran.out.endswith("Synced 1 segment.\n")


@database
def test_without_color_the_bar_has_none(bunce: Emulator, terminal: None) -> None:
    make("A")
    ran = run("bunce_push", terminal=True, no_color=True)
    assert "Pushing" in ran.out
    assert "\x1b[32m" not in ran.out
    assert "m━" not in ran.out


@database
@pytest.mark.parametrize("reason", ["dumb", "no rich", "no terminal"])
def test_where_there_can_be_no_bar_lines_are_plain(
    bunce: Emulator, terminal: None, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    if reason == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    if reason == "no rich":
        monkeypatch.setattr(console, "find_spec", lambda name: None)
    make("A")
    ran = run("bunce_push", terminal=reason != "no terminal")
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert ran.out.splitlines()[-1] == "Synced 1 segment."
    assert "Pushing: 1 of 1 segment" in ran.out


def test_the_commands_work_where_rich_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('rich is not installed')\n")
    script = (
        "import sys; sys.modules['rich'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'rich' else find(name, *a)\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(['manage.py', 'bunce_status', '--json'])\n"
    )
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'empty.sqlite3'}",
    }
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "Run `python manage.py migrate`" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_log_lines_go_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, above = StringIO(), StringIO()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    monkeypatch.setattr(sys, "stderr", above)
    handler = logging.StreamHandler(terminal)
    logger = logging.getLogger("bunce_sync")
    logger.addHandler(handler)
    try:
        with logs_follow_stderr():
            logger.warning("while the bar is shown")
        logger.warning("afterwards")
    finally:
        logger.removeHandler(handler)
    assert above.getvalue() == "while the bar is shown\n"
    assert terminal.getvalue() == "afterwards\n"


@database
def test_the_output_is_in_english_whatever_the_language_of_the_site(
    bunce: Emulator, settings: Settings
) -> None:
    with translation.override("fr"):
        ran = run("bunce_status")
        assert "No worker has run yet." in ran.out
        services.pause(reason="x", by="ada")
        make("A")
        assert "Pushes are paused by ada" in run("bunce_push").error
        assert translation.get_language() == "fr"


# A pipe


@database
def test_a_reader_that_has_enough_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    moved: list[Any] = []
    monkeypatch.setattr(os, "dup2", lambda *files: moved.append(files))
    with pytest.raises(SystemExit) as ended:
        call_command("bunce_status", stdout=Pipe())
    assert ended.value.code == 1
    [(_null, stdout)] = moved
    assert stdout == sys.stdout.fileno(), "Python flushes it at its end"


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_event_and_the_handlers_are_restored(number: int) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        signal.raise_signal(number)
        assert stop.is_set()
        assert stop.number == number
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_the_process_at_once() -> None:
    with stop_on_signals():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_another_thread_than_the_main_one_gets_no_signals() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []

    def look() -> None:
        with stop_on_signals() as stop, stop.interrupts():
            seen.append((stop.is_set(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


# Texts and errors


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\n lines\tand a tab", "two lines and a tab"),
        ("\x1b[31mred\x07", "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"),
        ("\u202egnisrever\ud800", "\N{REPLACEMENT CHARACTER}gnisrever\N{REPLACEMENT CHARACTER}"),
        ("x" * 70, "x" * 59 + "…"),
        ("é👩\u200d💻", "é👩\u200d💻"),
    ],
)
def test_texts_are_printed_on_one_line_without_what_a_terminal_obeys(text: str, shown: str) -> None:
    assert printable(text) == shown


@database
@pytest.mark.parametrize("options", [{}, {"json": True}])
def test_a_database_error_is_told_plainly(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    def fail() -> None:
        raise OperationalError("disk I/O error")

    monkeypatch.setattr("bunce_sync.management.commands.bunce_plan.get_status", fail)
    ran = run("bunce_plan", **options)
    assert ran.code == 1
    assert ran.error == "The database cannot be used: disk I/O error. Segments keep waiting."
    if options:
        assert ran.json == {"error": ran.error}


@database
def test_a_failed_system_check_is_an_object_for_machines(settings: Settings) -> None:
    settings.BUNCE_SYNC = {**settings.BUNCE_SYNC, "RATE_LIMITS": 3}
    ran = run("bunce_plan", json=True, skip_checks=False)
    assert ran.code == 1
    assert "RATE_LIMIT" in ran.json["error"]


@database
def test_an_obstacle_is_told_only_to_whom_it_concerns(bunce: Emulator) -> None:
    services.pause(reason="x", by="ada")
    services.request_import(adopt=True)
    status = get_status()
    assert foreground.find_obstacle(status, [Operation.LIST]) == foreground.Obstacle()
    assert foreground.find_obstacle(status, [Operation.UPDATE]).final
    services.resume()
    status = get_status()
    assert not foreground.find_obstacle(status, [Operation.UPDATE]).final
    assert foreground.find_obstacle(status, [Operation.CREATE]).final

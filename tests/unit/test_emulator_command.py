"""``manage.py bunce_emulator`` and the pytest fixture, as a user sees them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from django.core.management import CommandError, call_command

from bunce_sync.testing.emulator import Emulator

ROOT = Path(__file__).resolve().parents[2]

# A database that does not exist: the command must not connect to it.
ENVIRONMENT = {**os.environ, "DATABASE_URL": "postgres://unknown@127.0.0.1:1/none"}


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Run the command; yield its process, its greeting and the base URL."""
    command = [sys.executable, "manage.py", "bunce_emulator", "--port", "0"]
    with subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            greeting = ""
            while "Ctrl-C" not in greeting:
                line = process.stdout.readline()
                assert line, "it ended before it was ready"
                greeting += line
            address = re.search(r"base URL +(\S+)", greeting)
            assert address is not None
            yield process, greeting, address[1]
        finally:
            process.kill()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_stops_it(ending: signal.Signals) -> None:
    options = ["--fault", "html_502=1", "--rate-limit", "0", "--option", "unique_names=true"]
    with serving(*options) as (process, greeting, address):
        response = requests.post(
            f"{address}/segments",
            json={"name": "A"},
            headers={"X-Authorization": "sk_test_x"},
            timeout=10,
        )
        assert response.status_code == 502
        process.send_signal(ending)
        rest, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors == ""
    assert "html_502 1" in greeting
    assert "rate limit   none" in greeting
    assert rest.startswith("Stopped after 1 requests")


def test_the_options_reach_the_emulator() -> None:
    options = [
        "--fault", "unavailable=0.5", "--fault", "no_content=0.25",
        "--option", 'taken_names=["VIP", "A b"]', "--option", "plan_limit=7",
        "--option", "blocked_text=<x", "--option", "stored_name=upper",
        "--option", "layout=nested", "--option", "times=none", "--segments", "1500",
        "--option", 'methods=["PATCH"]', "--option", "retry_seconds=86400",
        "--option", 'refused_customers=["b@"]', "--option", "refused_customer_text=@bad",
        "--option", "customers_limit=30", "--option", "customers_limit_status=422",
        "--option", "customers_plan_limit=0", "--option", "customer_calls=true",
    ]  # fmt: skip
    with serving(*options) as (_, greeting, address):
        control = f"{address.removesuffix('/v1')}/control"
        settings = requests.get(f"{control}/settings", timeout=10).json()
        faults = requests.get(f"{control}/faults", timeout=10).json()
        state = requests.get(f"{control}/state", timeout=10).json()
    expected = {
        "taken_names": ["VIP", "A b"], "plan_limit": 7, "blocked_text": "<x",
        "stored_name": "upper", "layout": "nested", "times": "none",
        "refused_customers": ["b@"], "refused_customer_text": "@bad", "customers_limit": 30,
        "customers_limit_status": 422, "customers_plan_limit": 0,
    }  # fmt: skip
    assert settings == {**settings, **expected}
    assert (faults["methods"], faults["retry_seconds"]) == (["PATCH"], 86400)
    assert faults["customer_calls"] is True
    assert state["segments"] == 1500
    assert "segments     1,500" in greeting
    assert "unavailable 0.5, no_content 0.25" in greeting


def test_a_port_in_use_is_reported_in_one_line() -> None:
    with Emulator() as emulator:
        expected = f"Another program uses port {emulator.port} on 127.0.0.1"
        with pytest.raises(CommandError, match=expected) as caught:
            call_command("bunce_emulator", port=emulator.port)
    assert "--port" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_h11_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h11", None)
    monkeypatch.delitem(sys.modules, "bunce_sync.testing.emulator.connection", raising=False)
    with pytest.raises(CommandError, match=r"pip install 'django-bunce-sync\[testing\]'"):
        call_command("bunce_emulator", port=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "port must be from 0 to 65535"),
        (["--option", "rate_window=0"], "rate_window must be more than 0"),
        (["--rate-limit", "-5"], "rate_limit must be"),
        (["--segments", "-1"], "the number of segments must not be negative"),
        (["--rate-limit", "many"], "invalid int"),
        (["--fault", "lost_answer=2"], "must not exceed 1"),
        (["--fault", "lost_answer"], "Write it as NAME=VALUE"),
        (["--fault", "lost_anser=0.1"], "unknown option"),
        (["--option", "paging=none"], "paging must be one of"),
        (["--option", "page_cap=0"], "page_cap must be a whole number from 1"),
        (["--option", 'blocked_text=""'], "blocked_text must be a text"),
        (["--option", "stored_name=lower"], "stored_name must be one of"),
        (["--option", "customers_limit_status=400"], "customers_limit_status must be 413 or 422"),
    ],
)
def test_an_invalid_option_is_refused_with_the_reason(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("bunce_emulator", "--port", "0", *arguments)


def test_a_failed_start_restores_the_signal_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Emulator() as emulator, pytest.raises(CommandError):
        call_command("bunce_emulator", port=emulator.port)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_plugin_imports_nothing_until_it_is_used() -> None:
    program = (
        "import sys, bunce_sync.testing.pytest_plugin; "
        "late = ('django', 'h11', 'asyncio', 'bunce_sync.conf', 'bunce_sync.testing.emulator'); "
        "print([name for name in late if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


USERS_TESTS = """
import pytest
from django.conf import settings
from bunce_sync.testing.emulator import Options

@pytest.mark.parametrize("round", [1, 2])
def test_the_settings_point_at_an_empty_bunce(bunce, round):
    assert settings.BUNCE_SYNC["BASE_URL"] == bunce.base_url
    assert settings.BUNCE_SYNC["API_KEY"].startswith("sk_test_")
    assert settings.BUNCE_SYNC["LEASE"] == 7
    assert bunce.segments == []
    assert bunce.options == Options(rate_limit=None)
    bunce.add_segment("A")
    bunce.set(unique_names=True)

def test_the_settings_are_restored():
    assert settings.BUNCE_SYNC == {"LEASE": 7}
"""


def test_the_fixture_gives_each_test_an_empty_bunce_and_sets_its_address(
    tmp_path: Path,
) -> None:
    (tmp_path / "users_settings.py").write_text('SECRET_KEY = "x"\nBUNCE_SYNC = {"LEASE": 7}\n')
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["bunce_sync.testing.pytest_plugin"]\n')
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", ".",
         "-p", "no:cacheprovider", "-p", "no:randomly", "--ds=users_settings", "test_users.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout

"""Programs in the foreground: whatever ends first, all of them end, and it is said why."""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from project import processes
from project.processes import Died, Foreground, Stopped
from tests.site import eventually, is_gone

FOR_EVER = "import signal; signal.pause()"


def python(code: str) -> list[str | Path]:
    return [sys.executable, "-c", code]


@pytest.fixture
def said(tmp_path: Path) -> Callable[[str], Path]:
    """A file's path for a program to say with that it got somewhere."""
    return lambda name: tmp_path / name


def run(*programs: tuple[str, list[str | Path]]) -> None:
    with Foreground() as foreground:
        for name, command in programs:
            foreground.start(name, command, os.environ)
        foreground.watch()


def test_a_program_that_dies_is_named_with_what_it_said_last() -> None:
    dies = python("print('no disk'); raise SystemExit(3)")
    with pytest.raises(Died, match=r"The web ended with 3\. It said at last:\n    no disk") as died:
        run(("worker", python(FOR_EVER)), ("web", dies))
    assert "worker" not in str(died.value)


def test_a_program_that_is_killed_is_said_to_be() -> None:
    with pytest.raises(Died, match="The web was killed by SIGKILL"):
        run(("web", python("import os; os.kill(os.getpid(), 9)")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_way_of_asking_ends_all_programs(
    number: signal.Signals, said: Callable[[str], Path]
) -> None:
    asks = (
        "import os, sys, time\n"
        "while not os.path.lexists(sys.argv[1]): time.sleep(0.01)\n"
        f"os.kill(os.getppid(), {number:d}); {FOR_EVER}"
    )
    waits = f"import os, sys; os.symlink(str(os.getpid()), sys.argv[1]); {FOR_EVER}"
    with pytest.raises(Stopped):
        run(("worker", [*python(waits), said("pid")]), ("web", [*python(asks), said("pid")]))
    assert is_gone(int(said("pid").readlink().name))


def test_what_a_dead_program_left_behind_ends_too(said: Callable[[str], Path]) -> None:
    child = (
        f"import os, subprocess, sys; c = subprocess.Popen([sys.executable, '-c', {FOR_EVER!r}])"
    )
    dies = f"{child}; os.symlink(str(c.pid), sys.argv[1]); os._exit(1)"
    with pytest.raises(Died):
        run(("web", [*python(dies), said("pid")]))
    assert eventually(lambda: is_gone(int(said("pid").readlink().name)))


def test_a_program_that_will_not_end_is_ended(
    said: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.3)
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "open(sys.argv[1], 'w').close()\nwhile True: signal.pause()"
    )
    with Foreground() as foreground:
        foreground.start("web", [*python(code), said("up")], os.environ)
        foreground.watch(until=said("up").exists)
        [program] = foreground.programs
    assert program.popen.returncode == -signal.SIGKILL


def test_programs_end_one_after_the_other_the_last_first(said: Callable[[str], Path]) -> None:
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    open(sys.argv[2], 'w').write(str(time.monotonic())); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); open(sys.argv[1], 'w').close()\n"
        "signal.pause()"
    )
    with Foreground() as foreground:
        for name in ("bunce", "worker", "web"):
            foreground.start(name, [*python(code), said(name), said(f"{name}-end")], os.environ)
            foreground.watch(until=said(name).exists)
    ends = [float(said(f"{name}-end").read_text()) for name in ("web", "worker", "bunce")]
    assert ends == sorted(ends)


def test_output_is_shown_from_when_it_is_wanted_and_without_the_noise(
    said: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys, pathlib, time\n"
        "print('starting', flush=True); pathlib.Path(sys.argv[1]).touch()\n"
        "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)\n"
        "print('noise 200'); print('something went wrong'); sys.exit(1)"
    )

    def show() -> None:
        with Foreground() as foreground:
            command = [*python(code), said("up"), said("go")]
            foreground.start("web", command, os.environ, re.compile("200$"))
            foreground.watch(until=said("up").exists)
            foreground.shown.set()
            said("go").touch()
            foreground.watch()

    with pytest.raises(Died, match="starting"):
        show()
    shown = capfd.readouterr().out.splitlines()
    assert shown[-1] == "     web | something went wrong"
    assert not any("noise" in line for line in shown)


def test_the_terminals_signals_are_as_before_at_the_end() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Foreground():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before

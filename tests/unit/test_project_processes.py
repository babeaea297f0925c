"""Programs in the foreground: when one exits, all of them end, and the reason is shown."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from project import processes
from project.processes import ProgramExited, ProgramGroup, StopRequested
from tests.site import eventually, is_gone

RUN_FOREVER = "import signal; signal.pause()"


def python(code: str) -> list[str | Path]:
    return [sys.executable, "-c", code]


@pytest.fixture
def marker(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function for the paths of files with which a program shows its progress."""
    return lambda name: tmp_path / f"{name}.marker"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Run programs until one exits or a stop is requested."""

    def run(**commands: list[str | Path]) -> None:
        with ProgramGroup(tmp_path) as programs:
            for name, command in commands.items():
                programs.start(name, command, os.environ)
            programs.wait()

    return run


def test_a_program_that_exits_is_named_with_its_last_output(run: Callable[..., None]) -> None:
    exits = python("print('no disk'); raise SystemExit(3)")
    with pytest.raises(ProgramExited) as error:
        run(worker=python(RUN_FOREVER), web=exits)
    assert str(error.value) == (
        "The web program exited with status 3.\nIts last output:\n    no disk"
    )


def test_a_program_that_is_killed_is_reported_with_the_signal(run: Callable[..., None]) -> None:
    with pytest.raises(ProgramExited, match=r"The web program was killed by SIGKILL\.$"):
        run(web=python("import os; os.kill(os.getpid(), 9)"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_to_stop_ends_all_programs(
    number: signal.Signals, run: Callable[..., None], marker: Callable[[str], Path]
) -> None:
    sends_signal = (
        "import os, sys, time\n"
        "while not os.path.lexists(sys.argv[1]): time.sleep(0.01)\n"
        f"os.kill(os.getppid(), {number:d}); {RUN_FOREVER}"
    )
    waits = f"import os, sys; os.symlink(str(os.getpid()), sys.argv[1]); {RUN_FOREVER}"
    with pytest.raises(StopRequested):
        run(
            worker=[*python(waits), marker("pid")],
            web=[*python(sends_signal), marker("pid")],
        )
    assert is_gone(int(marker("pid").readlink().name))


def test_the_children_of_a_program_that_exited_end_too(
    run: Callable[..., None], marker: Callable[[str], Path]
) -> None:
    start_child = (
        f"import os, subprocess, sys; c = subprocess.Popen([sys.executable, '-c', {RUN_FOREVER!r}])"
    )
    exits = f"{start_child}; os.symlink(str(c.pid), sys.argv[1]); os._exit(1)"
    with pytest.raises(ProgramExited):
        run(web=[*python(exits), marker("pid")])
    assert eventually(lambda: is_gone(int(marker("pid").readlink().name)))


def test_a_program_that_ignores_sigterm_is_killed(
    tmp_path: Path, marker: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "EXIT_TIMEOUT", 0.3)
    code = (
        "import os, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "os.symlink(str(os.getpid()), sys.argv[1])\nwhile True: signal.pause()"
    )
    with ProgramGroup(tmp_path) as programs:
        programs.start("web", [*python(code), marker("pid")], os.environ)
        programs.wait(until=marker("pid").is_symlink)
    assert is_gone(int(marker("pid").readlink().name))


def test_programs_end_in_reverse_order(tmp_path: Path, marker: Callable[[str], Path]) -> None:
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    open(sys.argv[2], 'w').write(str(time.monotonic())); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); open(sys.argv[1], 'w').close()\n"
        "signal.pause()"
    )
    with ProgramGroup(tmp_path) as programs:
        for name in ("bunce", "worker", "web"):
            command = [*python(code), marker(name), marker(f"{name}-end")]
            programs.start(name, command, os.environ)
            programs.wait(until=marker(name).exists)
    ends = [float(marker(f"{name}-end").read_text()) for name in ("web", "worker", "bunce")]
    assert ends == sorted(ends)


def test_the_signal_handlers_are_restored(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ProgramGroup(tmp_path):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before

"""A group of programs that run in the foreground and end together."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

#: Seconds the programs have to exit after SIGTERM, before they are killed.
EXIT_TIMEOUT = 10
#: Lines of output repeated when a program exits unexpectedly.
LAST_LINES = 20


class StopRequested(Exception):
    """The user asked to stop: by Ctrl-C, SIGTERM, or by closing the terminal."""


class ProgramExited(Exception):
    """A program exited unexpectedly. The message contains its name, exit status and last output."""


class ProgramGroup:
    """Programs that start one after the other and stop together, in reverse order.

    with ProgramGroup(logs) as programs:
        programs.start("web", [...], env)
        programs.wait(until=web_responds)
        programs.wait()

    Args:
        logs: existing folder for the output of each program.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._stop_requested = threading.Event()

    def __enter__(self) -> Self:
        self._handlers = {
            number: signal.signal(number, self._request_stop)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        deadline = time.monotonic() + EXIT_TIMEOUT
        for program in reversed(self._programs.values()):
            program.terminate()
            with suppress(subprocess.TimeoutExpired):
                program.wait(max(0.0, deadline - time.monotonic()))
            with suppress(ProcessLookupError):  # also what a dead program left running
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def start(self, name: str, command: Sequence[str | Path], env: Mapping[str, str]) -> None:
        """Start a program; `env` is its whole environment."""
        with self._log(name).open("wb") as log:
            self._programs[name] = subprocess.Popen(  # noqa: S603 - the demo defines the commands
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must reach only this process, which stops it
            )

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Wait for a condition; without one, until a program exits or the user asks to stop.

        Raises:
            StopRequested: the user asked to stop.
            ProgramExited: one of the programs exited.
        """
        while not until():
            if self._stop_requested.wait(0.1):
                raise StopRequested
            for name, program in self._programs.items():
                if program.poll() is not None:
                    raise ProgramExited(self._describe_exit(name, program.returncode))

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_requested.set()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _describe_exit(self, name: str, status: int) -> str:
        killed = f"was killed by {signal.Signals(-status).name}" if status < 0 else ""
        lines = self._log(name).read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "\n".join(
            [
                f"The {name} program {killed or f'exited with status {status}'}.",
                *(["Its last output:"] if lines else []),
                *(f"    {line}" for line in lines),
            ]
        )

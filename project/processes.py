"""Several programs in the foreground as one: they end together, whatever ends first."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

#: Seconds the programs have to end by themselves.
PATIENCE = 10
#: Lines of a program's output that are repeated when it ends unasked.
LAST_LINES = 20

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Somebody asked us to end."""


class Died(Exception):
    """A program ended by itself; the message says which, how, and what it said at last."""


class Program:
    """A running program; its output goes line by line to ours, its name before each.

    Args:
        name: stands before each line.
        command: its arguments, the program first.
        env: its whole environment.
        shown: output is left out until this is set; what a program said is told if it dies.
        hush: lines that match are left out even then.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        env: Mapping[str, str],
        *,
        shown: threading.Event,
        hush: re.Pattern[str] | None,
        events: "queue.SimpleQueue[Program | None]",
    ) -> None:
        self.name = name
        self._shown = shown
        self._hush = hush
        self._events = events
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        # A group of its own: Ctrl-C in the terminal reaches us alone, and we end them in order.
        self.popen = subprocess.Popen(  # noqa: S603 - the demo names the commands
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self.popen.stdout is not None  # noqa: S101 - told to the type checker: it is a pipe
        self._reader = threading.Thread(target=self._read, args=[self.popen.stdout], daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, daemon=True).start()

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self._last.append(line)
                if self._shown.is_set() and not (self._hush and self._hush.search(line)):
                    self._show(line.rstrip())

    def _show(self, line: str) -> None:
        try:
            sys.stdout.write(f"{self.name:>8} | {line}\n" if line else "")
            sys.stdout.flush()
        except OSError:  # nobody reads us any longer
            self._events.put(None)

    def _wait(self) -> None:
        self.popen.wait()
        self._reader.join(1)
        self._events.put(self)

    def death(self) -> Died:
        """How it ended, for a person."""
        code = self.popen.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        said = "".join(f"    {line.rstrip()}\n" for line in self._last if line.strip())
        return Died(f"The {self.name} {how}." + (f" It said at last:\n{said}" if said else ""))

    def kill(self) -> None:
        """End it by force, with whatever it started and may have left behind."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self._reader.join(1)


class Foreground:
    """Programs that are started one by one and end together.

    with Foreground() as foreground:
        foreground.start("web", [...], env)
        foreground.watch(until=web_answers)
        foreground.shown.set()
        foreground.watch()
    """

    def __init__(self) -> None:
        self.shown = threading.Event()
        self.programs: list[Program] = []
        self._events: queue.SimpleQueue[Program | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._asked) for number in _SIGNALS}
        return self

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._events.put(None)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        env: Mapping[str, str],
        hush: re.Pattern[str] | None = None,
    ) -> None:
        """Start a program; see `Program` for the arguments."""
        self.programs.append(
            Program(name, command, env, shown=self.shown, hush=hush, events=self._events)
        )

    def watch(self, until: Callable[[], bool] | None = None) -> None:
        """Wait for the condition, or without one for ever.

        Raises:
            Stopped: by Ctrl-C, SIGTERM or SIGHUP.
            Died: a program ended.
        """
        while until is None or not until():
            try:
                ended = self._events.get(timeout=None if until is None else 0.1)
            except queue.Empty:
                continue
            if ended is None:
                raise Stopped
            raise ended.death()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all, the one started last first; after PATIENCE, or when asked again, by force."""
        begun = time.monotonic()
        deadline = begun + PATIENCE
        for program in reversed(self.programs):
            program.popen.terminate()
            while program.popen.poll() is None and time.monotonic() < deadline:
                with suppress(queue.Empty):
                    asked = self._events.get(timeout=0.1) is None
                    if asked and time.monotonic() > begun + 1:  # not the same Ctrl-C's echo
                        deadline = begun
        for program in self.programs:
            program.kill()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

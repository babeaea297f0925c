"""What the commands share: options, output, progress, signals, errors in plain words, exit codes.

With the package rich (extra ``[cli]``) and a terminal, progress is a bar; otherwise it is a plain
line now and then. The output is in English, like that of Django's own commands.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from datetime import datetime
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError
from django.utils import translation

from bunce_sync import clocks, database
from bunce_sync.exceptions import ConfigurationError
from bunce_sync.validators import CONTROL, is_visible

if TYPE_CHECKING:
    from rich.console import Console

#: Exit codes. argparse itself ends with 2; a signal ends with 128 and its number, so Ctrl-C is 130.
DONE: Final = 0
FAILED: Final = 1
TO_DO: Final = 3
EXIT_CODES: Final = "Exit code 0: done, or nothing to do. 1: something failed or was refused."

#: Seconds between two lines of progress where there is no terminal.
PLAIN_SECONDS: Final = 5.0
#: Lines of a list that are shown, before "and 480 more".
SHOWN: Final = 20

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
#: What a terminal could obey, or what could reorder a line.
_UNPRINTABLE: Final = re.compile(rf"[{CONTROL}\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class SyncCommand(BaseCommand):
    """A command that ends with a report, and with an exit code that says how it went.

    Attributes:
        stop: set by Ctrl-C and SIGTERM; work ends after the request under way.
        json: whether one JSON object is printed and nothing else.
        quiet: whether nothing is printed at all (``-v 0``), so that the exit code is the answer.
    """

    #: Whether there is an option --json.
    has_json = True
    #: Whether a signal is how the command usually ends, and so no failure.
    ends_by_signal = False
    requires_system_checks = ["bunce_sync"]

    stop: StopEvent
    json = False
    quiet = False
    _no_color = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        self.add_options(parser)
        if self.has_json:
            parser.add_argument(
                "--json", action="store_true", help="print one JSON object, and nothing else"
            )

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options of this command."""

    @abstractmethod
    def work(self, options: dict[str, Any]) -> int:
        """Do the work; return the exit code.

        Raises:
            CommandError: the work could not be done; its text says why and what to do.
        """

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as in Django; characters that the terminal cannot show become question marks."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, ValueError):
                stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # if it is a file
        super().run_from_argv(argv)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run as in Django, also with the system checks; with --json an error is an object too."""
        self.json = bool(options.get("json"))
        self.quiet = options["verbosity"] == 0 and not self.json
        self._no_color = bool(options.get("no_color"))
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            if self.json:
                self.print_json({"error": str(error)})
            raise
        except BrokenPipeError:
            # The reader, such as `head`, has enough. Python would complain once more at its end.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILED)

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until the end or a signal.

        Raises:
            CommandError: a setting is missing or wrong, the database cannot be used, or the work
                could not be done.
            SystemExit: with the exit code, unless it is 0.
        """
        with translation.override("en"), stop_on_signals() as self.stop:
            try:
                code = self.work(options)
                self.stdout.flush()
            except ConfigurationError as error:
                raise CommandError(describe_configuration_error(error)) from error
            except (DatabaseError, InterfaceError) as error:
                raise CommandError(describe_database_error(error)) from error
        if self.stop.number is not None and not self.ends_by_signal:
            code = 128 + self.stop.number
        if code:
            raise SystemExit(code)

    # Output

    def say(self, text: str = "") -> None:
        """Print a line for people."""
        if not (self.quiet or self.json):
            self.stdout.write(text)

    def print_json(self, value: Any) -> None:
        """Print one JSON object on one line."""
        if not self.quiet:
            self.stdout.write(json_text(value))
            self.stdout.flush()

    def bullets(self, lines: Sequence[str], total: int) -> None:
        """Print some indented lines, and how many more there are.

        Args:
            total: of all, of which ``lines`` are the first.
        """
        for line in lines:
            self.say(f"  {line}")
        if total > len(lines):
            self.say(f"  … and {number(total - len(lines))} more")

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """Show progress until the block ends, as the terminal allows."""
        if self.quiet or self.json:
            yield _NoProgress()
        elif (console := self.console()) is not None:
            from bunce_sync.management.rich_progress import RichProgress

            with RichProgress(title, console) as shown:
                yield shown
        else:
            yield _PlainProgress(title, self.say)

    def console(self) -> Console | None:
        """Return rich's console; None without rich, or where it could not move the cursor."""
        if not self.stdout.isatty() or find_spec("rich") is None:
            return None
        from rich.console import Console

        plain: dict[str, Any] = {"no_color": True, "color_system": None} if self._no_color else {}
        stream: Any = vars(self.stdout)["_out"]  # the wrapper is no file
        console = Console(file=stream, highlight=False, markup=False, **plain)
        return None if console.is_dumb_terminal or not console.is_terminal else console

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; anything but "y" or "yes" is no.

        Raises:
            CommandError: there is no terminal to ask on.
        """
        if self.json or not (self.stdout.isatty() and sys.stdin.isatty()):
            raise CommandError("Nothing was changed: add --yes, since no terminal can be asked.")
        self.stdout.write(f"{question} [y/N] ", ending="")
        self.stdout.flush()
        with self.stop.interrupts():
            try:
                answer = sys.stdin.readline()
            except KeyboardInterrupt:
                self.stop.request(signal.SIGINT)
                answer = ""
        if not answer.endswith("\n"):
            self.say()
        return answer.strip().lower() in ("y", "yes")


# Signals


class StopEvent(threading.Event):
    """The event that Ctrl-C or SIGTERM sets.

    Attributes:
        number: the signal; None before one.
    """

    number: int | None = None

    def request(self, number: int) -> None:
        """Stop because of a signal."""
        self.number = number
        self.set()

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """Let Ctrl-C raise ``KeyboardInterrupt`` in the block, which waits for a person."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def stop_on_signals() -> Iterator[StopEvent]:
    """Yield an event that Ctrl-C or SIGTERM sets. A second Ctrl-C ends the process at once."""
    stop = StopEvent()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def request_stop(number: int, frame: FrameType | None) -> None:
        stop.request(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, request_stop) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Progress


class Progress(Protocol):
    """Where the work stands."""

    def update(self, text: str, *, done: int = 0, total: int | None = None, note: str = "") -> None:
        """Show how far the work is.

        Args:
            text: in words.
            done, total: for a bar; no total: the end is not known.
            note: why it waits; empty if it does not.
        """


class _NoProgress:
    def update(self, text: str, *, done: int = 0, total: int | None = None, note: str = "") -> None:
        pass


class _PlainProgress:
    """A line when work begins to wait, and one every few seconds."""

    def __init__(self, title: str, say: Callable[[str], None]) -> None:
        self._title, self._say = title, say
        self._note = ""
        self._next = clocks.monotonic() + PLAIN_SECONDS

    def update(self, text: str, *, done: int = 0, total: int | None = None, note: str = "") -> None:
        changed = note != self._note
        self._note = note
        if clocks.monotonic() >= self._next or (changed and note):
            self._next = clocks.monotonic() + PLAIN_SECONDS
            self._say(f"{self._title}: {text}{f' ({note})' if note else ''}")


# Arguments


def whole_number(text: str) -> int:
    """Return the number in an argument, from 0.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a whole number, from 0")
    return int(text)


# Texts


def describe_configuration_error(error: Exception) -> str:
    """Return that a setting cannot be used, and what to do."""
    return (
        f"Nothing is sent to Bunce: {error} Segments keep waiting. Correct BUNCE_SYNC in the"
        " settings; `manage.py check` shows details."
    )


def describe_database_error(error: Exception) -> str:
    """Return what is wrong with the database, and what to do."""
    try:
        missing = database.missing_migrations()
    except (DatabaseError, InterfaceError):
        missing = []  # the error below is why
    if missing:
        return "Tables are missing or outdated. Run `python manage.py migrate`. No segment is lost."
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = printable(lines[0], 300).rstrip(".")
    return f"The database cannot be used: {line}. Segments keep waiting."


def number(count: int) -> str:
    """Return a number with a comma between thousands."""
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """Return a number and a noun, such as "1 segment" or "1,204 segments"."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"


def printable(text: str, width: int = 60) -> str:
    """Return a text on one line, shortened, and without what a terminal would obey."""
    line = " ".join(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text).split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON, in which the characters that a terminal would obey are escaped."""
    text = json.dumps(value, ensure_ascii=False, default=_to_json, indent=indent)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def quoted(text: str, width: int = 60) -> str:
    """Return a printable text in quotation marks, or that there is nothing to see."""
    return f"“{printable(text, width)}”" if is_visible(text) else "(blank)"


def named(pk: int, name: str) -> str:
    """Return a segment's number and name."""
    return f"#{pk} {quoted(name)}"


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)

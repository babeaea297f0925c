"""Runs management commands as a shell would, in the test's process."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command


class Terminal(StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> dict[str, Any]:
        """The object that it printed, which must be the only line."""
        [line] = self.out.splitlines()
        value: dict[str, Any] = json.loads(line)
        return value


def run(name: str, *arguments: str | int, terminal: bool = False, **options: Any) -> Ran:
    """Run a command."""
    out: StringIO = Terminal() if terminal else StringIO()
    error, code = "", 0
    try:
        call_command(name, *map(str, arguments), stdout=out, stderr=StringIO(), **options)
    except CommandError as raised:
        code, error = raised.returncode, str(raised)
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        code = ended.code
    return Ran(code, out.getvalue(), error)


def signal_after(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    *,
    calls: int = 1,
    number: int = signal.SIGINT,
) -> None:
    """Let the process get a signal, such as that of Ctrl-C, right after some call of a function."""
    function: Callable[..., Any] = getattr(owner, name)
    left = [calls]

    def call_and_signal(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(number)
        return result

    monkeypatch.setattr(owner, name, call_and_signal)

"""Tables of results, with the machine they were measured on and the values they must reach."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests import services

#: Goals that were missed; ``__main__`` exits with an error that lists them.
missed: list[str] = []

PACKAGES = ("Django", "celery", "kombu", "requests", "urllib3", "psycopg")


@dataclass(frozen=True)
class Goal:
    """A figure and the value it has to reach.

    Attributes:
        must: the required value.
        aim: a better value, which is not required.
        least: whether higher is better.
        form: format of the numbers.
    """

    name: str
    value: float
    must: float
    aim: float | None = None
    least: bool = False
    form: str = "{:.2f}"

    def __str__(self) -> str:
        bound = "at least" if self.least else "at most"
        aim = "" if self.aim is None else f", aim {self.form.format(self.aim)}"
        verdict = "MISSED"
        if self._reaches(self.must):
            aim_reached = self.aim is None or self._reaches(self.aim)
            verdict = "reached" if aim_reached else "reached, aim missed"
        return (
            f"{self.name}: {self.form.format(self.value)}"
            f" (must be {bound} {self.form.format(self.must)}{aim}): {verdict}"
        )

    @property
    def is_missed(self) -> bool:
        return not self._reaches(self.must)

    def _reaches(self, bound: float) -> bool:
        return self.value >= bound if self.least else self.value <= bound


def print_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[object]], *notes: str | Goal
) -> None:
    """Print a Markdown table, and add the goals that were missed to ``missed``.

    Args:
        notes: lines below the table.
    """
    lines = [f"\n## {title}", "", machine(), ""]
    lines += [f"| {' | '.join(map(str, row))} |" for row in (header, ["---"] * len(header), *rows)]
    lines += ["", *(f"- {note}" for note in notes)]
    print("\n".join(lines), flush=True)
    missed.extend(str(note) for note in notes if isinstance(note, Goal) and note.is_missed)


def machine() -> str:
    """Return processor, memory, load and versions, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in PACKAGES),
        _postgresql(),
        f"SQLite {sqlite3.sqlite_version}",
        " ".join(_first_line("redis-server", "--version").split()[:3]).replace(" server v=", " "),
    ]
    return "; ".join(part for part in parts if part) + "."


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of the values, 0 to 1, do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def cpu_seconds(group: int) -> float:
    """Return the user and system time of all running processes of a process group."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has exited
        fields = text.rpartition(")")[2].split()
        if int(fields[2]) == group:
            total += int(fields[11]) + int(fields[12])
    return total / tick


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _postgresql() -> str:
    with services.connect_postgres(services.POSTGRES.address) as server:
        row = server.execute("SHOW server_version").fetchone()
    return f"PostgreSQL {str(row[0]).split()[0]}" if row else ""


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
    return done.stdout.splitlines()[0]

"""What every table says of the machine it was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("Django", "celery", "kombu", "requests", "urllib3", "psycopg")


def print_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[object]], *notes: str
) -> None:
    """Print a Markdown table with the machine below its title.

    Args:
        header: the names of the columns.
        rows: their values, printed as they are.
        notes: lines below the table, such as the ratios that an aim is set for.
    """
    lines = [f"\n## {title}", "", machine(), "", _line(header), _line(["---"] * len(header))]
    lines += [_line([str(value) for value in row]) for row in rows]
    lines += ["", *(f"- {note}" for note in notes)]
    print("\n".join(lines), flush=True)


def machine() -> str:
    """Processor, load and versions, in one sentence."""
    parts = [
        f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in PACKAGES),
        _first_line("psql", "--version").replace("psql (PostgreSQL)", "PostgreSQL").split(" (")[0],
        " ".join(_first_line("redis-server", "--version").split()[:3]).replace(" server v=", " "),
    ]
    return "; ".join(part for part in parts if part) + "."


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def cpu_seconds(group: int) -> float:
    """User and system time of all processes of a process group that live now."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        fields = text.rpartition(")")[2].split()
        if int(fields[2]) == group:
            total += int(fields[11]) + int(fields[12])
    return total / tick


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
    return done.stdout.splitlines()[0]

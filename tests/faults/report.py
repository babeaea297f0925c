"""The report of the fault tests: one line for each trial, printed at the end of the run.

A separate pytest plugin: with xdist only the controller prints, and it collects no tests.
"""

from collections.abc import Iterable

import pytest

HEADINGS = ("fault", "database", "broker", "rows", "duplicates", "lost", "stuck", "seconds")
_PROPERTY = "fault_trial"


def note(request: pytest.FixtureRequest, line: tuple[object, ...]) -> None:
    """Add a line to the report; its columns are those of HEADINGS."""
    request.node.user_properties.append((_PROPERTY, [str(cell) for cell in line]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines of all tests that ran, failed ones included."""
    lines = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == _PROPERTY
    ]
    if lines:
        terminalreporter.section("faults")
        for line in table(sorted(lines)):
            terminalreporter.write_line(line)


def table(lines: Iterable[list[str]]) -> list[str]:
    """Return the lines as a table in Markdown with aligned columns."""
    rows = [list(HEADINGS), *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    shown = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return [shown[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *shown[1:]]

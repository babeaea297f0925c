"""README.md and the reference of the settings agree with the measurements and the code."""

import re
from pathlib import Path

import pytest

from bunce_sync.conf import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
README = " ".join((ROOT / "README.md").read_text().split())
DOCS = ROOT / "docs"


def cells(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table after a heading, without its head."""
    text = (DOCS / page).read_text().partition(heading)[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table, heading
    rows = [line.strip("|").split("|") for line in table[0].splitlines()[2:]]
    return [[cell.strip() for cell in row] for row in rows]


def test_the_trials_ended_without_a_duplicate_lost_or_stuck_segment() -> None:
    claimed = re.search(r"\*\*0 duplicates, 0 lost, 0 stuck\*\* segments in (\d+) trials", README)
    assert claimed
    trials = cells("guarantees.md", "The long form with one seed")
    assert len(trials) == int(claimed[1])
    assert {tuple(row[4:7]) for row in trials} == {("0", "0", "0")}


def test_the_share_of_the_limit_and_the_refusals_are_those_measured() -> None:
    claimed = re.search(r"\*\*([\d.]+ %) of Bunce's limit without one refusal\*\*", README)
    compared = re.search(r"`autoretry_for` got ([\d,]+) refusals", README)
    assert claimed
    assert compared
    app, plain, _ = cells("benchmarks.md", "## Sustained")
    assert app[2:4] == [claimed[1], "0"]
    assert plain[3] == compared[1]


def test_the_time_of_a_save_is_the_one_measured() -> None:
    claimed = re.search(r"\*\*([\d.]+) ms to save a segment while the broker is down\*\*", README)
    assert claimed
    saves = {broker: median for broker, median, *_ in cells("benchmarks.md", "## Saving")}
    assert saves["refuses connections"].partition(" / ")[0] == claimed[1]


def test_the_price_in_cpu_time_is_the_one_measured() -> None:
    claimed = re.search(r"([\d.]+) times the CPU time of a plain task", README)
    assert claimed
    rows = {client: row[-1] for client, *row in cells("benchmarks.md", "## CPU time of a segment")}
    assert rows["bunce_sync, rows saved one by one"] == claimed[1]


@pytest.mark.parametrize("key", SETTINGS)
def test_the_reference_has_each_setting_with_its_default(key: str) -> None:
    [row] = [row for row in cells("settings.md", "# Settings") if row[0] == f"`{key}`"]
    default = SETTINGS[key].default
    if default != "":
        match default:
            case str():
                shown = f'"{default}"'
            case None:
                shown = "None"
            case _:
                shown = f"{default:g}"
        assert row[1] == f"`{shown}`"

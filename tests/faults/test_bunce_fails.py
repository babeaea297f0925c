"""Bunce loses responses, fails before and after storing, stores late, or is down for a while."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest

from bunce_sync.sync import circuit_breaker
from bunce_sync.testing.emulator import Faults
from tests.faults.conftest import STACKS
from tests.faults.trial import LONG, SEEDS, Trial, rows
from tests.site import eventually

MIX = Faults(
    lost_answer=0.05,
    error_after=0.03,
    reset_before=0.05,
    error_before=0.03,
    late_store=0.02,
    cut_json=0.02,
)


#: In the short form unique names are tested on one stack only.
KINDS = [
    *((stack, False) for stack in STACKS),
    *((stack, True) for stack in (STACKS if LONG else STACKS[:1])),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("stack", "unique"), KINDS)
def test_under_a_mix_of_faults_each_row_has_exactly_one_segment(
    stack: str, unique: bool, seed: int, start: Callable[..., Trial]
) -> None:
    trial = start("mix, unique names" if unique else "mix", stack)
    trial.bunce.set(unique_names=unique)
    trial.bunce.set_faults(MIX, seed=seed)
    for beat in (True, False):
        trial.site.start_worker(beat=beat, processes=2)
    trial.save(rows(400))
    trial.rest(slack=8)


@pytest.mark.parametrize("seed", SEEDS[:3])
@pytest.mark.parametrize("stack", STACKS if LONG else STACKS[1:2])
def test_the_last_edit_of_each_row_reaches_bunce_despite_faults_of_updates_and_reads(
    stack: str, seed: int, start: Callable[..., Trial]
) -> None:
    trial = start("mix, edits, reads too", stack)
    methods = frozenset({"POST", "PATCH", "GET"})
    trial.bunce.set_faults(replace(MIX, methods=methods), seed=seed)
    for beat in (True, False):
        trial.site.start_worker(beat=beat, processes=2)
    trial.save(rows(100))
    # Some of them while their creates are under way or in doubt.
    trial.edit(" edited")
    trial.rest(slack=10)
    assert all(one.name.endswith(" edited") for one in trial.bunce.segments)


@pytest.mark.parametrize(
    ("outage", "stack"),
    [(outage, stack) for stack in STACKS for outage in ("reset", "hold")]
    if LONG
    else [("reset", STACKS[0]), ("hold", STACKS[2])],
)
def test_an_outage_puts_only_a_handful_of_rows_in_doubt(
    outage: Literal["reset", "hold"], stack: str, start: Callable[..., Trial]
) -> None:
    seconds = 60 if LONG else 10
    trial = start(f"outage of {seconds} s ({outage})", stack)
    trial.insert(1000)
    trial.bunce.set(outage=outage)
    began = time.monotonic()
    for beat in (True, False):
        trial.site.start_worker(beat=beat, processes=4)
    eventually(lambda: time.monotonic() - began >= seconds, seconds)
    doubtful = trial.site.calls.filter(operation="create", outcome="unknown").count()
    trial.bunce.set(outage=None)
    # The last failed probe may have paused all requests for up to a minute.
    trial.rest(slack=circuit_breaker.OUTAGE_CAP + 30)
    assert 0 < doubtful <= 20

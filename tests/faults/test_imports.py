"""Workers are killed while they import segments; the result is that of an unkilled import."""

import time
from collections.abc import Callable

import pytest

from bunce_sync.testing.emulator import Faults
from tests.faults.conftest import STACKS
from tests.faults.trial import LONG, SEEDS, Trial, Workers, rows
from tests.site import eventually

PAGE_SIZE = 10


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stack", STACKS)
def test_an_import_whose_workers_are_killed_makes_one_row_of_each_segment(
    stack: str, seed: int, start: Callable[..., Trial]
) -> None:
    trial = start("kill -9 every 2 s, import", stack, {"BUNCE_PAGE_SIZE": str(PAGE_SIZE)})
    foreign = {one.id for one in trial.bunce.add_segments(rows(400), name="Foreign {n}")}
    # A page takes a third of a second, so that workers are killed at any step of it.
    slow = Faults(trickle=1.0, trickle_seconds=0.00002, methods=frozenset({"GET"}))
    trial.bunce.set_faults(slow)
    trial.insert(20, name="Own")
    trial.site.shell("from bunce_sync import services; services.request_import(by='trial')")
    trial.site.start_beat()
    workers = Workers(trial.site, 2, seed=seed)
    imported = trial.site.segments.filter(imported_at__isnull=False)
    for _ in range(30 if LONG else 6):
        if eventually(lambda: imported.count() == len(foreign), 2):
            break
        workers.kill_one()
        trial.note_fault()
    assert trial.last_fault, "no worker was killed: there were too few segments"
    trial.bunce.set_faults()
    assert eventually(lambda: imported.count() == len(foreign), 120)
    trial.wait_for_rest(seconds=120)
    began = time.monotonic()
    trial.verdict()
    assert foreign == {*imported.values_list("bunce_id", flat=True)}
    assert time.monotonic() - began < 60

"""Unusual but plausible responses from Bunce, and apps that write stale rows back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bunce_sync.testing.emulator import Faults
from tests.faults.conftest import STACKS
from tests.faults.test_bunce_fails import MIX
from tests.faults.trial import LONG, REST_LIMIT, SEEDS, Trial, rows

ODD = Faults(
    no_content=0.05,
    wrong_shape=0.05,
    shape="no_id",  # not "any": among those is an id that is not the segment's
    unavailable=0.02,
    retry_seconds=1,
    lost_answer=0.05,
    late_store=0.02,
    methods=frozenset({"POST", "PATCH"}),
)

#: Run in a process of the site: reads all rows, waits until more of them are synced, and writes
#: the old value of every column back, in a different way each time.
WRITER = Path(__file__).with_name("writer.py")


@pytest.mark.parametrize("seed", SEEDS[:3])
@pytest.mark.parametrize("stack", STACKS if LONG else STACKS[1:2])
def test_unusual_responses_and_pages_leave_exactly_one_segment_for_each_row(
    stack: str, seed: int, start: Callable[..., Trial]
) -> None:
    trial = start("unusual responses, pages of 7", stack)
    trial.bunce.set(page_cap=7, max_per_page=50, empty_page=3)
    trial.bunce.set_faults(ODD, seed=seed)
    for beat in (True, False):
        trial.site.start_worker(beat=beat, processes=2)
    trial.save(rows(100))
    trial.edit(" edited")
    trial.rest(slack=10)
    assert all(one.name.endswith(" edited") for one in trial.bunce.segments)


@pytest.mark.parametrize("stack", STACKS if LONG else STACKS[2:])
def test_rows_written_back_with_stale_values_keep_their_segments(
    stack: str, start: Callable[..., Trial]
) -> None:
    trial = start("old rows written back", stack)
    trial.bunce.set_faults(MIX)
    for beat in (True, False):
        trial.site.start_worker(beat=beat, processes=2)
    trial.insert(rows(200))
    trial.site.shell(WRITER.read_text(), seconds=REST_LIMIT)
    trial.note_fault()
    trial.rest(slack=10)
    assert all(one.description == "written back" for one in trial.bunce.segments)

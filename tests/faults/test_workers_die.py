"""Workers are killed, terminated, or frozen beyond their lease, between any two steps of a push."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bunce_sync.testing.emulator import Faults
from tests.faults.conftest import STACKS
from tests.faults.trial import LONG, SEEDS, Trial, Workers, rows
from tests.site import Process, eventually

POINTS = ("claiming", "claimed", "sent", "answered", "recording", "recorded")
OPEN = ("claiming", "recording")
COMMITS = ("claiming", "claimed", "recording", "recorded")
#: Short, because leases have to expire: the longest request and five seconds.
QUICK = {
    "BUNCE_CONNECT_TIMEOUT": "1",
    "BUNCE_READ_TIMEOUT": "1",
    "BUNCE_LEASE": "7",
    "BUNCE_GRACE": "3",
}


#: The failures as named in the report and in tests.faults.app, and the points where they occur.
FAILURES = {
    "SIGKILL": [f"kill@{point}" for point in POINTS],
    # A worker frozen in a transaction would hold its lock until the database ends the session.
    "SIGSTOP beyond the lease": [f"stop@{point}" for point in POINTS if point not in OPEN],
    "database connection cut": [f"cut@{point}" for point in COMMITS],
}
ALL_FAILURES = {
    "SIGKILL, SIGSTOP, connection cut": [one for names in FAILURES.values() for one in names]
}


def start_failing_worker(trial: Trial, folder: Path, processes: int) -> Process:
    """Start a worker on tests.faults.app, which fails where a row's name says."""
    worker = trial.site.start(
        "worker",
        *("-m", "celery", "-A", "tests.faults.app", "worker", "--loglevel", "INFO", "--beat"),
        *("--hostname", f"failing{len(trial.site.processes)}@%h"),
        *("--concurrency", str(processes)),
        env={"FAULT_FOLDER": str(folder)},
    )
    worker.wait_for(" ready.")
    return worker


def add_rows(trial: Trial, names: list[str]) -> None:
    """Add a row for each of these names, and some that do not fail."""
    names = [*names, *(f"Unharmed {number}" for number in range(10))]
    trial.site.shell(f"Segment.objects.bulk_create(Segment(name=name) for name in {names})")


def all_happened(folder: Path, names: list[str]) -> bool:
    """Return whether the failure of each of these rows has happened."""
    return all((folder / name).exists() for name in names)


@pytest.mark.parametrize(("what", "names"), (FAILURES if LONG else ALL_FAILURES).items())
@pytest.mark.parametrize("stack", STACKS if LONG else STACKS[:1])
def test_a_failure_between_any_two_steps_leaves_exactly_one_segment_for_each_row(
    stack: str, what: str, names: list[str], start: Callable[..., Trial], tmp_path: Path
) -> None:
    if stack.startswith("sqlite"):  # a file has no connections that a server could cut
        names = [name for name in names if not name.startswith("cut@")]
    trial = start(f"{what}, at each point", stack, QUICK)
    add_rows(trial, names)
    frozen = [name for name in names if name.startswith("stop@")]
    start_failing_worker(trial, tmp_path, processes=len(frozen) + 2)
    assert eventually(lambda: all_happened(tmp_path, names), 30)
    trial.wait_for_rest(seconds=60)  # while the frozen processes stay frozen
    for name in frozen:
        os.kill(int((tmp_path / name).read_text()), signal.SIGCONT)
    under_way = trial.site.calls.filter(outcome="under_way")
    assert eventually(lambda: not under_way.exists())
    trial.wait_for_rest(seconds=30)
    trial.verdict()


@pytest.mark.parametrize("stack", STACKS if LONG else STACKS[2:])
def test_sigterm_between_two_steps_leaves_exactly_one_segment_for_each_row(
    stack: str, start: Callable[..., Trial], tmp_path: Path
) -> None:
    trial = start("SIGTERM, at each point", stack, QUICK)
    names = [f"term@{point}" for point in (POINTS if LONG else ("claimed", "sent", "recording"))]
    add_rows(trial, names)
    while not all_happened(tmp_path, names):
        # It ends the whole worker, so each row needs a new one.
        worker = start_failing_worker(trial, tmp_path, processes=1)
        assert eventually(partial(has_ended, worker), 30)
    start_failing_worker(trial, tmp_path, processes=1)
    trial.wait_for_rest(seconds=60)
    trial.verdict()


def has_ended(worker: Process) -> bool:
    return not worker.running


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stack", STACKS if LONG else STACKS[:1])
def test_while_workers_are_killed_every_two_seconds_each_row_gets_exactly_one_segment(
    stack: str, seed: int, start: Callable[..., Trial]
) -> None:
    trial = start("kill -9 every 2 s", stack)
    # A response takes a third of a second, so that workers are killed while they wait for one.
    trial.bunce.set_faults(Faults(trickle=1.0, trickle_seconds=0.001))
    trial.insert(rows(300))
    trial.site.start_beat()
    workers = Workers(trial.site, 4, seed=seed)
    untouched = trial.site.segments.filter(bunce_id=None, attempts=0)
    ends = time.monotonic() + (600 if LONG else 20)
    while untouched.exists() and time.monotonic() < ends:
        if not eventually(lambda: not untouched.exists(), 2):
            workers.kill_one()
            trial.note_fault()
    assert trial.last_fault, "no worker was killed: there were too few rows"
    if LONG:  # long enough for leases and grace periods to expire meanwhile
        decided = trial.site.calls.exclude(decision="")
        assert decided.exists(), "rows in doubt waited for the end of the kills or of the backlog"
    trial.bunce.set_faults()
    trial.rest(slack=10)

"""Lost, duplicated and missing messages: a message only tells a worker to look for work."""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from bunce_sync.testing.emulator import Faults
from tests.faults.conftest import STACKS
from tests.faults.trial import LONG, Trial, free_port, rows
from tests.site import Broker, eventually

FEW = Faults(lost_answer=0.05, reset_before=0.05)


class RedisServer:
    """A separate Redis, which can be stopped, emptied and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start it, empty, and wait until it responds."""
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--save", "", "--bind", "127.0.0.1"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        assert eventually(self._answers)

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def flush(self) -> None:
        """Delete every message."""
        with redis.Redis(port=self.port) as client:
            client.flushall()

    def stop(self) -> None:
        """Stop it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Yield a separate Redis."""
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def test_no_row_is_lost_when_the_broker_is_flushed_stopped_and_restarted(
    redis_server: RedisServer, start: Callable[..., Trial]
) -> None:
    broker = Broker(f"redis://127.0.0.1:{redis_server.port}/0")
    trial = start("broker emptied, stopped, started", "postgres+redis", broker=broker)
    trial.save(50, "While no worker runs")
    redis_server.flush()
    trial.bunce.set_faults(FEW)
    trial.site.start_worker(processes=2)
    trial.save(50, "While it is emptied")
    redis_server.flush()
    redis_server.stop()
    trial.save(50, "While it is gone")
    redis_server.start()
    # Celery's worker reconnects at growing intervals, from two seconds on; sometimes it exits.
    trial.rest(slack=15, supervised=True)


@pytest.mark.parametrize("stack", STACKS if LONG else STACKS[1:2])
def test_five_copies_of_each_message_and_two_beats_change_nothing(
    stack: str, start: Callable[..., Trial], tmp_path: Path
) -> None:
    trial = start("messages x 5, two beats", stack)
    trial.bunce.set_faults(FEW)
    for _ in range(2):
        trial.site.start(
            "worker",
            *("-m", "celery", "-A", "tests.faults.app", "worker", "--beat", "--loglevel", "INFO"),
            *("--hostname", f"copies{len(trial.site.processes)}@%h", "--concurrency", "2"),
            env={"FAULT_COPIES": "5", "FAULT_FOLDER": str(tmp_path)},
        ).wait_for(" ready.")
    trial.insert(rows(200))
    trial.rest(slack=10)


@pytest.mark.parametrize("stack", STACKS if LONG else STACKS[2:])
def test_without_beat_worker_or_broker_the_sweep_command_does_all_work(
    stack: str, start: Callable[..., Trial]
) -> None:
    trial = start("no beat, no worker: bunce_sweep", stack)
    trial.bunce.set_faults(FEW)
    trial.insert(rows(200))
    loops = [trial.site.start("sweep", "manage.py", "bunce_sweep", "--loop") for _ in range(2)]
    assert eventually(lambda: trial.bunce.served >= 50)
    loops[0].kill()
    trial.note_fault()
    trial.rest(slack=10)


@pytest.mark.parametrize("stack", STACKS if LONG else STACKS[:1])
def test_without_beat_one_message_still_drains_the_queue(
    stack: str, start: Callable[..., Trial]
) -> None:
    trial = start("no beat", stack)
    trial.insert(20, "Quiet")
    trial.site.start_worker(beat=False)
    trial.save(1, "With a message")
    trial.wait_for_rest(seconds=10)
    trial.verdict()

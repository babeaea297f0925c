"""`manage.py bunce_sweep` as a separate process, without worker, beat or broker."""

import os
import signal
from pathlib import Path

import pytest

from bunce_sync.testing.emulator import Emulator, Faults
from tests.site import Broker, Site


@pytest.mark.usefixtures("database_access")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_after_the_request_under_way(
    number: signal.Signals,
    tmp_path: Path,
    sqlite_database: str,
    filesystem_broker: Broker,
    bunce: Emulator,
) -> None:
    every = {"BUNCE_SWEEP_INTERVAL": "0.2"}
    with Site(tmp_path, sqlite_database, filesystem_broker, bunce.base_url, every) as site:
        site.shell("Segment.objects.bulk_create([Segment(name='Slow'), Segment(name='Next')])")
        bunce.set_faults(Faults(trickle=1.0, trickle_seconds=0.005))
        process = site.start("sweep", "manage.py", "bunce_sweep", "--loop")
        site.wait_until(lambda: bunce.served > 0, "a request is under way")
        os.kill(process.popen.pid, number)
        assert process.popen.wait(30) == 0
        assert "Shutdown requested" in process.output
        # The request under way was recorded, and nothing new was begun.
        assert site.segments.filter(status="synced").count() == 1
        assert len(bunce.segments) == 1


@pytest.mark.usefixtures("database_access")
def test_without_a_key_the_exit_code_says_so(
    tmp_path: Path, sqlite_database: str, filesystem_broker: Broker, bunce: Emulator
) -> None:
    site = Site(tmp_path, sqlite_database, filesystem_broker, bunce.base_url, {"BUNCE_API_KEY": ""})
    with site:
        process = site.start("sweep", "manage.py", "bunce_sweep")
        assert process.popen.wait(30) == 1
        assert "Nothing is sent to Bunce" in process.output

"""``bunce_doctor`` on a running site: a real broker, workers with and without beat, and none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunce_sync.testing.emulator import Emulator
from tests.site import ROOT, Broker, Site

pytestmark = pytest.mark.usefixtures("database_access")

Report = dict[str, tuple[str, str]]


@pytest.fixture
def site(
    tmp_path: Path, postgres_database: str, redis_broker: Broker, bunce: Emulator
) -> Iterator[Site]:
    env = {"BUNCE_SWEEP_INTERVAL": "1"}
    with Site(tmp_path, postgres_database, redis_broker, bunce.base_url, env) as site:
        yield site


def examine(site: Site, *, seconds: float = 20) -> tuple[int, Report]:
    """Return the exit code, and level and fix of each line."""
    done = subprocess.run(
        [sys.executable, "manage.py", "bunce_doctor", "--json", "--worker-seconds", str(seconds)],
        cwd=ROOT,
        env=site.env,
        capture_output=True,
        text=True,
        check=False,
    )
    findings = json.loads(done.stdout)["findings"]
    return done.returncode, {line["name"]: (line["level"], line["fix"]) for line in findings}


def test_with_worker_and_beat_everything_passes(site: Site) -> None:
    site.start_worker()
    code, report = examine(site)
    assert {level for level, _ in report.values()} == {"pass"}, report
    assert code == 0


def test_without_beat_the_worker_passes_and_beat_fails(site: Site) -> None:
    site.start_worker(beat=False)
    code, report = examine(site)
    assert report["worker"][0] == "pass"
    assert report["beat"][0] == "fail"
    assert "-B" in report["beat"][1]
    assert code == 1


def test_a_worker_on_another_queue_does_not_count(site: Site) -> None:
    site.env["BUNCE_QUEUE"] = "segments"
    command = ("-m", "celery", "-A", "project", "worker", "-Q", "celery", "--loglevel", "INFO")
    worker = site.start("worker", *command)
    worker.wait_for(" ready.")
    code, report = examine(site, seconds=2)
    assert report["worker"][0] == "fail"
    assert "-Q" in report["worker"][1]
    assert code == 1


def test_without_a_worker_it_names_the_command(site: Site) -> None:
    code, report = examine(site, seconds=1)
    assert report["worker"][0] == "fail"
    assert report["worker"][1].endswith("start one: celery -A project worker -B")
    assert code == 1

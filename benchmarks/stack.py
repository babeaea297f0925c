"""The set-up that benchmarks share: a database, a broker, a local Bunce and a site."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis
import requests
from django.db import connections

from tests import services
from tests.site import ROOT, START, Broker, Process, Site, eventually, free_port

WORKERS, PROCESSES = 2, 4
#: Bunce's limit: requests in a window of seconds.
LIMIT, WINDOW = 500, 60.0

_CALL = """
import importlib, json, sys
import django
django.setup()
module, name, arguments = sys.argv[1:]
print(json.dumps(getattr(importlib.import_module(module), name)(*json.loads(arguments))))
"""


@contextmanager
def postgres_database() -> Iterator[str]:
    """Create an empty PostgreSQL database and yield its DATABASE_URL."""
    with services.new_postgres_database(services.POSTGRES.address) as url:
        yield url


@dataclass(frozen=True)
class Redis:
    """A Redis server in a separate process."""

    url: str
    process: Process

    def waiting(self, queue: str) -> int:
        """Return the number of messages that no worker has taken."""
        with redis.Redis.from_url(self.url) as client:
            return int(client.llen(queue))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Halt the server once: it neither responds nor closes its connections."""
        self.process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.signal(signal.SIGCONT)


@contextmanager
def redis_server(folder: Path) -> Iterator[Redis]:
    """Start an empty Redis that stores nothing on disk."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("This benchmark needs redis-server, which is not installed.")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = Process("redis", [program, *options], os.environ, folder)
    try:
        process.wait_for("Ready to accept connections")
        yield Redis(f"redis://127.0.0.1:{port}/0", process)
    finally:
        process.kill()


@dataclass(frozen=True)
class Bunce:
    """A local Bunce in a separate process."""

    url: str

    @property
    def base_url(self) -> str:
        """The value of BUNCE_BASE_URL."""
        return f"{self.url}/v1"

    def state(self) -> dict[str, Any]:
        """Return the emulator's counters, see its control endpoints."""
        response = requests.get(f"{self.url}/control/state", timeout=START)
        response.raise_for_status()
        state: dict[str, Any] = response.json()
        return state


@contextmanager
def local_bunce(folder: Path, *, limit: int | None, window: float) -> Iterator[Bunce]:
    """Start a local Bunce.

    Args:
        limit: requests in a window; None for no limit.
        window: in seconds; it is also how long a client above the limit is blocked.
    """
    command = [
        *(sys.executable, "manage.py", "bunce_emulator", "--port", "0"),
        *("--rate-limit", str(limit or 0)),
        *("--option", f"rate_window={window}", "--option", f"block_seconds={window}"),
    ]
    process = Process("bunce", command, os.environ, folder)
    try:
        yield Bunce(process.wait_for("http://").split()[-1].rstrip("/").removesuffix("/v1"))
    finally:
        process.kill()


@dataclass(frozen=True)
class Stack:
    """A site with its broker and its local Bunce."""

    site: Site
    bunce: Bunce
    broker: Redis

    def start_workers(self) -> None:
        """Start the usual workers and beat."""
        for _ in range(WORKERS):
            self.start_worker(processes=PROCESSES)
        self.site.start_beat()

    def start_worker(self, *queues: str, processes: int, loglevel: str = "INFO") -> Process:
        """Start a worker, for all queues by default.

        At INFO, wait until it is ready; above INFO the log does not show it.
        """
        worker = self.site.start(
            "worker",
            *("-m", "celery", "-A", "project", "worker", "--loglevel", loglevel),
            *("--hostname", f"{uuid.uuid4().hex[:8]}@%h", "--concurrency", str(processes)),
            *(["--queues", ",".join(queues)] if queues else []),
        )
        if loglevel == "INFO":
            worker.wait_for(" ready.")
        return worker

    def count_received(self, *tasks: str) -> int:
        """Return how many messages of the tasks the workers received; they must log at INFO."""
        line = re.compile(rf"Task (?:{'|'.join(map(re.escape, tasks))})\[\S+\] received")
        count = sum(len(line.findall(process.output)) for process in self.site.processes)
        if not count:
            raise AssertionError(f"No worker logged a message of {tasks}.")
        return count


@contextmanager
def stack(
    *, limit: int | None = LIMIT, window: float = WINDOW, env: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """Set up a site on PostgreSQL and Redis, with migrated tables and no process yet.

    Args:
        limit: requests in a window, for Bunce and for the site; None for no limit.
        window: in seconds.
        env: additional environment variables of the site.
    """
    with TemporaryDirectory(prefix="bunce-bench-") as name:
        folder = Path(name)
        with (
            postgres_database() as database,
            redis_server(folder) as broker,
            local_bunce(folder, limit=limit, window=window) as bunce,
        ):
            settings = {
                "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
                "BUNCE_RATE_LIMIT": str(limit or "none"),
                "BUNCE_RATE_WINDOW": str(window),
                **(env or {}),
            }
            with Site(folder, database, Broker(broker.url), bunce.base_url, settings) as site:
                site.manage("migrate", "--run-syncdb", "--verbosity", "0")
                yield Stack(site, bunce, broker)
                site.show_logs = False  # unless an exception skipped this line


def call_in_process(env: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module's function in a separate process, with Django set up, and return its result.

    Arguments and result must be serializable as JSON.
    """
    command = [sys.executable, "-c", _CALL, function.__module__, function.__name__]
    done = subprocess.run(
        [*command, json.dumps(arguments)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{function.__name__}{arguments} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def add_segments(site: Site, count: int) -> None:
    """Insert pending segments by SQL, without a message to a worker."""
    with connections[site.alias].cursor() as cursor:
        cursor.execute(
            "INSERT INTO bunce_sync_segment (name)"
            " SELECT 'Segment ' || n FROM generate_series(1, %s) AS n",
            [count],
        )


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it is not met within ``seconds``.
    """
    if not eventually(condition, seconds):
        raise TimeoutError(f"Not within {seconds} s: {what}")


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun

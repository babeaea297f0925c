"""A database, a broker, a local Bunce and a site of the benchmark's own, gone when it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import redis
import requests

from tests import services
from tests.site import Broker, Process, Site

#: Seconds for a server to answer after its start.
START = 30


@contextmanager
def postgres_database() -> Iterator[str]:
    """DATABASE_URL of an empty PostgreSQL database."""
    url = services.POSTGRES.address
    name = f"bunce_bench_{uuid.uuid4().hex[:12]}"
    with services.connect_postgres(url) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield urlsplit(url)._replace(path=f"/{name}").geturl()
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@dataclass(frozen=True)
class Redis:
    """A Redis server in a process of its own."""

    url: str
    process: Process

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It neither answers nor closes its connections."""
        self.process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.signal(signal.SIGCONT)


@contextmanager
def redis_server(folder: Path) -> Iterator[Redis]:
    """An empty Redis that keeps nothing on disk."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is needed for this benchmark, and is not installed")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = Process("redis", [program, *options], os.environ, folder)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        with redis.Redis.from_url(url) as client:
            wait_until(lambda: _answers(client), "Redis answers", seconds=START)
        yield Redis(url, process)
    finally:
        process.kill()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@dataclass(frozen=True)
class Bunce:
    """A local Bunce in a process of its own."""

    url: str

    @property
    def base_url(self) -> str:
        """As BUNCE_BASE_URL."""
        return f"{self.url}/v1"

    def state(self) -> dict[str, Any]:
        """Its figures, see the emulator's control endpoints."""
        answer = requests.get(f"{self.url}/control/state", timeout=START)
        answer.raise_for_status()
        state: dict[str, Any] = answer.json()
        return state


@contextmanager
def local_bunce(folder: Path, *, limit: int | None, window: float = 60.0) -> Iterator[Bunce]:
    """Start one.

    Args:
        limit: requests in a window; None for no limit.
        window: in seconds; so long it also shuts out who went past the limit.
    """
    command = [
        *(sys.executable, "manage.py", "bunce_emulator", "--port", "0"),
        *("--rate-limit", str(limit or 0), "--option", f"rate_window={window}"),
        *("--option", f"block_seconds={window}"),
    ]
    process = Process("bunce", command, os.environ, folder)
    try:
        line = process.wait_for("front page")
        yield Bunce(line.split()[-1].rstrip("/"))
    finally:
        process.kill()


@dataclass(frozen=True)
class Stack:
    """A site with its broker and its Bunce."""

    site: Site
    bunce: Bunce
    broker: Redis

    def worker(self, *queues: str, processes: int, loglevel: str = "INFO") -> Process:
        """Start a worker, for all queues unless some are named.

        With INFO, wait until it is ready: with less it does not say so.
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

    def count_received(self, task: str) -> int:
        """How many messages of a task the workers have received; they must log at INFO."""
        line = re.compile(rf"Task {re.escape(task)}\[\S+\] received")
        count = sum(
            len(line.findall(process.output))
            for process in self.site.processes
            if process.name.startswith("worker")
        )
        if not count:
            raise AssertionError(f"the workers' logs name no message of {task}")
        return count


@contextmanager
def stack(
    *, limit: int | None, window: float = 60.0, env: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """A site on PostgreSQL and Redis, migrated, with no process yet.

    Args:
        limit: requests that Bunce allows and the site keeps to; None for no limit.
        window: in seconds.
        env: more of the site's environment.
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
            site = Site(folder, database, Broker(broker.url), bunce.base_url, settings)
            with quiet_exit(site):
                site.manage("migrate", "--run-syncdb", "--verbosity", "0")
                yield Stack(site, bunce, broker)


@contextmanager
def quiet_exit(site: Site) -> Iterator[Site]:
    """The site, whose logs are not shown at its end unless something went wrong."""
    site.__enter__()
    try:
        yield site
    except BaseException:
        site.__exit__(*sys.exc_info())
        raise
    shown, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    try:
        site.__exit__(None, None, None)
    finally:
        sys.stdout.close()
        sys.stdout = shown


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float) -> None:
    """Look at a condition until it holds.

    Raises:
        TimeoutError: it does not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.02)

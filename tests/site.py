"""The sample site as real processes: web server, workers and beat, on a database and a broker.

with Site(folder, database_url, broker, bunce_url) as site:
    site.start_web()
    site.start_worker()
    site.shell("Segment.objects.create(name='VIP')")
    site.wait_until(lambda: site.segments.filter(status="synced").exists(), "it is synced")
"""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from django.core.management import call_command
from django.db import connections, transaction
from django.db.models import QuerySet

from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.models.segment_queryset import SegmentQuerySet
from project.env import database

ROOT = Path(__file__).resolve().parent.parent
API_KEY = "sk_test_site"
LOGIN = ("admin", "a login of the tests")

#: Seconds for a process to become ready, on a busy machine.
START = 60
#: Seconds for a process to exit after SIGTERM.
STOP = 15
#: Seconds between two checks of a condition.
POLL = 0.05


def is_gone(pid: int) -> bool:
    """Return whether a process has exited; a zombie counts as exited."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait for a condition, and return whether it was met within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def free_port() -> int:
    """Return a port that no program listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Broker:
    """The URL of a site's broker, and variables that isolate its messages from other tests."""

    url: str
    env: dict[str, str] = field(default_factory=dict)


class Process:
    """A process in its own process group, with its output in a file."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def wait_for(self, text: str) -> str:
        """Wait for a line of output that contains `text`, and return it.

        Raises:
            AssertionError: the process exited, or printed no such line within START seconds.
        """
        deadline = time.monotonic() + START
        while True:
            running = self.running
            for line in self.output.splitlines():
                if text in line:
                    return line
            assert running, f"{self.name} exited before it printed {text!r}:\n{self.output}"
            assert time.monotonic() < deadline, (
                f"{self.name} did not print {text!r}:\n{self.output}"
            )
            time.sleep(POLL)

    def signal(self, number: int) -> None:
        """Send a signal to the process group, if it still exists."""
        try:
            os.killpg(self.popen.pid, number)
        except ProcessLookupError:
            return

    def kill(self) -> None:
        """Kill the process group."""
        self.signal(signal.SIGKILL)
        self.popen.wait(STOP)

    def stop(self) -> None:
        """Send SIGTERM, and kill the process group if it does not exit in time."""
        self.popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP)
        self.kill()


class Site:
    """A site on one database and one broker, with the processes that the test starts.

    Args:
        folder: for the logs.
        database_url: an empty database.
        bunce_url: BUNCE_BASE_URL, of an emulator.
        env: additional environment variables, such as BUNCE_LEASE.

    Attributes:
        show_logs: whether the end of each log is printed when the site stops. pytest shows it if
            the test failed.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        broker: Broker,
        bunce_url: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.url = ""
        self.show_logs = True
        self.processes: list[Process] = []
        self.alias = f"site_{uuid.uuid4().hex[:8]}"
        self._database = database(database_url, base=ROOT)
        own = ("BUNCE_", "CELERY_", "DATABASE_", "DJANGO_")
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(own)},
            "DATABASE_URL": database_url,
            "CELERY_BROKER_URL": broker.url,
            "BUNCE_BASE_URL": bunce_url,
            "BUNCE_API_KEY": API_KEY,
            "PYTHONUNBUFFERED": "1",
            **broker.env,
            **(env or {}),
        }

    def __enter__(self) -> Self:
        connections.settings[self.alias] = connections.configure_settings(
            {"default": self._database}
        )["default"]
        try:
            call_command("migrate", database=self.alias, verbosity=0, skip_checks=True)
        except BaseException:
            self._forget_database()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.processes:
            process.kill()  # a warm shutdown would take seconds
        self._forget_database()
        for process in self.processes if self.show_logs else []:
            sys.stdout.write(f"--- last output of {process.name}:\n{process.output[-6000:]}\n")

    def _forget_database(self) -> None:
        connections[self.alias].close()
        del connections[self.alias]
        del connections.settings[self.alias]

    def start(
        self,
        name: str,
        *command: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Process:
        """Start Python with these arguments in the environment of the site.

        Args:
            env: additional variables.
            prefix: a command that runs the one given to it.
        """
        name = f"{name}-{len(self.processes) + 1}"
        process = Process(
            name, [*prefix, sys.executable, *command], {**self.env, **(env or {})}, self.folder
        )
        self.processes.append(process)
        return process

    def start_worker(self, *, beat: bool = True, processes: int = 1) -> Process:
        """Start a worker, by default with beat, and wait until it is ready."""
        worker = self.start(
            "worker",
            *("-m", "celery", "-A", "project", "worker", "--loglevel", "INFO"),
            *("--hostname", f"{uuid.uuid4().hex[:8]}@%h", "--concurrency", str(processes)),
            *(["--beat"] if beat else []),
        )
        worker.wait_for(" ready.")
        return worker

    def start_beat(self) -> Process:
        """Start beat in a separate process."""
        beat = self.start(
            "beat", "-m", "celery", "-A", "project", "beat", "--pidfile=", "--loglevel", "INFO"
        )
        beat.wait_for("beat: Starting")
        return beat

    def start_web(self) -> Process:
        """Start the web server on a free port, wait until it responds, and set `url`."""
        web = self.start("web", "manage.py", "runserver", "--noreload", "127.0.0.1:0")
        self.url = web.wait_for("development server at http").split()[-1].rstrip("/")
        requests.get(f"{self.url}/admin/login/", timeout=START).raise_for_status()
        return web

    def manage(self, *arguments: str, seconds: float = START) -> str:
        """Run a management command that takes at most so many seconds, and return its output."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{arguments[0]} failed:\n{done.stdout}{done.stderr}"
        return done.stdout

    def shell(self, code: str, *, seconds: float = START) -> str:
        """Run code in a process of the site, with the app's models imported."""
        code = f"from bunce_sync.models import *\n{code}"
        return self.manage("shell", "-v", "0", "-c", code, seconds=seconds)

    def create_login(self) -> tuple[str, str]:
        """Create a superuser, and return user name and password."""
        name, password = LOGIN
        self.shell(
            "from django.contrib.auth import get_user_model\n"
            f"get_user_model().objects.create_superuser({name!r}, password={password!r})"
        )
        return LOGIN

    def put(self, name: str, description: str | None = None, **sync_fields: Any) -> Segment:
        """Insert a row in a given sync state, without a message to a worker."""
        with transaction.atomic(using=self.alias):
            [row] = self.segments.bulk_create([Segment(name=name, description=description)])
            self.segments.filter(pk=row.pk).update_sync_fields(**sync_fields)
        return self.segments.get(pk=row.pk)

    @property
    def environment(self) -> str:
        """Where the site's processes send segments, as in ``Segment.environment``."""
        parts = urlsplit(self.env["BUNCE_BASE_URL"])
        return f"{parts.scheme}://{parts.hostname}:{parts.port} sandbox"

    @property
    def segments(self) -> SegmentQuerySet:
        """The site's segments. Writes through it send no message to the site's workers."""
        return Segment.objects.using(self.alias)

    @property
    def calls(self) -> QuerySet[ApiCall]:
        """The site's call log."""
        return ApiCall.objects.using(self.alias)

    @property
    def sync_state(self) -> QuerySet[SyncState]:
        """The site's shared state of the sync."""
        return SyncState.objects.using(self.alias)

    def wait_until(self, condition: Callable[[], bool], what: str, *, seconds: float = 30) -> None:
        """Wait for a condition.

        Raises:
            AssertionError: it is not met within `seconds`.
        """
        assert eventually(condition, seconds), f"Timeout ({seconds} s): {what}; {self.summary()}"

    def summary(self) -> list[tuple[object, ...]]:
        """Return the state of each segment, for messages."""
        return list(self.segments.values_list("pk", "name", "status", "bunce_id", "last_error"))

"""Web server, workers, beat and Bunce on hosts of their own, with wrong clocks and cut links."""

import html
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.contrib.auth import get_user_model
from rest_framework.authtoken.models import Token

from bunce_sync import transitions
from bunce_sync.models import Segment
from bunce_sync.testing.emulator import Emulator
from tests.faults.proxy import Proxy
from tests.hosts import network
from tests.hosts.network import Host, Network
from tests.site import LOGIN, ROOT, Broker, Process, Site, eventually

pytestmark = pytest.mark.usefixtures("database_access")

#: Bunce's limit: more than one burst, so that the hosts have to share it, and reached within
#: seconds.
LIMIT, WINDOW = 60, 5.0
SWEEP = 5.0
#: Seconds in which a saved segment reaches Bunce. If only the sweep sent them, of several that are
#: saved one after the other all but the first would take a whole interval.
AT_ONCE = 4.5
LEASE, GRACE = 7.0, 3.0
ENV = {
    "BUNCE_CONNECT_TIMEOUT": "1",
    "BUNCE_READ_TIMEOUT": "1",
    "BUNCE_LEASE": f"{LEASE:g}",
    "BUNCE_GRACE": f"{GRACE:g}",
    "BUNCE_SWEEP_INTERVAL": f"{SWEEP:g}",
    "BUNCE_RATE_LIMIT": str(LIMIT),
    "BUNCE_RATE_WINDOW": f"{WINDOW:g}",
    "DJANGO_ALLOWED_HOSTS": "*",
}
#: Seconds after which the database ends the session of a host that is lost in a transaction: fewer
#: than the app asks for by itself. Until then its locks stop all other hosts.
SESSION_SECONDS = 3
#: Seconds until rows of a lost host are sent by another: its session, its lease, and the sweep that
#: frees it; the grace period, the next sweep, and some for a busy machine.
TAKEN_OVER = SESSION_SECONDS + LEASE + SWEEP + GRACE + SWEEP + 20


@dataclass
class Installation:
    """A site on several hosts.

    Attributes:
        web, beat, first, second: the hosts of the web server, of beat and of the two workers.
    """

    site: Site
    bunce: Emulator
    web: Host
    beat: Host
    first: Host
    second: Host
    token: str = ""
    workers: dict[str, Process] = field(default_factory=dict)
    scheduler: Process | None = None

    def start(self) -> None:
        """Start web server, beat and the workers."""
        site, web = self.site, self.web
        server = self._on(web, "web", "manage.py", "runserver", "--noreload", f"{web.address}:8000")
        celery = ("-m", "celery", "-A", "project")
        self.restart_beat()
        for host in (self.first, self.second):
            command = ("worker", "--concurrency", "2", "--loglevel", "INFO")
            self.workers[host.name] = self._on(host, host.name, *celery, *command)
        site.url = f"http://{web.address}:8000"
        name, password = LOGIN
        people = get_user_model()._default_manager.db_manager(site.alias)
        person = people.create_superuser(name, password=password)
        self.token = Token.objects.using(site.alias).create(user=person).key
        server.wait_for("development server at http")
        for worker in self.workers.values():
            worker.wait_for(" ready.")

    def restart_beat(self) -> None:
        """Start beat, after it has been stopped if it runs.

        Celery schedules by the clock of its host, and waits if that is set back while it runs.
        """
        if self.scheduler is not None:
            self.scheduler.stop()
        command = ("-m", "celery", "-A", "project", "beat", "--pidfile=", "--loglevel", "INFO")
        self.scheduler = self._on(self.beat, "beat", *command)

    def set_clocks(self, skew: dict[str, int]) -> None:
        """Set the clocks of some hosts ahead by some seconds, also while processes run there."""
        for host in (self.web, self.beat, self.first, self.second):
            host.set_clock(skew.get(host.name, 0))

    def _on(self, host: Host, name: str, *command: str) -> Process:
        return self.site.start(name, *command, env=host.env, prefix=host.prefix)

    def save(self, name: str) -> None:
        """Save a segment on the web server."""
        answer = requests.post(
            f"{self.site.url}/api/segments/",
            headers={"Authorization": f"Token {self.token}"},
            json={"name": name},
            timeout=30,
        )
        assert answer.status_code == 201, answer.text

    def insert(self, count: int, name: str) -> None:
        """Insert rows without a message; a sweep finds them."""
        self.site.segments.bulk_create(Segment(name=f"{name} {number}") for number in range(count))

    def works(self, host: Host) -> bool:
        """Return whether a request to Bunce came from a host within the last second."""
        last = [one.at for one in self.bunce.requests if one.client == host.address][-1:]
        return bool(last) and time.monotonic() - last[0] < 1

    def tasks_done(self, host: Host) -> int:
        """Return how many tasks the worker on a host has done."""
        return self.workers[host.name].output.count(" succeeded in ")

    def has(self, name: str) -> bool:
        """Return whether Bunce has a segment of that name."""
        return any(segment.name == name for segment in self.bunce.segments)

    @property
    def unfinished(self) -> Any:
        """Return the rows that are not at rest."""
        return self.site.segments.exclude(status__in=transitions.AT_REST)

    def wait_for_rest(self, seconds: float) -> None:
        """Wait until all rows are at rest."""
        self.site.wait_until(lambda: not self.unfinished.exists(), "all at rest", seconds=seconds)

    def doctor(self) -> str:
        """Return what the doctor says about clocks, on the web host."""
        done = subprocess.run(
            [*self.web.prefix, sys.executable, "manage.py", "bunce_doctor", "--json"],
            cwd=ROOT,
            env={**self.site.env, **self.web.env},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        findings = json.loads(done.stdout)["findings"]
        assert not [one for one in findings if one["level"] == "fail"], findings
        return " ".join(one["summary"] for one in findings if one["name"] == "clock")

    def panel(self) -> str:
        """Return the text of the admin's list of segments."""
        with requests.Session() as browser:
            login = f"{self.site.url}/admin/login/?next=/admin/bunce_sync/segment/"
            form = browser.get(login, timeout=30).text
            found = re.search('csrfmiddlewaretoken" value="([^"]+)"', form)
            assert found
            name, password = LOGIN
            values = {"username": name, "password": password, "csrfmiddlewaretoken": found[1]}
            page = browser.post(login, data=values, timeout=30)
        assert page.status_code == 200
        return html.unescape(page.text)

    def check_result(self) -> None:
        """Check that each row has exactly one segment, and that Bunce's limit was kept."""
        held = sorted(segment.id for segment in self.bunce.segments)
        linked = sorted(str(row.bunce_id) for row in self.site.segments.all())
        assert held == linked
        rows = self.site.segments.count()
        assert self.site.segments.filter(status=Segment.Status.SYNCED).count() == rows
        assert len({segment.name for segment in self.bunce.segments}) == rows
        assert self.bunce.limited == 0
        arrivals = sorted(request.at for request in self.bunce.requests)
        worst = max(
            sum(1 for other in arrivals[number:] if other < start + WINDOW)
            for number, start in enumerate(arrivals)
        )
        assert LIMIT / 2 <= worst <= LIMIT, f"{worst} requests from all hosts within {WINDOW:g} s"


@pytest.fixture
def installation(
    tmp_path: Path, postgres_database: str, redis_broker: Broker
) -> Iterator[Installation]:
    """Yield a site on several hosts, with no process started yet."""
    network.require()
    with ExitStack() as stack:
        net = stack.enter_context(Network(tmp_path))
        web, beat, first, second, far = (
            net.add(name) for name in ("web", "beat", "first", "second", "bunce")
        )

        def reachable(url: str) -> str:
            """Return the URL of a service of this machine for the hosts."""
            parts = urlsplit(url)
            host, port = parts.hostname or "127.0.0.1", parts.port
            assert port
            proxy = stack.enter_context(Proxy(host, port, listen_on=net.address))
            login = parts.netloc.rpartition("@")[0]
            address = f"{login}@" if login else ""
            return parts._replace(netloc=f"{address}{net.address}:{proxy.port}").geturl()

        timeout = f"-c%20idle_in_transaction_session_timeout%3D{SESSION_SECONDS * 1000}"
        database = f"{reachable(postgres_database)}?options={timeout}"
        bunce = Emulator(0, far.address, rate_limit=LIMIT, rate_window=WINDOW)
        with far.entered():
            bunce.start()
        stack.callback(bunce.stop)
        broker = Broker(reachable(redis_broker.url))
        site = stack.enter_context(Site(tmp_path, database, broker, bunce.base_url, ENV))
        yield Installation(site, bunce, web, beat, first, second)


def test_hosts_with_clocks_minutes_apart_send_each_segment_once_and_in_time(
    installation: Installation,
) -> None:
    skews = (
        {"web": -180, "beat": 420, "first": 240, "second": -300},
        {"web": 150, "beat": -360, "first": -270, "second": 330},
    )
    for number, skew in enumerate(skews):
        installation.set_clocks(skew)
        if number == 0:
            installation.start()
        else:
            installation.restart_beat()
        check_that_all_is_alive(installation, f"Part {number}")
        check_names(installation, skew)
    installation.check_result()


def check_that_all_is_alive(installation: Installation, name: str) -> None:
    """Check that saved segments reach Bunce at once, and others by the sweep."""
    for number in range(3):
        saved = f"{name}, saved {number}"
        installation.save(saved)
        assert eventually(partial(installation.has, saved), AT_ONCE)
    installation.insert(50, f"{name}, found")
    installation.wait_for_rest(seconds=2 * SWEEP + 2 * WINDOW + 20)


def check_names(installation: Installation, skew: dict[str, int]) -> None:
    """Check that doctor and panel name the hosts with a wrong clock, as far as it can be known."""
    # A worker measures its own clock when it takes a sweep. That beat's is behind cannot be known.
    expected = {host: seconds for host, seconds in skew.items() if host != "beat" or seconds > 0}

    def has_seen(host: str) -> bool:
        entries = installation.site.sync_state.get().clocks or {}
        ahead: float = entries.get(host, {"ahead": 0.0})["ahead"]
        return abs(ahead - expected[host]) <= 2

    for host in expected.keys() - {"web"}:
        assert eventually(partial(has_seen, host), 10 * SWEEP), host
    for text in (installation.doctor(), installation.panel()):
        found = {
            host: int(seconds) * (1 if direction == "ahead of" else -1)
            for host, seconds, direction in re.findall(
                r"clock of the host “([^”]+)” is at least ([0-9]+) s (ahead of|behind) the", text
            )
        }
        for host, seconds in expected.items():
            assert abs(found[host] - seconds) <= 2, (host, text)


def test_a_host_that_is_cut_off_and_one_that_is_lost_leave_one_segment_for_each_row(
    installation: Installation,
) -> None:
    installation.start()
    first, second = installation.first, installation.second
    installation.insert(150, "While one is cut off")
    assert eventually(partial(installation.works, first), 20)
    first.cut()
    installation.wait_for_rest(TAKEN_OVER)
    first.reconnect()
    done = installation.tasks_done(first)
    installation.insert(20, "While both work")
    assert eventually(lambda: installation.tasks_done(first) > done, 60)
    installation.wait_for_rest(TAKEN_OVER)
    installation.insert(150, "While one is lost")
    assert eventually(partial(installation.works, second), 20)
    second.cut()
    installation.workers[second.name].kill()
    installation.wait_for_rest(TAKEN_OVER)
    installation.save("Afterwards")
    assert eventually(partial(installation.has, "Afterwards"), AT_ONCE)
    installation.check_result()

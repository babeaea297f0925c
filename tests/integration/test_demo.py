"""`make demo`, as its user sees it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.site import ROOT, Process, eventually, free_port, is_gone

LOGIN = {"username": "admin", "password": "bunce-demo"}


def command(folder: Path, port: int, emulator_port: int) -> list[str]:
    ports = ["--port", str(port), "--emulator-port", str(emulator_port)]
    return [sys.executable, "-u", "-m", "project.demo", *ports, "--folder", str(folder)]


class Demo(Process):
    """The demo, running on its own ports."""

    def __init__(self, folder: Path) -> None:
        self.port, self.emulator_port = free_port(), free_port()
        super().__init__(
            f"demo-{self.port}", command(folder, self.port, self.emulator_port), os.environ, folder
        )

    def wait_until_running(self) -> None:
        self.wait_for("Press Ctrl-C")

    def names_in_bunce(self) -> list[str]:
        return sorted(segment["name"] for segment in self._segments_in_bunce())

    def customers_in_bunce(self) -> dict[str, int]:
        """Return how many customers each segment has."""
        return {one["name"]: one["customers_count"] for one in self._segments_in_bunce()}

    def _segments_in_bunce(self) -> list[dict[str, Any]]:
        page = requests.get(
            f"http://127.0.0.1:{self.emulator_port}/v1/segments?per_page=100",
            headers={"X-Authorization": "sk_test_demo"},
            timeout=30,
        )
        segments: list[dict[str, Any]] = page.json()["data"]
        return segments

    def processes(self) -> set[int]:
        """Return the process ids of the demo's children and their children."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has exited
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
        found: set[int] = set()
        more = {self.popen.pid}
        while more:
            more = {pid for pid, parent in parents.items() if parent in more}
            found |= more
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Demo]]:
    """Start the demo in the test's folder, and stop it after the test."""
    demos: list[Demo] = []

    def started() -> Demo:
        demo = Demo(tmp_path)
        demos.append(demo)
        demo.wait_until_running()
        return demo

    yield started
    for demo in demos:
        demo.popen.terminate()
        demo.popen.wait(30)
        sys.stdout.write(demo.output)


def run(folder: Path, port: int, emulator_port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, port, emulator_port),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_samples_reach_bunce_the_login_works_and_ctrl_c_ends_everything(
    start: Callable[[], Demo],
) -> None:
    demo = start()
    assert eventually(lambda: len(demo.names_in_bunce()) == 4), demo.output
    with requests.Session() as browser:
        login = f"http://127.0.0.1:{demo.port}/admin/login/?next=/"
        browser.get(login, timeout=30)
        form = LOGIN | {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        assert browser.post(login, data=form, timeout=30).url.endswith("bunce_sync/segment/")
    # The audiences of the shop fill. Most of its customers bought something.
    assert eventually(lambda: demo.customers_in_bunce()["Paying customers"] > 50), demo.output
    assert eventually(lambda: demo.customers_in_bunce()["New customers"] > 0), demo.output
    started = demo.processes()
    assert len(started) >= 5  # Bunce, worker, beat, shop and web server at least

    demo.popen.send_signal(signal.SIGINT)
    assert demo.popen.wait(30) == 0
    assert all(is_gone(pid) for pid in started)
    assert "Traceback" not in demo.output


def test_a_second_run_starts_with_new_data(
    start: Callable[[], Demo],
) -> None:
    first = start()
    assert eventually(lambda: len(first.names_in_bunce()) == 4)
    names = first.names_in_bunce()
    first.popen.terminate()
    first.popen.wait(30)

    second = start()
    assert eventually(lambda: len(second.names_in_bunce()) == 4)
    assert second.names_in_bunce() == names


def test_a_program_that_is_killed_is_named_and_the_others_end(start: Callable[[], Demo]) -> None:
    demo = start()
    started = demo.processes()
    [web] = [pid for pid in started if b"runserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(web, signal.SIGKILL)
    assert demo.popen.wait(30) == 1
    assert "The web program was killed by SIGKILL." in demo.output
    assert all(is_gone(pid) for pid in started)


@pytest.mark.parametrize("taken", ["PORT", "EMULATOR_PORT"])
def test_a_port_in_use_is_named_before_anything_starts(taken: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = (port, free_port()) if taken == "PORT" else (free_port(), port)
        done = run(tmp_path / "demo", *ports)
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 is used by another program" in done.stderr
    others = {"PORT": ports[0], "EMULATOR_PORT": ports[1]} | {taken: port + 1}
    assert "make demo PORT={PORT} EMULATOR_PORT={EMULATOR_PORT}\n".format(**others) in done.stderr
    assert not (tmp_path / "demo" / "data").exists()


def test_the_same_port_twice_is_refused(tmp_path: Path) -> None:
    port = free_port()
    done = run(tmp_path / "demo", port, port)
    assert done.returncode == 2
    assert "must differ" in done.stderr


def test_a_second_demo_at_the_same_time_is_refused(
    start: Callable[[], Demo], tmp_path: Path
) -> None:
    first = start()
    for ports in ((free_port(), free_port()), (first.port, first.emulator_port)):
        done = run(tmp_path, *ports)
        assert done.returncode == 1
        assert "already running" in done.stderr

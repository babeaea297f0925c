"""Hosts of their own on one machine: network namespaces on a bridge, each with its own clock.

A host has a name, an address, a link that can be cut, and a clock that can be set. Processes on it
are real ones. The namespaces are made with iproute2, the clocks with libfaketime.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

PRELOAD = Path(__file__).parent / "preload"
#: Networks for tests of networks (RFC 2544), of which each process takes one.
SUBNETS = "198.18"
_CLONE_NEWNET = 0x40000000
_NAME = re.compile(r"\bbunce([0-9]+)(?:-[a-z]+)?\b")


def require() -> None:
    """Skip the test if hosts cannot be made here; with CI=true fail it."""
    if reason := _unavailable():
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@cache
def _unavailable() -> str:
    """Return why hosts cannot be made here; empty if they can."""
    if not sys.platform.startswith("linux"):
        return "Hosts with their own clocks need Linux."
    for command, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("hostname", "")):
        if not shutil.which(command):
            return f"Hosts with their own clocks need {command} (Debian package {package})."
    if _fake_clock() is None:
        return "Hosts with their own clocks need libfaketime (Debian package faketime)."
    if os.geteuid() != 0:
        return "Hosts with their own clocks need root, to make network namespaces."
    try:
        with Network():
            pass
    except subprocess.CalledProcessError as error:
        reason = " ".join(f"{error.stderr}".split())
        return f"Network namespaces cannot be made here, as in most containers: {reason}"
    return ""


def _fake_clock() -> Path | None:
    """Return the library that fakes the clock of a process, if it is installed."""
    folders = (*Path("/usr/lib").glob("*/faketime"), Path("/usr/lib64/faketime"))
    files = (folder / "libfaketimeMT.so.1" for folder in folders)
    return next((file for file in files if file.exists()), None)


@dataclass(frozen=True)
class Host:
    """One host.

    Attributes:
        name: its host name.
        namespace: its network namespace.
        address: its IP address.
        link: the end of its cable at the bridge.
        clock: the file with its clock's offset; it takes effect at once.
    """

    name: str
    namespace: str
    address: str
    link: str
    clock: Path

    def set_clock(self, seconds: float) -> None:
        """Set the clock ahead of this machine's; a negative number sets it behind."""
        new = self.clock.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.rename(self.clock)

    @property
    def prefix(self) -> list[str]:
        """Return what makes a command run on this host."""
        return [
            *("ip", "netns", "exec", self.namespace, "unshare", "--uts"),
            *("sh", "-c", 'hostname "$0" && exec "$@"', self.name),
        ]

    @property
    def env(self) -> dict[str, str]:
        """Return the variables that give a process this host's clock."""
        return {
            "LD_PRELOAD": str(_fake_clock()),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(PRELOAD),
        }

    def cut(self) -> None:
        """Cut the link: packets are lost, and connections stay open."""
        _ip("link", "set", self.link, "down")

    def reconnect(self) -> None:
        """Repair the link."""
        _ip("link", "set", self.link, "up")

    def sends_later(self) -> bool:
        """Return whether the kernel holds data that it will send once the link is repaired."""
        table = _run("ip", "netns", "exec", self.namespace, "cat", "/proc/net/tcp")
        unsent = [line.split()[4].partition(":")[0] for line in table.splitlines()[1:]]
        neighbours = _ip("-n", self.namespace, "neigh", "show")  # packets wait for their addresses
        return any(int(size, 16) for size in unsent) or "INCOMPLETE" in neighbours

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread, and threads that it starts, make their sockets on this host."""
        own = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        there = os.open(f"/var/run/netns/{self.namespace}", os.O_RDONLY)
        try:
            _set_namespace(there)
            try:
                yield
            finally:
                _set_namespace(own)
        finally:
            os.close(own)
            os.close(there)


class Network:
    """A bridge and its hosts, removed at the end.

    Args:
        folder: for the files of the clocks.

    Attributes:
        address: this machine's on the bridge.
    """

    def __init__(self, folder: Path = Path()) -> None:
        self._folder = folder
        self._bridge = f"bunce{os.getpid()}"
        self._count = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        _remove_leftovers()
        self._subnet = _free_subnet()
        self.address = f"{self._subnet}.1"
        with ExitStack() as stack:
            _ip("link", "add", self._bridge, "type", "bridge")
            stack.callback(_ip, "link", "del", self._bridge)
            _ip("addr", "add", f"{self.address}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(self, name: str) -> Host:
        """Add a host with the right time."""
        self._count += 1
        host = Host(
            name=name,
            namespace=f"{self._bridge}-{name}",
            address=f"{self._subnet}.{self._count + 1}",
            link=f"bn{os.getpid()}-{self._count}",
            clock=self._folder / f"{name}.clock",
        )
        host.set_clock(0)
        _ip("netns", "add", host.namespace)
        self._stack.callback(_ip, "netns", "del", host.namespace)
        there = ("netns", host.namespace)
        _ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", *there)
        # Not with its namespace, which the kernel removes some time later.
        self._stack.callback(_ip, "link", "del", host.link)
        _ip("link", "set", host.link, "master", self._bridge, "up")
        _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", host.namespace, "link", "set", device, "up")
        return host


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout


def _free_subnet() -> str:
    """Return a network of SUBNETS that this machine does not use; other tests begin elsewhere."""
    used, first = _ip("-br", "addr"), os.getpid()
    subnets = (f"{SUBNETS}.{(first + number) % 256}" for number in range(256))
    return next(subnet for subnet in subnets if f" {subnet}." not in used)


def _remove_leftovers() -> None:
    """Remove what processes left that were killed."""
    for kind, delete in (("netns list", "netns del"), ("-br link show type bridge", "link del")):
        for match in _NAME.finditer(_ip(*kind.split())):
            if not Path(f"/proc/{match[1]}").exists():
                _ip(*delete.split(), match[0])


def _set_namespace(descriptor: int) -> None:
    # os.setns is new in Python 3.12.
    setns: Callable[[int, int], int] = ctypes.CDLL(None, use_errno=True).setns
    if setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns failed")

"""A request that is on its way to Bunce when the link is cut."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from bunce_sync.client import BunceClient, RequestRecord
from bunce_sync.exceptions import NoResponse
from bunce_sync.testing.emulator import Emulator
from tests.hosts import network
from tests.hosts.network import Host, Network
from tests.site import eventually


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Emulator]]:
    """Yield a host, and a Bunce on another one."""
    network.require()
    with Network(tmp_path) as net:
        here, there = net.add("client"), net.add("bunce")
        bunce = Emulator(0, there.address)
        with there.entered():
            bunce.start()
        try:
            yield here, bunce
        finally:
            bunce.stop()


def test_what_bunce_has_not_received_when_the_wait_ends_is_never_delivered(
    hosts: tuple[Host, Emulator],
) -> None:
    """Otherwise the kernel would deliver it after the link is repaired, past any grace period."""
    here, bunce = hosts
    client = BunceClient(
        base_url=bunce.base_url, api_key="sk_test_x", connect_timeout=1, read_timeout=1
    )

    def create(name: str) -> RequestRecord:
        record = RequestRecord()
        with suppress(NoResponse):
            client.create_segment({"name": name}, record=record)
        return record

    with ThreadPoolExecutor(1) as pool:
        with here.entered():
            pool.submit(create, "Before").result()  # starts the thread, on that host
        here.cut()
        lost = pool.submit(create, "Lost").result()
        assert (lost.sent, lost.http_status) == (True, None)
        assert eventually(lambda: not here.sends_later(), 15)
        here.reconnect()
        assert eventually(lambda: pool.submit(create, "After").result().http_status == 201)
    assert [segment.name for segment in bunce.segments] == ["Before", "After"]

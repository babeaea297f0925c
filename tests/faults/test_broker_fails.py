"""Saving while the broker refuses connections, freezes or disappears."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import services
from tests.faults.proxy import Proxy
from tests.faults.saver import Saver
from tests.faults.trial import SWEEP, Trial, free_port
from tests.site import Broker, eventually

#: Seconds allowed while the broker fails: for the first save, for the median of the later ones and
#: for the slowest, since other load on the machine may delay the database.
FIRST, NEXT, SLOWEST = 1.0, 0.05, 0.25
#: Seconds allowed in addition to two sweeps. A Celery worker that lost its broker reconnects after
#: 2 s, then after 4 and 6 more, and an attempt may hang for 4: longer than sweeps of a second.
SLACK = 12.0


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Return a real broker."""
    found: Broker = request.getfixturevalue(f"{request.param}_broker")
    return found


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    """Yield a proxy in front of the broker."""
    parts = urlsplit(broker.url)
    with Proxy(parts.hostname or "127.0.0.1", parts.port or 0) as proxy:
        yield proxy


def test_saving_continues_while_the_broker_fails_and_the_rows_are_sent_later(
    broker: Broker, proxy: Proxy, start: Callable[..., Trial]
) -> None:
    parts = urlsplit(broker.url)
    user = f"{parts.username}:{parts.password}@" if parts.username else ""
    url = parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}").geturl()
    kind = "redis" if parts.scheme == "redis" else "rabbitmq"
    trial = start("broker fails", f"postgres+{kind}", broker=Broker(url, broker.env))
    trial.site.start_worker()
    for how in (proxy.refuse, proxy.freeze, proxy.swallow):
        with Saver(trial.site) as warm, Saver(trial.site) as cold:
            warm.save("before")  # so that it holds a connection
            how()
            for saver, kind in ((warm, "connected before"), (cold, "never connected")):
                first = saver.save("first")
                later = sorted(saver.save("next") for _ in range(20))
                story = f"{how.__name__}, {kind}: first save {first:.2f} s, then {later}"
                assert first <= FIRST, story
                assert later[10] < NEXT, story
                assert later[-1] < SLOWEST, story
        proxy.heal()
        trial.wait_for_rest(seconds=2 * SWEEP + SLACK)
        assert not trial.not_at_rest.exists(), f"not synced after {how.__name__}"
    trial.verdict()


@pytest.fixture
def alarmed_rabbitmq(tmp_path: Path) -> Iterator[Broker]:
    """Yield a separate RabbitMQ whose memory alarm is on."""
    services.require(services.RABBITMQ)
    program = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin:/opt/rabbitmq/sbin")
    if program is None:
        pytest.skip("rabbitmq-server is not installed as a script that any user can start")
    port, other_port = free_port(), free_port()
    (tmp_path / "plugins").write_text("[].")
    (tmp_path / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\nvm_memory_high_watermark.absolute = 1MB\n"
    )
    with (tmp_path / "rabbitmq.out").open("wb") as output:
        server = subprocess.Popen(
            [program],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "RABBITMQ_NODENAME": f"faults{port}@localhost",
                "RABBITMQ_DIST_PORT": str(other_port),
                "RABBITMQ_MNESIA_BASE": str(tmp_path / "data"),
                "RABBITMQ_LOG_BASE": str(tmp_path / "log"),
                "RABBITMQ_CONFIG_FILE": str(tmp_path / "rabbitmq.conf"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(tmp_path / "plugins"),
            },
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        assert eventually(lambda: accepts(port), 60)
        yield Broker(f"amqp://guest:guest@127.0.0.1:{port}//")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def accepts(port: int) -> bool:
    """Return whether a process listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_memory_alarm_of_rabbitmq_does_not_delay_saving(
    alarmed_rabbitmq: Broker, start: Callable[..., Trial]
) -> None:
    trial = start("RabbitMQ's memory alarm", "sqlite+rabbitmq", broker=alarmed_rabbitmq)
    with Saver(trial.site) as saver:
        first = saver.save("first")
        later = sorted(saver.save("next") for _ in range(20))
    assert first <= FIRST
    assert later[10] < NEXT
    assert later[-1] < SLOWEST
    trial.site.manage("bunce_sweep")  # no worker can be reached: the command needs no broker
    trial.verdict()

"""Sites for the fault tests."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from bunce_sync.testing.emulator import Emulator
from tests.faults.trial import ENV, Trial
from tests.site import Broker, Site

STACKS = ("postgres+redis", "mariadb+rabbitmq", "sqlite+filesystem")


@pytest.fixture
def start(
    request: pytest.FixtureRequest, database_access: None, bunce: Emulator, tmp_path: Path
) -> Callable[..., Trial]:
    """Return a function that begins a trial on one of STACKS, with no process started yet.

    The local Bunce has no rate limit here, to keep these tests short.
    """
    bunce.set(rate_limit=None)

    def begin(
        fault: str,
        name: str,
        env: Mapping[str, str] | None = None,
        broker: Broker | None = None,
    ) -> Trial:
        url: str = request.getfixturevalue(f"{name.split('+')[0]}_database")
        messages = broker or request.getfixturevalue(f"{name.split('+')[1]}_broker")
        site = Site(tmp_path, url, messages, bunce.base_url, {**ENV, **(env or {})})
        stack = ExitStack()
        # Ends before the database and the broker, which were made before it.
        request.node.addfinalizer(stack.close)
        return Trial(stack.enter_context(site), bunce, request, fault, name)

    return begin

"""The pytest fixture ``bunce``, for the tests of sites that use this app.

Nothing is imported or started before a test uses the fixture. It needs the extra ``[testing]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bunce_sync.testing.emulator import Emulator

TEST_KEY = "sk_test_emulator"


@pytest.fixture(scope="session")
def _bunce_server() -> Iterator[Emulator]:
    from bunce_sync.testing.emulator import Emulator

    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def bunce(_bunce_server: Emulator, request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """An empty local Bunce without faults; ``BUNCE_SYNC`` contains its address and a key.

    One server runs for the whole session and is reset before and after each test. The
    ``settings`` fixture of pytest-django restores ``BUNCE_SYNC``::

        def test_a_segment_reaches_bunce(bunce):
            ...
            assert [segment.name for segment in bunce.segments] == ["VIP"]
    """
    settings = request.getfixturevalue("settings")
    settings.BUNCE_SYNC = {
        **getattr(settings, "BUNCE_SYNC", {}),
        "BASE_URL": _bunce_server.base_url,
        "API_KEY": TEST_KEY,
    }
    _bunce_server.reset()
    yield _bunce_server
    _bunce_server.reset()

"""The pytest fixture ``bunce``, for the tests of sites that use this app.

Nothing is imported or started before a test uses the fixture. It needs the extra ``[testing]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bunce_sync.testing.local_bunce import LocalBunce


@pytest.fixture(scope="session")
def _bunce_server() -> Iterator[LocalBunce]:
    from bunce_sync.testing.local_bunce import LocalBunce

    with LocalBunce() as server:
        yield server


@pytest.fixture
def bunce(_bunce_server: LocalBunce, request: pytest.FixtureRequest) -> Iterator[LocalBunce]:
    """An empty local Bunce without faults, to which ``BUNCE_SYNC`` points.

    One server runs for the whole session and is reset before and after each test. The
    ``settings`` fixture of pytest-django restores ``BUNCE_SYNC``::

        def test_a_segment_reaches_bunce(bunce, db):
            Segment.objects.create(name="VIP")
            bunce.work()
            assert [segment.name for segment in bunce.segments] == ["VIP"]
    """
    # Not running_bunce(): its settings would end in another order than those of this fixture.
    request.getfixturevalue("settings").BUNCE_SYNC = _bunce_server.settings()
    _bunce_server.reset()
    yield _bunce_server
    _bunce_server.reset()
